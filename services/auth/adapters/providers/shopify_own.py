"""Shopify's client credentials: an app in the shops of its own organisation, without a browser."""

from __future__ import annotations

from typing import NoReturn

from services.auth.adapters.providers.calls import refused_consent
from services.auth.adapters.providers.shopify_tokens import ShopifyTokens
from services.auth.domain.grants import Answer, App, Consent, Grant
from services.auth.domain.refusals import Step


class ShopifyOwn:
    """`Provider` of `Family.SHOPIFY_OWN`. A grant is not refreshed but granted anew."""

    def __init__(self, tokens: ShopifyTokens) -> None:
        self._tokens = tokens

    def consent_url(self, app: App, consent: Consent) -> str:  # noqa: ARG002
        _no_browser()

    def code(self, app: App, consent: Consent, answer: Answer) -> str:  # noqa: ARG002
        _no_browser()

    async def exchange(self, app: App, consent: Consent, code: str) -> Grant:  # noqa: ARG002
        """What the app's own credentials are worth at the shop; there is no code."""
        return await self._granted(app, consent.shop, Step.EXCHANGE, None)

    async def refresh(self, app: App, shop: str, grant: Grant) -> Grant:
        return await self._granted(app, shop, Step.REFRESH, grant)

    async def revoke(self, app: App, shop: str, grant: Grant) -> None:
        """Does nothing: the token ends within a day, and the app is its owner's to remove."""

    async def _granted(self, app: App, shop: str, step: Step, before: Grant | None) -> Grant:
        asked: dict[str, object] = {"grant_type": "client_credentials"}
        return await self._tokens.granted(app, shop, asked, step, before)


def _no_browser() -> NoReturn:
    raise refused_consent("client credentials need nobody's consent; connect without a browser")

"""Shopify: a merchant's consent by authorisation code, or by a session token of the admin's.

Offline tokens expire after an hour and their refresh token rotates, where that is asked for
(`expiring=1`); the old refresh token lives until its successor is first used, a month at most.
"""

from __future__ import annotations

from typing import Final

from libs.errors import ServiceError
from services.auth.adapters.providers.calls import (
    refresh_token,
    refused_consent,
    with_query,
)
from services.auth.adapters.providers.shopify_session import shop_of_session
from services.auth.adapters.providers.shopify_tokens import ShopifyTokens
from services.auth.domain.callbacks import authorisation_code, declined, shopify_refusal
from services.auth.domain.grants import Answer, App, Consent, Grant
from services.auth.domain.refusals import Step
from services.auth.ports import GRANT_REVOKED

CALLBACK_AGE_S: Final = 90.0
"""Seconds that a callback's timestamp may be from now, as in Shopify's own libraries."""

_BY_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
_OF_SESSION: Final = "urn:ietf:params:oauth:token-type:id_token"
_OFFLINE: Final = "urn:shopify:params:oauth:token-type:offline-access-token"


class Shopify:
    """`Provider` of `Family.SHOPIFY`."""

    def __init__(
        self,
        tokens: ShopifyTokens,
        *,
        expiring: bool = True,
        callback_age_s: float = CALLBACK_AGE_S,
    ) -> None:
        """`expiring`: whether to ask for tokens that expire, as Shopify demands of public apps."""
        self.tokens = tokens
        self._asked: dict[str, object] = {"expiring": 1} if expiring else {}
        self._callback_age_s = callback_age_s

    def consent_url(self, app: App, consent: Consent) -> str:
        """The shop's own page.

        Raises:
            ServiceError: PERMANENT, CONSENT_REFUSED, where the consent names no shop.
        """
        return with_query(
            self.tokens.address(consent.shop, "/admin/oauth/authorize"),
            {
                "client_id": app.client_id,
                "scope": ",".join(consent.scopes),
                "redirect_uri": consent.redirect_uri,
                "state": consent.state,
            },
        )

    def code(self, app: App, consent: Consent, answer: Answer) -> str:
        why = shopify_refusal(
            answer, app.secret.reveal(), consent.shop, window_s=self._callback_age_s
        )
        if why is not None:
            raise refused_consent(f"Shopify: {why}")
        if declined(answer):
            raise refused_consent(
                "Shopify says that the request was declined; begin again to agree"
            )
        found = authorisation_code(answer, "code")
        if not found:
            raise refused_consent("Shopify's answer holds no authorisation code; begin again")
        return found

    async def exchange(self, app: App, consent: Consent, code: str) -> Grant:
        return await self.tokens.granted(
            app, consent.shop, {"code": code, **self._asked}, Step.EXCHANGE
        )

    async def exchange_session(self, app: App, session_token: str) -> tuple[str, Grant]:
        """The shop's domain and its grant, for a session token that the admin handed the browser.

        Raises:
            ServiceError: as `exchange`; PERMANENT, CONSENT_REFUSED, where the token is not
                Shopify's for this app, or is older than its minute.
        """
        shop = shop_of_session(app, session_token, self.tokens.caller.now)
        asked = {
            "grant_type": _BY_EXCHANGE,
            "subject_token": session_token,
            "subject_token_type": _OF_SESSION,
            "requested_token_type": _OFFLINE,
            **self._asked,
        }
        return shop, await self.tokens.granted(app, shop, asked, Step.EXCHANGE)

    async def refresh(self, app: App, shop: str, grant: Grant) -> Grant:
        asked: dict[str, object] = {
            "grant_type": "refresh_token",
            "refresh_token": refresh_token(grant, self.tokens.caller.name),
        }
        return await self.tokens.granted(app, shop, asked, Step.REFRESH, grant)

    async def revoke(self, app: App, shop: str, grant: Grant) -> None:
        """Removes the app from the shop.

        An access token that has expired cannot do so, so it is refreshed first.
        """
        expires_at = grant.expires_at
        if grant.refresh_token and expires_at and expires_at <= self.tokens.caller.now:
            try:
                grant = await self.refresh(app, shop, grant)
            except ServiceError as error:
                if error.code == GRANT_REVOKED:
                    return
                raise
        await self.tokens.uninstall(shop, grant)

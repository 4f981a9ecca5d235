"""TikTok Shop: a seller's consent, and the cipher without which no call of the shop is answered.

Token calls are GETs with the app's secret in the query, as Partner Center has them; they are not
signed. What follows is: see `libs.tiktok.shop_signing`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from libs.errors import permanent
from libs.http.client import Request
from libs.tiktok.shop_signing import sign
from services.auth.adapters.providers import envelope
from services.auth.adapters.providers.calls import (
    Caller,
    refresh_token,
    refused_consent,
    with_query,
)
from services.auth.adapters.providers.tiktok_business import code_of
from services.auth.domain import refusals
from services.auth.domain.answers import (
    TikTokShop,
    shop_meant,
    tiktok_shop_grant,
    tiktok_shops,
)
from services.auth.domain.grants import Answer, App, Consent, Grant
from services.auth.domain.refusals import Step
from services.auth.ports import APP_REFUSED

_SHOPS_PATH: Final = "/authorization/202309/shops"
_JSON: Final = "application/json"


class TikTokShopProvider:
    """`Provider` of `Family.TIKTOK_SHOP`."""

    def __init__(self, caller: Caller, *, auth_url: str, api_url: str, consent_url: str) -> None:
        self._caller = caller
        self._token_root = auth_url.rstrip("/") + "/api/v2/token"
        self._api_url = api_url.rstrip("/")
        self._consent_url = consent_url

    def consent_url(self, app: App, consent: Consent) -> str:
        """Where to comes back is fixed in Partner Center.

        Raises:
            ServiceError: PERMANENT, APP_REFUSED, without a service id.
        """
        if not app.service_id:
            raise permanent(APP_REFUSED, "tiktok-shop: the consent page needs the app's service id")
        return with_query(self._consent_url, {"service_id": app.service_id, "state": consent.state})

    def code(self, app: App, consent: Consent, answer: Answer) -> str:  # noqa: ARG002
        return code_of(answer, "code")

    async def exchange(self, app: App, consent: Consent, code: str) -> Grant:
        """The grant for the shop that `consent.account` names, or for the only one.

        Raises:
            ServiceError: besides what `Provider` says, PERMANENT, CONSENT_REFUSED, where the seller
                has several shops and it is not clear which is meant, or none; names them.
        """
        query = {"auth_code": code, "grant_type": "authorized_code"}
        granted = await self._granted(app, "/get", query, Step.EXCHANGE, None)
        shop = shop_meant(await self._shops(app, granted), consent.account)
        if isinstance(shop, str):
            raise refused_consent(shop)
        return replace(granted, shop_cipher=shop.cipher, accounts=(shop.shop_id, *granted.accounts))

    async def refresh(self, app: App, shop: str, grant: Grant) -> Grant:  # noqa: ARG002
        query = {
            "refresh_token": refresh_token(grant, self._caller.name),
            "grant_type": "refresh_token",
        }
        return await self._granted(app, "/refresh", query, Step.REFRESH, grant)

    async def revoke(self, app: App, shop: str, grant: Grant) -> None:
        """Does nothing: only the seller can end it, in Seller Center. TikTok has no call for it."""

    async def _granted(
        self, app: App, path: str, query: dict[str, str], step: Step, before: Grant | None
    ) -> Grant:
        query = {"app_key": app.client_id, "app_secret": app.secret.reveal(), **query}
        request = Request(
            method="GET",
            url=with_query(self._token_root + path, query),
            headers={"Accept": _JSON},
            repeatable=False,
        )
        told = await self._caller.once(request, envelope.judged_by(refusals.tiktok_shop, step))
        found = tiktok_shop_grant(envelope.data(told), before)
        if found is None:
            raise self._caller.unreadable()
        return found

    async def _shops(self, app: App, granted: Grant) -> tuple[TikTokShop, ...]:
        query = {"app_key": app.client_id, "timestamp": str(int(self._caller.now.timestamp()))}
        query["sign"] = sign(_SHOPS_PATH, query, b"", _JSON, app.secret.reveal())
        request = Request(
            method="GET",
            url=with_query(self._api_url + _SHOPS_PATH, query),
            headers={
                "Content-Type": _JSON,
                "x-tts-access-token": granted.access_token.reveal(),
            },
        )
        judge = envelope.judged_by(refusals.tiktok_shop, Step.EXCHANGE)
        shops = tiktok_shops(envelope.data(await self._caller.read(request, judge)))
        if shops is None:
            raise self._caller.unreadable()
        return shops

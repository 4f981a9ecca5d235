"""Shopify's token endpoint, one for all grant types, and the end of an installation."""

from __future__ import annotations

from typing import Final

from libs.errors import ServiceError
from libs.http.client import Request
from services.auth.adapters.providers.calls import Body, Caller, Judge, post, refused_consent, text
from services.auth.domain import refusals
from services.auth.domain.answers import shopify_grant
from services.auth.domain.callbacks import shop_domain
from services.auth.domain.grants import App, Grant
from services.auth.domain.refusals import Refusal, Step
from services.auth.ports import GRANT_REVOKED

_GRANTS_PATH: Final = "/admin/oauth/access_token"
_SCOPES_PATH: Final = "/admin/oauth/access_scopes.json"
_INSTALLATION_PATH: Final = "/admin/api_permissions/current.json"


class ShopifyTokens:
    """Asks a shop for tokens. `base_url` has `{shop}` where the shop's domain stands."""

    def __init__(self, caller: Caller, base_url: str) -> None:
        self.caller = caller
        self._base_url = base_url.rstrip("/")

    def address(self, shop: str, path: str) -> str:
        """An address of the shop's.

        Raises:
            ServiceError: PERMANENT, CONSENT_REFUSED, where `shop` is no shop's domain: the app's
                secret would go to whatever host it is.
        """
        domain = shop_domain(shop)
        if domain is None:
            raise refused_consent("that is no shop's myshopify.com domain")
        return self._base_url.replace("{shop}", domain) + path

    async def granted(
        self,
        app: App,
        shop: str,
        asked: dict[str, object],
        step: Step,
        before: Grant | None = None,
    ) -> Grant:
        """What the shop grants for `asked`, which says nothing of the app."""
        client = {"client_id": app.client_id, "client_secret": app.secret.reveal()}
        request = post(self.address(shop, _GRANTS_PATH), {**client, **asked})
        told = await self.caller.once(request, _judge(step))
        found = shopify_grant(told, self.caller.now, before)
        if found is None:
            raise self.caller.unreadable()
        return found

    async def uninstall(self, shop: str, grant: Grant) -> None:
        """Removes the app from the shop, and so ends its tokens and webhooks.

        It is what Shopify documents for an app that ends its own access. A token that the shop does
        not know has ended.
        """
        request = Request(
            method="DELETE",
            url=self.address(shop, _INSTALLATION_PATH),
            headers={
                "X-Shopify-Access-Token": grant.access_token.reveal(),
                "Accept": "application/json",
                "Content-Type": "application/json",
            },
            repeatable=False,
        )
        await self.caller.ended(request, _judge_end)

    async def is_alive(self, shop: str, grant: Grant) -> bool:
        """Whether the shop takes the access token, asked by what it may do.

        Raises:
            ServiceError: RETRYABLE or THROTTLED, where that cannot be told now.
        """
        request = Request(
            method="GET",
            url=self.address(shop, _SCOPES_PATH),
            headers={
                "X-Shopify-Access-Token": grant.access_token.reveal(),
                "Accept": "application/json",
            },
        )
        try:
            await self.caller.read(request, _judge_look)
        except ServiceError as error:
            if error.code == GRANT_REVOKED:
                return False
            raise
        return True


def _judge_look(status: int, _: Body | None) -> Refusal | None:
    """401 is a token that is dead; a shop that is locked, or down, says nothing of its token."""
    if status == 401:
        return Refusal.GRANT
    found = refusals.of_status(status)
    return Refusal.DOWN if found is Refusal.APP else found


def _judge(step: Step) -> Judge:
    def judge(status: int, body: Body | None) -> Refusal | None:
        return refusals.shopify(status, text(body, "error"), text(body, "error_description"), step)

    return judge


def _judge_end(status: int, _body: Body | None) -> Refusal | None:
    return Refusal.GRANT if status in (401, 404) else refusals.of_status(status)

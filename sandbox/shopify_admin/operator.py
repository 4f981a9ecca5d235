"""What only a test or a demo does: things that happen at a shop behind the app's back.

POST   /_sandbox/shopify/scopes           {"shop", "app", "scopes"}: other scopes, and
       app/scopes_update is sent
POST   /_sandbox/shopify/uninstall        {"shop", "app"}: and app/uninstalled is sent
GET    /_sandbox/shopify/webhooks?shop=…[&app=…]     the subscriptions
POST   /_sandbox/shopify/webhooks/delete  {"shop", "app", "topic" and/or "id"}: the fitting ones end
POST   /_sandbox/shopify/send             {"shop", "app", "topic", "body"[, "secret"]}: a webhook
POST   /_sandbox/shopify/version          {"shop", "serves", "deprecated"}: null for as it was
POST   /_sandbox/shopify/shop             {"shop", "name", "currency", "country", …}
POST   /_sandbox/shopify/session-token    {"shop", "app"[, "lifetime_s"]}: as App Bridge gives it

`app` is `sandbox-shopify-app` unless it is said.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec
from aiohttp import web

from sandbox.oauth.desk import Desk, json_response
from sandbox.shopify_admin.premises import Facts, Town
from sandbox.shopify_admin.session_token import LIFETIME_S, session_token

DEFAULT_APP: Final = "sandbox-shopify-app"
_Wish = TypeVar("_Wish", bound=msgspec.Struct)


class OfApp(msgspec.Struct, forbid_unknown_fields=True):
    """An app at a shop."""

    shop: str
    app: str = DEFAULT_APP


class Scopes(OfApp, forbid_unknown_fields=True, kw_only=True):
    scopes: list[str]


class Ending(OfApp, forbid_unknown_fields=True, kw_only=True):
    topic: str | None = None
    id: str | None = None


class Sending(OfApp, forbid_unknown_fields=True, kw_only=True):
    topic: str
    body: dict[str, Any]
    secret: str = ""


class SessionWish(OfApp, forbid_unknown_fields=True, kw_only=True):
    lifetime_s: float = LIFETIME_S


class Version(msgspec.Struct, forbid_unknown_fields=True):
    shop: str
    serves: str | None = None
    deprecated: str | None = None


class ShopFacts(Facts, forbid_unknown_fields=True, kw_only=True):
    shop: str


class Unreadable(web.HTTPBadRequest):
    """A wish that cannot be read."""


class Operator:
    """The operator's paths of the Shopify simulator."""

    def __init__(self, desk: Desk, town: Town) -> None:
        self._desk = desk
        self._town = town

    def add_routes(self, app: web.Application) -> None:
        base = "/_sandbox/shopify"
        app.router.add_post(f"{base}/scopes", self._scopes)
        app.router.add_post(f"{base}/uninstall", self._uninstall)
        app.router.add_get(f"{base}/webhooks", self._webhooks)
        app.router.add_post(f"{base}/webhooks/delete", self._end)
        app.router.add_post(f"{base}/send", self._send)
        app.router.add_post(f"{base}/version", self._version)
        app.router.add_post(f"{base}/shop", self._shop)
        app.router.add_post(f"{base}/session-token", self._session)

    async def _scopes(self, request: web.Request) -> web.Response:
        wish = await _read(request, Scopes)
        return json_response(await self._town.scopes_updated(wish.shop, wish.app, wish.scopes))

    async def _uninstall(self, request: web.Request) -> web.Response:
        wish = await _read(request, OfApp)
        ended, sent = await self._town.uninstall(wish.shop, wish.app)
        return json_response({"revoked": ended, "sent": sent})

    async def _webhooks(self, request: web.Request) -> web.Response:
        shop = self._town.shop(request.query.get("shop", ""))
        app = request.query.get("app")
        return json_response(
            [
                {"app": app_id, **one.shown("")}
                for app_id, held in shop.subscriptions.items()
                if app in {None, app_id}
                for one in held.held.values()
            ]
        )

    async def _end(self, request: web.Request) -> web.Response:
        wish = await _read(request, Ending)
        held = self._town.known(wish.shop, wish.app).held
        gone = [
            one.id
            for one in held.values()
            if wish.topic in {None, one.topic} and wish.id in {None, one.id}
        ]
        for each in gone:
            del held[each]
        return json_response({"deleted": gone})

    async def _send(self, request: web.Request) -> web.Response:
        wish = await _read(request, Sending)
        sent = await self._town.send(wish.shop, wish.app, wish.topic, wish.body, wish.secret)
        return json_response({"sent": sent})

    async def _version(self, request: web.Request) -> web.Response:
        wish = await _read(request, Version)
        shop = self._town.shop(wish.shop)
        shop.serves, shop.deprecated = wish.serves, wish.deprecated
        return json_response(wish)

    async def _shop(self, request: web.Request) -> web.Response:
        wish = await _read(request, ShopFacts)
        told = msgspec.to_builtins(wish)
        domain = told.pop("shop")
        self._town.shop(domain).facts = Facts(**told)
        return json_response(wish)

    async def _session(self, request: web.Request) -> web.Response:
        wish = await _read(request, SessionWish)
        app = self._desk.apps.get("shopify", wish.app)
        if app is None:
            return json_response({"error": f"no app {wish.app!r}"}, 400)
        token = session_token(app, wish.shop, self._desk.now_s(), wish.lifetime_s)
        return json_response({"session_token": token})


async def _read(request: web.Request, kind: type[_Wish]) -> _Wish:
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        text = msgspec.json.encode({"error": str(error)}).decode()
        raise Unreadable(text=text, content_type="application/json") from error

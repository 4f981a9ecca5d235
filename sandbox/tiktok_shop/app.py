"""TikTok Shop's authorization over HTTP. Bind it to loopback: it has no guard of its own.

GET    /open/authorize?service_id=[&state=]    the consent page; POST is its form
GET    /oauth/authorize?app_key=[&state=]      its older form
GET    /api/v2/token/get          ?app_key=&app_secret=&auth_code=&grant_type=authorized_code
GET    /api/v2/token/refresh      ?app_key=&app_secret=&refresh_token=&grant_type=refresh_token
GET    /authorization/202309/shops             signed, with x-tts-access-token
PUT    /event/202309/webhooks     signed, with shop_cipher: {address, event_type}; GET lists,
       DELETE {event_type} ends one, there or not
POST   /_sandbox/tiktok-shop/webhooks/delete   {"cipher", "event_type"}: behind the app's back

Where a person is sent back to is the app's first redirect uri, whatever the request says. Expiry
times are absolute, Unix seconds. Contract: tiktok-shop.md 1.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec
from aiohttp import web

from sandbox.oauth.apps import App
from sandbox.oauth.desk import Answer, Desk
from sandbox.oauth.faults import Sighting
from sandbox.oauth.pages import consent, redirect, refusal
from sandbox.oauth.vault import Access, Connection, Grant, Issued, State, name_of
from sandbox.tiktok_shop.signing import signature_of
from sandbox.tiktok_shop.webhooks import HookError, ShopHooks

Json = dict[str, Any]
Query = Mapping[str, str]

PROVIDER: Final = "tiktok-shop"
OLDEST_S: Final = 300
AHEAD_S: Final = 30
SHOPS_SCOPE: Final = "seller.authorization.info"
_FIELD_MAX: Final = 2048


class Refused(Exception):  # noqa: N818 - an answer of the simulator, not an error in it
    """What is answered instead of data."""

    def __init__(self, code: int, message: str, status: int = 200, outcome: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status
        self.outcome = outcome or str(code)


class Done(NamedTuple):
    """The data of an answer, and whose it is."""

    data: Json
    account: str


class TikTokShopSandbox:
    """The seller's consent and what it gives."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.hooks = ShopHooks()

    def add_routes(self, app: web.Application) -> None:
        """Serves beside other simulators."""
        for path in ("/open/authorize", "/oauth/authorize"):
            app.router.add_get(path, self._ask)
            app.router.add_post(path, self._decided)
        app.router.add_route("*", "/api/v2/token/get", self._get)
        app.router.add_route("*", "/api/v2/token/refresh", self._refresh)
        app.router.add_route("*", "/authorization/202309/shops", self._shops)
        app.router.add_route("*", "/event/202309/webhooks", self._webhooks)
        app.router.add_post("/_sandbox/tiktok-shop/webhooks/delete", self.hooks.end_one)
        self.desk.add_routes(app)

    async def _ask(self, request: web.Request) -> web.Response:
        fields = {name: request.query[name] for name in _ASKED if name in request.query}
        app = self._checked(request.path, fields)
        if isinstance(app, web.Response):
            return app
        return consent(
            title=f"{app.title} asks for access",
            lines=[f"Shop {one.name} ({one.region})" for one in app.shops] + app.scopes,
            allow="Authorize",
            deny="Cancel",
            fields=fields,
        )

    async def _decided(self, request: web.Request) -> web.Response:
        form = await request.post()
        fields = {name: str(form[name]) for name in _ASKED if name in form}
        app = self._checked(request.path, fields)
        if isinstance(app, web.Response):
            return app
        uri = app.redirect_uris[0]
        query = {"state": fields["state"]} if "state" in fields else {}
        if form.get("decision") == "allow":
            grant = Grant(Connection(PROVIDER, app.id, app.open_id), frozenset(app.scopes))
            code = self.desk.vault.new_code(app, grant, uri, self.desk.now_s())
            return redirect(uri, query | {"code": code})
        return redirect(uri, query | {"code": "null", "error": "auth_denied"})

    def _checked(self, path: str, fields: Query) -> App | web.Response:
        if path == "/open/authorize":
            app = self.desk.apps.of_service(fields.get("service_id", ""))
        else:
            app = self.desk.apps.get(PROVIDER, fields.get("app_key", ""))
        if app is None or any(len(value) > _FIELD_MAX for value in fields.values()):
            return refusal("Something went wrong", "This service does not exist")
        if not app.redirect_uris:
            return refusal("Something went wrong", "The app has no redirect URL")
        return app

    async def _get(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, "exchange", self._exchanged)

    async def _refresh(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, "refresh", self._renewed)

    async def _shops(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        token = request.headers.get("x-tts-access-token", "")

        def act(query: Query) -> Done:
            app = self._signer(request, query, body)
            held = self._holder(app, token)
            if SHOPS_SCOPE not in held.grant.scopes:
                raise Refused(105005, "Access denied: the token lacks the scope", 403)
            shops = [msgspec.to_builtins(one) for one in app.shops]
            return Done({"shops": shops}, held.grant.connection.account)

        return await self._answer(request, "shops", act)

    async def _webhooks(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        token = request.headers.get("x-tts-access-token", "")

        def act(query: Query) -> Done:
            app = self._signer(request, query, body, needs_cipher=True)
            held = self._holder(app, token)
            cipher = query["shop_cipher"]
            if all(cipher != shop.cipher for shop in app.shops):
                raise _bad("Invalid shop_cipher")
            key = (app.id, cipher)
            try:
                data = self.hooks.asked(
                    request.method, key, body, self.desk.now_s(), loopback=app.loopback_webhooks
                )
            except HookError as error:
                raise _bad(str(error)) from error
            return Done(data, held.grant.connection.account)

        return await self._answer(request, "webhooks", act, ("GET", "PUT", "DELETE"))

    async def _answer(
        self,
        request: web.Request,
        endpoint: str,
        act: Callable[[Query], Done],
        methods: tuple[str, ...] = ("GET",),
    ) -> web.StreamResponse:
        query = dict(request.query)
        sent = query.get("refresh_token", "")

        def acted() -> Answer:
            name = name_of(sent) if sent else ""
            try:
                if request.method not in methods:
                    raise _no_method()
                done = act(query)
            except Refused as refused:
                body = _envelope(refused.code, refused.message, None)
                return Answer(refused.status, body, refused.outcome, "", name)
            return Answer(200, _envelope(0, "success", done.data), "ok", done.account, name)

        sighting = Sighting(PROVIDER, endpoint, query.get("app_key", ""))
        return await self.desk.serve(request, sighting, acted)

    def _app(self, query: Query) -> App:
        app = self.desk.apps.get(PROVIDER, query.get("app_key", ""))
        if app is None:
            raise Refused(36009004, "Invalid app_key")
        secret = query.get("app_secret", "")
        if not hmac.compare_digest(secret.encode(), app.secret.encode()):
            raise Refused(36009004, "Invalid app_secret")
        return app

    def _exchanged(self, query: Query) -> Done:
        app = self._app(query)
        if query.get("grant_type") != "authorized_code":
            raise Refused(36009004, "Invalid grant_type")
        now_s = self.desk.now_s()
        code = self.desk.vault.code(query.get("auth_code", ""))
        if code is None or code.is_used or now_s >= code.expires_at_s or code.app.key != app.key:
            raise Refused(36004004, "auth code is invalid")
        code.is_used = True
        issued = self.desk.vault.issue(
            code.grant, now_s, access_s=app.access_s, refresh_s=app.refresh_s, prefixes=_PREFIXES
        )
        self.desk.ledger.exchanged(code.grant.connection)
        return Done(_told(app, issued), code.grant.connection.account)

    def _renewed(self, query: Query) -> Done:
        app, desk, now_s = self._app(query), self.desk, self.desk.now_s()
        if query.get("grant_type") != "refresh_token":
            raise Refused(36009004, "Invalid grant_type")
        token = query.get("refresh_token", "")
        state, held = desk.vault.refresh(token, now_s)
        if held is not None and held.grant.connection[:2] != app.key:
            state, held = State.UNKNOWN, None
        if state is not State.LIVE or held is None:
            stranger = Connection(PROVIDER, app.id, "unknown")
            desk.ledger.refused(held.grant.connection if held else stranger, state)
            if state is State.REVOKED:
                raise Refused(36004005, "no authorization record", outcome=state)
            raise Refused(36004001, "rt has expired", outcome=state)
        desk.vault.replace(held, app.rotates, app.grace_s, now_s)
        desk.ledger.refreshed(held.grant.connection, held.name)
        keeps = app.rotates == "keep"
        issued = desk.vault.issue(
            held.grant,
            now_s,
            access_s=app.access_s,
            # The refresh token lives as long as the seller consented to, however often it is used.
            refresh_s=None if keeps else held.expires_at_s - now_s,
            prefixes=_PREFIXES,
            parent=None if keeps else held,
        )
        if keeps:
            issued = issued._replace(refresh_token=token, refresh_expires_at_s=held.expires_at_s)
        return Done(_told(app, issued), held.grant.connection.account)

    def _signer(
        self, request: web.Request, query: Query, body: bytes, *, needs_cipher: bool = False
    ) -> App:
        """The app that signed a call.

        Raises:
            Refused: 36009004, its message naming what is wrong; 106013 without a needed cipher.
        """
        if len(query) != len(request.query):
            raise _bad("Invalid parameter")
        app = self.desk.apps.get(PROVIDER, query.get("app_key", ""))
        if app is None:
            raise _bad("Invalid app_key")
        stamp = query.get("timestamp", "")
        if not (stamp.isascii() and stamp.isdigit() and len(stamp) == 10):
            raise _bad("Invalid timestamp")
        if not -AHEAD_S <= self.desk.now_s() - int(stamp) <= OLDEST_S:
            raise _bad("Invalid timestamp")
        content_type = request.headers.get("Content-Type", "")
        expected = signature_of(app.secret, request.path, query, body, content_type)
        given = query.get("sign", "")
        if not hmac.compare_digest(given.encode(), expected.encode()):
            raise _bad("Invalid signature")
        if "shop_cipher" in query and not needs_cipher:
            raise _bad("Unexpected identifier")
        if needs_cipher and not query.get("shop_cipher"):
            raise Refused(106013, "shop_cipher is missing", 400)
        return app

    def _holder(self, app: App, token: str) -> Access:
        stranger = Connection(PROVIDER, app.id, "unknown")
        _, held = self.desk.vault.access(token, self.desk.now_s())
        if held is not None and held.grant.connection[:2] != app.key:
            self.desk.ledger.called_dead(stranger, State.UNKNOWN)
            raise Refused(105001, "access token is invalid", 401)
        state = self.desk.call_with(stranger, token)
        if state is State.EXPIRED:
            raise Refused(105002, "access token is expired", 401)
        if state is not State.LIVE or held is None:
            raise Refused(105001, "access token is invalid", 401)
        return held


_ASKED: Final = ("service_id", "app_key", "state")
_PREFIXES: Final = ("TTP_", "TTP_")


def _bad(message: str) -> Refused:
    return Refused(36009004, message, 400)


def _no_method() -> Refused:
    return Refused(36009010, "Invalid method", 405)


def _told(app: App, issued: Issued) -> Json:
    return {
        "access_token": issued.access_token,
        "access_token_expire_in": round(issued.expires_at_s or 0),
        "refresh_token": issued.refresh_token,
        "refresh_token_expire_in": round(issued.refresh_expires_at_s or 0),
        "open_id": app.open_id,
        "seller_name": "Sandbox seller",
        "seller_base_region": app.shops[0].region if app.shops else "US",
        "user_type": 0,
        "granted_scopes": sorted(issued.grant.scopes),
    }


def _envelope(code: int, message: str, data: Json | None) -> bytes:
    found: Json = {"code": code, "message": message, "request_id": "sandbox"}
    return msgspec.json.encode(found if data is None else found | {"data": data})

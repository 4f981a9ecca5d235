"""Shopify's OAuth: consent, and the token endpoint with all its grants.

GET    /shopify/<domain>/admin/oauth/authorize       the consent page; POST is its form
POST   /shopify/<domain>/admin/oauth/access_token    form or JSON: code, refresh_token,
       client_credentials and token exchange
GET    /shopify/<domain>/admin/oauth/access_scopes.json
DELETE /shopify/<domain>/admin/api_permissions/current.json     uninstalls

Errors are JSON for who asks for JSON (`Accept`), else a page, as Shopify's are. A refresh token
that is not live is 401 `invalid_request`, whatever the reason, and final; 5xx and silence are not.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, Final

import msgspec
from aiohttp import web

from sandbox.oauth.apps import App
from sandbox.oauth.desk import Answer, Desk
from sandbox.oauth.faults import Sighting
from sandbox.oauth.pages import consent, redirect, refusal
from sandbox.oauth.vault import Connection, Grant, Issued, State, name_of
from sandbox.shopify_admin.session_token import SessionTokenError, check_session_token

SHOP: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9-]*\.myshopify\.com")
CLIENT_CREDENTIALS_S: Final = 86_399
ONLINE_S: Final = 86_399
TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105
ID_TOKEN: Final = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105
OFFLINE: Final = "urn:shopify:params:oauth:token-type:offline-access-token"
ONLINE: Final = "urn:shopify:params:oauth:token-type:online-access-token"
_PREFIXES: Final = ("shpat_", "shprt_")
_FIELD_MAX: Final = 4096

Fields = Mapping[str, str]


class OAuthRefused(Exception):  # noqa: N818 - an answer of the simulator, not an error in it
    """What the token endpoint says no with."""

    def __init__(self, status: int, error: str, text: str, state: State | None = None) -> None:
        super().__init__(text)
        self.status, self.error, self.text, self.state = status, error, text, state


def callback_hmac(secret: str, query: Mapping[str, str]) -> str:
    """Hex HMAC-SHA256 over the sorted, escaped pairs without `hmac` (contracts: shopify.md 5)."""
    pairs = (f"{_key(k)}={_value(v)}" for k, v in query.items() if k != "hmac")
    return hmac.new(secret.encode(), "&".join(sorted(pairs)).encode(), hashlib.sha256).hexdigest()


def _value(text: str) -> str:
    return text.replace("%", "%25").replace("&", "%26")


def _key(text: str) -> str:
    return _value(text).replace("=", "%3D")


def shown_scopes(scopes: Iterable[str]) -> str:
    """As the token endpoint writes them: who may write is not said to read."""
    held = set(scopes)
    said = sorted(one for one in held if _writing(one) not in held)
    return ",".join(said)


def full_scopes(scopes: Iterable[str]) -> frozenset[str]:
    """With what is implied: who may write may read."""
    held = set(scopes)
    implied = {f"read_{one.removeprefix('write_')}" for one in held if one.startswith("write_")}
    return frozenset(held | implied)


def _writing(scope: str) -> str:
    return f"write_{scope.removeprefix('read_')}" if scope.startswith("read_") else ""


class ShopifyOAuth:
    """The endpoints, over a desk."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def add_routes(self, app: web.Application) -> None:
        base = "/shopify/{shop}/admin/oauth"
        app.router.add_get(f"{base}/authorize", self._ask)
        app.router.add_post(f"{base}/authorize", self._decided)
        app.router.add_post(f"{base}/access_token", self._token)

    async def _ask(self, request: web.Request) -> web.Response:
        """The consent page, or a page that says why there is none: never a redirect unchecked."""
        fields = {name: request.query.get(name, "") for name in _ASKED}
        found = self._checked(request.match_info["shop"], fields)
        if isinstance(found, web.Response):
            return found
        app, scopes = found
        return consent(
            title=f"Install {app.title} on {request.match_info['shop']}",
            lines=sorted(scopes) or ["nothing"],
            allow="Install",
            deny="Cancel",
            fields=fields,
        )

    async def _decided(self, request: web.Request) -> web.Response:
        shop = request.match_info["shop"]
        form = await request.post()
        fields = {name: str(form.get(name, "")) for name in _ASKED}
        found = self._checked(shop, fields)
        if isinstance(found, web.Response):
            return found
        app, scopes = found
        now_s = self._desk.now_s()
        query = {
            "host": _host_of(shop),
            "shop": shop,
            "state": fields["state"],
            "timestamp": str(int(now_s)),
        }
        if form.get("decision") == "allow":
            kind = "online" if fields["grant_options[]"] == "per-user" else "offline"
            grant = Grant(Connection("shopify", app.id, shop), full_scopes(scopes), kind=kind)
            uri = fields["redirect_uri"]
            query["code"] = self._desk.vault.new_code(app, grant, uri, now_s)
        else:
            query |= {"error": "access_denied", "error_description": "The merchant declined"}
        query["hmac"] = callback_hmac(app.secret, query)
        return redirect(fields["redirect_uri"], query)

    def _checked(self, shop: str, fields: Fields) -> tuple[App, set[str]] | web.Response:
        if not SHOP.fullmatch(shop):
            return refusal("Not found", "There is no such shop.", 404)
        if any(len(value) > _FIELD_MAX for value in fields.values()):
            return refusal("Oauth error invalid_request", "A parameter is too long.")
        app = self._desk.apps.get("shopify", fields["client_id"])
        if app is None:
            text = f"Could not find Shopify API application with api_key {fields['client_id']}"
            return refusal("Oauth error application_cannot_be_found", text)
        if not app.allows_redirect(fields["redirect_uri"]):
            return refusal("Oauth error invalid_request", "The redirect_uri is not whitelisted")
        scopes = {one.strip() for one in fields["scope"].split(",") if one.strip()}
        scopes = scopes or set(app.scopes)
        if unknown := scopes - full_scopes(app.scopes):
            return refusal("Oauth error invalid_scope", f"Invalid scope: {min(unknown)}")
        return app, scopes

    async def _token(self, request: web.Request) -> web.StreamResponse:
        shop = request.match_info["shop"]
        fields = await _fields_of(request)
        endpoint = "refresh" if fields.get("grant_type") == "refresh_token" else "exchange"
        sighting = Sighting("shopify", endpoint, fields.get("client_id", ""), shop)
        wants_json = "application/json" in request.headers.get("Accept", "")
        sent = fields.get("refresh_token", "")

        def act() -> Answer:
            try:
                body = self._granted(shop, fields)
            except OAuthRefused as refused:
                return _refusal(refused, shop, name_of(sent) if sent else "", json=wants_json)
            return Answer(
                200, msgspec.json.encode(body), account=shop, refresh_token=sent and name_of(sent)
            )

        return await self._desk.serve(request, sighting, act)

    def _granted(self, shop: str, fields: Fields) -> dict[str, Any]:
        if not SHOP.fullmatch(shop):
            raise OAuthRefused(404, "not_found", "Not Found")
        app = self._client(fields)
        match fields.get("grant_type", "authorization_code"):
            case "authorization_code":
                return self._by_code(app, shop, fields)
            case "refresh_token":
                return self._by_refresh(app, shop, fields)
            case "client_credentials":
                return self._by_credentials(app, shop)
            case found if found == TOKEN_EXCHANGE:
                return self._by_exchange(app, shop, fields)
            case _:
                raise OAuthRefused(400, "unsupported_grant_type", "The grant type is not supported")

    def _client(self, fields: Fields) -> App:
        client_id, secret = fields.get("client_id", ""), fields.get("client_secret", "")
        if not client_id or not secret:
            missing = "client_secret" if client_id else "client_id"
            raise OAuthRefused(400, "invalid_request", f"Missing required parameter: {missing}")
        app = self._desk.apps.get("shopify", client_id)
        if app is None:
            text = f"Could not find Shopify API application with api_key {client_id}"
            raise OAuthRefused(400, "application_cannot_be_found", text)
        if not hmac.compare_digest(secret.encode(), app.secret.encode()):
            raise OAuthRefused(401, "invalid_client", "Client authentication failed")
        return app

    def _by_code(self, app: App, shop: str, fields: Fields) -> dict[str, Any]:
        now_s = self._desk.now_s()
        code = self._desk.vault.code(fields.get("code", ""))
        own = Connection("shopify", app.id, shop)
        if (
            code is None
            or code.is_used
            or now_s >= code.expires_at_s
            or code.grant.connection != own
        ):
            text = "The authorization code was not found or was already used"
            raise OAuthRefused(400, "invalid_request", text)
        code.is_used = True
        return self._handed_out(app, code.grant, expiring=_is_set(fields, "expiring"))

    def _by_exchange(self, app: App, shop: str, fields: Fields) -> dict[str, Any]:
        subject, kind = fields.get("subject_token", ""), fields.get("requested_token_type", "")
        if kind not in {OFFLINE, ONLINE}:
            raise OAuthRefused(400, "invalid_request", "requested_token_type is not supported")
        connection = Connection("shopify", app.id, shop)
        if fields.get("subject_token_type") == OFFLINE:
            return self._migrated(app, connection, fields)
        if fields.get("subject_token_type") != ID_TOKEN:
            raise OAuthRefused(400, "invalid_request", "subject_token_type is not supported")
        try:
            check_session_token(subject, app, shop, self._desk.now_s())
        except SessionTokenError as error:
            text = "Subject token is invalid"
            raise OAuthRefused(400, "invalid_subject_token", text) from error
        standing = self._desk.vault.grants(connection)
        scopes = standing[-1].scopes if standing else full_scopes(app.scopes)
        grant = Grant(connection, scopes, kind="online" if kind == ONLINE else "offline")
        return self._handed_out(app, grant, expiring=_is_set(fields, "expiring"))

    def _migrated(self, app: App, connection: Connection, fields: Fields) -> dict[str, Any]:
        """An expiring token for one without expiry, which ends: there is no way back."""
        now_s = self._desk.now_s()
        state, held = self._desk.vault.access(fields.get("subject_token", ""), now_s)
        is_own = held is not None and held.grant.connection == connection
        perpetual = held is not None and held.expires_at_s is None
        if held is None or not is_own or not perpetual or state is not State.LIVE:
            raise OAuthRefused(400, "invalid_subject_token", "Subject token is invalid")
        if not _is_set(fields, "expiring"):
            raise OAuthRefused(400, "invalid_request", "expiring must be 1")
        self._desk.vault.revoke(held.grant)
        grant = Grant(connection, held.grant.scopes)
        return self._handed_out(app, grant, expiring=True)

    def _by_credentials(self, app: App, shop: str) -> dict[str, Any]:
        if "*" not in app.client_credentials_shops and shop not in app.client_credentials_shops:
            text = "Client credentials cannot be performed on this shop."
            raise OAuthRefused(400, "shop_not_permitted", text)
        connection = Connection("shopify", app.id, shop)
        grant = Grant(connection, full_scopes(app.scopes), kind="client_credentials")
        access_s = min(app.access_token_s or CLIENT_CREDENTIALS_S, CLIENT_CREDENTIALS_S)
        issued = self._desk.vault.issue(
            grant, self._desk.now_s(), access_s=access_s, prefixes=_PREFIXES
        )
        self._desk.ledger.exchanged(connection)
        return _answer_of(issued, self._desk.now_s())

    def _by_refresh(self, app: App, shop: str, fields: Fields) -> dict[str, Any]:
        desk, now_s = self._desk, self._desk.now_s()
        own = Connection("shopify", app.id, shop)
        state, held = desk.vault.refresh(fields.get("refresh_token", ""), now_s)
        if held is not None and held.grant.connection != own:
            state, held = State.UNKNOWN, None
        if state is not State.LIVE or held is None:
            desk.ledger.refused(own, state)
            text = "This request requires an active refresh_token"
            raise OAuthRefused(401, "invalid_request", text, state)
        desk.vault.replace(held, app.rotates, app.grace_s, now_s)
        desk.ledger.refreshed(own, held.name)
        keeps = app.rotates == "keep"
        issued = desk.vault.issue(
            held.grant,
            now_s,
            access_s=app.access_s,
            refresh_s=None if keeps else app.refresh_s,
            prefixes=_PREFIXES,
            parent=None if keeps else held,
        )
        if keeps:
            kept = fields["refresh_token"]
            issued = issued._replace(refresh_token=kept, refresh_expires_at_s=held.expires_at_s)
        return _answer_of(issued, now_s)

    def _handed_out(self, app: App, grant: Grant, *, expiring: bool) -> dict[str, Any]:
        desk, now_s = self._desk, self._desk.now_s()
        if grant.kind == "online":
            issued = desk.vault.issue(grant, now_s, access_s=ONLINE_S, prefixes=("shpua_", ""))
            desk.ledger.exchanged(grant.connection)
            return _answer_of(issued, now_s) | _ONLINE_USER
        grant.kind = "expiring" if expiring else "perpetual"
        if expiring:
            # One expiring token is active for each app and shop: acquiring one revokes the others.
            for other in desk.vault.grants(grant.connection):
                if other.kind == "expiring":
                    desk.vault.revoke(other)
        issued = desk.vault.issue(
            grant,
            now_s,
            access_s=app.access_s if expiring else None,
            refresh_s=app.refresh_s if expiring else None,
            prefixes=_PREFIXES,
        )
        desk.ledger.exchanged(grant.connection)
        return _answer_of(issued, now_s)


_ASKED: Final = ("client_id", "scope", "redirect_uri", "state", "grant_options[]")
_ONLINE_USER: Final = {
    "associated_user_scope": "",
    "associated_user": {
        "id": 1,
        "first_name": "Sandbox",
        "last_name": "Person",
        "email": "person@example.com",
        "email_verified": True,
        "account_owner": True,
        "locale": "en",
        "collaborator": False,
    },
}


def _answer_of(issued: Issued, now_s: float) -> dict[str, Any]:
    body: dict[str, Any] = {
        "access_token": issued.access_token,
        "scope": shown_scopes(issued.grant.scopes),
    }
    if issued.expires_at_s is not None:
        body["expires_in"] = _whole(issued.expires_at_s - now_s)
    if issued.refresh_token is not None and issued.refresh_expires_at_s is not None:
        body["refresh_token"] = issued.refresh_token
        body["refresh_token_expires_in"] = _whole(issued.refresh_expires_at_s - now_s)
    return body


def _whole(seconds: float) -> int | float:
    """Seconds, whole where the app's lifetimes are."""
    rounded = round(seconds, 3)
    return int(rounded) if rounded.is_integer() else rounded


def _refusal(refused: OAuthRefused, shop: str, refresh_token: str, *, json: bool) -> Answer:
    outcome = refused.state or refused.error
    if json:
        body = {"error": refused.error, "error_description": refused.text}
        data, kind = msgspec.json.encode(body), "application/json"
    else:
        said = escape(f"Oauth error {refused.error}: {refused.text}")
        page = f"<html><body><div>Oops, something went wrong.</div><div>{said}</div></body></html>"
        data, kind = page.encode(), "text/html"
    return Answer(refused.status, data, str(outcome), shop, refresh_token, kind)


async def _fields_of(request: web.Request) -> dict[str, str]:
    """A form's or a JSON object's text fields; nothing where the body is neither."""
    if request.content_type == "application/json":
        try:
            found = msgspec.json.decode(await request.read())
        except (msgspec.DecodeError, UnicodeDecodeError):
            return {}
        pairs = found.items() if isinstance(found, dict) else ()
        return {str(k): str(v) for k, v in pairs if isinstance(v, str | int)}
    form = await request.post()
    return {name: value for name, value in form.items() if isinstance(value, str)}


def _is_set(fields: Fields, name: str) -> bool:
    return fields.get(name, "") in {"1", "true", "True"}


def _host_of(shop: str) -> str:
    """The `host` of a callback: unpadded base64 of where the shop's admin is."""
    path = f"admin.shopify.com/store/{shop.removesuffix('.myshopify.com')}"
    return base64.b64encode(path.encode()).decode().rstrip("=")

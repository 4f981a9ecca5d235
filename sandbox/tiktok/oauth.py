"""OAuth of TikTok for Business: consent, exchange, revocation, and the guide's refresh.

GET    /portal/auth?app_id=&state=&redirect_uri=      the consent page; POST is its form
POST   /open_api/v1.3/oauth2/access_token/            {app_id, secret, auth_code}
POST   /open_api/v1.3/oauth2/refresh_token/           the guide's dialect only; else 40107
POST   /open_api/v1.3/oauth2/revoke_token/            {app_id, secret, access_token}
GET    /open_api/v1.3/oauth2/advertiser/get/          ?app_id=&secret=, with Access-Token

Failing codes come under HTTP 200. Contract: tiktok-catalog-and-oauth.md 2.1.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from typing import Any, Final

from aiohttp import web

from sandbox.oauth.apps import App, Provider
from sandbox.oauth.desk import Answer, Desk
from sandbox.oauth.faults import Sighting
from sandbox.oauth.pages import consent, redirect, refusal
from sandbox.oauth.vault import Code, Connection, Grant, Issued, Refresh, State, name_of
from sandbox.tiktok.answers import RequestIds, envelope
from sandbox.tiktok.reading import strict_json
from sandbox.tiktok.verdict import Problem, Refused

Json = dict[str, Any]

BUSINESS: Final[Provider] = "tiktok-business"
ACCOUNT: Final[Provider] = "tiktok-account"

UNKNOWN_APP: Final = Problem(40113, "App does not exist or is blocked")
WRONG_SECRET: Final = Problem(40101, "app_id or secret is incorrect")
BAD_CODE: Final = Problem(40110, "auth_code is used, expired or cancelled")
FOREIGN_CODE: Final = Problem(40115, "auth_code is of another endpoint")
BAD_GRANT_TYPE: Final = Problem(40108, "grant_type is not supported")
BAD_REFRESH: Final = Problem(40107, "refresh_token is invalid")
OLD_REFRESH: Final = Problem(40103, "refresh_token is expired")
BAD_TOKEN: Final = Problem(40105, "Invalid or incorrect access token")
OLD_TOKEN: Final = Problem(40102, "access token expired")
NO_TOKEN: Final = Problem(40104, "empty access token")
FIELD_MAX: Final = 2048


class Endpoints:
    """What both kinds of TikTok token endpoints need."""

    provider: Provider

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self._request_ids = RequestIds()

    async def answer(
        self,
        request: web.Request,
        endpoint: str,
        fields: Json | Problem,
        act: Callable[[Json], tuple[Json, str]],
        app_key: str,
    ) -> web.StreamResponse:
        """Answers with the data (and account) that `act` gives of `fields`, or its refusal."""
        known = fields if isinstance(fields, dict) else {}
        app_id = str(known.get(app_key, ""))
        sent = known.get("refresh_token")
        name = name_of(sent) if isinstance(sent, str) and sent else ""

        def acted() -> Answer:
            request_id = self._request_ids.next(self.desk.now_s())
            try:
                data, account = act(_readable(fields))
            except Refused as refused:
                text = f"{refused.path}: {refused.text}" if refused.path else refused.text
                body = envelope(refused.code, text, request_id)
                return Answer(200, body, str(refused.code), "", name)
            return Answer(200, envelope(0, "OK", request_id, data), "ok", account, name)

        sighting = Sighting(self.provider, endpoint, app_id)
        return await self.desk.serve(request, sighting, acted)

    def app_of(self, fields: Json, id_key: str, secret_key: str) -> App:
        """The app whose id and secret a request shows.

        Raises:
            Refused: 40002, 40113 or 40101.
        """
        app = self.desk.apps.get(self.provider, text_of(fields, id_key))
        secret = text_of(fields, secret_key)
        if app is None:
            raise Refused(UNKNOWN_APP, "")
        if not hmac.compare_digest(secret.encode(), app.secret.encode()):
            raise Refused(WRONG_SECRET, "")
        return app

    def spent_code(self, app: App, text: str) -> Code:
        """The code of `app` behind `text`, which is used up thereby.

        Raises:
            Refused: 40110, or 40115 for a code of the other kind.
        """
        code = self.desk.vault.code(text)
        if code is None or code.is_used or self.desk.now_s() >= code.expires_at_s:
            raise Refused(BAD_CODE, "")
        if code.app.provider != self.provider:
            raise Refused(FOREIGN_CODE, "")
        if code.app.id != app.id:
            raise Refused(BAD_CODE, "")
        code.is_used = True
        return code

    def refreshed(self, app: App, token: str) -> Issued:
        """A new pair for a live refresh token.

        Raises:
            Refused: 40103 or 40107.
        """
        desk, now_s = self.desk, self.desk.now_s()
        state, held = desk.vault.refresh(token, now_s)
        if held is not None and held.grant.connection[:2] != (self.provider, app.id):
            state, held = State.UNKNOWN, None
        if state is not State.LIVE or held is None:
            stranger = Connection(self.provider, app.id, "unknown")
            desk.ledger.refused(held.grant.connection if held else stranger, state)
            raise Refused(OLD_REFRESH if state is State.EXPIRED else BAD_REFRESH, "")
        desk.vault.replace(held, app.rotates, app.grace_s, now_s)
        desk.ledger.refreshed(held.grant.connection, held.name)
        return self._next_pair(app, held, token, now_s)

    def _next_pair(self, app: App, held: Refresh, token: str, now_s: float) -> Issued:
        keeps = app.rotates == "keep"
        issued = self.desk.vault.issue(
            held.grant,
            now_s,
            access_s=app.access_s,
            refresh_s=None if keeps else app.refresh_s,
            parent=None if keeps else held,
        )
        if keeps:
            return issued._replace(refresh_token=token, refresh_expires_at_s=held.expires_at_s)
        return issued

    def revoked(self, app: App, token: str) -> Grant:
        """The grant behind an access token of `app`, ended.

        Raises:
            Refused: 40105.
        """
        state, held = self.desk.vault.access(token, self.desk.now_s())
        own = held is not None and held.grant.connection[:2] == (self.provider, app.id)
        if held is None or not own or state is State.REVOKED:
            raise Refused(BAD_TOKEN, "")
        # One token may stand for several authorizations: revoking it ends it for all of them.
        self.desk.vault.revoke(held.grant)
        self.desk.ledger.revoked(held.grant.connection)
        return held.grant


class BusinessOAuth(Endpoints):
    """The advertiser's tokens. `is_told` knows those that were not issued here and are good."""

    provider = BUSINESS

    def __init__(self, desk: Desk, is_told: Callable[[str], bool] = lambda _: False) -> None:
        super().__init__(desk)
        self._is_told = is_told

    def add_routes(self, app: web.Application) -> None:
        for path in ("/portal/auth", "/portal/auth/", "/marketing_api/auth"):
            app.router.add_get(path, self._ask)
            app.router.add_post(path, self._decided)
        base = "/open_api/v1.3/oauth2"
        app.router.add_post(f"{base}/access_token/", self._exchange)
        app.router.add_post(f"{base}/refresh_token/", self._refresh)
        app.router.add_post(f"{base}/revoke_token/", self._revoke)
        app.router.add_get(f"{base}/advertiser/get/", self._advertisers)

    async def _ask(self, request: web.Request) -> web.Response:
        fields = {name: request.query.get(name, "") for name in _ASKED}
        app = self._checked(fields)
        if isinstance(app, web.Response):
            return app
        return consent(
            title=f"Authorize {app.title}",
            lines=[f"Advertiser {one}" for one in app.advertiser_ids]
            + [f"Permission {one}" for one in app.scopes],
            allow="Confirm",
            deny="Cancel",
            fields=fields,
        )

    async def _decided(self, request: web.Request) -> web.Response:
        form = await request.post()
        fields = {name: str(form.get(name, "")) for name in _ASKED}
        app = self._checked(fields)
        if isinstance(app, web.Response):
            return app
        query = {"state": fields["state"]}
        if form.get("decision") == "allow":
            advertisers = app.advertiser_ids
            grant = Grant(
                Connection(BUSINESS, app.id, advertisers[0] if advertisers else "none"),
                frozenset(app.scopes),
                {"advertiser_ids": list(advertisers), "pixels": frozenset(app.pixels)},
            )
            uri, now_s = fields["redirect_uri"], self.desk.now_s()
            code = self.desk.vault.new_code(app, grant, uri, now_s)
            query |= {"auth_code": code, "code": code}
        else:
            query |= {"error": "access_denied"}
        return redirect(fields["redirect_uri"], query)

    def _checked(self, fields: Mapping[str, str]) -> App | web.Response:
        app = self.desk.apps.get(BUSINESS, fields["app_id"])
        if app is None or any(len(value) > FIELD_MAX for value in fields.values()):
            return refusal("Something went wrong", "The app does not exist.")
        if not app.allows_redirect(fields["redirect_uri"]):
            return refusal("Something went wrong", "The redirect_uri does not match the app's.")
        return app

    async def _exchange(self, request: web.Request) -> web.StreamResponse:
        fields = await json_fields(request)
        return await self.answer(request, "exchange", fields, self._exchanged, "app_id")

    def _exchanged(self, fields: Json) -> tuple[Json, str]:
        app = self.app_of(fields, "app_id", "secret")
        kind = fields.get("grant_type", "auth_code")
        if kind not in {"auth_code", "authorization_code"}:
            raise Refused(BAD_GRANT_TYPE, "")
        code = self.spent_code(app, text_of(fields, "auth_code"))
        guide = app.dialect == "guide"
        issued = self.desk.vault.issue(
            code.grant,
            self.desk.now_s(),
            access_s=app.access_s if guide or app.access_token_s is not None else None,
            refresh_s=app.refresh_s if guide else None,
        )
        self.desk.ledger.exchanged(code.grant.connection)
        return self._told(issued), code.grant.connection.account

    async def _refresh(self, request: web.Request) -> web.StreamResponse:
        fields = await json_fields(request)
        return await self.answer(request, "refresh", fields, self._renewed, "app_id")

    def _renewed(self, fields: Json) -> tuple[Json, str]:
        app = self.app_of(fields, "app_id", "secret")
        if fields.get("grant_type", "refresh_token") != "refresh_token":
            raise Refused(BAD_GRANT_TYPE, "")
        token = text_of(fields, "refresh_token")
        if app.dialect != "guide":
            stranger = Connection(BUSINESS, app.id, "unknown")
            self.desk.ledger.refused(stranger, State.UNKNOWN)
            raise Refused(BAD_REFRESH, "")
        issued = self.refreshed(app, token)
        return self._told(issued), issued.grant.connection.account

    def _told(self, issued: Issued) -> Json:
        now_s, grant = self.desk.now_s(), issued.grant
        data: Json = {
            "access_token": issued.access_token,
            "advertiser_ids": grant.details["advertiser_ids"],
            "scope": sorted(int(one) for one in grant.scopes if one.isdigit()),
        }
        return data | lifetimes_of(issued, now_s)

    async def _revoke(self, request: web.Request) -> web.StreamResponse:
        fields = await json_fields(request)
        return await self.answer(request, "revoke", fields, self._ended, "app_id")

    def _ended(self, fields: Json) -> tuple[Json, str]:
        app = self.app_of(fields, "app_id", "secret")
        grant = self.revoked(app, text_of(fields, "access_token"))
        data = {"app_id": app.id, "advertiser_ids": grant.details["advertiser_ids"]}
        return data, grant.connection.account

    async def _advertisers(self, request: web.Request) -> web.StreamResponse:
        fields: Json = dict(request.query)
        token = request.headers.get("Access-Token", "")

        def act(asked: Json) -> tuple[Json, str]:
            app = self.app_of(asked, "app_id", "secret")
            if not token:
                raise Refused(NO_TOKEN, "")
            if self._is_told(token):
                return {"list": []}, "static"
            _, held = self.desk.vault.access(token, self.desk.now_s())
            state = self.desk.call_with(Connection(BUSINESS, "unknown", "unknown"), token)
            if state is not State.LIVE or held is None:
                raise Refused(OLD_TOKEN if state is State.EXPIRED else BAD_TOKEN, "")
            if held.grant.connection[:2] != (BUSINESS, app.id):
                raise Refused(UNKNOWN_APP, "")
            listed = [
                {"advertiser_id": one, "advertiser_name": f"Sandbox advertiser {one}"}
                for one in held.grant.details["advertiser_ids"]
            ]
            return {"list": listed}, held.grant.connection.account

        return await self.answer(request, "advertisers", fields, act, "app_id")


_ASKED: Final = ("app_id", "state", "redirect_uri")


def _readable(fields: Json | Problem) -> Json:
    if isinstance(fields, Problem):
        raise Refused(fields, "")
    return fields


async def json_fields(request: web.Request) -> Json | Problem:
    """A JSON object that came as JSON, or what TikTok answers to anything else."""
    if request.content_type != "application/json":
        return Problem(40002, "Content-Type must be application/json")
    try:
        found = strict_json(await request.read())
    except Refused as refused:
        return Problem(refused.code, refused.text)
    return found if isinstance(found, dict) else Problem(40002, "the body is no JSON object")


def text_of(fields: Json, name: str) -> str:
    """A field that must be there, as text.

    Raises:
        Refused: 40002, naming the field.
    """
    found = fields.get(name)
    if found is None or found == "":
        raise Refused(Problem(40002, "Missing data for required field."), name)
    if not isinstance(found, str):
        raise Refused(Problem(40002, "Not a valid string."), name)
    if len(found) > FIELD_MAX:
        raise Refused(Problem(40002, "Too long."), name)
    return found


def lifetimes_of(issued: Issued, now_s: float) -> Json:
    """The refresh token and the lifetimes in seconds; nothing for a token without an end."""
    data: Json = {}
    if issued.refresh_token is not None and issued.refresh_expires_at_s is not None:
        data["refresh_token"] = issued.refresh_token
        data["refresh_token_expires_in"] = round(issued.refresh_expires_at_s - now_s)
        if issued.expires_at_s is not None:
            data["expires_in"] = max(1, round(issued.expires_at_s - now_s))
    return data


__all__ = ["BusinessOAuth", "Endpoints", "json_fields", "lifetimes_of", "text_of"]

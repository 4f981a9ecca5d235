"""OAuth of a TikTok account holder: a day, a year, and a refresh token that is new each time.

GET    /v2/auth/authorize/?client_key=&scope=&response_type=code&redirect_uri=&state=
POST   /open_api/v1.3/tt_user/oauth2/token/           {client_id, client_secret, grant_type:
       authorization_code, auth_code, redirect_uri}
POST   /open_api/v1.3/tt_user/oauth2/refresh_token/   {client_id, client_secret, grant_type:
       refresh_token, refresh_token}
POST   /open_api/v1.3/tt_user/oauth2/revoke/          {client_id, client_secret, access_token}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from sandbox.oauth.apps import App
from sandbox.oauth.pages import consent, redirect, refusal
from sandbox.oauth.vault import Connection, Grant, Issued
from sandbox.tiktok.oauth import (
    ACCOUNT,
    BAD_GRANT_TYPE,
    FIELD_MAX,
    Endpoints,
    json_fields,
    lifetimes_of,
    text_of,
)
from sandbox.tiktok.verdict import Problem, Refused

Json = dict[str, Any]

_ASKED: Final = ("client_key", "scope", "response_type", "redirect_uri", "state")


class AccountOAuth(Endpoints):
    """The account holder's tokens."""

    provider = ACCOUNT

    def add_routes(self, app: web.Application) -> None:
        for path in ("/v2/auth/authorize", "/v2/auth/authorize/"):
            app.router.add_get(path, self._ask)
            app.router.add_post(path, self._decided)
        base = "/open_api/v1.3/tt_user/oauth2"
        app.router.add_post(f"{base}/token/", self._exchange)
        app.router.add_post(f"{base}/refresh_token/", self._refresh)
        app.router.add_post(f"{base}/revoke/", self._revoke)

    async def _ask(self, request: web.Request) -> web.Response:
        fields = {name: request.query.get(name, "") for name in _ASKED}
        found = self._checked(fields)
        if isinstance(found, web.Response):
            return found
        app, scopes = found
        return consent(
            title=f"Continue to {app.title}",
            lines=sorted(scopes),
            allow="Authorize",
            deny="Cancel",
            fields=fields,
        )

    async def _decided(self, request: web.Request) -> web.Response:
        form = await request.post()
        fields = {name: str(form.get(name, "")) for name in _ASKED}
        found = self._checked(fields)
        if isinstance(found, web.Response):
            return found
        app, scopes = found
        query = {"state": fields["state"]}
        if form.get("decision") == "allow":
            grant = Grant(Connection(ACCOUNT, app.id, app.open_id), frozenset(scopes))
            uri, now_s = fields["redirect_uri"], self.desk.now_s()
            query["code"] = self.desk.vault.new_code(app, grant, uri, now_s)
            query["scopes"] = ",".join(sorted(scopes))
        else:
            query |= {"error": "access_denied", "error_type": "access_denied"}
        return redirect(fields["redirect_uri"], query)

    def _checked(self, fields: Mapping[str, str]) -> tuple[App, set[str]] | web.Response:
        app = self.desk.apps.get(ACCOUNT, fields["client_key"])
        if app is None or any(len(value) > FIELD_MAX for value in fields.values()):
            return refusal("Something went wrong", "client_key")
        if fields["response_type"] != "code":
            return refusal("Something went wrong", "response_type")
        if not app.allows_redirect(fields["redirect_uri"]):
            return refusal("Something went wrong", "redirect_uri")
        scopes = {one for one in fields["scope"].split(",") if one} or set(app.scopes)
        if not scopes <= set(app.scopes):
            return refusal("Something went wrong", "scope")
        return app, scopes

    async def _exchange(self, request: web.Request) -> web.StreamResponse:
        fields = await json_fields(request)
        return await self.answer(request, "exchange", fields, self._exchanged, "client_id")

    def _exchanged(self, fields: Json) -> tuple[Json, str]:
        app = self.app_of(fields, "client_id", "client_secret")
        if text_of(fields, "grant_type") != "authorization_code":
            raise Refused(BAD_GRANT_TYPE, "")
        uri = text_of(fields, "redirect_uri")
        code = self.spent_code(app, text_of(fields, "auth_code"))
        if uri != code.redirect_uri:
            raise Refused(Problem(40002, "does not match the authorization's."), "redirect_uri")
        issued = self.desk.vault.issue(
            code.grant, self.desk.now_s(), access_s=app.access_s, refresh_s=app.refresh_s
        )
        self.desk.ledger.exchanged(code.grant.connection)
        return self._told(issued), code.grant.connection.account

    async def _refresh(self, request: web.Request) -> web.StreamResponse:
        fields = await json_fields(request)
        return await self.answer(request, "refresh", fields, self._renewed, "client_id")

    def _renewed(self, fields: Json) -> tuple[Json, str]:
        app = self.app_of(fields, "client_id", "client_secret")
        if text_of(fields, "grant_type") != "refresh_token":
            raise Refused(BAD_GRANT_TYPE, "")
        issued = self.refreshed(app, text_of(fields, "refresh_token"))
        return self._told(issued), issued.grant.connection.account

    def _told(self, issued: Issued) -> Json:
        return {
            "access_token": issued.access_token,
            "token_type": "Bearer",
            "scope": ",".join(sorted(issued.grant.scopes)),
            "open_id": issued.grant.connection.account,
        } | lifetimes_of(issued, self.desk.now_s())

    async def _revoke(self, request: web.Request) -> web.StreamResponse:
        fields = await json_fields(request)
        return await self.answer(request, "revoke", fields, self._ended, "client_id")

    def _ended(self, fields: Json) -> tuple[Json, str]:
        app = self.app_of(fields, "client_id", "client_secret")
        grant = self.revoked(app, text_of(fields, "access_token"))
        return {}, grant.connection.account

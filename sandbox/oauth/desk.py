"""The desk that all simulated platforms share: apps, tokens, faults and counts, and its own paths.

POST   /_sandbox/apps              registers or changes apps (apps.py); GET lists them
GET    /_sandbox/oauth/ledger      counts by connection (`?full=1`: each request); DELETE resets
POST   /_sandbox/oauth/faults      a script (faults.py); GET lists, DELETE ends them
POST   /_sandbox/oauth/expire      {"provider", "app", "account"}: its access tokens end now
POST   /_sandbox/oauth/revoke      the same three: every token ends, as by the platform's own hand
GET    /_sandbox/oauth/texts       the codes and tokens that were handed out last, in clear
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

import msgspec
from aiohttp import web

from libs.clock import Clock
from sandbox.oauth.apps import DEFAULT_APPS, App, AppBook
from sandbox.oauth.faults import (
    AcceptThenReset,
    AcceptThenTimeout,
    AnswerWith,
    Effect,
    Hang,
    HttpStatus,
    Malformed,
    OAuthFaults,
    Reset,
    Sighting,
    Truncate,
)
from sandbox.oauth.ledger import OAuthCall, OAuthLedger
from sandbox.oauth.vault import Connection, State, Vault

_GONE_POLL_S: Final = 0.02
_LINGER_OFF: Final = struct.pack("ii", 1, 0)
_DESK: Final = web.AppKey("oauth_desk", object)
_PAGE: Final = b"<html><head><title>error</title></head><body>upstream error</body></html>"


class Answer(NamedTuple):
    """What an endpoint answers, and what the ledger is to know of it."""

    status: int
    body: bytes
    outcome: str = "ok"
    account: str = ""
    refresh_token: str = ""
    """The name of the refresh token that was sent."""

    content_type: str = "application/json"
    headers: Mapping[str, str] = {"Cache-Control": "no-store"}


class Subject(msgspec.Struct, forbid_unknown_fields=True):
    """One connection, as a test names it."""

    provider: str
    app: str
    account: str


class Desk:
    """The registered apps and everything that was handed out to them."""

    def __init__(
        self, clock: Clock, apps: Iterable[App] = DEFAULT_APPS, vault: Vault | None = None
    ) -> None:
        self.clock = clock
        self.apps = AppBook(apps)
        self.vault = vault or Vault()
        self.ledger = OAuthLedger()
        self.faults = OAuthFaults()
        self._stopping = asyncio.Event()

    def now_s(self) -> float:
        """Unix time."""
        return self.clock.now_ns() / 1e9

    def let_go(self) -> None:
        """Ends the requests that hang."""
        self._stopping.set()

    def resume(self) -> None:
        """Lets requests hang again, after `let_go`."""
        self._stopping.clear()

    def add_routes(self, app: web.Application) -> None:
        """Adds the desk's own paths; a second time is nothing.

        Raises:
            ValueError: another desk serves there.
        """
        if app.get(_DESK) is not None:
            if app[_DESK] is not self:
                raise ValueError("two desks in one application")
            return
        app[_DESK] = self
        app.router.add_get("/_sandbox/apps", self._show_apps)
        app.router.add_post("/_sandbox/apps", self._post_apps)
        app.router.add_get("/_sandbox/oauth/ledger", self._show_ledger)
        app.router.add_delete("/_sandbox/oauth/ledger", self._reset_ledger)
        app.router.add_get("/_sandbox/oauth/faults", self._show_faults)
        app.router.add_post("/_sandbox/oauth/faults", self._post_faults)
        app.router.add_delete("/_sandbox/oauth/faults", self._end_faults)
        app.router.add_post("/_sandbox/oauth/expire", self._expire)
        app.router.add_post("/_sandbox/oauth/revoke", self._revoke)
        app.router.add_get("/_sandbox/oauth/texts", self._show_texts)

    def call_with(self, connection: Connection, token: str) -> State:
        """What an access token is worth for a call; the call is counted, live or dead.

        `connection` is whom the call is put down to when nobody knows the token.
        """
        state, held = self.vault.access(token, self.now_s())
        if held is not None:
            connection = held.grant.connection
        if state is State.LIVE and held is not None:
            self.ledger.called(connection, newest=self.vault.use(held))
        else:
            self.ledger.called_dead(connection, state)
        return state

    async def serve(
        self, request: web.Request, sighting: Sighting, act: Callable[[], Answer]
    ) -> web.StreamResponse:
        """Answers a token endpoint's request by `act`, unless a fault has it otherwise."""
        plan = self.faults.plan(sighting, self.clock.monotonic_s())
        if plan.before_ms > 0:
            await self.clock.sleep(plan.before_ms / 1000)
        answer = _undone(plan.effect)
        if answer is None:
            answer = act()
        sent, how = _mangled(answer, plan.effect)
        self.ledger.record(
            OAuthCall(
                self.now_s(),
                sighting.provider,
                sighting.endpoint,
                sighting.app,
                answer.account or sighting.account,
                answer.outcome,
                how,
                answer.refresh_token,
            )
        )
        if plan.latency_ms > 0:
            await self.clock.sleep(plan.latency_ms / 1000)
        if how == "silent":
            await self._wait_until_gone(request)
        if how in {"silent", "reset"}:
            return _dropped(request)
        if how == "cut" and isinstance(plan.effect, Truncate):
            return await _send_part(request, sent, plan.effect.keep)
        return web.Response(
            status=sent.status,
            body=sent.body,
            content_type=sent.content_type,
            headers=sent.headers,
        )

    async def _wait_until_gone(self, request: web.Request) -> None:
        """Waits in real time, whatever the clock: it is the client's patience that ends it."""
        transport = request.transport
        while transport is not None and not transport.is_closing() and not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _GONE_POLL_S)

    async def _show_apps(self, _request: web.Request) -> web.Response:
        return json_response(self.apps.listing())

    async def _post_apps(self, request: web.Request) -> web.Response:
        try:
            return json_response(self.apps.post(await request.read()))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return json_response({"error": str(error)}, 400)

    async def _show_ledger(self, request: web.Request) -> web.Response:
        found = self.ledger.summary()
        if request.query.get("full") in {"1", "true"}:
            found["requests"] = [call._asdict() for call in self.ledger.calls]
        return json_response(found)

    async def _reset_ledger(self, _request: web.Request) -> web.Response:
        self.ledger.reset()
        return json_response(self.ledger.summary())

    async def _show_faults(self, _request: web.Request) -> web.Response:
        return json_response(self.faults.listing(self.clock.monotonic_s()))

    async def _post_faults(self, request: web.Request) -> web.Response:
        try:
            posted = self.faults.post(await request.read(), self.clock.monotonic_s())
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return json_response({"error": str(error)}, 400)
        return json_response({"posted": posted})

    async def _end_faults(self, _request: web.Request) -> web.Response:
        self.faults.clear()
        return json_response([])

    async def _expire(self, request: web.Request) -> web.Response:
        try:
            subject = msgspec.json.decode(await request.read(), type=Subject)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return json_response({"error": str(error)}, 400)
        return json_response({"expired": self.vault.expire(_of(subject), self.now_s())})

    async def _revoke(self, request: web.Request) -> web.Response:
        try:
            subject = msgspec.json.decode(await request.read(), type=Subject)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return json_response({"error": str(error)}, 400)
        return json_response({"revoked": self.end_grants(_of(subject))})

    async def _show_texts(self, _request: web.Request) -> web.Response:
        return json_response(self.vault.texts)

    def end_grants(self, connection: Connection) -> int:
        """Ends all that an app was granted by an account; how many grants."""
        grants = self.vault.grants(connection)
        for grant in grants:
            self.vault.revoke(grant)
        if grants:
            self.ledger.revoked(connection)
        return len(grants)


def _of(subject: Subject) -> Connection:
    return Connection(subject.provider, subject.app, subject.account)


def json_response(found: object, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(found), status=status, content_type="application/json"
    )


def _undone(effect: Effect | None) -> Answer | None:
    """What is answered where a fault keeps the work from being done; None where it is done."""
    match effect:
        case Hang() | Reset():
            return Answer(0, b"", "undone")
        case HttpStatus(accepted=False) | Malformed(accepted=False):
            return Answer(0, b"", "undone")
        case AnswerWith(body=body, status=status):
            return Answer(status, msgspec.json.encode(body), "undone")
        case _:
            return None


def _mangled(answer: Answer, effect: Effect | None) -> tuple[Answer, str]:
    """The answer as it leaves, and the ledger's word for what became of it."""
    match effect:
        case Hang() | AcceptThenTimeout():
            return answer, "silent"
        case Reset() | AcceptThenReset():
            return answer, "reset"
        case HttpStatus(status=status, retry_after_s=wait_s):
            headers = {} if wait_s is None else {"Retry-After": str(wait_s)}
            page = answer._replace(status=status, body=_PAGE, content_type="text/html")
            return page._replace(headers=headers), f"http_{status}"
        case Malformed():
            return answer._replace(status=200, body=b'{"access_token": '), "malformed"
        case Truncate():
            return answer, "cut"
        case _:
            return answer, "whole"


async def _send_part(request: web.Request, answer: Answer, keep: float) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_type = answer.content_type
    response.content_length = len(answer.body)
    await response.prepare(request)
    await response.write(answer.body[: int(len(answer.body) * keep)])
    if request.transport is not None:
        request.transport.close()
    return response


def _dropped(request: web.Request) -> web.Response:
    """Tears the connection down so that the peer sees a reset, not an end of file."""
    transport = request.transport
    if transport is not None:
        peer = transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)
        transport.abort()
    return web.Response()

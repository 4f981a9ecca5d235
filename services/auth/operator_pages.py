"""What an operator's browser asks: to sign in, and how the connections are."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from typing import Final, Literal, NamedTuple

import structlog
from aiohttp import web
from google.protobuf.timestamp_pb2 import Timestamp

from libs.clock import Clock
from libs.errors import permanent
from libs.settings import Secret
from services.auth.domain.sign_in import (
    FORM_PURPOSE,
    PASSWORD_CHARS_MIN,
    SESSION_PURPOSE,
    SESSION_S,
    Attempts,
    is_session,
    signed_session,
)
from services.auth.domain.signing import derived, encoded, same, signature
from services.auth.pages import Cookies, Pages, see
from services.auth.ports import Overview
from tidewire.auth.v1.health_pb2 import ConnectionStatus, GrantHealth
from tidewire.connections.v1.connection_pb2 import (
    CONNECTION_STATE_ACTIVE,
    ConnectionKind,
    ConnectionState,
)

_log = structlog.stdlib.get_logger()

_NONCE_BYTES: Final = 16
_FORM_S: Final = 3600
_FORM_WITHIN_S: Final = 5.0
_FORM: Final = "application/x-www-form-urlencoded"
_ROWS_MAX: Final = 500
_NOT_KNOWN: Final = "-"
_SAME_SITE: Final = frozenset({"same-origin", "none"})

_Expiry = Literal["access_expires_at", "refresh_expires_at"]

_SESSION: Final = "session"
_NONCE: Final = "form"


class OperatorPages:
    """The pages behind the sign-in; all of them are off where there is no password.

    Raises:
        ServiceError: PERMANENT, `operator_password_weak`.
    """

    def __init__(
        self,
        overview: Overview,
        pages: Pages,
        cookies: Cookies,
        clock: Clock,
        *,
        password: Secret | None,
        signing_secret: bytes,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        if password is not None and len(password.reveal()) < PASSWORD_CHARS_MIN:
            raise permanent(
                "operator_password_weak",
                f"the operator's password needs {PASSWORD_CHARS_MIN} characters or more",
            )
        self._overview = overview
        self._pages = pages
        self._cookies = cookies
        self._clock = clock
        self._password = password
        self._random_bytes = random_bytes
        self._attempts = Attempts()
        # With the password in it: a new one ends all sessions.
        salt = password.reveal().encode() if password is not None else b""
        self._session_key = derived(signing_secret, SESSION_PURPOSE, salt=salt)
        self._form_key = derived(signing_secret, FORM_PURPOSE)

    def routes(self) -> list[web.RouteDef]:
        """What is answered here."""
        return [
            web.get("/", self.overview, allow_head=False),
            web.get("/sign-in", self.form, allow_head=False),
            web.post("/sign-in", self.sign_in),
            web.post("/sign-out", self.sign_out),
        ]

    async def overview(self, request: web.Request) -> web.Response:
        """The connections and how they are, for whoever has signed in."""
        if self._password is None:
            return self._off()
        session = self._session(request)
        if session is None:
            return see("/sign-in")
        statuses = sorted(self._overview.connections(), key=_by_need)
        return self._pages.page(
            "overview.html",
            title="Connections",
            form_token=signature(self._form_key, f"sign-out.{session}"),
            rows=[_row(status) for status in statuses[:_ROWS_MAX]],
            shown=min(len(statuses), _ROWS_MAX),
            total=len(statuses),
        )

    async def form(self, _request: web.Request) -> web.Response:
        """The form to sign in with."""
        return self._off() if self._password is None else self._form()

    async def sign_in(self, request: web.Request) -> web.Response:
        """A session for the right password."""
        if self._password is None:
            return self._off()
        fields = await _fields(request)
        nonce = self._cookies.of(request, _NONCE)
        token = signature(self._form_key, f"sign-in.{nonce}")
        if not nonce or not _is_own(request) or not same(fields.get("form_token", ""), token):
            return self._form("That form was too old. Try again.", status=403)
        address = request.remote or ""
        wait_s = self._attempts.wait_s(address, self._clock.monotonic_s())
        if wait_s > 0:
            _log.warning("sign_in_refused", reason="too_many", address=address)
            response = self._form("Too many attempts. Wait a little.", status=429)
            response.headers["Retry-After"] = str(math.ceil(wait_s))
            return response
        if Secret(fields.get("password", "")) != self._password:
            _log.warning("sign_in_refused", reason="wrong_password", address=address)
            return self._form("That is not the password.", status=403)
        self._attempts.forgive(address)
        _log.info("signed_in", address=address)
        response = see("/")
        expires_s = int(self._now_s()) + SESSION_S
        session = signed_session(self._session_key, expires_s, self._nonce())
        self._cookies.put(response, _SESSION, session, lasts_s=SESSION_S)
        self._cookies.drop(response, _NONCE)
        return response

    async def sign_out(self, request: web.Request) -> web.Response:
        """Ends the browser's session."""
        session = self._session(request)
        if session is None:
            return see("/sign-in")
        fields = await _fields(request)
        token = signature(self._form_key, f"sign-out.{session}")
        if not _is_own(request) or not same(fields.get("form_token", ""), token):
            raise web.HTTPForbidden
        response = see("/sign-in")
        self._cookies.drop(response, _SESSION)
        return response

    def _form(self, problem: str = "", *, status: int = 200) -> web.Response:
        nonce = self._nonce()
        response = self._pages.page(
            "sign_in.html",
            status=status,
            title="Sign in",
            problem=problem,
            form_token=signature(self._form_key, f"sign-in.{nonce}"),
        )
        self._cookies.put(response, _NONCE, nonce, lasts_s=_FORM_S)
        return response

    def _session(self, request: web.Request) -> str | None:
        text = self._cookies.of(request, _SESSION)
        fits = self._password is not None and is_session(self._session_key, text, self._now_s())
        return text if fits else None

    def _off(self) -> web.Response:
        return self._pages.message(
            "Switched off",
            "The page of connections is off: no operator password is set.",
            status=404,
            then="Set TIDEWIRE_AUTH_OPERATOR_PASSWORD_FILE, or use “tidewire connections”.",
        )

    def _nonce(self) -> str:
        return encoded(self._random_bytes(_NONCE_BYTES))

    def _now_s(self) -> float:
        return self._clock.now_ns() / 1e9


async def _fields(request: web.Request) -> dict[str, str]:
    """The fields of a plain form. Files are not even looked at."""
    if request.content_type != _FORM:
        raise web.HTTPUnsupportedMediaType
    try:
        async with asyncio.timeout(_FORM_WITHIN_S):
            found = await request.post()
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    except ValueError:
        raise web.HTTPBadRequest from None
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _is_own(request: web.Request) -> bool:
    """Whether a form was sent from our own page, as far as the browser says.

    `Origin` says nothing here: without a referrer it is `null` for everybody.
    """
    return request.headers.get("Sec-Fetch-Site", "none") in _SAME_SITE


class _Row(NamedTuple):
    connection_id: str
    shop: str
    kind: str
    state: str
    access_expires: str
    refresh_expires: str
    webhooks: str
    version: str
    problems: tuple[str, ...]


def _row(status: ConnectionStatus) -> _Row:
    connection, grant, version = status.connection, status.grant, status.version
    return _Row(
        connection_id=connection.connection_id,
        shop=connection.shop,
        kind=_words(ConnectionKind.Name(connection.kind), "CONNECTION_KIND_"),
        state=_words(ConnectionState.Name(connection.state), "CONNECTION_STATE_"),
        access_expires=_instant(grant, "access_expires_at"),
        refresh_expires=_instant(grant, "refresh_expires_at"),
        webhooks=_webhooks(status),
        version=version.served or version.asked or _NOT_KNOWN,
        problems=tuple(_problems(status)),
    )


def _webhooks(status: ConnectionStatus) -> str:
    if not status.HasField("webhooks"):
        return _NOT_KNOWN
    return f"{status.webhooks.in_place} in place, {status.webhooks.healed} healed"


def _problems(status: ConnectionStatus) -> Iterator[str]:
    grant, version = status.grant, status.version
    if grant.error_code:
        times = f" ({grant.failures} in a row)" if grant.failures else ""
        yield f"{grant.error_code}{times}: {grant.error_message}"
    if grant.missing_scopes:
        yield "not granted: " + ", ".join(grant.missing_scopes)
    yield from status.webhooks.problems
    if version.served and version.served != version.asked:
        yield f"asked for API version {version.asked}, served {version.served}"
    if version.deprecation:
        yield f"deprecated: {version.deprecation}"


def _by_need(status: ConnectionStatus) -> tuple[bool, str]:
    well = status.connection.state == CONNECTION_STATE_ACTIVE and not any(_problems(status))
    return well, status.connection.connection_id


def _words(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower().replace("_", " ")


def _instant(grant: GrantHealth, name: _Expiry) -> str:
    if not grant.HasField(name):
        return _NOT_KNOWN
    stamp: Timestamp = getattr(grant, name)
    return f"{stamp.ToDatetime():%Y-%m-%d %H:%M} UTC"

"""How providers are asked: once, with nothing secret in whatever goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, urlencode

import aiohttp
import msgspec

from libs.clock import Clock
from libs.errors import Kind, ServiceError, permanent
from libs.http import classify
from libs.http.client import Answer, Observe, Request, Upstream, unobserved
from libs.retry import RetryPolicy
from services.auth.domain.grants import Grant
from services.auth.domain.refusals import Refusal
from services.auth.ports import APP_REFUSED, CODE_REFUSED, CONSENT_REFUSED, GRANT_REVOKED

DOWN: Final = "provider_down"
"""RETRYABLE: it says itself that it cannot now. It may have acted all the same."""
THROTTLED: Final = "provider_throttled"

Body = Mapping[str, Any]
Judge = Callable[[int, Body | None], Refusal | None]
"""The refusal that an answer's status and body amount to; the body is None where it is no object.

Must find one in every status from 300 on.
"""

_ANSWER_BYTES_MAX: Final = 512 * 1024
_ONCE: Final = RetryPolicy(attempts_max=1)
_READ: Final = RetryPolicy(attempts_max=3, base_s=0.3, cap_s=1.0)

_KINDS: Final[Mapping[Refusal, tuple[Kind, str, str]]] = {
    Refusal.DOWN: (Kind.RETRYABLE, DOWN, "cannot answer now"),
    Refusal.THROTTLED: (Kind.THROTTLED, THROTTLED, "asks us to wait"),
    Refusal.APP: (
        Kind.PERMANENT,
        APP_REFUSED,
        "refuses the app: compare its id, secret, scopes and base URL with the provider's page",
    ),
    Refusal.CODE: (
        Kind.PERMANENT,
        CODE_REFUSED,
        "does not accept the authorisation code: it was used or is too old; begin again",
    ),
    Refusal.GRANT: (
        Kind.AUTH,
        GRANT_REVOKED,
        "no longer knows the grant: it was revoked, or its refresh token is used or too old",
    ),
}


class Caller:
    """Asks one provider.

    Errors are raised without the one they come from: it may quote the address that was called, and
    with it what stands in the query.
    """

    def __init__(
        self,
        name: str,
        session: aiohttp.ClientSession,
        clock: Clock,
        *,
        timeout_s: float = 10.0,
        observe: Observe = unobserved,
    ) -> None:
        self.name = name
        self._clock = clock
        self._timeout_s = timeout_s
        self._upstream = Upstream(
            name=name, session=session, policy=_ONCE, clock=clock, observe=observe
        )

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now_ns() / 1_000_000_000, UTC)

    async def once(self, request: Request, judge: Judge) -> Body:
        """The answer's body; the request is sent once, whatever happens.

        Raises:
            ServiceError: what `judge` found; RETRYABLE `classify.UNREADABLE` for a body that is no
                object; or that it did not come to an answer. `classify.may_have_arrived` tells
                whether the provider may have acted.
        """
        return await self._body(request, judge, _ONCE)

    async def ended(self, request: Request, judge: Judge) -> None:
        """Sends the end of a grant once; no error where it has ended already.

        Raises:
            ServiceError: as `once`, but the body of the answer may be anything.
        """
        try:
            await self._told(request, judge, _ONCE)
        except ServiceError as error:
            if error.code != GRANT_REVOKED:
                raise

    async def read(self, request: Request, judge: Judge) -> Body:
        """As `once`, of a request that changes nothing and is tried three times."""
        return await self._body(request, judge, _READ)

    def unreadable(self) -> ServiceError:
        """The error of an answer that holds no grant. It was granted nevertheless, perhaps."""
        return ServiceError(
            Kind.RETRYABLE, classify.UNREADABLE, f"{self.name}: the answer holds no token"
        )

    async def _body(self, request: Request, judge: Judge, policy: RetryPolicy) -> Body:
        body = await self._told(request, judge, policy)
        if body is None:
            raise self.unreadable()
        return body

    async def _told(self, request: Request, judge: Judge, policy: RetryPolicy) -> Body | None:
        def check(answer: Answer) -> ServiceError | None:
            found = judge(answer.status, _object(answer.body))
            return None if found is None else self._refused(found, answer)

        upstream = replace(self._upstream, policy=policy, check=check)
        request = replace(request, timeout_s=self._timeout_s, answer_bytes_max=_ANSWER_BYTES_MAX)
        try:
            answer = await upstream.call(request)
        except ServiceError as error:
            failure = self._bare(error)
        else:
            return _object(answer.body)
        raise failure

    def _refused(self, found: Refusal, answer: Answer) -> ServiceError:
        kind, code, what = _KINDS[found]
        wait_s = None
        if kind is Kind.THROTTLED:
            wait_s = classify.retry_after_s(answer.headers, answer.received_at)
        elif kind is Kind.RETRYABLE:
            wait_s = classify.asked_wait_s(answer.headers, answer.received_at)
        return ServiceError(kind, code, f"{self.name} {what}", retry_after_s=wait_s)

    def _bare(self, error: ServiceError) -> ServiceError:
        if error.code == classify.TOO_LARGE:
            # Nothing that a provider says is so long: a page of somebody's on the way.
            return self.unreadable()
        return ServiceError(
            error.kind, error.code, error.message, retry_after_s=error.retry_after_s
        )


def _object(body: bytes) -> Body | None:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def post(url: str, body: Mapping[str, object], headers: Mapping[str, str] | None = None) -> Request:
    """A POST of JSON that is not to be repeated."""
    return Request(
        method="POST",
        url=url,
        headers={
            "Content-Type": "application/json",
            "Accept": "application/json",
            **(headers or {}),
        },
        body=msgspec.json.encode(body),
        repeatable=False,
    )


def with_query(url: str, query: Mapping[str, str]) -> str:
    """The address with these parameters, encoded, behind those that it has."""
    joint = "&" if "?" in url else "?"
    return f"{url}{joint}{urlencode(query, quote_via=quote, safe='')}"


def refused_consent(why: str) -> ServiceError:
    """The error of an answer that is not to be trusted, or is a no."""
    return permanent(CONSENT_REFUSED, why)


def nothing_to_refresh(name: str) -> ServiceError:
    """The error of a grant that came without a refresh token."""
    return ServiceError(
        Kind.AUTH,
        GRANT_REVOKED,
        f"{name}: the grant has no refresh token; a person must agree again",
    )


def refresh_token(grant: Grant, name: str) -> str:
    """The grant's refresh token.

    Raises:
        ServiceError: AUTH, GRANT_REVOKED, where it has none.
    """
    if not grant.refresh_token:
        raise nothing_to_refresh(name)
    return grant.refresh_token.reveal()


def text(body: Body | None, name: str) -> str:
    """A field that is a text; empty where it is not."""
    value = (body or {}).get(name)
    return value if isinstance(value, str) else ""

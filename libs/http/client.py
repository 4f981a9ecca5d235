"""Calls to the world outside: limits, credentials, retries and errors in one order for all.

Span ▷ retry within attempts and budget ▷ [turn ▷ credentials ▷ send with timeout ▷ read, capped
▷ check]. Turn and credentials are inside the loop: a retry costs quota too, and may need a token
that was refreshed meanwhile.
"""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from libs.clock import Clock
from libs.errors import Kind, ServiceError, permanent
from libs.http import classify
from libs.http.session import CONNECT_S, http_session
from libs.ids import Random, system_random
from libs.retry import Retrying, RetryPolicy, worth_retrying

__all__ = ["Answer", "Limit", "Observation", "Request", "Unlimited", "Upstream", "http_session"]

_NANOS = 1_000_000_000
_LARGE_BODY = 512 * 1024


@dataclass(frozen=True, kw_only=True, repr=False)
class Request:
    """One request, as it goes on the wire; prints without query, headers and body."""

    method: str
    url: str
    """Absolute and already encoded: it is sent as it stands, because signatures cover it."""

    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    timeout_s: float = 10.0
    """Seconds for one try, from connecting to the last byte of the answer."""

    weight: int = 1
    """What it costs of the upstream's limit."""

    repeatable: bool = True
    """False for a write with no idempotency key: tried again only if it cannot have arrived."""

    answer_bytes_max: int = 8 * 1024 * 1024
    """Bytes of the answer's body, decompressed; more is PERMANENT `upstream_answer_too_large`."""

    def __repr__(self) -> str:
        return f"Request({self.method} {self.url.partition('?')[0]}, {len(self.body)} bytes)"


@dataclass(frozen=True, kw_only=True, repr=False)
class Answer:
    """What came back; prints as status and length only."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    received_ns: int

    @property
    def received_at(self) -> datetime:
        return datetime.fromtimestamp(self.received_ns / _NANOS, UTC)

    def __repr__(self) -> str:
        return f"Answer({self.status}, {len(self.body)} bytes)"


class Limit(Protocol):
    """A limit that callers share."""

    async def turn(self, weight: int = 1) -> None:
        """Returns when `weight` may be spent.

        Raises:
            ServiceError: THROTTLED, with the wait, if that is too far off to wait for here.
        """


class Unlimited:
    """The limit that lets everything pass."""

    async def turn(self, weight: int = 1) -> None:
        pass


class Observation(Protocol):
    """One call being watched, all its tries together."""

    headers: Mapping[str, str]
    """Sent with each try, such as `traceparent`."""

    def tried(self, attempt: int, answer: Answer | None, error: ServiceError | None) -> None:
        """Told of each try's end; `error` also where the answer's status or body says so."""


class Unobserved:
    """Watches nothing."""

    headers: Mapping[str, str] = {}

    def tried(self, attempt: int, answer: Answer | None, error: ServiceError | None) -> None:
        pass


Authorise = Callable[[Request, ServiceError | None], Awaitable[Request | None]]
"""The request with credentials. Given the AUTH error that the last ones met, it must come up with
fresh ones, or return None if there are none to be had."""

Check = Callable[[Answer], ServiceError | None]
Observe = Callable[[str, Request], AbstractContextManager[Observation]]


async def anonymous(request: Request, refused: ServiceError | None) -> Request | None:
    """Authorises nothing, for requests that carry all they need."""
    return None if refused else request


def accepted(_: Answer) -> ServiceError | None:
    """Leaves the verdict to the status, which is judged before any check."""
    return None


@contextmanager
def unobserved(_upstream: str, _request: Request) -> Iterator[Observation]:
    yield Unobserved()


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """A service outside, called by one set of rules.

    `check` is pure and sees every answer, before the status is judged, because an upstream may
    say more in the body; what it leaves as None is judged by status.
    """

    name: str
    session: aiohttp.ClientSession
    policy: RetryPolicy
    """Behind the bus `attempts_max=1`: there the bus does the waiting."""

    clock: Clock
    authorise: Authorise = anonymous
    limit: Limit = field(default_factory=Unlimited)
    check: Check = accepted
    observe: Observe = unobserved
    random: Random = system_random
    budget_s: float = 20.0
    """Seconds for a whole call where the caller does not say."""

    async def call(self, request: Request, *, budget_s: float | None = None) -> Answer:
        """The upstream's answer to `request`, once one passes `check`.

        `budget_s` is the caller's own deadline less a margin; no try is begun or lasts beyond it.
        Credentials that are refused are refreshed once, which costs no attempt.

        Raises:
            ServiceError: the last try's. `classify.may_have_arrived` tells whether the upstream
                may have acted all the same.
        """
        budget_s = self.budget_s if budget_s is None else budget_s
        deadline_s = self.clock.monotonic_s() + budget_s
        retrying = Retrying(clock=self.clock, policy=self.policy, random=self.random)
        with self.observe(self.name, request) as observation:
            tries = _Tries(self, request, deadline_s, observation)
            return await retrying.run(tries.one, budget_s=budget_s, retry_if=_repeats_of(request))


def _repeats_of(request: Request) -> Callable[[ServiceError], bool]:
    if request.repeatable:
        return worth_retrying
    return lambda error: not classify.may_have_arrived(error)


@dataclass
class _Tries:
    """The tries of one call."""

    upstream: Upstream
    request: Request
    deadline_s: float
    observation: Observation
    refreshed: bool = False

    async def one(self, attempt: int) -> Answer:
        """One try, and one more with fresh credentials if the first ones were refused."""
        try:
            return await self._told(attempt, None)
        except ServiceError as error:
            if error.kind is not Kind.AUTH or self.refreshed:
                raise
            self.refreshed = True
            return await self._told(attempt, error)

    async def _told(self, attempt: int, refused: ServiceError | None) -> Answer:
        await self.upstream.limit.turn(self.request.weight)
        ready = await self.upstream.authorise(self.request, refused)
        if ready is None:
            raise refused or permanent("upstream_not_authorised", self.upstream.name)
        answer: Answer | None = None
        error: ServiceError | None = None
        try:
            answer = await self._sent(ready)
            error = self._verdict(answer)
        except ServiceError as met:
            error = met
            raise
        finally:
            self.observation.tried(attempt, answer, error)
        if error is not None:
            raise error
        return answer

    def _verdict(self, answer: Answer) -> ServiceError | None:
        return self.upstream.check(answer) or classify.status_error(
            self.upstream.name, answer.status, answer.headers, answer.received_at
        )

    async def _sent(self, request: Request) -> Answer:
        left_s = self.deadline_s - self.upstream.clock.monotonic_s()
        if left_s <= 0:
            raise ServiceError(Kind.RETRYABLE, classify.BUDGET_SPENT, self.upstream.name)
        with _foreign_errors(self.upstream.name):
            return await self._exchanged(request, min(request.timeout_s, left_s))

    async def _exchanged(self, request: Request, timeout_s: float) -> Answer:
        exchange = self.upstream.session.request(
            request.method,
            URL(request.url, encoded=True),
            headers={**request.headers, **self.observation.headers},
            data=_payload(request.body),
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(
                total=timeout_s, connect=CONNECT_S, sock_connect=CONNECT_S, ceil_threshold=60
            ),
        )
        async with exchange as response:
            body = await self._capped(response)
            return Answer(
                status=response.status,
                headers=response.headers,
                body=body,
                received_ns=self.upstream.clock.now_ns(),
            )

    async def _capped(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > self.request.answer_bytes_max:
                response.close()
                raise permanent(classify.TOO_LARGE, f"{self.upstream.name} answered too much")
        return bytes(body)


def _payload(body: bytes) -> bytes | io.BytesIO | None:
    """What aiohttp is to send; a large body in parts, because in one piece it holds the loop."""
    return io.BytesIO(body) if len(body) >= _LARGE_BODY else body or None


@contextmanager
def _foreign_errors(upstream: str) -> Iterator[None]:
    """Maps what aiohttp raises, where it is met; the order matters, the classes overlap."""
    try:
        yield
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
        raise permanent("upstream_url_unusable", f"{upstream}: check its base URL") from error
    except (
        aiohttp.ClientConnectorError,
        aiohttp.ConnectionTimeoutError,
        aiohttp.ServerFingerprintMismatch,
    ) as error:
        raise _retryable(classify.UNREACHABLE, upstream, "no connection came about") from error
    except TimeoutError as error:
        raise _retryable(classify.TIMEOUT, upstream, "no answer in time") from error
    except aiohttp.ClientPayloadError as error:
        raise _retryable(classify.TRUNCATED, upstream, "the answer broke off") from error
    except (aiohttp.ClientConnectionError, ConnectionError) as error:
        raise _retryable(classify.RESET, upstream, "the connection broke") from error
    except aiohttp.ClientError as error:
        raise _retryable(classify.UNREADABLE, upstream, "the answer is not HTTP") from error


def _retryable(code: str, upstream: str, what: str) -> ServiceError:
    return ServiceError(Kind.RETRYABLE, code, f"{upstream}: {what}")

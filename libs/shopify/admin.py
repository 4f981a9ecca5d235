"""Shopify's Admin GraphQL API: one call, paid for by its cost, with its errors as ours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import msgspec
import structlog

from libs import metric_names
from libs.clock import Clock
from libs.connections import DOMAIN_SUFFIX, Connections, Credentials
from libs.errors import Kind, ServiceError, permanent
from libs.http.classify import retry_after_s
from libs.http.client import Answer, Request, Upstream
from libs.limits import BucketSeen, Limiter, Priority
from libs.limits.shopify import graphql_bucket
from libs.retry import RetryPolicy
from libs.telemetry import Metrics
from tidewire.connections.v1.connection_pb2 import CONNECTION_KIND_SHOPIFY

_log = structlog.stdlib.get_logger()

UPSTREAM: Final = "shopify"
SINGLE_COST_MAX: Final = 1000
"""Points that one query may ask for, whatever the plan (MAX_COST_EXCEEDED)."""
_THROTTLED_S: Final = 2.0
"""The wait where a throttled answer does not say what the bucket holds."""
_WAIT_S_MAX: Final = 60.0
"""An empty bucket is full again after 20 s (2,000 points at 100/s): longer is a misreading."""
_TOKEN_REFUSED: Final = "upstream_status_401"  # noqa: S105
"""403 is a store that is locked, or a token that may not do this: it is no dead one."""
_ANSWER_BYTES_MAX: Final = 32 * 1024 * 1024
_VERSION_HEADER: Final = "X-Shopify-API-Version"
_DEPRECATED_HEADER: Final = "X-Shopify-API-Deprecated-Reason"
_VERSION: Final = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
_NOTICE_CHARS_MAX: Final = 300
_NOTICES_MAX: Final = 100
"""Different notices that are told; the counter goes on. Shops that may not see a field are
remembered apart: ten thousand of them must not silence the end of a version."""
_SHOPS_MAX: Final = 10_000

ACCESS_DENIED: Final = "access_denied"
MAX_COST_EXCEEDED: Final = "max_cost_exceeded"
THROTTLED: Final = "throttled"


@dataclass(frozen=True, slots=True)
class Operation:
    """A GraphQL document with the name of its one operation."""

    name: str
    document: str
    cost: int
    """Points that it is taken to ask for until Shopify has said; from then on, what it said."""


@dataclass(frozen=True, slots=True)
class Told:
    """What Shopify answered."""

    data: Mapping[str, Any]
    api_version: str
    """The version that served it."""
    denied: tuple[str, ...]
    """Fields that came as null because the app may not see them, as dotted paths."""
    asked: str = ""
    """The version that was asked for."""
    deprecation: str = ""
    """What Shopify says is about to end; empty where it says nothing."""


class _Cost(msgspec.Struct):
    requested: float = msgspec.field(name="requestedQueryCost", default=0.0)
    status: Any = msgspec.field(name="throttleStatus", default=None)

    @property
    def bucket(self) -> BucketSeen | None:
        return graphql_bucket({"extensions": {"cost": {"throttleStatus": self.status}}})


class _Extensions(msgspec.Struct):
    cost: _Cost = msgspec.field(default_factory=_Cost)


class _ErrorExtensions(msgspec.Struct):
    code: str = ""
    access: str = msgspec.field(name="requiredAccess", default="")


class _Error(msgspec.Struct):
    message: str = ""
    path: list[str | int] = msgspec.field(default_factory=list)
    extensions: _ErrorExtensions = msgspec.field(default_factory=_ErrorExtensions)


class _Body(msgspec.Struct):
    data: dict[str, Any] | None = None
    errors: list[_Error] | str = msgspec.field(default_factory=list)
    """A text where Shopify refuses before it reads the query: a wrong token, a locked shop."""
    extensions: _Extensions = msgspec.field(default_factory=_Extensions)

    @property
    def listed(self) -> Sequence[_Error]:
        if isinstance(self.errors, str):
            return [_Error(self.errors)] if self.errors else []
        return self.errors


_BODY: Final = msgspec.json.Decoder(_Body)


class ShopifyAdmin:
    """Calls the Admin API of any connected shop, in turn under the shop's own bucket.

    One try a call: who calls knows whether and when to try again.
    """

    def __init__(
        self,
        *,
        base_url: str,
        api_version: str,
        session: aiohttp.ClientSession,
        connections: Connections,
        credentials: Credentials,
        limiter: Limiter,
        clock: Clock,
        metrics: Metrics,
        timeout_s: float = 30.0,
    ) -> None:
        """`base_url` has `{shop}` where the shop's domain stands.

        Raises:
            ServiceError: PERMANENT, `base_url_without_shop`; `api_version_unpinned` where the
                version is no dated one: `unstable` changes without notice.
        """
        if "{shop}" not in base_url:
            raise permanent("base_url_without_shop", "TIDEWIRE_SHOPIFY_BASE_URL needs {shop}")
        if _VERSION.fullmatch(api_version) is None:
            advice = "TIDEWIRE_SHOPIFY_API_VERSION must be a dated one, such as 2026-10"
            raise permanent("api_version_unpinned", advice)
        self._base_url = base_url.rstrip("/")
        self._api_version = api_version
        self._connections = connections
        self._credentials = credentials
        self._limiter = limiter
        self._clock = clock
        self._metrics = metrics
        self._timeout_s = timeout_s
        self._costs: dict[tuple[str, int], int] = {}
        self._warned: set[tuple[str, str]] = set()
        self._denied_to: set[str] = set()
        self._seconds = metrics.histogram(metric_names.UPSTREAM_CALL, upstream=UPSTREAM)
        self._upstream = Upstream(
            name=UPSTREAM,
            session=session,
            policy=RetryPolicy(attempts_max=1),
            clock=clock,
            check=refusal,
            budget_s=timeout_s,
        )

    def version_of(self, shop: str) -> str:
        """The API version that the shop's connection asks for, else the one of the settings."""
        for connection in self._connections.connections(shop, CONNECTION_KIND_SHOPIFY):
            if connection.shopify.api_version:
                return connection.shopify.api_version
        return self._api_version

    async def call(
        self,
        shop: str,
        operation: Operation,
        variables: Mapping[str, Any],
        *,
        size: int = 1,
        priority: Priority = Priority.LIVE,
        max_wait_s: float = 1.0,
    ) -> Told:
        """The data of one operation on the shop with this handle.

        `size` is what its cost depends on, such as how many nodes it asks for.

        Raises:
            ServiceError: THROTTLED with the wait; AUTH, `access_token_missing`, `access_denied`
                naming the scope, or the status of a refused token; PERMANENT,
                `max_cost_exceeded`, `graphql_error`; RETRYABLE for all that may pass.
        """
        connection_id = f"{shop}.shopify"
        # Who has none costs no turn.
        await self._credentials.access_token(connection_id)
        limits = [limit_of(shop)]
        weight = self._costs.get((operation.name, size), operation.cost)
        await self._limiter.turn(
            limits, weight=weight, priority=priority, shop=shop, max_wait_s=max_wait_s
        )
        # Only now: one that was fetched before a long wait may be dead when it is sent.
        token = await self._credentials.access_token(connection_id)
        version = self.version_of(shop)
        base_url = self._base_url.replace("{shop}", shop + DOMAIN_SUFFIX)
        request = Request(
            method="POST",
            url=f"{base_url}/admin/api/{version}/graphql.json",
            headers={
                "X-Shopify-Access-Token": token.reveal(),
                "Content-Type": "application/json",
                "Accept": "application/json",
            },
            body=msgspec.json.encode({"query": operation.document, "variables": variables}),
            timeout_s=self._timeout_s,
            answer_bytes_max=_ANSWER_BYTES_MAX,
        )
        try:
            answer = await self._counted(request)
        except RefusedError as error:
            await self._learn(limits, error, operation, size)
            raise
        except ServiceError as error:
            if error.code == _TOKEN_REFUSED:
                await self._credentials.refused(connection_id, token)
            raise
        body = _BODY.decode(answer.body)
        self._note_cost(operation, size, body.extensions.cost)
        await self._observe(limits, body.extensions.cost)
        served, deprecation = self._note_version(answer, version)
        denied = self._denied(shop, body)
        return Told(body.data or {}, served, denied, version, deprecation)

    async def _counted(self, request: Request) -> Answer:
        started_s = self._clock.monotonic_s()
        result = "ok"
        try:
            return await self._upstream.call(request)
        except ServiceError as error:
            result = error.kind.value
            raise
        finally:
            self._seconds.observe(self._clock.monotonic_s() - started_s)
            self._metrics.counter(
                metric_names.UPSTREAM_CALLS, upstream=UPSTREAM, result=result
            ).value += 1

    async def _learn(
        self, limits: Sequence[str], error: RefusedError, operation: Operation, size: int
    ) -> None:
        """A refusal tells of the bucket too; a throttle slows every replica."""
        self._note_cost(operation, size, error.cost)
        await self._observe(limits, error.cost)
        if error.kind is Kind.THROTTLED:
            await self._limiter.report(limits, retry_after_s=error.retry_after_s, code=error.code)

    def _note_cost(self, operation: Operation, size: int, cost: _Cost) -> None:
        if cost.requested:
            self._costs[operation.name, size] = max(1, round(cost.requested))

    async def _observe(self, limits: Sequence[str], cost: _Cost) -> None:
        if cost.bucket is not None:
            await self._limiter.observe(limits[0], cost.bucket)

    def _note_version(self, answer: Answer, asked: str) -> tuple[str, str]:
        """The version that served the answer, and what Shopify says of its end.

        Both are counted with each answer and told once, whichever shop meets them.
        """
        served = answer.headers.get(_VERSION_HEADER) or asked
        if served != asked:
            self._warn("version_fell_forward", f"{asked} was served as {served}")
        deprecation = answer.headers.get(_DEPRECATED_HEADER, "")[:_NOTICE_CHARS_MAX]
        if deprecation:
            self._warn("deprecated", deprecation)
        return served, deprecation

    def _warn(self, reason: str, text: str) -> None:
        self._metrics.counter(metric_names.SHOPIFY_NOTICES, reason=reason).value += 1
        if (reason, text) not in self._warned and len(self._warned) < _NOTICES_MAX:
            self._warned.add((reason, text))
            _log.warning("shopify_api_notice", reason=reason, notice=text)

    def _denied(self, shop: str, body: _Body) -> tuple[str, ...]:
        paths = tuple(".".join(map(str, error.path)) for error in body.listed)
        if paths:
            self._metrics.counter(metric_names.SHOPIFY_NOTICES, reason="fields_denied").value += 1
            accesses = sorted({error.extensions.access for error in body.listed})
            if shop not in self._denied_to and len(self._denied_to) < _SHOPS_MAX:
                self._denied_to.add(shop)
                _log.warning("shopify_fields_denied", shop=shop, required=accesses[:5])
        return paths


class RefusedError(ServiceError):
    """A refusal that Shopify's answer states itself, with what it says of the bucket."""

    cost: _Cost = _Cost()


def limit_of(shop: str) -> str:
    """The name of the bucket that an app has at one shop."""
    return f"shopify.{shop}.graphql"


def refusal(answer: Answer) -> ServiceError | None:
    """The error that an answer amounts to; None leaves it to the status, or says that it is good.

    Errors on single fields are no refusal: data that the app may not see comes as null beside the
    rest, and that is a normal state of apps without full access.
    """
    if answer.status == 429:
        wait_s = min(_WAIT_S_MAX, retry_after_s(answer.headers, answer.received_at))
        return _refused(Kind.THROTTLED, THROTTLED, "answered 429", wait_s=wait_s)
    if answer.status != 200:
        return None
    try:
        body = _BODY.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ServiceError(Kind.RETRYABLE, "upstream_unreadable", "the answer is not GraphQL's")
    if not body.listed:
        return None if body.data is not None else _empty(body)
    return _judged(body)


def _judged(body: _Body) -> ServiceError | None:
    cost = body.extensions.cost
    for error in body.listed:
        match error.extensions.code:
            case "THROTTLED":
                return _refused(Kind.THROTTLED, THROTTLED, "", cost=cost, wait_s=_wait_s(cost))
            case "MAX_COST_EXCEEDED":
                return _refused(Kind.PERMANENT, MAX_COST_EXCEEDED, error.message[:200], cost=cost)
            case "ACCESS_DENIED" if _is_fatal(error, body):
                needs = error.extensions.access[:200] or "more access scopes"
                return _refused(Kind.AUTH, ACCESS_DENIED, f"the token needs {needs}", cost=cost)
            case "INTERNAL_SERVER_ERROR" | "TIMEOUT":
                return _refused(Kind.RETRYABLE, "upstream_failed", error.extensions.code, cost=cost)
    first = body.listed[0]
    if first.extensions.code == "ACCESS_DENIED":
        return None
    return _refused(Kind.PERMANENT, "graphql_error", first.message[:200], cost=cost)


def _is_fatal(error: _Error, body: _Body) -> bool:
    """Whether what was denied is the whole answer, or a root field of it."""
    if body.data is None or not error.path:
        return True
    return body.data.get(str(error.path[0])) is None


def _empty(body: _Body) -> ServiceError:
    return _refused(Kind.RETRYABLE, "upstream_failed", "no data", cost=body.extensions.cost)


def _wait_s(cost: _Cost) -> float:
    """(requested - available) / restore rate: when the bucket will hold what was asked for."""
    bucket = cost.bucket
    if bucket is None or bucket.restore_per_s <= 0:
        return _THROTTLED_S
    lacking = cost.requested - bucket.available
    return min(_WAIT_S_MAX, max(0.0, lacking / bucket.restore_per_s))


def _refused(
    kind: Kind, code: str, message: str, *, cost: _Cost | None = None, wait_s: float | None = None
) -> RefusedError:
    error = RefusedError(kind, code, message, retry_after_s=wait_s)
    error.cost = cost or _Cost()
    return error

"""What every rpc of ours goes through: validation, one error vocabulary, one line in the log."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias, cast

import grpc
import protovalidate
import structlog

from libs.clock import Clock
from libs.errors import Kind, ServiceError
from libs.rpc.callers import current_caller
from libs.rpc.errors import (
    UNFORESEEN,
    FieldViolation,
    RefusedError,
    RequestInvalidError,
    status_of,
)
from libs.rpc.guard import Admission, Metadata

Observe = Callable[[str, int, int, str | None, ServiceError | None], None]
"""Told of each finished rpc: method, started_ns, ended_ns, incoming traceparent, error."""

# In quotes: only the stubs know these as generic.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

Behaviour: TypeAlias = "Callable[[Any, Context], Awaitable[Any]]"

incoming_traceparent: ContextVar[str | None] = ContextVar("incoming_traceparent", default=None)
"""The `traceparent` that the caller of the rpc under way has sent."""

_log = structlog.stdlib.get_logger()

_LOG_LEVELS: Final = {
    Kind.RETRYABLE: "info",
    Kind.THROTTLED: "info",
    Kind.AUTH: "warning",
    Kind.PERMANENT: "error",
}

# Health checks and reflection come with their own status codes, and every few seconds.
_PLUMBING = ("/grpc.health.", "/grpc.reflection.")

# Seconds for a stream to come to its own end once the server stops.
_STREAM_GRACE_S = 0.5

STREAM_LASTS_S: Final = 3_600.0
"""A stream outlives neither its caller's certificate nor its rules by more."""

WATCH_LASTS_S: Final = 60.0
"""Whoever gets through TLS may watch health and read the schema; the places are soon free again."""

WATCHES_MAX: Final = 64
"""Of the 1,000 rpcs that a server takes at once, so that the rest are for those who are known."""

_RENEWED: Final = "stream_renewed"

_CANCELLED = ServiceError(Kind.RETRYABLE, "rpc_cancelled")
_ABORTED = ServiceError(Kind.PERMANENT, "rpc_aborted")


def checked(request: object) -> None:
    """Holds a request against the rules of its schema.

    Raises:
        RequestInvalidError: with every violation, the field of each named.
    """
    found = protovalidate.collect_violations(cast("Any", request))
    if found:
        raise RequestInvalidError([_violation(each.proto) for each in found])


def _violation(proto: Any) -> FieldViolation:
    elements = proto.field.elements if proto.field is not None else ()
    return FieldViolation(
        field=".".join(element.field_name + _subscript(element) for element in elements),
        description=proto.message or proto.rule_id,
    )


def _subscript(element: Any) -> str:
    # Positions are shown, keys of maps are not: a key may be anything a caller sent.
    subscript = element.subscript
    if subscript is None:
        return ""
    return f"[{subscript.value}]" if subscript.field == "index" else "[key]"


@dataclass(frozen=True, slots=True)
class Habits:
    """What sets some methods apart; each is named `package.Service/Method`."""

    filters: frozenset[str] = frozenset()
    """Their servicers keep to the limits of the caller in what they answer."""

    quiet: frozenset[str] = frozenset()
    """Their successes are not logged."""


class Door(Protocol):
    """What an interceptor asks of a guard."""

    async def knock(self, method: str, metadata: Metadata) -> None:
        """Refuses, before the request is read, whoever cannot be known."""

    async def admit(self, method: str, context: Context, *, filters: bool) -> Admission:
        """The caller, if it may call the method."""

    def note(self, method: str, error: RefusedError) -> None:
        """Counts a refusal."""


class ServiceInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler of a server; see the functions for what each rpc goes through."""

    def __init__(
        self,
        guard: Door,
        clock: Clock,
        observe: Observe | None,
        stopping: asyncio.Event,
        habits: Habits = Habits(),
        stream_lasts_s: float = STREAM_LASTS_S,
        watch_lasts_s: float = WATCH_LASTS_S,
    ) -> None:
        self._stream_lasts_s = stream_lasts_s
        self._watch_lasts_s = watch_lasts_s
        self._watches = 0
        self._guard = guard
        self._clock = clock
        self._observe = observe
        self._stopping = stopping
        self._habits = habits
        self._known: dict[str, tuple[Handler, Handler]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The handler of the method that is called, wrapped; a method nobody knows stays so.

        Whoever cannot be known gets one that refuses, and reads nothing of the request first.
        """
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = str(handler_call_details.method)
        is_plumbing = method.startswith(_PLUMBING)
        if not is_plumbing:
            try:
                await self._guard.knock(
                    method.removeprefix("/"), handler_call_details.invocation_metadata
                )
            except ServiceError as error:
                return self._refusing(method, error)
        # A server gives the same handler each time; to wrap it again would cost as much as to call.
        known = self._known.get(method)
        if known is None or known[0] is not handler:
            wrapped = self._plumbing(handler) if is_plumbing else self._wrapped(handler, method)
            known = self._known[method] = (handler, wrapped)
        return known[1]

    def _wrapped(self, handler: Handler, path: str) -> Handler:
        behaviour = self._behaviour(handler, self._stream_lasts_s)
        method = path.removeprefix("/")
        filters, is_quiet = method in self._habits.filters, method in self._habits.quiet

        async def served(request: Any, context: Context) -> Any:
            admission = await self._guard.admit(method, context, filters=filters)
            current_caller.set(admission.caller)
            if handler.request_streaming:
                request = _each_checked(request, admission)
            else:
                # First who may ask, then whether it is well asked.
                admission.hold(request)
                checked(request)
            return await behaviour(request, context)

        async def observed(request: Any, context: Context) -> Any:
            return await self._observed(path, is_quiet, served, request, context)

        return _like(handler, observed)

    def _refusing(self, path: str, error: ServiceError) -> Handler:
        async def refused(*_: Any) -> None:
            raise error

        is_quiet = False

        async def observed(requests: Any, context: Context) -> Any:
            return await self._observed(path, is_quiet, refused, requests, context)

        # Of a single request all is read before its handler is entered; a stream waits to be read.
        return grpc.stream_stream_rpc_method_handler(cast("Any", observed))

    def _plumbing(self, handler: Handler) -> Handler:
        behaviour = self._behaviour(handler, self._watch_lasts_s)

        async def served(request: Any, context: Context) -> None:
            if self._watches >= WATCHES_MAX:
                await _abort(context, ServiceError(Kind.THROTTLED, "rpc_watches_full"))
            self._watches += 1
            try:
                await behaviour(request, context)
            except ServiceError as error:
                # A watch that is over ends well: its client begins another.
                if error.code != _RENEWED:
                    await _abort(context, error)
            finally:
                self._watches -= 1

        return _like(handler, served) if handler.response_streaming else handler

    def _behaviour(self, handler: Handler, lasts_s: float) -> Behaviour:
        _, behaviour = _shape(handler)
        if not handler.response_streaming:
            return cast("Behaviour", behaviour)

        async def streaming(request: Any, context: Context) -> None:
            answers = behaviour(request, context)
            if inspect.isawaitable(answers):  # a handler that writes to the context by itself
                await answers
            else:
                await self._while_serving(answers, context, lasts_s)

        return streaming

    async def _while_serving(
        self, answers: AsyncIterator[Any], context: Context, lasts_s: float
    ) -> None:
        """Ends a stream soon after a stop: a client that watches would hold the process up.

        And after `lasts_s` seconds in any case: its caller has to prove anew who it is.

        Raises:
            ServiceError: RETRYABLE, `server_stopping`; another replica has the rest. RETRYABLE,
                `stream_renewed`.
        """
        writing = asyncio.Lock()
        written = asyncio.create_task(_written(answers, context, writing))
        over = asyncio.create_task(self._streams_over())
        try:
            await asyncio.wait(
                (written, over), return_when=asyncio.FIRST_COMPLETED, timeout=lasts_s
            )
            # A status cannot be sent while a write is under way: the rpc would never end.
            async with writing:
                written.cancel()
            await asyncio.wait((written,))
            if written.cancelled() and not over.done():
                raise ServiceError(Kind.RETRYABLE, _RENEWED, "call again, and prove again")
            if written.cancelled():
                raise ServiceError(Kind.RETRYABLE, "server_stopping", "call again, elsewhere")
            written.result()
        finally:
            written.cancel()
            over.cancel()
            await asyncio.wait((written, over))

    async def _streams_over(self) -> None:
        await self._stopping.wait()
        await self._clock.sleep(_STREAM_GRACE_S)

    async def _observed(
        self,
        method: str,
        is_quiet: bool,  # noqa: FBT001
        served: Behaviour,
        *call: Any,
    ) -> Any:
        _, context = call
        started_ns = self._clock.now_ns()
        traceparent = _traceparent(context)
        token = incoming_traceparent.set(traceparent)
        # Whatever escapes below is not an Exception: the caller hung up, or time is over.
        error: ServiceError | None = _CANCELLED
        try:
            answer = await served(*call)
            error = None
        except grpc.aio.AbortError:
            error = _ABORTED
            raise
        except ServiceError as raised:
            error = raised
            if isinstance(raised, RefusedError):
                self._guard.note(method.removeprefix("/"), raised)
            await _abort(context, raised)
        except Exception:  # noqa: BLE001  the caller learns that it failed, the log learns why
            error = UNFORESEEN
            _log.exception("rpc_failed_unforeseen", method=method)
            await _abort(context, UNFORESEEN)
        else:
            return answer
        finally:
            incoming_traceparent.reset(token)
            self._finished(method, started_ns, traceparent, error, is_quiet=is_quiet)

    def _finished(
        self,
        method: str,
        started_ns: int,
        traceparent: str | None,
        error: ServiceError | None,
        *,
        is_quiet: bool,
    ) -> None:
        ended_ns = self._clock.now_ns()
        if error is not None or not is_quiet:
            _tell(method, (ended_ns - started_ns) / 1e6, error)
        if self._observe is not None:
            self._observe(method, started_ns, ended_ns, traceparent, error)


def _tell(method: str, duration_ms: float, error: ServiceError | None) -> None:
    """The one line of an rpc."""
    level = _LOG_LEVELS[error.kind] if error else "info"
    caller = current_caller.get(None)
    more: dict[str, str] = {"caller": caller.name} if caller else {}
    if isinstance(error, RefusedError):
        # It is mended in a policy or a certificate, so whoever can do that has to learn why.
        level, more = "warning", {**more, "reason": error.message}
    getattr(_log, level)(
        "rpc_served",
        method=method,
        duration_ms=duration_ms,
        kind=error.kind.value if error else None,
        code=error.code if error else "ok",
        **more,
    )


def _traceparent(context: Context) -> str | None:
    for key, value in context.invocation_metadata() or ():
        if key == "traceparent" and isinstance(value, str):
            return value
    return None


def _shape(handler: Handler) -> tuple[Callable[..., Handler], Callable[..., Any]]:
    match handler.request_streaming, handler.response_streaming:
        case False, False:
            return grpc.unary_unary_rpc_method_handler, cast("Any", handler.unary_unary)
        case False, True:
            return grpc.unary_stream_rpc_method_handler, cast("Any", handler.unary_stream)
        case True, False:
            return grpc.stream_unary_rpc_method_handler, cast("Any", handler.stream_unary)
        case _:
            return grpc.stream_stream_rpc_method_handler, cast("Any", handler.stream_stream)


def _like(handler: Handler, behaviour: Behaviour) -> Handler:
    """A handler of the same shape and codec that does `behaviour`."""
    make, _ = _shape(handler)
    return make(
        behaviour,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


async def _written(answers: AsyncIterator[Any], context: Context, writing: asyncio.Lock) -> None:
    async for answer in answers:
        async with writing:
            await context.write(answer)


async def _each_checked(requests: AsyncIterator[Any], admission: Admission) -> AsyncIterator[Any]:
    async for request in requests:
        admission.hold(request)
        checked(request)
        yield request


async def _abort(context: Context, error: ServiceError) -> None:
    status = status_of(error)
    await context.abort(status.code, status.details, status.trailers)

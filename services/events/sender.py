"""Sends conversions of one pixel and comes back with one result each."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from opentelemetry.trace import SpanKind

from libs import metric_names
from libs.clock import Clock
from libs.errors import Kind, ServiceError, permanent
from libs.limits import LIMITS_UNREACHABLE, TURN_LASTS_S, Limiter, Priority
from libs.telemetry import Metrics, SpanRef, Tracer
from services.events.domain.answers import Answered, RefusedError, scope_of
from services.events.domain.dialect import Dialect, HttpRequest
from services.events.domain.dialects import dialect_of
from services.events.domain.isolation import parts_after_refusal
from services.events.domain.model import Conversion
from services.events.domain.settings import EventSettings
from services.events.gatekeeper import Gatekeeper, Passage
from services.events.lines import Lines
from services.events.ports import EventsApi, Pixel
from services.events.shares import Sent


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A conversion on its way, and the trace it belongs to."""

    conversion: Conversion
    trace: SpanRef


@dataclass(frozen=True, slots=True)
class Errand:
    """For whom and how urgently requests are made."""

    pixel: Pixel
    shop: str
    priority: Priority = Priority.LIVE


Leaving = Callable[[], Awaitable[None]]


async def at_once() -> None:
    """Nothing has to be done before a request leaves."""


APP_LIMIT: Final = "tiktok.events.app"

_UNENCODABLE: Final = (ValueError, ArithmeticError, OSError, TypeError, msgspec.MsgspecError)
"""What a dialect raises for an amount or a time that no request can carry."""

_WAIT_S: Final = {Priority.LIVE: 5.0, Priority.BACKFILL: 1.0, Priority.REPLAY: 1.0}
"""How long a request waits for its turn; then its units come again, which costs no attempt."""


_ISOLATING_S: Final = 10.0
"""Then what is still unknown comes again, after what is known was recorded: a thousand bad events
take two thousand requests. It is half of the time that a process has left when it is stopped."""

_TURNS_MAX: Final = 3
_SMOOTHED: Final = 0.2
_NOTHING_LEFT_S: Final = 0.0001
"""Quicker than any store: there was nothing to be done."""
_TURNS_MISSED: Final = ServiceError(
    Kind.THROTTLED, "turns_missed", "the store is too slow for its turns", retry_after_s=1.0
)

_UNFINISHED: Final = ServiceError(
    Kind.THROTTLED, "isolation_unfinished", "bad events are still looked for", retry_after_s=1.0
)


def limits_of(settings: EventSettings) -> tuple[str, ...]:
    """The limits under which one request of a pixel is made: the app's, and the pixel's own."""
    return (APP_LIMIT, pixel_limit_of(settings))


def pixel_limit_of(settings: EventSettings) -> str:
    """The pixel's own limit."""
    return f"tiktok.events.pixel.{settings.pixel_code}"


def _is_for_all(error: ServiceError) -> bool:
    """Whether the next request would be told the same: token, limit or upstream are at fault.

    A failing code in the body may be about what was asked.
    """
    if error.kind is Kind.RETRYABLE:
        return not isinstance(error, RefusedError)
    return error.kind is not Kind.PERMANENT


@dataclass(frozen=True, slots=True)
class _Call:
    """One request that was made."""

    pixel: Pixel
    request: HttpRequest
    span: SpanRef
    sent: Sent
    started_ns: int
    ended_ns: int


class Sender:
    """Batches, sends, isolates. Raises nothing: each conversion has its own result."""

    def __init__(
        self,
        api: EventsApi,
        limiter: Limiter,
        gatekeeper: Gatekeeper,
        tracer: Tracer,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._api = api
        self._clock = clock
        self._limiter = limiter
        self._lines = Lines()
        self._leaving_s = 0.0
        """How long it takes of late to do what must be done before a request leaves."""
        self._gatekeeper = gatekeeper
        self._tracer = tracer
        self._metrics = metrics

    async def send(
        self, errand: Errand, outgoing: Sequence[Outgoing], *, leaving: Leaving = at_once
    ) -> list[Sent]:
        """One result for each of `outgoing`, in order.

        `leaving` is awaited when the first request has its turn and before it leaves; where it
        raises, nothing leaves. So what has no turn yet costs no record of a try. It is awaited
        again where it took too long for that turn, and should then have nothing to do.
        """
        pixel = errand.pixel
        dialect = dialect_of(pixel.settings.dialect)
        traces = {id(one.conversion): one.trace for one in outgoing}
        requests, unfit = _encoded(dialect, [one.conversion for one in outgoing], pixel.settings)
        results: dict[int, Sent] = {id(conversion): _UNFIT for conversion in unfit}
        self._count(pixel.settings, unfit, _UNFIT)
        waiting = deque(requests)
        begun_s = self._clock.monotonic_s()
        is_isolating = False
        while waiting:
            request = waiting.popleft()
            sent = await self._send_one(errand, request, traces, leaving)
            leaving = at_once
            smaller = self._isolated(dialect, pixel.settings, request, sent)
            waiting.extendleft(reversed(smaller))
            ended = [] if smaller else [request]
            if isinstance(sent, ServiceError) and _is_for_all(sent):
                ended += waiting
                waiting.clear()
            self._end(pixel.settings, ended, sent, results)
            is_isolating = is_isolating or bool(smaller)
            if is_isolating and results and self._clock.monotonic_s() - begun_s > _ISOLATING_S:
                self._end(pixel.settings, waiting, _UNFINISHED, results)
                break
        return [results[id(one.conversion)] for one in outgoing]

    def _end(
        self,
        settings: EventSettings,
        ended: Iterable[HttpRequest],
        sent: Sent,
        results: dict[int, Sent],
    ) -> None:
        for request in ended:
            results.update((id(conversion), sent) for conversion in request.conversions)
            self._count(settings, request.conversions, sent)

    @staticmethod
    def _isolated(
        dialect: Dialect, settings: EventSettings, request: HttpRequest, sent: Sent
    ) -> list[HttpRequest]:
        """What to send instead of a request that was refused for what is in it."""
        if not isinstance(sent, RefusedError) or not sent.divisible:
            return []
        parts = parts_after_refusal(request.conversions, sent.at)
        return [smaller for part in parts for smaller in dialect.encode(part, settings)]

    async def _send_one(
        self,
        errand: Errand,
        request: HttpRequest,
        traces: Mapping[int, SpanRef],
        leaving: Leaving,
    ) -> Sent:
        held = self._gatekeeper.held_error(errand.pixel)
        if held is not None:
            return held
        # A line first: a turn that had to wait for one would be used late, with others.
        async with self._lines.of(errand.pixel.connection_id, errand.priority):
            try:
                passage = await self._passage(errand, leaving)
            except ServiceError as error:
                return error
            return await self._called(errand.pixel, request, traces, passage)

    async def _passage(self, errand: Errand, leaving: Leaving) -> Passage:
        """Leave for a request that is made now, once it has its turn and `leaving` is done.

        A turn is for now: where a store that was away keeps `leaving` long, everything that waited
        for it would leave at once. So it takes another turn, by when there is nothing left to do;
        and where the store is slow all the time, it takes its turn after that, not two.

        Raises:
            ServiceError: it has no turn, its sink is shut, or `leaving` failed.
        """
        if self._leaving_s > TURN_LASTS_S / 2:
            refused = self._gatekeeper.refuses()
            if refused is not None:
                raise refused
            await self._timed(leaving)
        for _ in range(_TURNS_MAX):
            await self._turn(errand, limits_of(errand.pixel.settings))
            turn_s = self._clock.monotonic_s()
            passage = self._gatekeeper.begin(errand.pixel)
            try:
                await self._timed(leaving)
            except ServiceError:
                self._gatekeeper.abandoned(passage)
                raise
            if self._clock.monotonic_s() - turn_s <= TURN_LASTS_S:
                return passage
            self._gatekeeper.abandoned(passage)
        raise _TURNS_MISSED

    async def _timed(self, leaving: Leaving) -> None:
        began_s = self._clock.monotonic_s()
        await leaving()
        took_s = self._clock.monotonic_s() - began_s
        if took_s > _NOTHING_LEFT_S:
            self._leaving_s += (took_s - self._leaving_s) * _SMOOTHED

    async def _called(
        self,
        pixel: Pixel,
        request: HttpRequest,
        traces: Mapping[int, SpanRef],
        passage: Passage,
    ) -> Sent:
        # The call is one span in a trace of its own; each event has a short one in its own trace.
        call = self._tracer.start_trace()
        started_ns = self._tracer.now_ns()
        sent: Sent
        try:
            sent = await self._api.send(
                request, pixel.connection_id, {"traceparent": call.traceparent()}
            )
        except ServiceError as error:
            sent = error
            await self._report(pixel.settings, error)
        await self._gatekeeper.ended(passage, pixel, request, sent)
        made = _Call(pixel, request, call, sent, started_ns, self._tracer.now_ns())
        dialect = pixel.settings.dialect.value
        self._metrics.histogram(metric_names.EVENTS_REQUEST, dialect=dialect).observe(
            (made.ended_ns - started_ns) / 1e9
        )
        self._metrics.histogram(metric_names.EVENTS_BATCH, dialect=dialect).observe(
            len(request.conversions)
        )
        self._trace(made, traces)
        return sent

    async def _report(self, settings: EventSettings, error: ServiceError) -> None:
        """Slows all replicas where TikTok has throttled: all of our app, or one pixel of it."""
        scope = scope_of(error)
        if error.kind is not Kind.THROTTLED or scope is None:
            return
        # A pixel that has no limit of its own is held by the gatekeeper: no other shop is at fault.
        limits = limits_of(settings) if scope.is_shared else (pixel_limit_of(settings),)
        await self._limiter.report(limits, retry_after_s=error.retry_after_s, code=error.code)

    async def _turn(self, errand: Errand, limits: Sequence[str]) -> None:
        """Returns when a request may leave.

        Where the shared limits answer slowly the limiter says no within milliseconds, and keeps
        what it reserved for those who come back soon. To hand the units back to the bus for that
        would only make the store slower.

        Raises:
            ServiceError: THROTTLED.
        """
        patience_s = _WAIT_S[errand.priority]
        deadline_s = self._clock.monotonic_s() + patience_s
        while True:
            try:
                return await self._limiter.turn(
                    limits, priority=errand.priority, shop=errand.shop, max_wait_s=patience_s
                )
            except ServiceError as error:
                wait_s = error.retry_after_s
                left_s = deadline_s - self._clock.monotonic_s()
                if error.code != LIMITS_UNREACHABLE or wait_s is None or wait_s > left_s:
                    raise
            await self._clock.sleep(wait_s)

    def _trace(self, made: _Call, traces: Mapping[int, SpanRef]) -> None:
        pixel, request, sent = made.pixel, made.request, made.sent
        parents = [traces[id(conversion)] for conversion in request.conversions]
        if not (made.span.sampled or any(parent.sampled for parent in parents)):
            return
        # Somebody follows one of its events: then the call is shown, whatever its own lot was.
        call = SpanRef(made.span.trace_id, made.span.span_id, sampled=True)
        error = sent if isinstance(sent, ServiceError) else None
        code = sent.code if isinstance(sent, Answered) else getattr(sent, "upstream_code", 0)
        request_id = getattr(sent, "request_id", "")
        self._tracer.emit(
            "tiktok events call",
            call,
            parent=None,
            start_ns=made.started_ns,
            end_ns=made.ended_ns,
            kind=SpanKind.CLIENT,
            attributes={
                "upstream": "tiktok",
                "url.path": request.path,
                "batch_size": len(request.conversions),
                "dialect": pixel.settings.dialect.value,
                "sink": pixel.sink,
                "code": code,
                "request_id": request_id,
            },
            links=[parent for parent in parents if parent.sampled],
            error=error,
        )
        for conversion, parent in zip(request.conversions, parents, strict=True):
            self._tracer.emit(
                "event sent",
                self._tracer.child(parent),
                parent=parent,
                start_ns=made.started_ns,
                end_ns=made.ended_ns,
                kind=SpanKind.CLIENT,
                attributes={
                    "event_id": conversion.event_id,
                    "event_name": conversion.name,
                    "sink": pixel.sink,
                    "code": code,
                },
                links=[call],
                error=error,
            )

    def _count(
        self, settings: EventSettings, conversions: Sequence[Conversion], sent: Sent
    ) -> None:
        dialect = settings.dialect.value
        for conversion in conversions:
            if isinstance(sent, Answered):
                name = metric_names.EVENTS_SENT
                counter = self._metrics.counter(name, event_name=conversion.name, dialect=dialect)
            elif sent.kind is Kind.PERMANENT:
                name = metric_names.EVENTS_REFUSED
                code = str(getattr(sent, "upstream_code", sent.code))
                counter = self._metrics.counter(
                    name, event_name=conversion.name, dialect=dialect, code=code
                )
            else:
                name = metric_names.EVENTS_RETRIED
                counter = self._metrics.counter(name, event_name=conversion.name, dialect=dialect)
            counter.value += 1


_UNFIT: Final = permanent("event_unencodable", "an amount or a time of it fits into no request")


def _encoded(
    dialect: Dialect, conversions: Sequence[Conversion], settings: EventSettings
) -> tuple[list[HttpRequest], list[Conversion]]:
    """The requests, and the conversions that are in none because they cannot be written."""
    unfit: list[Conversion] = []
    try:
        return dialect.encode(conversions, settings), unfit
    except _UNENCODABLE:
        unfit = [one for one in conversions if not _is_encodable(dialect, one, settings)]
    left_out = set(map(id, unfit))
    fit = [one for one in conversions if id(one) not in left_out]
    return dialect.encode(fit, settings), unfit


def _is_encodable(dialect: Dialect, conversion: Conversion, settings: EventSettings) -> bool:
    try:
        dialect.encode([conversion], settings)
    except _UNENCODABLE:
        return False
    return True

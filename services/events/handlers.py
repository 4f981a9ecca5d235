"""What the events service does with facts: map, send, record the outcome; then the fact is done."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog
from google.protobuf.message import DecodeError

from libs import metric_names
from libs.bus import subjects
from libs.bus.consumer import GivenUp, Unit
from libs.clock import Clock
from libs.errors import Kind, ServiceError, permanent
from libs.sinks import unit_of
from libs.telemetry import Metrics, SpanRef, Tracer
from services.events import facts
from services.events.domain.answers import Answered, Meaning
from services.events.domain.conversions import decide_cart, decide_checkout, decide_purchase
from services.events.domain.model import Conversion, Ignored
from services.events.domain.settings import EventSettings
from services.events.domain.tracked import decide_tracked
from services.events.ports import DeadLetters, Opener, Outcomes, Pixel, Pixels
from services.events.sender import Outgoing, Sender, Sent
from tidewire.commerce.v1 import fact_pb2, record_pb2
from tidewire.delivery.v1 import outcome_pb2

_log = structlog.stdlib.get_logger()

_GONE_AFTER_S: Final = 60.0
"""How much longer than ingest this process may take to notice a new connection."""

_KINDS: Final = {
    Meaning.DELIVERED: outcome_pb2.OUTCOME_KIND_DELIVERED,
    Meaning.UNCERTAIN: outcome_pb2.OUTCOME_KIND_DELIVERED_UNCERTAIN,
}
_WORST_FIRST: Final = (
    outcome_pb2.OUTCOME_KIND_DEAD,
    outcome_pb2.OUTCOME_KIND_DELIVERED_UNCERTAIN,
    outcome_pb2.OUTCOME_KIND_DELIVERED,
    outcome_pb2.OUTCOME_KIND_IGNORED,
)


@dataclass(slots=True)
class _Share:
    """One unit at one pixel."""

    sink: str
    pixel: Pixel | None
    """None where this process does not know the connection (yet, or any more)."""
    conversions: list[Conversion]
    skipped: list[outcome_pb2.EventOutcome] = field(default_factory=list)
    """Events of the unit that are not sent, where they have an id already."""
    ignored: str = ""
    sent: list[Sent] = field(default_factory=list)
    failed: ServiceError | None = None


@dataclass(slots=True)
class _Task:
    """One unit in hand."""

    unit: Unit
    record: record_pb2.FactRecord
    span: SpanRef
    started_ns: int
    shares: list[_Share] = field(default_factory=list)

    @property
    def name(self) -> str:
        return unit_of(self.record.kind, self.record.fact_id)


class Handlers:
    """Handles units of one shop at a time, in order."""

    def __init__(
        self,
        *,
        opener: Opener,
        pixels: Pixels,
        sender: Sender,
        outcomes: Outcomes,
        dead_letters: DeadLetters,
        tracer: Tracer,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._opener = opener
        self._pixels = pixels
        self._sender = sender
        self._outcomes = outcomes
        self._dead_letters = dead_letters
        self._tracer = tracer
        self._metrics = metrics
        self._clock = clock

    async def handle(self, units: Sequence[Unit]) -> Sequence[ServiceError | None]:
        """Maps and sends; a unit has ended when all its pixels have their outcome."""
        tasks = [await self._task(unit) for unit in units]
        ended = await self._already_ended(tasks)
        for task in tasks:
            task.shares = [s for s in task.shares if (s.sink, task.name) not in ended]
        await self._send_all(tasks)
        # What went well is recorded first: a letter that cannot be stored must not send it again.
        await self._record(tasks, refused=False)
        await self._bury_refused(tasks)
        await self._record(tasks, refused=True)
        for task in tasks:
            self._trace(task)
        return [_worst(filter(None, map(_unended, task.shares))) for task in tasks]

    async def bury(self, given_up: GivenUp) -> None:
        """Stores dead letters and outcomes for every pixel at which the unit has not ended."""
        task = await self._task(given_up.unit)
        ended = await self._outcomes.ended(
            task.record.shop, [(share.sink, task.name) for share in task.shares]
        )
        for share in task.shares:
            if (share.sink, task.name) not in ended:
                await self._end(task, share, given_up)

    async def _end(self, task: _Task, share: _Share, given_up: GivenUp) -> None:
        if not share.ignored:
            share.sent = [given_up.error] * len(share.conversions)
            share.failed = None if share.conversions else given_up.error
            await self._bury(task, share, given_up.error, given_up.reason)
        outcome = self._outcome(task, share)
        if not share.ignored:
            outcome.kind = outcome_pb2.OUTCOME_KIND_DEAD
            outcome.reason = given_up.reason
        await self._outcomes.record([outcome])

    async def _record(self, tasks: Sequence[_Task], *, refused: bool) -> None:
        outcomes = [
            self._outcome(task, share)
            for task in tasks
            for share in task.shares
            if _unended(share) is None and (_refusal(share) is not None) is refused
        ]
        if outcomes:
            await self._outcomes.record(outcomes)

    # -- mapping ---------------------------------------------------------------------------------

    async def _task(self, unit: Unit) -> _Task:
        started_ns = self._clock.now_ns()
        record = _record_of(unit)
        parent = SpanRef.parse(record.traceparent) or self._tracer.start_trace()
        task = _Task(unit, record, self._tracer.child(parent), started_ns)
        known = {pixel.sink: pixel for pixel in self._pixels.of_shop(record.shop)}
        try:
            fact = await self._fact(record)
        except ServiceError as error:
            if error.kind is not Kind.PERMANENT:
                raise
            # This one fact cannot be opened; its neighbours in the batch can.
            owed = record.sinks or known
            task.shares = [_Share(sink, known.get(sink), [], failed=error) for sink in owed]
            return task
        # A record that names no sink was written before its shop had any, or by an older writer.
        for sink in record.sinks or _meant(fact, known.values()):
            pixel = known.get(sink)
            share = self._share(pixel, fact) if pixel else self._without_pixel(record, sink)
            task.shares.append(share)
        return task

    def _without_pixel(self, record: record_pb2.FactRecord, sink: str) -> _Share:
        """Its outcome is owed all the same: it waits for the connection, unless that is gone."""
        age_s = self._clock.now_ns() / 1e9 - record.received_at.seconds
        if age_s > _GONE_AFTER_S and not self._pixels.is_connected(record.shop, sink):
            return _Share(sink, None, [], ignored="connection_removed")
        waits = ServiceError(Kind.AUTH, "connection_missing", f"{sink} is not usable yet")
        return _Share(sink, None, [], failed=waits)

    async def _fact(self, record: record_pb2.FactRecord) -> fact_pb2.Fact:
        if not record.HasField("payload"):
            raise _unreadable()
        opened = await self._opener.open_bytes(record.payload, record.shop)
        try:
            return fact_pb2.Fact.FromString(opened)
        except DecodeError:
            raise _unreadable() from None

    def _share(self, pixel: Pixel, fact: fact_pb2.Fact) -> _Share:
        now_s = self._clock.now_ns() / 1e9
        try:
            decided = _decided(fact, pixel.settings, now_s)
        except ServiceError as error:
            return _Share(pixel.sink, pixel, [], failed=error)
        except Exception as error:  # noqa: BLE001  # a bug met by one fact is not its neighbours'
            _log.exception("mapping_failed", fact=fact.WhichOneof("happened"))
            unforeseen = ServiceError(Kind.RETRYABLE, "unforeseen", type(error).__name__)
            return _Share(pixel.sink, pixel, [], failed=unforeseen)
        conversions = [one for one in decided if isinstance(one, Conversion)]
        reasons = [one.reason.value for one in decided if isinstance(one, Ignored)]
        skipped = _skipped(fact, decided)
        if not conversions:
            reason = reasons[0] if reasons else "nothing_to_send"
            return _Share(pixel.sink, pixel, [], skipped, ignored=reason)
        if pixel.settings.shadow:
            return _Share(pixel.sink, pixel, conversions, skipped, ignored="shadow")
        return _Share(pixel.sink, pixel, conversions, skipped)

    async def _already_ended(self, tasks: Sequence[_Task]) -> set[tuple[str, str]]:
        """What an earlier try has finished.

        Asked for every unit: a durable that was made anew gives old facts out as if never tried.
        """
        pairs = [(share.sink, task.name) for task in tasks for share in task.shares]
        if not pairs:
            return set()
        return await self._outcomes.ended(tasks[0].record.shop, pairs)

    # -- sending ---------------------------------------------------------------------------------

    async def _send_all(self, tasks: Sequence[_Task]) -> None:
        """Each pixel on its own: one that hangs holds up no other of the shop."""
        by_sink: dict[str, list[tuple[_Task, _Share]]] = {}
        pixels: dict[str, Pixel] = {}
        for task in tasks:
            for share in task.shares:
                if share.pixel and share.conversions and not share.ignored:
                    by_sink.setdefault(share.sink, []).append((task, share))
                    pixels[share.sink] = share.pixel
        await asyncio.gather(*(self._send(pixels[sink], by_sink[sink]) for sink in by_sink))

    async def _send(self, pixel: Pixel, pairs: Sequence[tuple[_Task, _Share]]) -> None:
        outgoing = [
            Outgoing(conversion, task.span)
            for task, share in pairs
            for conversion in share.conversions
        ]
        results = iter(await self._sender.send(pixel, outgoing))
        for _, share in pairs:
            share.sent = [next(results) for _ in share.conversions]

    # -- ending ----------------------------------------------------------------------------------

    async def _bury_refused(self, tasks: Sequence[_Task]) -> None:
        """What TikTok or the mapping refused for good: the letter is stored before the outcome."""
        for task in tasks:
            for share in task.shares:
                error = _refusal(share)
                if error is not None and _unended(share) is None:
                    await self._bury(task, share, error, f"permanent/{error.code}")

    async def _bury(self, task: _Task, share: _Share, error: ServiceError, reason: str) -> None:
        record = task.record
        # What we could not map and what TikTok would not take are different people's work.
        reason_class = "mapping" if share.failed is not None else reason.partition("/")[0]
        letter = outcome_pb2.DeadLetter(
            dead_letter_id=f"{share.sink}.{record.shop}.{task.name}",
            service="events",
            reason_class=reason_class,
            code=error.code,
            message=error.message,
            path=error.path or "",
            shop=record.shop,
            delivery_id=record.delivery_id,
            unit=task.name,
            sink=share.sink,
            upstream_code=getattr(error, "upstream_code", 0),
            attempts=task.unit.attempts + 1,
            traceparent=record.traceparent,
            original=record.payload,
            received_at=record.received_at,
        )
        letter.died_at.FromNanoseconds(self._clock.now_ns())
        await self._dead_letters.store(letter)
        self._metrics.counter(
            metric_names.DEAD_LETTERS, service="events", reason=reason_class
        ).value += 1

    def _outcome(self, task: _Task, share: _Share) -> outcome_pb2.Outcome:
        events = _event_outcomes(share)
        error = _refusal(share)
        outcome = outcome_pb2.Outcome(
            unit=task.name,
            sink=share.sink,
            shop=task.record.shop,
            kind=_kind(share, events),
            reason=share.ignored or (f"permanent/{error.code}" if error else ""),
            attempts=task.unit.attempts + 1 if share.sent else 0,
            received_at=task.record.received_at,
            events=events,
            delivery_id=task.record.delivery_id,
            trace_id=task.span.trace_hex,
        )
        outcome.ended_at.FromNanoseconds(self._clock.now_ns())
        if share.ignored:
            self._metrics.counter(metric_names.EVENTS_IGNORED, reason=share.ignored).value += 1
        return outcome

    def _trace(self, task: _Task) -> None:
        if not task.span.sampled:
            return
        ignored = next((share.ignored for share in task.shares if share.ignored), "")
        attributes: Mapping[str, str | int] = {
            "fact_id": task.record.fact_id,
            "kind": task.record.kind,
            "shop": task.record.shop,
            "attempt": task.unit.attempts + 1,
            **({"reason": ignored} if ignored else {}),
        }
        self._tracer.emit(
            "fact consumed",
            task.span,
            parent=SpanRef.parse(task.record.traceparent),
            start_ns=task.started_ns,
            end_ns=self._clock.now_ns(),
            attributes=attributes,
            error=_worst(filter(None, map(_unended, task.shares))),
        )


def _meant(fact: fact_pb2.Fact, pixels: Iterable[Pixel]) -> list[str]:
    """The pixels that a fact is for, where its record does not say."""
    code = fact.events_tracked.pixel_code
    return [pixel.sink for pixel in pixels if code in ("", pixel.settings.pixel_code)]


def _decided(
    fact: fact_pb2.Fact, settings: EventSettings, now_s: float
) -> Sequence[Conversion | Ignored]:
    match fact.WhichOneof("happened"):
        case "order_paid":
            return [decide_purchase(facts.paid_order(fact.order_paid), settings, now_s)]
        case "checkout_started":
            started = facts.started_checkout(fact.checkout_started)
            return [decide_checkout(started, settings, now_s)]
        case "cart_lines_added":
            added = decide_cart(facts.cart_lines_added(fact.cart_lines_added), settings, now_s)
            return [added] if isinstance(added, Ignored) else added
        case "events_tracked":
            events = map(facts.tracked_event, fact.events_tracked.events)
            return [decide_tracked(event, settings, now_s) for event in events]
        case _:
            return []


def _record_of(unit: Unit) -> record_pb2.FactRecord:
    """The record; where it cannot be read, what its subject says of it."""
    try:
        return record_pb2.FactRecord.FromString(unit.data)
    except DecodeError:
        _, _, kind, _, shop, fact_id = map(subjects.text_of, unit.subject.split(".", 5))
        return record_pb2.FactRecord(kind=kind, shop=shop, fact_id=fact_id)


def _unreadable() -> ServiceError:
    return permanent("fact_unreadable", "its bytes are no fact: was it written by another version?")


def _skipped(
    fact: fact_pb2.Fact, decided: Sequence[Conversion | Ignored]
) -> list[outcome_pb2.EventOutcome]:
    """Who handed in events asks for each by its id, for those too that are not sent."""
    events = fact.events_tracked.events
    return [
        outcome_pb2.EventOutcome(
            event_id=event.event_id,
            event=event.event,
            kind=outcome_pb2.OUTCOME_KIND_IGNORED,
            reason=one.reason.value,
        )
        for event, one in zip(events, decided, strict=False)
        if isinstance(one, Ignored)
    ]


def _unended(share: _Share) -> ServiceError | None:
    """The error because of which a share must be tried again; None where it has ended."""
    if share.failed is not None:
        return share.failed if share.failed.kind is not Kind.PERMANENT else None
    errors = [sent for sent in share.sent if isinstance(sent, ServiceError)]
    return _worst(error for error in errors if error.kind is not Kind.PERMANENT)


def _refusal(share: _Share) -> ServiceError | None:
    """The error for which a share, or a part of it, is given up."""
    if share.failed is not None:
        return share.failed
    errors = (sent for sent in share.sent if isinstance(sent, ServiceError))
    return next((error for error in errors if error.kind is Kind.PERMANENT), None)


def _worst(errors: Iterable[ServiceError]) -> ServiceError | None:
    """The error that decides for all: one that waits for a person before one that waits."""
    found = list(errors)
    return next((error for error in found if error.kind is Kind.AUTH), found[0] if found else None)


def _kind(
    share: _Share, events: Sequence[outcome_pb2.EventOutcome]
) -> outcome_pb2.OutcomeKind.ValueType:
    if share.failed is not None:
        return outcome_pb2.OUTCOME_KIND_DEAD
    if share.ignored:
        return outcome_pb2.OUTCOME_KIND_IGNORED
    kinds = {event.kind for event in events}
    return next(kind for kind in _WORST_FIRST if kind in kinds)


def _event_outcomes(share: _Share) -> list[outcome_pb2.EventOutcome]:
    if share.ignored:
        return [
            outcome_pb2.EventOutcome(
                event_id=conversion.event_id,
                event=conversion.name,
                kind=outcome_pb2.OUTCOME_KIND_IGNORED,
                reason=share.ignored,
            )
            for conversion in share.conversions
        ] + share.skipped
    return [
        _event_outcome(conversion, sent)
        for conversion, sent in zip(share.conversions, share.sent, strict=True)
    ] + share.skipped


def _event_outcome(conversion: Conversion, sent: Sent) -> outcome_pb2.EventOutcome:
    outcome = outcome_pb2.EventOutcome(event_id=conversion.event_id, event=conversion.name)
    if isinstance(sent, Answered):
        outcome.kind = _KINDS[sent.meaning]
        outcome.upstream_code = sent.code
        outcome.upstream_request_id = sent.request_id
    else:
        outcome.kind = outcome_pb2.OUTCOME_KIND_DEAD
        outcome.reason = sent.code
        outcome.upstream_code = getattr(sent, "upstream_code", 0)
        outcome.upstream_request_id = getattr(sent, "request_id", "")
    return outcome

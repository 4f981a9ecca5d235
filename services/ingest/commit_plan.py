"""What to write for a batch of deliveries, given what is stored. Pure: the commit protocol's head.

One atomic batch holds, for each resource, its new state (expected where it was read), and for each
delivery its facts and its dedupe marker (expected not to exist). So the version check, publication
and dedupe are one act: the batch that turns an order paid is the one that publishes that it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.message import Message

from libs import resources, sinks
from libs.bus import subjects
from libs.bus.commit_log import Entry
from libs.errors import ServiceError
from libs.telemetry import SpanRef
from services.ingest.normalize import DeliveryMeta, Normalized, StateView, TopicNotUsed, apply
from tidewire.commerce.v1 import record_pb2
from tidewire.common.v1 import sealed_pb2
from tidewire.ingest.v1 import delivery_pb2

Seal = Callable[[Message, str], sealed_pb2.Payload]
"""Seals a message with its shop's key, where its schema marks personal data."""

_REASONS: Final = {
    record_pb2.SEEN_RESULT_STALE: "stale",
    record_pb2.SEEN_RESULT_UNCHANGED: "unchanged",
    record_pb2.SEEN_RESULT_TOPIC_NOT_USED: "topic_not_used",
    record_pb2.SEEN_RESULT_APPLIED: "no_conversion",
}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A delivery that was read: what it says, or why it cannot be understood."""

    delivery: delivery_pb2.Delivery
    meta: DeliveryMeta
    said: Normalized | TopicNotUsed | ServiceError
    span: SpanRef
    """The span under which its facts are published."""
    segment_sequence: int
    segment_index: int
    seen_subject: str
    state_subject: str | None


@dataclass(frozen=True, slots=True)
class Known:
    """What is stored of one resource. `sequence` 0: nothing."""

    sequence: int
    view: StateView | None


NOTHING: Final = Known(0, None)


@dataclass(slots=True)
class Decided:
    """What became of one delivery."""

    prepared: Prepared
    record: record_pb2.SeenRecord
    facts: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Plan:
    """What to write, and what it means once written."""

    entries: list[Entry] = field(default_factory=list)
    decided: list[Decided] = field(default_factory=list)
    duplicates: list[Prepared] = field(default_factory=list)
    fact_subjects: list[str] = field(default_factory=list)
    states: list[tuple[str, int, StateView]] = field(default_factory=list)
    """Each changed state: its subject, its place in `entries`, and the view."""

    @property
    def size_bytes(self) -> int:
        """Bytes of all entries."""
        return sum(len(entry.data) for entry in self.entries)


def state_subjects(batch: Sequence[Prepared]) -> set[str]:
    """Every resource that a plan for `batch` may change."""
    return {prepared.state_subject for prepared in batch if prepared.state_subject}


def plan(
    batch: Sequence[Prepared],
    states: Mapping[str, Known],
    existing: frozenset[str],
    *,
    sinks_of: Callable[[str], Sequence[str]],
    seal: Seal,
) -> Plan:
    """What to write for `batch`, in order.

    `states` is what is stored by state subject; `existing` are the dedupe markers and facts that
    are already there. Deliveries of one resource are folded: a subject stands in a batch once.
    """
    return _Planner(states, existing, sinks_of, seal).plan(batch)


class _Planner:
    def __init__(
        self,
        states: Mapping[str, Known],
        existing: frozenset[str],
        sinks_of: Callable[[str], Sequence[str]],
        seal: Seal,
    ) -> None:
        self._states = states
        self._taken = set(existing)
        self._sinks_of = sinks_of
        self._seal = seal
        self._folded: dict[str, tuple[StateView, Prepared]] = {}
        self._plan = Plan()

    def plan(self, batch: Sequence[Prepared]) -> Plan:
        for prepared in batch:
            if prepared.seen_subject in self._taken:
                self._plan.duplicates.append(prepared)
                continue
            self._taken.add(prepared.seen_subject)
            self._decide(prepared)
        for subject, (view, prepared) in self._folded.items():
            self._plan.states.append((subject, len(self._plan.entries), view))
            self._plan.entries.append(self._state_entry(subject, view, prepared))
        return self._plan

    def _decide(self, prepared: Prepared) -> None:
        decided = Decided(prepared, _blank_record(prepared))
        said = prepared.said
        if isinstance(said, ServiceError):
            decided.record.result = record_pb2.SEEN_RESULT_DEAD
            decided.record.reason = said.code
        elif isinstance(said, TopicNotUsed):
            decided.record.result = record_pb2.SEEN_RESULT_TOPIC_NOT_USED
        else:
            self._apply(decided, said)
        self._share(decided)
        self._plan.decided.append(decided)
        self._plan.entries.append(
            Entry(
                prepared.seen_subject,
                decided.record.SerializeToString(),
                expected=0,
                ttl_s=resources.SEEN_TTL_S,
            )
        )

    def _apply(self, decided: Decided, said: Normalized) -> None:
        prepared = decided.prepared
        subject = prepared.state_subject
        if subject is None:
            raise AssertionError("a normalised delivery has a state subject")
        folded = self._folded.get(subject)
        stored = folded[0] if folded else self._states.get(subject, NOTHING).view
        applied = apply(stored, said)
        decided.record.result = applied.result
        if applied.new_state is not None:
            self._folded[subject] = (applied.new_state, prepared)
        shop = prepared.delivery.shop
        for fact in applied.facts:
            name = subjects.fact(fact.kind, shop, fact.fact_id)
            if name in self._taken:
                # Published before, by a state that has since expired: once is enough.
                continue
            self._taken.add(name)
            self._plan.fact_subjects.append(name)
            decided.facts.append(sinks.unit_of(fact.kind, fact.fact_id))
            record = record_pb2.FactRecord(
                fact_id=fact.fact_id,
                shop=shop,
                kind=fact.kind,
                delivery_id=prepared.delivery.delivery_id,
                received_at=prepared.delivery.received_at,
                traceparent=prepared.span.traceparent(),
                payload=self._seal(fact.fact, shop),
                sinks=[sink for sink in self._sinks_of(shop) if sinks.uses(sink, fact.kind)],
            )
            self._plan.entries.append(
                Entry(name, record.SerializeToString(), expected=0, ttl_s=resources.FACT_TTL_S)
            )

    def _share(self, decided: Decided) -> None:
        """Gives each sink of the shop its fact, or the reason why there is none."""
        record = decided.record
        for sink in self._sinks_of(record.shop):
            unit = next((u for u in decided.facts if sinks.uses(sink, u.partition(".")[0])), None)
            if unit is not None:
                record.shares.add(sink=sink, fact_id=unit)
            elif record.result == record_pb2.SEEN_RESULT_DEAD:
                record.shares.add(sink=sink)
            else:
                record.shares.add(sink=sink, ignored=_REASONS[record.result])

    def _state_entry(self, subject: str, view: StateView, prepared: Prepared) -> Entry:
        record = record_pb2.StateRecord(
            kind=view.kind,
            shop=prepared.delivery.shop,
            resource_id=view.resource_id,
            version=view.version,
            deleted=view.deleted,
            redacted=view.redacted,
            tied=view.tied,
            told=view.told,
            delivery_id=prepared.delivery.delivery_id,
        )
        if view.message is not None:
            record.payload.CopyFrom(self._seal(view.message, prepared.delivery.shop))
        return Entry(
            subject,
            record.SerializeToString(),
            expected=self._states.get(subject, NOTHING).sequence,
            # Set anew with each change: what is still moving does not expire.
            ttl_s=resources.STATE_TTL_S.get(view.kind),
        )


def _blank_record(prepared: Prepared) -> record_pb2.SeenRecord:
    delivery = prepared.delivery
    return record_pb2.SeenRecord(
        delivery_id=delivery.delivery_id,
        shop=delivery.shop,
        topic=delivery.topic,
        received_at=delivery.received_at,
        trace_id=prepared.span.trace_hex,
        segment_sequence=prepared.segment_sequence,
        segment_index=prepared.segment_index,
    )

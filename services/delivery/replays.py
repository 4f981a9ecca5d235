"""What a dead letter's replay would be. Pure: decides, and builds what is to be stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, TypeVar

from libs import resources, sinks
from libs.bus import subjects
from libs.bus.commit_log import Entry
from libs.bus.dead_letters import INGEST
from libs.telemetry import SpanRef
from tidewire.commerce.v1 import record_pb2
from tidewire.delivery.v1 import outcome_pb2
from tidewire.ingest.v1 import delivery_pb2

MAY_COUNT_TWICE: Final = "it may have been sent: the upstream may count it twice"

T = TypeVar("T")

_TOPIC: Final = "replay"
_SEGMENT_BYTES_MAX: Final = 768 * 1024
_NOT_REPLAYABLE: Final = {
    "segment_unreadable": "segment_unreadable: it is no delivery; look at its bytes",
    # Tried again it would be believed: nobody checks a signature behind the door.
    "signed_for_another_shop": "signed_for_another_shop: its signature was not the shop's",
}


@dataclass(frozen=True, slots=True)
class Refused:
    """The letter cannot be replayed."""

    reason: str


@dataclass(frozen=True, slots=True)
class FactReplay:
    """It becomes a fact of its own for the sink that gave it up."""

    letter: outcome_pb2.DeadLetter
    kind: str
    fact_id: str

    @property
    def replayed_as(self) -> str:
        """The new unit."""
        return sinks.unit_of(self.kind, self.fact_id)

    def entries(self, span: SpanRef, now_ns: int) -> list[Entry]:
        """The fact and its marker in the ledger: stored together, once."""
        letter = self.letter
        record = record_pb2.FactRecord(
            fact_id=self.fact_id,
            shop=letter.shop,
            kind=self.kind,
            delivery_id=self.fact_id,
            traceparent=span.traceparent(),
            payload=letter.original,
            sinks=[letter.sink],
            replay_of=letter.dead_letter_id,
            only_event_ids=letter.event_ids,
        )
        record.received_at.FromNanoseconds(now_ns)
        seen = record_pb2.SeenRecord(
            delivery_id=record.delivery_id,
            shop=letter.shop,
            topic=_TOPIC,
            received_at=record.received_at,
            result=record_pb2.SEEN_RESULT_APPLIED,
            trace_id=span.trace_hex,
            shares=[record_pb2.SinkShare(sink=letter.sink, fact_id=self.replayed_as)],
        )
        return [
            Entry(
                subjects.fact(self.kind, letter.shop, self.fact_id),
                record.SerializeToString(),
                expected=0,
                ttl_s=resources.FACT_TTL_S,
            ),
            Entry(
                subjects.seen(letter.shop, record.delivery_id),
                seen.SerializeToString(),
                expected=0,
                ttl_s=resources.SEEN_TTL_S,
            ),
        ]


@dataclass(frozen=True, slots=True)
class DeliveryReplay:
    """It goes back to where deliveries come from, as it came."""

    letter: outcome_pb2.DeadLetter
    replayed_as: str
    """The new delivery."""

    def delivery(self, span: SpanRef, now_ns: int) -> delivery_pb2.Delivery:
        """The delivery as it came, under its new name."""
        letter = self.letter
        delivery = delivery_pb2.Delivery(
            delivery_id=self.replayed_as,
            source=delivery_pb2.SOURCE_REPLAY,
            shop=letter.shop,
            topic=letter.topic,
            traceparent=span.traceparent(),
            content_encoding=letter.content_encoding,
            body=letter.original,
            replay_of=letter.dead_letter_id,
            request_started_ns=now_ns,
        )
        delivery.received_at.CopyFrom(letter.received_at)
        if letter.HasField("triggered_at"):
            delivery.triggered_at.CopyFrom(letter.triggered_at)
        return delivery


def packed(
    deliveries: Iterable[delivery_pb2.Delivery], now_ns: int
) -> Iterator[delivery_pb2.DeliverySegment]:
    """Segments of these deliveries, none above the bound unless it holds one alone."""
    for group in grouped(
        deliveries, lambda one: one.ByteSize(), bytes_max=_SEGMENT_BYTES_MAX, items_max=1_000
    ):
        names = "\n".join(delivery.delivery_id for delivery in group)
        segment = delivery_pb2.DeliverySegment(
            segment_id=f"replay-{sha256(names.encode()).hexdigest()}", deliveries=group
        )
        segment.committing_at.FromNanoseconds(now_ns)
        yield segment


def grouped(
    items: Iterable[T], size_of: Callable[[T], int], *, bytes_max: int, items_max: int
) -> Iterator[list[T]]:
    """`items` in order, in groups within both bounds; one that is too large is alone."""
    group: list[T] = []
    held_bytes = 0
    for item in items:
        size = size_of(item)
        if group and (len(group) == items_max or held_bytes + size > bytes_max):
            yield group
            group, held_bytes = [], 0
        group.append(item)
        held_bytes += size
    if group:
        yield group


def replay_of(letter: outcome_pb2.DeadLetter) -> FactReplay | DeliveryReplay | Refused:
    """What replaying this letter means."""
    if letter.code in _NOT_REPLAYABLE:
        return Refused(_NOT_REPLAYABLE[letter.code])
    if not letter.HasField("original"):
        return Refused("no_original: the letter holds nothing that could be tried again")
    if not letter.shop:
        return Refused("no_shop: it cannot be told whose it was")
    name = subjects.replay_id(letter.dead_letter_id)
    if letter.service == INGEST:
        return DeliveryReplay(letter, name)
    kind = letter.fact_kind or letter.unit.partition(".")[0]
    if not sinks.uses(letter.sink, kind):
        return Refused("no_sink: no sink of this version takes it")
    return FactReplay(letter, kind, name)

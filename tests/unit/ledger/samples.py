"""Markers and outcomes of deliveries, and lanes as a server would describe them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from libs.bus import subjects
from libs.ledger import UnitKey, day_of
from libs.ledger.books import Books
from libs.ledger.places import LaneState, Placement, Placer
from tidewire.commerce.v1 import record_pb2
from tidewire.delivery.v1 import outcome_pb2

DELIVERED: Final = outcome_pb2.OUTCOME_KIND_DELIVERED
UNCERTAIN: Final = outcome_pb2.OUTCOME_KIND_DELIVERED_UNCERTAIN
IGNORED: Final = outcome_pb2.OUTCOME_KIND_IGNORED
DEAD: Final = outcome_pb2.OUTCOME_KIND_DEAD
ATTEMPTED: Final = outcome_pb2.OUTCOME_KIND_ATTEMPTED

SHOP: Final = "aurora"
SINK: Final = "events.C1"
OTHER: Final = "events.C2"
NOON: Final = datetime(2026, 11, 22, 12, tzinfo=UTC)
NOON_NS: Final = int(NOON.timestamp()) * 1_000_000_000
HOUR_NS: Final = 3_600_000_000_000
TODAY: Final = day_of(NOON_NS)


def share(sink: str = SINK, unit: str = "", ignored: str = "") -> record_pb2.SinkShare:
    return record_pb2.SinkShare(sink=sink, fact_id=unit, ignored=ignored)


def marker(
    *shares: record_pb2.SinkShare,
    shop: str = SHOP,
    received_ns: int = NOON_NS,
    reason: str = "",
    delivery_id: str = "d",
) -> record_pb2.SeenRecord:
    record = record_pb2.SeenRecord(shop=shop, delivery_id=delivery_id, shares=shares, reason=reason)
    record.received_at.FromNanoseconds(received_ns)
    return record


def outcome(
    unit: str,
    kind: outcome_pb2.OutcomeKind.ValueType = DELIVERED,
    *,
    sink: str = SINK,
    shop: str = SHOP,
    reason: str = "",
    attempts: int = 1,
) -> outcome_pb2.Outcome:
    return outcome_pb2.Outcome(
        unit=unit, sink=sink, shop=shop, kind=kind, reason=reason, attempts=attempts
    )


def lane_state(
    *, floor: int = 0, delivered: int = 0, waiting: int = 0, in_hand: int = 0
) -> LaneState:
    return LaneState(floor, delivered, waiting, in_hand)


def placed(
    books: Books, state: LaneState, *, parked: frozenset[UnitKey] = frozenset(), known_to: int = 0
) -> Placement:
    """Where the open units are, when each lane is as `state` says."""
    lanes = {("events", number): state for number in range(subjects.LANES)}
    placer = Placer(lanes, parked, known_to or 10**9)
    for _ in placer.place(books.open):
        pass
    return placer.finish()

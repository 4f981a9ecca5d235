"""The ledger: every unit of work and how it ended, folded from the messages themselves.

Unit = (distinct delivery, sink its shop has). received = delivered + delivered_uncertain +
ignored(reason) + dead(reason) + in flight, and in flight is what the server still holds for a
consumer, counted there: were it the remainder, the ledger would balance by definition.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from nats.aio.client import Client

from libs.bus import subjects
from libs.bus.api import ApiError, js_api
from libs.bus.scan import scan
from tidewire.commerce.v1 import record_pb2
from tidewire.delivery.v1 import outcome_pb2

_NO_SUCH_CONSUMER = 10014


@dataclass(slots=True)
class Ledger:
    """Units by how they ended."""

    received: int = 0
    delivered: int = 0
    delivered_uncertain: int = 0
    ignored: Counter[str] = field(default_factory=Counter)
    dead: Counter[str] = field(default_factory=Counter)
    unended: int = 0
    """Units whose fact is published and which have no outcome yet."""
    in_flight: int = 0
    """Messages that a consumer has still to see or to acknowledge."""
    parked: int = 0
    """Deliveries of shops that nobody has connected; they have no sink, so they are no units."""
    deliveries: int = 0
    """Distinct deliveries of known shops."""

    @property
    def ended(self) -> int:
        """Units that have ended."""
        return self.delivered + self.delivered_uncertain + self.ignored.total() + self.dead.total()

    @property
    def balanced(self) -> bool:
        """Whether every unit is accounted for."""
        return self.received == self.ended + self.in_flight

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, as `tidewire demo --json` writes it."""
        return {
            "received": self.received,
            "delivered": self.delivered,
            "delivered_uncertain": self.delivered_uncertain,
            "ignored": dict(sorted(self.ignored.items())),
            "dead": dict(sorted(self.dead.items())),
            "in_flight": self.in_flight,
            "parked": self.parked,
            "deliveries": self.deliveries,
            "balanced": self.balanced,
        }


def fold(seen: Iterable[record_pb2.SeenRecord], outcomes: Iterable[outcome_pb2.Outcome]) -> Ledger:
    """The ledger of these deliveries and outcomes; nothing in flight."""
    ended = {(one.sink, one.shop, one.unit): one for one in outcomes}
    ledger = Ledger()
    for record in seen:
        ledger.deliveries += 1
        for share in record.shares:
            ledger.received += 1
            _count(ledger, record, share, ended.get((share.sink, record.shop, share.fact_id)))
    return ledger


def _count(
    ledger: Ledger,
    record: record_pb2.SeenRecord,
    share: record_pb2.SinkShare,
    outcome: outcome_pb2.Outcome | None,
) -> None:
    if share.ignored:
        ledger.ignored[share.ignored] += 1
    elif not share.fact_id:
        ledger.dead[record.reason] += 1
    elif outcome is None:
        ledger.unended += 1
    elif outcome.kind == outcome_pb2.OUTCOME_KIND_DELIVERED:
        ledger.delivered += 1
    elif outcome.kind == outcome_pb2.OUTCOME_KIND_DELIVERED_UNCERTAIN:
        ledger.delivered_uncertain += 1
    elif outcome.kind == outcome_pb2.OUTCOME_KIND_IGNORED:
        ledger.ignored[outcome.reason] += 1
    else:
        ledger.dead[outcome.reason] += 1


async def read_ledger(nats: Client) -> Ledger:
    """The ledger of everything that the streams still hold.

    Raises:
        ServiceError: RETRYABLE, where NATS does not answer.
    """
    seen = [
        record_pb2.SeenRecord.FromString(stored.data)
        async for stored in scan(nats, subjects.COMMERCE, "commerce.seen.>")
    ]
    ledger = fold(seen, await read_outcomes(nats))
    for stream, durable in _consumers():
        ledger.in_flight += await _pending(nats, stream, durable)
    info = await js_api(nats, f"STREAM.INFO.{subjects.PARKED}")
    ledger.parked = int(info["state"]["messages"])
    return ledger


async def read_outcomes(nats: Client) -> list[outcome_pb2.Outcome]:
    """Every outcome that is stored."""
    return [
        outcome_pb2.Outcome.FromString(stored.data)
        async for stored in scan(nats, subjects.OUTCOMES, "outcome.>")
        if not stored.subject.startswith(f"outcome.{subjects.BY_EVENT}.")
    ]


def _consumers() -> Iterator[tuple[str, str]]:
    yield subjects.WEBHOOKS, subjects.NORMALIZER
    for lane in range(subjects.LANES):
        yield subjects.COMMERCE, subjects.events_durable(lane)


async def _pending(nats: Client, stream: str, durable: str) -> int:
    try:
        info = await js_api(nats, f"CONSUMER.INFO.{stream}.{durable}")
    except ApiError as error:
        if error.err_code == _NO_SUCH_CONSUMER:
            return 0
        raise
    return int(info["num_pending"]) + int(info["num_ack_pending"])

"""Streams as the services write them, message by message, and a lane that is worked off by hand."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg

from libs import resources, sinks
from libs.bus import streams, subjects
from libs.bus.api import js_api
from libs.bus.commit_log import Entry
from libs.bus.jetstream_log import JetStreamLog
from libs.bus.publisher import publish
from libs.bus.pull import ConsumerSettings, ensure_consumer
from libs.clock import FakeClock, SystemClock
from libs.ids import RandomIds
from libs.sinks import EVENTS_FACTS
from tests.fakes.nats_server import NatsServer
from tests.fakes.streams import delete_streams
from tests.unit.ledger.samples import OTHER, SHOP, SINK
from tidewire.commerce.v1 import record_pb2
from tidewire.delivery.v1 import gate_pb2, outcome_pb2

CONNECTION: Final = "aurora.events.C1"
LANE_NUMBER: Final = subjects.lane(SHOP)

__all__ = ["OTHER", "SHOP", "SINK", "World", "new_world"]


class World:
    """One shop's deliveries, facts and outcomes on a real server."""

    def __init__(self, nats: Client) -> None:
        ids = RandomIds(SystemClock())
        self.nats = nats
        self.clock = FakeClock(time.time())
        """It follows the server's day and waits for nobody."""
        self._commerce = JetStreamLog(nats, subjects.COMMERCE, ids)
        self._outcomes = JetStreamLog(nats, subjects.OUTCOMES, ids)
        self._parked = 0

    async def deliver(
        self, fact_id: str, *, to: Sequence[str] = (SINK,), also: Sequence[str] = ()
    ) -> str:
        """A delivery that publishes a fact; the unit. `also` are kinds of facts beside it."""
        unit = sinks.unit_of("order_paid", fact_id)
        seen = record_pb2.SeenRecord(
            delivery_id=fact_id,
            shop=SHOP,
            shares=[record_pb2.SinkShare(sink=sink, fact_id=unit) for sink in to],
        )
        seen.received_at.FromNanoseconds(self.clock.now_ns())
        kinds = ("order_paid", *also)
        facts = [Entry(subjects.fact(kind, SHOP, fact_id), b"fact", expected=0) for kind in kinds]
        await self._commerce.commit([*facts, _marker(seen)])
        return unit

    async def deliver_nothing(self, delivery_id: str, ignored: str) -> None:
        """A delivery of which no sink gets anything."""
        shares = [record_pb2.SinkShare(sink=SINK, ignored=ignored)]
        seen = record_pb2.SeenRecord(delivery_id=delivery_id, shop=SHOP, shares=shares)
        seen.received_at.FromNanoseconds(self.clock.now_ns())
        await self._commerce.commit([_marker(seen)])

    async def end(
        self,
        unit: str,
        kind: outcome_pb2.OutcomeKind.ValueType = outcome_pb2.OUTCOME_KIND_DELIVERED,
        *,
        sink: str = SINK,
        attempts: int = 1,
        reason: str = "",
    ) -> None:
        """Records what became of a unit; what was recorded before is replaced."""
        outcome = outcome_pb2.Outcome(
            unit=unit, sink=sink, shop=SHOP, kind=kind, attempts=attempts, reason=reason
        )
        name = subjects.outcome(sink, SHOP, unit)
        index = Entry(subjects.outcome(subjects.BY_EVENT, SHOP, unit) + ".s", name.encode())
        await self._outcomes.commit([Entry(name, outcome.SerializeToString()), index])

    async def park(self, unit: str, sink: str = SINK) -> int:
        """Parks a unit; the reference's sequence."""
        self._parked += 1
        reference = gate_pb2.ParkedUnit(unit=unit, sink=sink, shop=SHOP, connection_id=CONNECTION)
        name = subjects.parked("events", CONNECTION)
        data = reference.SerializeToString()
        return await publish(self.nats, name, data, message_id=str(self._parked))

    async def park_delivery(self, shop: str) -> None:
        """A whole delivery of a shop that nobody has connected."""
        await publish(self.nats, subjects.parked("ingest", shop), b"delivery", message_id=shop)

    async def remove(self, stream: str, sequence: int) -> None:
        """Deletes one message."""
        await js_api(self.nats, f"STREAM.MSG.DELETE.{stream}", {"seq": sequence})

    async def sequence_of(self, unit: str) -> int:
        """Where a unit's fact stands."""
        kind, _, fact_id = unit.partition(".")
        name = subjects.fact(kind, SHOP, fact_id)
        return (await self._commerce.read([name]))[name].sequence

    async def open_lane(self) -> None:
        """Makes the durable that reads the shop's lane, as the events service does."""
        kinds = tuple(subjects.facts_in_lane(kind, LANE_NUMBER) for kind in EVENTS_FACTS)
        durable = subjects.events_durable(LANE_NUMBER)
        await ensure_consumer(
            self.nats,
            ConsumerSettings(
                stream=subjects.COMMERCE, durable=durable, filters=kinds, ack_wait_s=60
            ),
        )

    async def take(self, count: int) -> list[Msg]:
        """The next facts of the lane; they stay in hand until they are acknowledged."""
        durable = subjects.events_durable(LANE_NUMBER)
        bound = await self.nats.jetstream().pull_subscribe_bind(
            durable=durable, stream=subjects.COMMERCE
        )
        taken: list[Msg] = []
        while len(taken) < count:
            taken += await bound.fetch(count - len(taken), timeout=10)
        await bound.unsubscribe()
        return taken


async def new_world(nats: Client, server: NatsServer) -> World:
    """Empty streams, whatever the server held before."""
    await delete_streams(nats, server)
    await streams.apply(nats, scale_mib=16)
    return World(nats)


def _marker(seen: record_pb2.SeenRecord) -> Entry:
    return Entry(
        subjects.seen(SHOP, seen.delivery_id),
        seen.SerializeToString(),
        expected=0,
        ttl_s=resources.SEEN_TTL_S,
    )

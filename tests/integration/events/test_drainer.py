"""Parked facts on a real server: kept while their connection is shut, and worked off in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

import pytest
from nats.aio.client import Client

from libs.bus import streams, subjects
from libs.bus.commit_log import Entry, Stored
from libs.bus.dead_letters import DeadLetterStore
from libs.bus.jetstream_log import JetStreamLog
from libs.bus.lease import Lease
from libs.bus.parking import ParkingLot
from libs.clock import FakeClock, SystemClock
from libs.errors import Kind, ServiceError
from libs.foundation import connected
from libs.gates import GateBook, connection_gate
from libs.ids import RandomIds
from libs.retry import RetryPolicy
from libs.telemetry import Telemetry
from services.events.adapters.outcomes import OutcomeStore
from services.events.drainer import Drainer, Yard
from services.events.gatekeeper import SINK, Gatekeeper
from services.events.handlers import Handlers
from services.events.ports import Pixel
from services.events.surroundings import Surroundings
from tests.fakes.nats_server import NatsServer
from tests.integration.rpc.rig import new_id
from tests.unit.events_service.fakes import (
    REVOKED,
    SHOP,
    TIMEOUT,
    ClearOpener,
    FakeTikTok,
    FixedMarks,
    FixedPixels,
    burials_of,
    order_paid,
    pixel,
    sender_of,
    unit,
)
from tidewire.delivery.v1 import gate_pb2, outcome_pb2

WITHIN_S: Final = 20.0
SOON: Final = RetryPolicy(attempts_max=8, base_s=0.05, cap_s=0.05, probe_s=0.05)
OPERATOR: Final = gate_pb2.GATE_REASON_OPERATOR


class House:
    """One replica of the events service's inside, on a real server and a played TikTok."""

    def __init__(
        self,
        nats: Client,
        *,
        own: Pixel,
        tiktok: FakeTikTok | None = None,
        policy: RetryPolicy = SOON,
    ) -> None:
        self.nats = nats
        self.pixel = own
        self.tiktok = tiktok or FakeTikTok()
        self.marks = FixedMarks()
        telemetry, clock = Telemetry.null(), SystemClock()
        self.gates = GateBook(
            nats, self.log(subjects.bucket_stream(subjects.CIRCUITS)), clock, telemetry.metrics
        )
        self.lot = ParkingLot(nats, self.log(subjects.PARKED), "events", telemetry.metrics)
        self.outcomes = OutcomeStore(nats, self.log(subjects.OUTCOMES))
        self.burials = burials_of(FakeClock(), units_max=1_000)
        keeper = Gatekeeper(self.gates, self.marks, clock)
        self.handlers = Handlers(
            Surroundings(
                opener=ClearOpener(),
                pixels=FixedPixels([own]),
                sender=sender_of(self.tiktok, telemetry, gatekeeper=keeper),
                gatekeeper=keeper,
                outcomes=self.outcomes,
                dead_letters=DeadLetterStore(nats),
                parking=self.lot,
                burials=self.burials,
                tracer=telemetry.tracer,
                metrics=telemetry.metrics,
                clock=clock,
            )
        )
        self.lease = Lease(
            self.log(subjects.bucket_stream(subjects.LEASES)), clock, f"drain-{new_id()}", new_id()
        )
        yard = Yard(
            nats=nats,
            lot=self.lot,
            facts=self.log(subjects.COMMERCE),
            gates=self.gates,
            marks=self.marks,
            lease=self.lease,
            burials=self.burials,
        )
        self.drainer = Drainer(yard, self.handlers, policy, clock, random=lambda: 0.5)

    def log(self, stream: str) -> JetStreamLog:
        return JetStreamLog(self.nats, stream, RandomIds(SystemClock()))

    async def park(self, *order_ids: str) -> None:
        """Commits facts and has the live side park them."""
        for order_id in order_ids:
            fact = order_paid(order_id, paid_at_s=int(time.time()))
            one = unit(fact, order_id, sinks=[self.pixel.sink])
            one.sequence = await self.log(subjects.COMMERCE).commit([Entry(one.subject, one.data)])
            await self.handlers.set_aside([one])

    async def shut(self, reason: gate_pb2.GateReason.ValueType, mark: str = "") -> None:
        await self.gates.close(connection_gate(self.pixel.connection_id), reason, mark=mark)

    @property
    def delivered(self) -> list[str]:
        return self.tiktok.delivered.get(self.pixel.connection_id, [])

    async def kinds(self, *order_ids: str) -> list[str]:
        pairs = [(self.pixel.sink, f"order_paid.{order_id}") for order_id in order_ids]
        found = await self.outcomes.known(SHOP, pairs)
        return [
            outcome_pb2.OutcomeKind.Name(found[pair].outcome.kind).removeprefix("OUTCOME_KIND_")
            if pair in found
            else ""
            for pair in pairs
        ]

    async def emptied(self) -> bool:
        return not await self.lot.waiting(self.pixel.connection_id, limit=1)

    @asynccontextmanager
    async def draining(self) -> AsyncIterator[None]:
        parts = [
            asyncio.create_task(part.run(lambda: None))
            for part in (self.gates, self.lot, self.drainer)
        ]
        try:
            yield
        finally:
            for part in (self.drainer, self.lot, self.gates):
                part.stop()
            await asyncio.gather(*parts)


def ids(*names: str) -> list[str]:
    return [f"purchase.{name}" for name in names]


async def until(holds: Callable[[], object], what: str) -> None:
    deadline_s = time.monotonic() + WITHIN_S
    while True:
        found = holds()
        if await found if asyncio.iscoroutine(found) else found:
            return
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"not within {WITHIN_S:.0f} s: {what}")
        await asyncio.sleep(0.02)


@pytest.fixture
async def nats(nats_server: NatsServer) -> AsyncIterator[Client]:
    client = await connected(nats_server.url)
    await streams.apply(client, scale_mib=16)
    yield client
    await client.close()


@pytest.fixture
def house(nats: Client) -> House:
    return House(nats, own=pixel(f"C{new_id()}"))


async def test_what_is_parked_waits_while_shut_and_is_sent_in_order_when_opened(
    house: House,
) -> None:
    await house.shut(OPERATOR)
    names = [new_id() for _ in range(30)]
    await house.park(*names)

    async with house.draining():
        await until(lambda: house.lease.is_held, "the lease is held")
        await until(lambda: house.lot.is_behind(house.pixel.connection_id), "it is counted")
        await house.drainer._begin()
        await until(lambda: not house.drainer._draining, "it has had its look")
        shut_requests = len(house.tiktok.requests)
        await house.gates.reopen(connection_gate(house.pixel.connection_id), by_operator=True)
        await until(house.emptied, "the queue is empty")
        await until(lambda: not house.lot.is_behind(house.pixel.connection_id), "nobody is behind")

    assert shut_requests == 0
    assert house.delivered == ids(*names)
    assert set(await house.kinds(*names)) == {"DELIVERED"}


async def test_a_new_token_opens_the_connection_and_the_old_one_does_not(house: House) -> None:
    # No probe is ever due: only what is seen of the token can open it.
    house.gates._clock = FakeClock()
    house.marks.marks[house.pixel.connection_id] = "m1"
    await house.shut(gate_pb2.GATE_REASON_CREDENTIALS, "m1")
    name = new_id()
    await house.park(name)

    async with house.draining():
        await until(lambda: house.lease.is_held, "the lease is held")
        await house.drainer._begin()
        old_token_opens = house.gates.shut(connection_gate(house.pixel.connection_id)) is None
        house.marks.marks[house.pixel.connection_id] = "m2"
        await until(house.emptied, "the queue is empty")

    assert not old_token_opens
    assert house.gates.shut(connection_gate(house.pixel.connection_id)) is None
    assert house.delivered == ids(name)


async def test_a_probe_with_the_old_token_is_refused_and_the_connection_stays_shut(
    house: House,
) -> None:
    house.marks.marks[house.pixel.connection_id] = "m1"
    await house.shut(gate_pb2.GATE_REASON_CREDENTIALS, "m1")
    name = new_id()
    await house.park(name)
    house.tiktok.down = {house.pixel.connection_id: REVOKED}
    connection = connection_gate(house.pixel.connection_id)

    async with house.draining():
        await until(lambda: _probes(house) == 1, "a probe has failed")

    gate = house.gates.shut(connection)
    assert gate is not None
    assert gate.mark == "m1"
    assert await house.kinds(name) == ["ATTEMPTED"]


def _probes(house: House) -> int:
    gate = house.gates.shut(connection_gate(house.pixel.connection_id))
    return 0 if gate is None else gate.probes


async def test_a_probe_costs_its_unit_no_attempt(nats: Client) -> None:
    once = RetryPolicy(attempts_max=1, base_s=0.05, cap_s=0.05, probe_s=0.05)
    house = House(nats, own=pixel(f"C{new_id()}"), policy=once)
    house.tiktok.troubles = [TIMEOUT]
    name = new_id()
    await house.park(name)
    await house.shut(gate_pb2.GATE_REASON_OUTAGE)

    async with house.draining():
        await until(house.emptied, "the queue is empty")

    assert len(house.tiktok.requests) == 2
    assert await house.kinds(name) == ["DELIVERED"]


async def test_a_unit_that_is_refused_for_good_leaves_the_queue_with_a_letter(
    house: House,
) -> None:
    names = [new_id() for _ in range(5)]
    await house.park(*names)
    house.tiktok.bad = frozenset(ids(names[2]))

    async with house.draining():
        await until(house.emptied, "the queue is empty")

    assert house.delivered == ids(*(n for n in names if n != names[2]))
    assert await house.kinds(*names) == ["DELIVERED", "DELIVERED", "DEAD", "DELIVERED", "DELIVERED"]


async def test_a_unit_that_always_fails_ends_exhausted_and_its_neighbours_are_sent(
    house: House,
) -> None:
    names = [new_id() for _ in range(3)]
    await house.park(*names)
    house.tiktok.sickening = frozenset(ids(names[1]))
    async with house.draining():
        await until(house.emptied, "the queue is empty")

    assert await house.kinds(*names) == ["DELIVERED", "DEAD", "DELIVERED"]


async def test_a_connection_that_is_down_is_probed_with_another_unit_each_time(
    house: House,
) -> None:
    names = [new_id() for _ in range(3)]
    await house.park(*names)
    house.tiktok.sickening = frozenset(ids(names[0]))
    await house.shut(gate_pb2.GATE_REASON_OUTAGE)

    async with house.draining():
        await until(house.emptied, "the queue is empty")

    first, second = house.tiktok.requests[:2]
    assert [one.conversions[0].event_id for one in (first, second)] == ids(names[0], names[1])
    # That the second one got through says nothing of the first, which is behind it no more.
    assert await house.kinds(*names) == ["DEAD", "DELIVERED", "DELIVERED"]


async def test_a_shut_sink_is_probed_from_the_queues_too(house: House) -> None:
    names = [new_id() for _ in range(3)]
    await house.park(*names)
    await house.gates.close(SINK, gate_pb2.GATE_REASON_OUTAGE)

    async with house.draining():
        await until(house.emptied, "the queue is empty")

    assert house.gates.shut(SINK) is None
    assert sorted(house.delivered) == sorted(ids(*names))


async def test_replays_wait_in_a_queue_that_nothing_live_stands_behind(house: House) -> None:
    letter = f"replay.{new_id()}"
    await house.park(letter)

    connection = house.pixel.connection_id
    live = house.lot.is_behind(connection)
    async with house.draining():
        await until(lambda: house.delivered, "the replay is sent")

    assert live is False
    assert house.delivered == ids(letter)


async def test_what_waits_longer_than_a_fact_lives_is_given_up_though_it_is_shut(
    house: House,
) -> None:
    await house.shut(OPERATOR)
    gone = gate_pb2.ParkedUnit(
        subject=subjects.fact("order_paid", SHOP, new_id()),
        sequence=1,
        sink=house.pixel.sink,
        connection_id=house.pixel.connection_id,
        unit="order_paid.old",
        shop=SHOP,
    )
    gone.parked_at.FromSeconds(int(time.time()) - 31 * 86_400)
    await house.lot.park([gone])
    name = new_id()
    await house.park(name)

    async with house.draining():
        await until(lambda: _kind_is(house, "old", "DEAD"), "the old one is given up")

    assert await house.kinds(name) == [""]
    assert [one.unit for _, one in await house.lot.waiting(house.pixel.connection_id, limit=9)] == [
        f"order_paid.{name}"
    ]


async def test_what_is_younger_than_its_neighbours_in_the_queue_stays_when_those_are_given_up(
    house: House,
) -> None:
    await house.shut(OPERATOR)
    now_s = int(time.time())
    for name, age_s in (("o1", 31 * 86_400), ("young", 60), ("o2", 31 * 86_400)):
        reference = gate_pb2.ParkedUnit(
            subject=subjects.fact("order_paid", SHOP, new_id()),
            sequence=1,
            sink=house.pixel.sink,
            connection_id=house.pixel.connection_id,
            unit=f"order_paid.{name}",
            shop=SHOP,
        )
        reference.parked_at.FromSeconds(now_s - age_s)
        await house.lot.park([reference])

    async def left() -> list[str]:
        waiting = await house.lot.waiting(house.pixel.connection_id, limit=9)
        return [one.unit for _, one in waiting]

    async def old_ones_are_gone() -> bool:
        return not {"order_paid.o1", "order_paid.o2"} & set(await left())

    async with house.draining():
        await until(old_ones_are_gone, "the old ones have left the queue")

    assert await left() == ["order_paid.young"]
    assert await house.kinds("o1", "young", "o2") == ["DEAD", "", "DEAD"]


async def _kind_is(house: House, name: str, kind: str) -> bool:
    return await house.kinds(name) == [kind]


async def test_nothing_is_drained_while_a_run_of_dead_letters_has_stopped_the_work(
    house: House,
) -> None:
    for _ in range(1_000):
        house.burials.buried("order_paid", SHOP, "mapping")
    name = new_id()
    await house.park(name)

    async with house.draining():
        await until(lambda: house.lease.is_held, "the lease is held")
        await until(lambda: house.lot.is_behind(house.pixel.connection_id), "it is counted")
        await house.drainer._begin()
        await until(lambda: not house.drainer._draining, "it has had its look")
        stopped = len(house.tiktok.requests)
        house.burials.reset()
        await until(house.emptied, "the queue is empty")

    assert stopped == 0
    assert house.delivered == ids(name)


async def test_what_was_ended_before_is_not_sent_again(house: House) -> None:
    name = new_id()
    await house.park(name)
    await house.park(name)

    async with house.draining():
        await until(house.emptied, "the queue is empty")

    assert house.delivered == ids(name)


class _Follower(JetStreamLog):
    """A log whose nearest server has nothing yet of what its leader has."""

    async def read(self, subjects: Sequence[str]) -> dict[str, Stored]:
        return {}


async def test_a_fact_that_only_the_leader_has_is_not_taken_for_expired(house: House) -> None:
    name = new_id()
    await house.park(name)
    behind = _Follower(house.nats, subjects.COMMERCE, RandomIds(SystemClock()))
    house.drainer._yard = replace(house.drainer._yard, facts=behind)

    async with house.draining():
        await until(house.emptied, "the queue is empty")

    assert house.delivered == ids(name)


async def test_a_fact_that_has_expired_is_given_up_with_its_reason(house: House) -> None:
    gone = gate_pb2.ParkedUnit(
        subject=subjects.fact("order_paid", SHOP, new_id()),
        sequence=1,
        sink=house.pixel.sink,
        connection_id=house.pixel.connection_id,
        unit="order_paid.gone",
        shop=SHOP,
    )
    await house.lot.park([gone])

    async with house.draining():
        await until(house.emptied, "the queue is empty")

    assert await house.kinds("gone") == ["DEAD"]


async def test_one_replica_drains_at_a_time(nats: Client, house: House) -> None:
    other = House(nats, own=house.pixel, tiktok=house.tiktok)
    other.lease._subject = house.lease._subject
    await house.lease.hold()
    names = [new_id() for _ in range(3)]
    await house.park(*names)

    async with other.draining():
        await other.lot.count()
        await until(lambda: other.lot.is_behind(house.pixel.connection_id), "it sees the queue")
        idle = (len(house.tiktok.requests), other.lease.is_held)
        await house.lease.release(nats)
        await until(house.emptied, "the other one has taken over")

    assert idle == (0, False)
    assert house.delivered == ids(*names)


async def test_trouble_of_the_store_costs_time_and_nothing_else(house: House) -> None:
    name = new_id()
    await house.park(name)
    house.tiktok.troubles = [ServiceError(Kind.RETRYABLE, "nats_unavailable"), TIMEOUT]

    async with house.draining():
        await until(house.emptied, "the queue is empty")

    assert await house.kinds(name) == ["DELIVERED"]

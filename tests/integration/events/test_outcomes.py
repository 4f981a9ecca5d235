"""The outcome store: the first outcome stays, and every event is found by its id."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

import pytest

from libs.bus import streams, subjects
from libs.bus.api import ApiError
from libs.bus.commit_log import Entry, MemoryLog
from libs.bus.jetstream_log import JetStreamLog
from libs.clock import SystemClock
from libs.errors import Kind, ServiceError
from libs.foundation import connected
from libs.ids import RandomIds
from services.events.adapters.outcomes import OutcomeStore
from tests.fakes.nats_server import NatsServer
from tests.integration.rpc.rig import new_id
from tidewire.delivery.v1 import outcome_pb2

SINK: Final = "events.C1"
DELIVERED: Final = outcome_pb2.OUTCOME_KIND_DELIVERED
DEAD: Final = outcome_pb2.OUTCOME_KIND_DEAD
ATTEMPTED: Final = outcome_pb2.OUTCOME_KIND_ATTEMPTED


@pytest.fixture
async def store(nats_server: NatsServer) -> AsyncIterator[OutcomeStore]:
    client = await connected(nats_server.url)
    await streams.apply(client, scale_mib=16)
    yield OutcomeStore(client, JetStreamLog(client, subjects.OUTCOMES, RandomIds(SystemClock())))
    await client.close()


def outcome(
    shop: str,
    unit: str,
    *events: str,
    kind: outcome_pb2.OutcomeKind.ValueType = DELIVERED,
    sink: str = SINK,
) -> outcome_pb2.Outcome:
    made = [outcome_pb2.EventOutcome(event_id=one, kind=kind) for one in events]
    return outcome_pb2.Outcome(unit=unit, sink=sink, shop=shop, kind=kind, events=made)


async def test_the_first_outcome_of_a_unit_stays(store: OutcomeStore) -> None:
    shop = new_id()
    await store.record([outcome(shop, "u1", "e1")])

    await store.record([outcome(shop, "u1", "e1", kind=DEAD), outcome(shop, "u2", "e2")])

    assert [one.kind for one in await store.of_event(shop, "e1")] == [DELIVERED]
    assert [one.kind for one in await store.of_event(shop, "e2")] == [DELIVERED]


async def test_what_has_ended_is_known_by_sink_and_unit(store: OutcomeStore) -> None:
    shop = new_id()
    await store.record([outcome(shop, "u1", "e1")])

    asked = [(SINK, "u1"), (SINK, "u2"), ("events.C2", "u1")]

    found = await store.known(shop, asked)

    assert {pair: one.ended for pair, one in found.items()} == {(SINK, "u1"): True}


async def test_a_try_is_known_and_is_no_end(store: OutcomeStore) -> None:
    shop = new_id()

    await store.attempt([outcome(shop, "u1", "e1", kind=ATTEMPTED)], {})

    found = await store.known(shop, [(SINK, "u1")])
    assert [one.ended for one in found.values()] == [False]
    assert await store.of_event(shop, "e1") == []


async def test_the_end_takes_the_place_of_the_try_and_stays(store: OutcomeStore) -> None:
    shop = new_id()
    tried = await store.attempt([outcome(shop, "u1", "e1", kind=ATTEMPTED)], {})

    await store.record([outcome(shop, "u1", "e1")], tried)
    again = await store.attempt([outcome(shop, "u1", "e1", kind=ATTEMPTED)], {})
    await store.record([outcome(shop, "u1", "e1", kind=DEAD)], tried)

    assert again == {}
    assert [one.kind for one in await store.of_event(shop, "e1")] == [DELIVERED]


async def test_the_first_note_of_a_try_stays_and_whoever_comes_second_reads_it_first(
    store: OutcomeStore,
) -> None:
    shop = new_id()
    noted = outcome(shop, "u1", "e1", kind=ATTEMPTED)
    noted.first_attempt_at.FromSeconds(1_790_000_000)
    await store.attempt([noted], {})

    with pytest.raises(ServiceError, match="contended"):
        await store.attempt([outcome(shop, "u1", "e1", kind=ATTEMPTED)], {})

    found = await store.known(shop, [(SINK, "u1")])
    assert found[SINK, "u1"].outcome.first_attempt_at.seconds == 1_790_000_000


async def test_who_noted_a_try_may_note_what_a_part_of_it_came_to(store: OutcomeStore) -> None:
    shop = new_id()
    note = outcome(shop, "u1", "e1", "e2", kind=ATTEMPTED)
    note.first_attempt_at.FromSeconds(1_790_000_000)
    known = await store.attempt([note], {})
    told = outcome_pb2.Outcome()
    told.CopyFrom(note)
    told.events[0].kind = DELIVERED

    corrected = await store.attempt([told], known)
    await store.record([outcome(shop, "u1", "e1", "e2")], corrected)

    assert corrected[SINK, "u1"].outcome.events[0].kind == DELIVERED
    assert (await store.known(shop, [(SINK, "u1")]))[SINK, "u1"].ended


async def test_a_try_knows_where_it_stands_among_many(store: OutcomeStore) -> None:
    shop = new_id()
    many = [outcome(shop, f"u{n}", kind=ATTEMPTED) for n in range(1_100)]

    pairs = [(SINK, f"u{n}") for n in range(1_100)]

    tried = await store.attempt(many, {})
    noted = await store.known(shop, pairs)
    await store.record([outcome(shop, f"u{n}") for n in range(1_100)], tried)

    assert {pair: one.sequence for pair, one in tried.items()} == {
        pair: one.sequence for pair, one in noted.items()
    }
    found = await store.known(shop, pairs)
    assert len(found) == 1_100
    assert all(one.ended for one in found.values())


async def test_an_event_has_an_outcome_for_each_pixel_and_in_its_own_shop_only(
    store: OutcomeStore,
) -> None:
    shop = new_id()
    await store.record([outcome(shop, "u", "e"), outcome(shop, "u", "e", sink="events.C2")])

    assert {one.sink for one in await store.of_event(shop, "e")} == {SINK, "events.C2"}
    assert await store.of_event(new_id(), "e") == []


@pytest.mark.parametrize("count", [499, 500, 1000])
async def test_every_event_of_a_large_unit_is_found(store: OutcomeStore, count: int) -> None:
    shop = new_id()
    ids = [f"e{number}" for number in range(count)]

    await store.record([outcome(shop, "u0", "x"), outcome(shop, "u1", *ids), outcome(shop, "u2")])

    found = await store.known(shop, [(SINK, f"u{n}") for n in range(4)])
    assert set(found) == {(SINK, f"u{n}") for n in range(3)}
    for one in (ids[0], ids[count // 2], ids[-1]):
        assert [which.unit for which in await store.of_event(shop, one)] == ["u1"]


async def test_outcomes_are_read_on_from_a_sequence_without_the_index(store: OutcomeStore) -> None:
    shop = new_id()
    begun = SystemClock().now_ns()
    await store.record([outcome(shop, "u1", "e1", "e2")])
    await store.record([outcome(shop, "u2", "e3")])

    await store.attempt([outcome(shop, "u3", "e4", kind=ATTEMPTED)], {})

    found = [(place, one.unit) async for place, one in store.after(await store.sequence_at(begun))]
    rest = [one.unit async for _, one in store.after(found[0][0])]

    assert [unit for _, unit in found] == ["u1", "u2"]
    assert rest == ["u2"]


class FullLog(MemoryLog):
    """A stream that has no room left."""

    async def commit(self, entries: Sequence[Entry]) -> int:
        raise ApiError("a batch of OUTCOMES", 10077, "maximum bytes exceeded")


async def test_a_stream_without_room_is_trouble_that_waits(nats_server: NatsServer) -> None:
    client = await connected(nats_server.url)

    with pytest.raises(ServiceError) as caught:
        await OutcomeStore(client, FullLog()).record([outcome("s", "u", "e")])

    await client.close()
    assert (caught.value.kind, caught.value.code) == (Kind.RETRYABLE, "refused_by_nats")

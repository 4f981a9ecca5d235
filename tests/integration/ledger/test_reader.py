"""The ledger of a real server: each unit is found where the server holds it, or reported lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import pytest
from nats.aio.client import Client

from libs.bus import subjects
from libs.bus.publisher import publish
from libs.errors import ServiceError
from libs.ledger import LANE, PARKED, Ledger, LedgerReader, Reading, Scope, read_ledger
from libs.ledger.parked import ParkedUnits
from tests.fakes.nats_server import NatsServer
from tests.integration.ledger.world import OTHER, SHOP, SINK, World, new_world
from tidewire.delivery.v1 import outcome_pb2

ATTEMPTED = outcome_pb2.OUTCOME_KIND_ATTEMPTED
IGNORED = outcome_pb2.OUTCOME_KIND_IGNORED


async def ledger_of(world: World) -> Ledger:
    return (await read_ledger(world.nats, world.clock)).total()


def reader_of(world: World) -> LedgerReader:
    return LedgerReader(world.nats, world.clock)


def lost(reading: Reading) -> list[str]:
    return [key.unit for key, _ in reading.placement.lost]


async def test_a_fact_that_nobody_reads_yet_is_in_its_lane(world: World) -> None:
    await world.deliver("1")

    found = await ledger_of(world)

    assert (found.in_flight, found.unaccounted) == ({LANE: 1}, 0)
    assert found.balanced


async def test_a_fact_is_in_its_lane_until_its_outcome_is_stored(world: World) -> None:
    unit = await world.deliver("1")
    await world.open_lane()
    reader = reader_of(world)

    waiting = (await reader.read()).total()
    [message] = await world.take(1)
    in_hand = (await reader.read()).total()
    await world.end(unit, ATTEMPTED)
    attempted = (await reader.read()).total()
    await world.end(unit)
    ended = (await reader.read()).total()
    await message.ack_sync()
    acknowledged = (await reader.read()).total()

    assert waiting.in_flight == in_hand.in_flight == attempted.in_flight == {LANE: 1}
    assert ended == acknowledged
    assert (ended.received, ended.delivered, ended.in_flight.total()) == (1, 1, 0)
    assert ended.balanced


@pytest.mark.parametrize("recorded", [None, ATTEMPTED])
async def test_a_fact_that_was_acknowledged_without_an_end_is_unaccounted(
    world: World, recorded: outcome_pb2.OutcomeKind.ValueType | None
) -> None:
    unit = await world.deliver("1")
    await world.open_lane()
    if recorded is not None:
        await world.end(unit, recorded)
    [message] = await world.take(1)
    await message.ack_sync()

    found = await ledger_of(world)

    assert (found.received, found.ended, found.unaccounted) == (1, 0, 1)
    assert found.in_flight.total() == 0
    assert not found.balanced


async def test_one_that_was_acknowledged_among_others_in_hand_is_missed(world: World) -> None:
    for number in range(4):
        await world.deliver(str(number))
    await world.open_lane()
    taken = await world.take(3)

    # The first is still in hand, so that the server's floor does not pass the second.
    await taken[1].ack_sync()
    found = await ledger_of(world)

    assert (found.in_flight, found.unaccounted) == ({LANE: 3}, 1)


async def test_what_is_acknowledged_while_other_facts_of_its_delivery_follow_is_missed(
    world: World,
) -> None:
    await world.deliver("1", also=("order_edited", "fulfillment_changed"))
    await world.open_lane()
    [message] = await world.take(1)

    in_hand = await ledger_of(world)
    await message.ack_sync()
    acknowledged = await ledger_of(world)

    assert (in_hand.in_flight, in_hand.unaccounted) == ({LANE: 1}, 0)
    assert (acknowledged.in_flight.total(), acknowledged.unaccounted) == (0, 1)


async def test_a_fact_that_waits_is_found_although_the_marker_before_it_has_expired(
    world: World,
) -> None:
    done = await world.deliver("1")
    await world.open_lane()
    [message] = await world.take(1)
    await world.end(done)
    await message.ack_sync()
    await world.remove(subjects.COMMERCE, await world.sequence_of(done) + 1)
    await world.deliver("2")

    found = await ledger_of(world)

    assert (found.received, found.in_flight, found.unaccounted) == (1, {LANE: 1}, 0)


async def test_a_fact_that_vanished_before_anybody_saw_it_is_unaccounted(world: World) -> None:
    unit = await world.deliver("1")
    await world.deliver("2")
    await world.open_lane()

    await world.remove(subjects.COMMERCE, await world.sequence_of(unit))
    reading = await reader_of(world).read()

    assert lost(reading) == [unit]
    assert reading.total().in_flight == {LANE: 1}


async def test_a_parked_unit_is_in_flight_until_it_ends(world: World) -> None:
    unit = await world.deliver("1")
    await world.open_lane()
    reader = reader_of(world)
    [message] = await world.take(1)
    reference = await world.park(unit)
    await message.ack_sync()

    parked = (await reader.read()).total()
    await world.end(unit, IGNORED, reason="too_old")
    await world.remove(subjects.PARKED, reference)
    ended = (await reader.read()).total()

    assert (parked.in_flight, parked.unaccounted) == ({PARKED: 1}, 0)
    assert (ended.ignored, ended.in_flight.total()) == ({"too_old": 1}, 0)


@pytest.mark.parametrize("removed", [{0}, {0, 1}, {1}, {2}, {0, 1, 2}])
async def test_a_reference_that_is_removed_excuses_nothing(world: World, removed: set[int]) -> None:
    units = [await world.deliver(str(number)) for number in range(3)]
    await world.open_lane()
    reader = reader_of(world)
    for message in await world.take(3):
        await message.ack_sync()
    references = [await world.park(unit) for unit in units]
    everything = (await reader.read()).total()

    for number in removed:
        await world.remove(subjects.PARKED, references[number])
    reading = await reader.read()

    assert everything.in_flight == {PARKED: 3}
    assert set(lost(reading)) == {units[number] for number in removed}


async def test_a_unit_that_was_parked_twice_is_parked_until_both_references_are_gone(
    world: World,
) -> None:
    unit = await world.deliver("1")
    await world.open_lane()
    reader = reader_of(world)
    [message] = await world.take(1)
    await message.ack_sync()
    first, second = await world.park(unit), await world.park(unit)

    await reader.read()
    await world.remove(subjects.PARKED, first)
    one_left = await reader.read()
    await world.remove(subjects.PARKED, second)
    none_left = await reader.read()

    assert one_left.total().in_flight == {PARKED: 1}
    assert lost(none_left) == [unit]


async def test_two_sinks_of_one_fact_end_each_in_its_own_way(world: World) -> None:
    unit = await world.deliver("1", to=(SINK, OTHER))
    await world.open_lane()
    [message] = await world.take(1)
    await world.end(unit)
    await world.park(unit, OTHER)
    await message.ack_sync()

    reading = await reader_of(world).read()

    assert reading.total().in_flight == {PARKED: 1}
    assert reading.total(Scope(sink=SINK)).delivered == 1
    assert reading.total(Scope(sink=OTHER)).in_flight == {PARKED: 1}
    assert (reading.total().received, reading.total().deliveries) == (2, 1)


async def test_an_outcome_that_was_read_long_before_its_marker_is_found_by_name(
    world: World,
) -> None:
    reader = reader_of(world)
    await world.end("order_paid.1")
    for _ in range(3):
        await reader.read()

    await world.deliver("1")
    await world.open_lane()
    [message] = await world.take(1)
    await message.ack_sync()
    found = (await reader.read()).total()

    assert (found.delivered, found.unaccounted) == (1, 0)


async def test_since_when_it_does_not_balance_is_kept_until_it_does(world: World) -> None:
    unit = await world.deliver("1")
    await world.open_lane()
    reader = reader_of(world)
    before = await reader.read()
    [message] = await world.take(1)
    await message.ack_sync()

    first = await reader.read()
    world.clock.advance(60)
    second = await reader.read()
    await world.end(unit)
    after = await reader.read()

    assert before.unbalanced_since_ns is None
    assert first.unbalanced_since_ns is not None
    assert second.unbalanced_since_ns == first.unbalanced_since_ns
    assert second.read_at_ns - second.unbalanced_since_ns >= 60_000_000_000
    assert after.unbalanced_since_ns is None


async def test_what_is_no_unit_yet_is_counted_beside_the_ledger(world: World) -> None:
    for number in range(2):
        await publish(world.nats, subjects.webhook("shopify"), b"s", message_id=str(number))
    await world.park_delivery("stranger")
    await world.park("order_paid.1")

    reading = await reader_of(world).read()

    assert (reading.unnormalised_segments, reading.parked_deliveries) == (2, 1)
    assert reading.total() == Ledger()


async def test_a_reader_that_follows_says_what_one_that_begins_now_says(world: World) -> None:
    await world.open_lane()
    follower = reader_of(world)

    for number in range(6):
        unit = await world.deliver(str(number), to=(SINK, OTHER))
        await world.deliver_nothing(f"n{number}", "stale")
        await follower.read()
        await world.end(unit, ATTEMPTED)
        if number % 2:
            await world.end(unit)
        if number % 3 == 0:
            await world.end(unit, IGNORED, sink=OTHER, reason="too_old")
        await follower.read()
    followed, fresh = await follower.read(), await reader_of(world).read()

    assert followed.rows() == fresh.rows()
    assert followed.total() == fresh.total()
    assert followed.total().received == 18
    assert followed.total().balanced
    assert dict(followed.books.units()).keys() == dict(fresh.books.units()).keys()


async def test_markers_on_the_day_of_their_expiry_are_not_counted_by_any_reader(
    world: World,
) -> None:
    await world.deliver("1")
    await world.deliver_nothing("2", "stale")
    follower = reader_of(world)
    known = (await follower.read()).total()

    # All of the day on which the oldest living marker was stored is left out: it may be half.
    world.clock.advance(72 * 3_600)
    followed, fresh = await follower.read(), await reader_of(world).read()

    assert known.received == 2
    assert followed.total() == fresh.total() == Ledger()
    assert followed.read_at_ns - followed.known_since_ns < 72 * 3_600_000_000_000


async def test_a_stream_that_was_made_anew_is_read_from_its_beginning(
    world: World, nats_server: NatsServer
) -> None:
    reader = reader_of(world)
    for number in range(3):
        await world.deliver(str(number))
    await reader.read()

    again = await new_world(world.nats, nats_server)
    await again.deliver_nothing("other", "stale")
    found = (await reader.read()).total()

    assert (found.received, found.ignored) == (1, {"stale": 1})


async def test_with_too_much_on_its_way_the_ledger_says_so_and_recovers(world: World) -> None:
    units = [await world.deliver(str(number)) for number in range(21)]
    reader = LedgerReader(world.nats, world.clock, open_max=10)

    with pytest.raises(ServiceError) as caught:
        await reader.read()
    for unit in units[:15]:
        await world.end(unit)
    found = (await reader.read()).total()

    # More of them were on their way at once than can be kept, but no longer are.
    assert caught.value.code == "ledger_full"
    assert (found.received, found.delivered, found.in_flight) == (21, 15, {LANE: 6})


async def test_the_shop_is_in_the_lane_that_is_read(world: World) -> None:
    await world.open_lane()
    await world.deliver("1")

    [message] = await world.take(1)

    assert message.subject == subjects.fact("order_paid", SHOP, "1")


class MovingParked(ParkedUnits):
    """What is parked, while a unit is being parked right after each look at it."""

    def __init__(self, nats: Client, move: Callable[[], Awaitable[None]]) -> None:
        super().__init__(nats)
        self._move = move

    async def refresh(self) -> None:
        await super().refresh()
        await self._move()


class MovingReader(LedgerReader):
    """A reader in whose back a unit moves on after each of its reads."""

    def __init__(self, world: World, moves: Mapping[str, Callable[[], Awaitable[None]]]) -> None:
        self._moves = moves
        super().__init__(world.nats, world.clock)

    def _begin_anew(self, created: str) -> None:
        super()._begin_anew(created)
        if "parked" in self._moves:
            self._parked = MovingParked(self._nats, self._moves["parked"])

    async def _follow(self, since_ns: int) -> None:
        await super()._follow(since_ns)
        if "followed" in self._moves:
            await self._moves["followed"]()


async def test_what_ends_after_the_outcomes_were_read_was_still_in_its_lane(world: World) -> None:
    units = [await world.deliver(str(number)) for number in range(5)]
    await world.open_lane()
    taken = dict(zip(units, await world.take(5), strict=True))

    async def end_one() -> None:
        unit, message = taken.popitem()
        await world.end(unit)
        await message.ack_sync()

    found = (await MovingReader(world, {"followed": end_one}).read()).total()

    assert (found.in_flight, found.unaccounted) == ({LANE: 5}, 0)


async def test_what_is_parked_after_the_parked_were_read_was_still_in_its_lane(
    world: World,
) -> None:
    units = [await world.deliver(str(number)) for number in range(5)]
    await world.open_lane()
    taken = dict(zip(units, await world.take(5), strict=True))

    async def park_one() -> None:
        unit, message = taken.popitem()
        await world.park(unit)
        await message.ack_sync()

    found = (await MovingReader(world, {"parked": park_one}).read()).total()

    assert (found.in_flight, found.unaccounted) == ({LANE: 5}, 0)


async def test_what_leaves_the_parked_after_they_were_read_has_its_outcome(world: World) -> None:
    units = [await world.deliver(str(number)) for number in range(5)]
    await world.open_lane()
    for message in await world.take(5):
        await message.ack_sync()
    parked = {unit: await world.park(unit) for unit in units}

    async def drain_one() -> None:
        unit, reference = parked.popitem()
        await world.end(unit)
        await world.remove(subjects.PARKED, reference)

    found = (await MovingReader(world, {"parked": drain_one}).read()).total()

    assert (found.in_flight, found.delivered, found.unaccounted) == ({PARKED: 4}, 1, 0)


async def test_while_units_move_on_none_of_them_is_ever_missed(world: World) -> None:
    await world.open_lane()
    reader = reader_of(world)
    working = asyncio.create_task(_work(world, 150))

    readings = 0
    while not working.done():
        found = (await reader.read()).total()
        assert found.balanced
        readings += 1
    await working
    last = (await reader.read()).total()

    assert readings > 10
    assert (last.received, last.delivered, last.in_flight.total()) == (150, 150, 0)


async def _work(world: World, count: int) -> None:
    """Each unit goes the ways that a unit may go: lane, sometimes PARKED, outcome."""
    parked: list[tuple[str, int]] = []
    for number in range(count):
        unit = await world.deliver(str(number))
        [message] = await world.take(1)
        if number % 3 == 0:
            parked.append((unit, await world.park(unit)))
            await message.ack_sync()
        else:
            await world.end(unit, ATTEMPTED)
            await world.end(unit)
            await message.ack_sync()
        if len(parked) == 5:
            for waiting, reference in parked:
                await world.end(waiting)
                await world.remove(subjects.PARKED, reference)
            parked.clear()

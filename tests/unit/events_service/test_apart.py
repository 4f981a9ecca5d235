"""An event that makes TikTok fail each time, among others of its unit."""

from __future__ import annotations

from libs.errors import Kind, ServiceError
from services.events.domain.answers import RefusedError
from services.events.domain.settings import DialectName
from tests.unit.events_service.fakes import (
    UNREACHABLE,
    cart_grew,
    event,
    order_paid,
    pixel,
    tracked,
    unit,
)
from tests.unit.events_service.house import House
from tidewire.commerce.v1 import fact_pb2
from tidewire.delivery.v1 import outcome_pb2

DELIVERED = outcome_pb2.OUTCOME_KIND_DELIVERED
DEAD = outcome_pb2.OUTCOME_KIND_DEAD
SICK = RefusedError(Kind.RETRYABLE, 50000, "R0", None, "")
C1 = "example.events.C1"
PAIR = ("events.C1", "events_tracked.1")


def three() -> fact_pb2.Fact:
    return tracked(event("a"), event("sick"), event("c"))


async def tried(house: House, fact: fact_pb2.Fact, *, times: int, first: int = 0) -> None:
    for attempts in range(first, first + times):
        one = unit(fact, "1", attempts=attempts, redelivered=attempts > 0)
        one.tried_here = attempts > 0
        await house.handle(one)


async def test_the_neighbours_of_a_sickening_event_in_its_unit_are_delivered_once() -> None:
    house = House()
    house.tiktok.sickening = frozenset({"sick"})

    await tried(house, three(), times=9)

    assert sorted(house.tiktok.delivered[C1]) == ["a", "c"]
    last = house.tiktok.requests[-1]
    assert [one.event_id for one in last.conversions] == ["sick"]


async def test_one_sickening_event_among_forty_of_a_unit_is_found_in_a_few_tries() -> None:
    house = House()
    house.tiktok.sickening = frozenset({"e17"})
    fact = tracked(*(event(f"e{n}") for n in range(40)))

    await tried(house, fact, times=8)

    assert sorted(house.tiktok.delivered[C1]) == sorted(f"e{n}" for n in range(40) if n != 17)


async def test_lines_of_a_cart_are_told_apart_too() -> None:
    house = House()
    fact = cart_grew("401", "402", "403")
    await house.handle(unit(fact, "0"))
    ids = house.tiktok.delivered.pop(C1)
    house.tiktok.sickening = frozenset(ids[:1])

    await tried(house, fact, times=8)

    assert sorted(house.tiktok.delivered[C1]) == sorted(ids[1:])


async def test_giving_up_condemns_the_sickening_event_alone() -> None:
    house = House()
    house.tiktok.sickening = frozenset({"sick"})
    await tried(house, three(), times=9)

    await house.bury(unit(three(), "1", attempts=9, redelivered=True), SICK)

    outcome, [letter] = house.outcome(name="events_tracked.1"), house.letters.letters
    assert (outcome.kind, outcome.reason) == (DEAD, "exhausted/upstream_50000")
    assert [(one.event_id, one.kind, one.reason) for one in outcome.events] == [
        ("a", DELIVERED, ""),
        ("sick", DEAD, "upstream_50000"),
        ("c", DELIVERED, ""),
    ]
    assert outcome.events[0].upstream_request_id
    assert letter.event_ids == ["sick"]


async def test_giving_up_keeps_the_code_with_which_a_neighbour_was_refused() -> None:
    house = House()
    house.tiktok.sickening, house.tiktok.bad = frozenset({"sick"}), frozenset({"c"})
    await tried(house, three(), times=9)
    refused = len([one for one in house.tiktok.requests if one.conversions[0].event_id == "c"])

    await house.bury(unit(three(), "1", attempts=9, redelivered=True), SICK)

    events = house.outcome(name="events_tracked.1").events
    assert [(one.kind, one.reason, one.upstream_code) for one in events] == [
        (DELIVERED, "", 0),
        (DEAD, "upstream_50000", 50000),
        (DEAD, "upstream_40002", 40002),
    ]
    assert house.letters.letters[0].event_ids == ["sick", "c"]
    assert refused == 1


async def test_a_neighbour_that_was_refused_keeps_that_end_when_the_rest_gets_through() -> None:
    house = House()
    house.tiktok.sickening, house.tiktok.bad = frozenset({"sick"}), frozenset({"c"})
    await tried(house, three(), times=5)
    house.tiktok.sickening, house.tiktok.bad = frozenset(), frozenset()

    await tried(house, three(), times=1, first=5)

    outcome = house.outcome(name="events_tracked.1")
    assert [one.kind for one in outcome.events] == [DELIVERED, DELIVERED, DEAD]
    assert outcome.reason == "permanent/upstream_40002"


async def test_a_try_that_leaves_in_several_requests_is_noted_once() -> None:
    house = House()

    await tried(house, three(), times=1, first=5)

    assert len(house.tiktok.requests) > 1
    assert [(one.unit, len(one.events)) for one in house.outcomes.tries] == [(PAIR[1], 3)]


async def test_a_failure_that_settles_nothing_is_noted_no_further() -> None:
    house = House()
    house.tiktok.sickening = frozenset({"sick"})

    await tried(house, tracked(event("sick")), times=5)

    assert len(house.outcomes.tries) == 1


async def test_a_try_of_which_a_part_arrived_is_not_forgotten() -> None:
    house = House()
    house.tiktok.troubles = [None, UNREACHABLE, None]

    await tried(house, three(), times=1, first=5)

    note = house.outcomes.tried[PAIR]
    assert note.HasField("first_attempt_at")
    assert [bool(one.kind) for one in note.events].count(True) == len(note.events) - 1


async def test_a_note_that_cannot_be_corrected_holds_up_no_outcome() -> None:
    house = House()
    house.outcomes.note_trouble = ServiceError(Kind.RETRYABLE, "contended")
    house.tiktok.sickening = frozenset({"sick"})
    units = [unit(three(), "1", attempts=5), unit(order_paid("2"), "2", attempts=5)]

    results = await house.handle(*units)

    assert [one.code if one else "" for one in results] == ["upstream_50000", ""]
    assert house.outcome(name="order_paid.2").kind == DELIVERED


async def test_a_unit_of_bad_events_alone_ends_though_each_look_at_it_is_bounded() -> None:
    house = House()
    ids = [f"e{n}" for n in range(200)]
    house.tiktok.bad, house.tiktok.named = frozenset(ids), True
    house.tiktok.clock, house.tiktok.takes_s = house.clock, 0.1
    one = unit(tracked(*map(event, ids)), "1")

    looks = 0
    while PAIR not in house.outcomes.kept:
        looks += 1
        assert looks < 10
        await house.handle(one)

    assert looks == 4
    assert [dead.reason for dead in house.outcome(name=PAIR[1]).events] == ["upstream_40002"] * 200


async def test_a_unit_of_which_a_part_was_refused_waits_for_the_rest_longer_than_47_hours() -> None:
    house = House(pixel(dialect=DialectName.PIXEL_TRACK))
    house.tiktok.bad, house.tiktok.named = frozenset({"sick"}), True
    house.tiktok.troubles = [None, None, UNREACHABLE]
    await tried(house, three(), times=1)
    house.clock.advance(60 * 3600)
    house.tiktok.bad = frozenset()

    await tried(house, three(), times=1, first=1)

    outcome = house.outcome(name=PAIR[1])
    assert [one.kind for one in outcome.events] == [DELIVERED, DEAD, DELIVERED]
    assert outcome.reason == "permanent/upstream_40002"
    assert sorted(house.tiktok.delivered[C1]) == ["a", "c"]
    # Who crashes before the next try is over knows it too.
    assert [one.kind for one in house.outcomes.tries[-1].events] == [0, DEAD, 0]

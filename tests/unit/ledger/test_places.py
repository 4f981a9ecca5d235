"""A unit that has not ended is found at its place, or it is lost; it is never just assumed."""

from __future__ import annotations

from libs import sinks
from libs.ledger import LANE, PARKED, Books, RowKey, UnitKey
from libs.ledger.places import Placement
from libs.ledger.reader import DURABLES
from tests.unit.ledger.samples import (
    NOON_NS,
    OTHER,
    SHOP,
    SINK,
    TODAY,
    lane_state,
    marker,
    placed,
    share,
)

ROW = RowKey(SHOP, SINK, TODAY)


def books_of(*units: str, sinks: tuple[str, ...] = (SINK,)) -> Books:
    """Each unit's fact at 10, 20, …, its marker right behind it."""
    books = Books()
    for number, unit in enumerate(units, start=1):
        books.add_marker(10 * number - 1, NOON_NS, marker(share(ignored="other")))
        shares = [share(sink, unit) for sink in sinks]
        received_ns = NOON_NS + number
        books.add_marker(10 * number + 1, NOON_NS, marker(*shares, received_ns=received_ns))
    return books


def lost(made: Placement) -> list[str]:
    return [key.unit for key, _ in made.lost]


def doubtful(made: Placement) -> set[str]:
    return {key.unit for key, _ in made.doubtful}


def test_a_fact_behind_what_was_delivered_is_in_its_lane() -> None:
    made = placed(books_of("k.1", "k.2"), lane_state(floor=9, delivered=9, waiting=2))

    assert made.in_flight == {ROW: {LANE: 2}}
    assert (made.lost, made.doubtful) == ([], [])


def test_a_fact_in_hand_is_in_its_lane() -> None:
    made = placed(books_of("k.1", "k.2"), lane_state(floor=9, delivered=20, in_hand=2))

    assert made.in_flight == {ROW: {LANE: 2}}
    assert (made.lost, made.doubtful) == ([], [])


def test_a_fact_that_was_acknowledged_without_an_outcome_is_lost() -> None:
    made = placed(books_of("k.1", "k.2"), lane_state(floor=10, delivered=20, in_hand=1))

    assert lost(made) == ["k.1"]
    assert doubtful(made) == {"k.1"}
    assert made.in_flight == {ROW: {LANE: 1}}


def test_of_more_facts_than_the_server_has_in_hand_the_surplus_is_lost_oldest_first() -> None:
    books = books_of("k.1", "k.2", "k.3")

    made = placed(books, lane_state(floor=9, delivered=30, in_hand=1))

    assert lost(made) == ["k.1", "k.2"]
    assert doubtful(made) == {"k.1", "k.2", "k.3"}
    assert made.unaccounted() == {ROW: 2}


def test_one_fact_that_two_sinks_wait_for_is_one_message_in_hand() -> None:
    books = books_of("k.1", sinks=(SINK, OTHER))

    held = placed(books, lane_state(floor=9, delivered=10, in_hand=1))
    none = placed(books, lane_state(floor=9, delivered=10, in_hand=0))

    assert held.in_flight == {ROW: {LANE: 1}, RowKey(SHOP, OTHER, TODAY): {LANE: 1}}
    assert none.unaccounted() == {ROW: 1, RowKey(SHOP, OTHER, TODAY): 1}


def test_more_facts_than_the_server_counts_as_waiting_are_asked_for_by_name() -> None:
    made = placed(books_of("k.1", "k.2"), lane_state(floor=9, delivered=9, waiting=1))

    assert doubtful(made) == {"k.1", "k.2"}
    assert made.lost == []


def test_a_fact_published_after_the_lanes_were_asked_need_not_be_among_those_counted() -> None:
    state = lane_state(floor=9, delivered=9, waiting=1)

    made = placed(books_of("k.1", "k.2"), state, known_to=15)

    assert made.doubtful == []
    assert made.in_flight == {ROW: {LANE: 2}}


def test_a_parked_unit_is_in_flight_although_its_lane_is_done_with_it() -> None:
    books = books_of("k.1", "k.2")
    parked = frozenset({UnitKey(SHOP, SINK, "k.1")})

    made = placed(books, lane_state(floor=20, delivered=20), parked=parked)

    assert made.in_flight == {ROW: {PARKED: 1}}
    assert lost(made) == ["k.2"]


def test_a_parked_unit_of_one_sink_does_not_excuse_the_other() -> None:
    books = books_of("k.1", sinks=(SINK, OTHER))
    parked = frozenset({UnitKey(SHOP, SINK, "k.1")})

    made = placed(books, lane_state(floor=20, delivered=20), parked=parked)

    assert made.unaccounted() == {RowKey(SHOP, OTHER, TODAY): 1}


def test_a_fact_that_has_vanished_from_the_stream_waits_nowhere() -> None:
    books = books_of("k.1")
    unit = books.find(UnitKey(SHOP, SINK, "k.1"))
    assert unit is not None
    unit.checked = unit.gone = True

    made = placed(books, lane_state(waiting=1))

    assert lost(made) == ["k.1"]


def test_what_was_asked_for_by_name_is_not_asked_for_again() -> None:
    books = books_of("k.1")
    unit = books.find(UnitKey(SHOP, SINK, "k.1"))
    assert unit is not None
    unit.checked = True

    passed = placed(books, lane_state(floor=20, delivered=20))
    surplus = placed(books, lane_state(floor=9, delivered=20))
    uncounted = placed(books, lane_state(floor=9, delivered=9))

    assert (lost(passed), passed.doubtful) == (["k.1"], [])
    assert (lost(surplus), surplus.doubtful) == (["k.1"], [])
    assert (lost(uncounted), uncounted.doubtful) == ([], [])


def test_a_sink_of_a_service_that_reads_no_lane_waits_nowhere() -> None:
    made = placed(books_of("k.1", sinks=("unknown.X",)), lane_state(waiting=1))

    assert lost(made) == ["k.1"]


def test_the_lanes_of_every_service_that_uses_facts_are_known() -> None:
    assert DURABLES.keys() == sinks._BY_SERVICE.keys()


def test_the_place_and_the_age_of_the_oldest_are_kept() -> None:
    books = books_of("k.1", "k.2")

    made = placed(books, lane_state(floor=10, delivered=20, in_hand=1))

    places = {key.unit: unit.place for key, unit in books.units()}
    assert places == {"k.1": "", "k.2": LANE}
    assert made.oldest_ns == NOON_NS + 1
    assert made.places == {LANE: 1}


def test_nothing_open_is_nothing_in_flight() -> None:
    made = placed(Books(), lane_state(waiting=5, in_hand=5))

    assert (made.in_flight, made.lost, made.doubtful, made.oldest_ns) == ({}, [], [], None)

"""The fold: each unit is counted once, by how it ended, on its day, and open until then."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.ledger import EVERYTHING, Books, Ledger, RowKey, Scope, UnitKey
from tests.unit.ledger.samples import (
    ATTEMPTED,
    DEAD,
    DELIVERED,
    HOUR_NS,
    IGNORED,
    NOON_NS,
    OTHER,
    SHOP,
    SINK,
    TODAY,
    UNCERTAIN,
    marker,
    outcome,
    share,
)
from tidewire.commerce.v1 import record_pb2
from tidewire.delivery.v1 import outcome_pb2

Message = record_pb2.SeenRecord | outcome_pb2.Outcome

MIDNIGHT_NS = (TODAY + 1) * 24 * HOUR_NS


def books_of(*messages: Message, stored_ns: int = NOON_NS) -> Books:
    books = Books()
    for place, message in enumerate(messages, start=1):
        if isinstance(message, outcome_pb2.Outcome):
            books.add_outcome(message)
        else:
            books.add_marker(2 * place, stored_ns, message)
    return books


def sum_of(books: Books, scope: Scope = EVERYTHING) -> Ledger:
    total = Ledger()
    for row in books.rows(scope).values():
        total.add(row)
    return total


def test_units_are_counted_by_how_they_ended() -> None:
    books = books_of(
        marker(share(unit="k.1")),
        marker(share(unit="k.2")),
        marker(share(unit="k.3")),
        marker(share(unit="k.4")),
        marker(share(ignored="stale")),
        marker(share(), reason="not_json"),
        outcome("k.1"),
        outcome("k.2", UNCERTAIN),
        outcome("k.3", IGNORED, reason="test_order"),
        outcome("k.4", DEAD, reason="permanent/upstream_40002"),
    )

    found = sum_of(books)

    assert (found.received, found.delivered, found.delivered_uncertain) == (6, 1, 1)
    assert found.ignored == {"stale": 1, "test_order": 1}
    assert found.dead == {"not_json": 1, "permanent/upstream_40002": 1}
    assert found.balanced
    assert books.open_count == 0


def test_a_unit_that_was_only_tried_is_open() -> None:
    books = books_of(marker(share(unit="k.1")), outcome("k.1", ATTEMPTED, attempts=3))

    unit = books.find(UnitKey(SHOP, SINK, "k.1"))

    assert sum_of(books).ended == 0
    assert unit is not None
    assert unit.attempts == 3


def test_the_terminal_outcome_replaces_the_attempts_before_it() -> None:
    books = books_of(
        marker(share(unit="k.1")),
        outcome("k.1", ATTEMPTED),
        outcome("k.1", ATTEMPTED, attempts=2),
        outcome("k.1", DELIVERED, attempts=2),
    )

    assert (sum_of(books).delivered, books.open_count) == (1, 0)


def test_two_sinks_of_one_delivery_end_each_in_its_own_way() -> None:
    books = books_of(
        marker(share(SINK, "k.1"), share(OTHER, "k.1")),
        outcome("k.1", DELIVERED),
        outcome("k.1", DEAD, sink=OTHER, reason="maybe_sent"),
    )

    rows = books.rows(EVERYTHING)

    assert rows[RowKey(SHOP, SINK, TODAY)].delivered == 1
    assert rows[RowKey(SHOP, OTHER, TODAY)].dead == {"maybe_sent": 1}
    assert sum_of(books).received == 2
    assert books.deliveries(EVERYTHING) == 1


@pytest.mark.parametrize(("off_ns", "day"), [(-1, TODAY), (0, TODAY + 1)])
def test_a_unit_belongs_to_the_utc_day_of_its_receipt(off_ns: int, day: int) -> None:
    late = marker(share(unit="k.1"), received_ns=MIDNIGHT_NS + off_ns)

    # Stored and ended on the day after, whichever day it came.
    books = books_of(late, outcome("k.1"), stored_ns=MIDNIGHT_NS + HOUR_NS)

    assert list(books.rows(EVERYTHING)) == [RowKey(SHOP, SINK, day)]


def test_an_outcome_that_is_read_before_its_marker_is_held() -> None:
    books = books_of(outcome("k.1"), outcome("k.2", ATTEMPTED, attempts=2))
    books.end_round()

    for place, unit in enumerate(("k.1", "k.2"), start=1):
        books.add_marker(place, NOON_NS, marker(share(unit=unit)))

    still_open = books.find(UnitKey(SHOP, SINK, "k.2"))
    assert (sum_of(books).delivered, books.open_count) == (1, 1)
    assert still_open is not None
    assert still_open.attempts == 2


def test_an_outcome_without_a_marker_is_no_unit() -> None:
    books = books_of(outcome("k.1"))
    books.end_round()
    books.end_round()
    without = books.rows(EVERYTHING)
    books.add_marker(1, NOON_NS, marker(share(unit="k.1")))

    # It is not held for ever: a marker so late asks for its outcome by name.
    assert without == {}
    assert (books.open_count, sum_of(books).delivered) == (1, 0)


def test_what_was_stored_before_the_first_known_day_is_not_counted() -> None:
    books = Books()
    books.forget_before(TODAY)

    books.add_marker(1, NOON_NS - 24 * HOUR_NS, marker(share(unit="k.1"), share(OTHER)))

    assert books.rows(EVERYTHING) == {}
    assert (books.open_count, books.deliveries(EVERYTHING)) == (0, 0)


def test_markers_that_expire_take_their_counts_and_open_units_with_them() -> None:
    books = Books()
    yesterday_ns = NOON_NS - 24 * HOUR_NS
    books.add_marker(1, yesterday_ns, marker(share(unit="k.1"), received_ns=yesterday_ns))
    books.add_marker(2, yesterday_ns, marker(share(ignored="stale"), received_ns=yesterday_ns))
    # Received long ago and decided only now: its marker lives on.
    books.add_marker(3, NOON_NS, marker(share(unit="k.2"), received_ns=yesterday_ns))

    books.forget_before(TODAY)

    assert [key.unit for key, _ in books.units()] == ["k.2"]
    assert books.rows(EVERYTHING).keys() == {RowKey(SHOP, SINK, TODAY - 1)}
    assert sum_of(books).received == 1
    assert (books.open_count, books.deliveries(EVERYTHING)) == (1, 1)


def test_rows_are_those_of_the_shop_sink_and_day_asked_for() -> None:
    books = books_of(
        marker(share(SINK, "k.1"), share(OTHER, "k.1")),
        marker(share(SINK, "k.2"), shop="borealis"),
        marker(share(SINK, "k.3"), received_ns=MIDNIGHT_NS),
    )

    def received(scope: Scope) -> tuple[int, int]:
        return sum_of(books, scope).received, books.deliveries(scope)

    assert received(EVERYTHING) == (4, 3)
    assert received(Scope(shop="borealis")) == (1, 1)
    assert received(Scope(sink=OTHER))[0] == 1
    assert received(Scope(shop=SHOP, day="2026-11-22")) == (2, 1)
    assert received(Scope(day="2026-11-23")) == (1, 1)


def test_the_books_are_full_while_as_many_units_are_open_as_may_be() -> None:
    books = Books(open_max=1)
    empty = books.is_full
    books.add_marker(1, NOON_NS, marker(share(unit="k.1")))
    full = books.is_full
    books.add_outcome(outcome("k.1"))

    assert (empty, full, books.is_full) == (False, True, False)


# -- the fold does not depend on the pace at which the streams are read ---------------------------

_ENDS = st.sampled_from([None, DELIVERED, UNCERTAIN, IGNORED, DEAD])
_UNITS = st.lists(
    st.tuples(
        st.sampled_from(["aurora", "borealis"]),
        st.booleans(),
        st.sampled_from([NOON_NS, MIDNIGHT_NS - 1, MIDNIGHT_NS]),
        st.integers(0, 2),
        _ENDS,
    ),
    max_size=12,
)


def _streams(
    units: list[tuple[str, bool, int, int, outcome_pb2.OutcomeKind.ValueType | None]],
) -> tuple[list[record_pb2.SeenRecord], list[outcome_pb2.Outcome]]:
    """What the two streams hold in the end, every message that ever was included."""
    markers, outcomes = [], []
    for number, (shop, two_sinks, received_ns, tries, end) in enumerate(units):
        unit = f"k.{number}"
        sinks = (SINK, OTHER) if two_sinks else (SINK,)
        shares = [share(sink, unit) for sink in sinks]
        markers.append(marker(*shares, shop=shop, received_ns=received_ns))
        for sink in sinks:
            outcomes += [
                outcome(unit, ATTEMPTED, sink=sink, shop=shop, attempts=n + 1) for n in range(tries)
            ]
            if end is not None:
                outcomes.append(outcome(unit, end, sink=sink, shop=shop, reason="r"))
    return markers, outcomes


def _newest(outcomes: list[outcome_pb2.Outcome]) -> list[outcome_pb2.Outcome]:
    """What a stream of one message a subject still holds."""
    return list({(one.shop, one.sink, one.unit): one for one in outcomes}.values())


@given(units=_UNITS, data=st.data())
def test_followed_at_any_pace_the_books_are_those_of_one_reading_at_the_end(
    units: list[tuple[str, bool, int, int, outcome_pb2.OutcomeKind.ValueType | None]],
    data: st.DataObject,
) -> None:
    markers, outcomes = _streams(units)
    whole, followed = Books(), Books()
    for sequence, one in enumerate(markers, start=1):
        whole.add_marker(sequence, NOON_NS, one)
    for newest in _newest(outcomes):
        whole.add_outcome(newest)

    sequence, taken = 0, 0
    while sequence < len(markers) or taken < len(outcomes):
        if taken == len(outcomes) or (sequence < len(markers) and data.draw(st.booleans())):
            sequence += 1
            followed.add_marker(sequence, NOON_NS, markers[sequence - 1])
        else:
            followed.add_outcome(outcomes[taken])
            taken += 1

    assert followed.rows(EVERYTHING) == whole.rows(EVERYTHING)
    assert dict(followed.units()) == dict(whole.units())
    assert followed.open_count == whole.open_count == len(dict(whole.units()))
    assert followed.deliveries(EVERYTHING) == len(markers)

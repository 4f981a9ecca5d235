"""Facts on their way to TikTok: what is sent, recorded and given up, and in which order."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from libs.bus import subjects
from libs.bus.consumer import Unit
from libs.errors import Kind, ServiceError
from libs.telemetry import SpanRef
from services.events.domain.answers import Meaning, RefusedError
from services.events.ports import Pixel
from tests.unit.events_service.fakes import (
    AT_S,
    REVOKED,
    SHOP,
    TIMEOUT,
    cart_grew,
    checkout_started,
    event,
    order_paid,
    pixel,
    tracked,
    unit,
)
from tests.unit.events_service.house import House
from tidewire.commerce.v1 import fact_pb2
from tidewire.delivery.v1 import gate_pb2, outcome_pb2

DELIVERED = outcome_pb2.OUTCOME_KIND_DELIVERED
UNCERTAIN = outcome_pb2.OUTCOME_KIND_DELIVERED_UNCERTAIN
IGNORED = outcome_pb2.OUTCOME_KIND_IGNORED
DEAD = outcome_pb2.OUTCOME_KIND_DEAD
OPERATOR = gate_pb2.GATE_REASON_OPERATOR
OUTAGE = gate_pb2.GATE_REASON_OUTAGE
CREDENTIALS = gate_pb2.GATE_REASON_CREDENTIALS
WEEK_S = 7 * 86_400


# -- the plain way -------------------------------------------------------------------------------


async def test_a_purchase_that_is_delivered_has_one_outcome() -> None:
    house = House()

    results = await house.handle(unit(order_paid()))

    outcome = house.outcome()
    assert results == [None]
    assert list(house.outcomes.kept) == [("events.C1", "order_paid.98765")]
    assert (outcome.kind, outcome.shop, outcome.delivery_id) == (DELIVERED, SHOP, "w-98765")
    assert (outcome.attempts, outcome.received_at.seconds) == (1, AT_S)
    assert outcome.ended_at.seconds == AT_S + 60
    [sent] = outcome.events
    assert (sent.event, sent.kind, sent.upstream_request_id) == ("Purchase", DELIVERED, "R1")
    assert house.tiktok.delivered == {"example.events.C1": [sent.event_id]}
    assert house.letters.letters == []


async def test_a_shops_units_travel_in_one_request_and_end_each_for_itself() -> None:
    house = House()

    results = await house.handle(
        unit(order_paid("1"), "1"), unit(checkout_started(), "2"), unit(cart_grew("a", "b"), "3")
    )

    assert results == [None] * 3
    assert [len(request.conversions) for request in house.tiktok.requests] == [4]
    assert {name: len(one.events) for (_, name), one in house.outcomes.kept.items()} == {
        "order_paid.1": 1,
        "checkout_started.2": 1,
        "cart_lines_added.3": 2,
    }


async def test_what_may_have_been_accepted_is_uncertain_and_done() -> None:
    house = House()
    house.tiktok.meaning = Meaning.UNCERTAIN

    results = await house.handle(unit(order_paid()))

    assert results == [None]
    assert house.outcome().kind == UNCERTAIN


@pytest.mark.parametrize(
    ("fact", "reason"),
    [
        (order_paid(test=True), "test_order"),
        (order_paid(tags=["tidewire-tiktok-shop"]), "own_echo"),
        (fact_pb2.Fact(order_cancelled=fact_pb2.OrderCancelled()), "nothing_to_send"),
    ],
)
async def test_what_is_not_sent_has_its_reason(fact: fact_pb2.Fact, reason: str) -> None:
    house = House()

    results = await house.handle(unit(fact))

    [outcome] = house.outcomes.kept.values()
    assert results == [None]
    assert (outcome.kind, outcome.reason, outcome.attempts) == (IGNORED, reason, 0)
    assert house.tiktok.requests == []


async def test_history_from_before_the_connection_is_not_sent() -> None:
    house = House(pixel(active_since_s=AT_S + 1))

    await house.handle(unit(order_paid()))

    assert house.outcome().reason == "before_activation"


async def test_shadow_maps_and_records_and_sends_nothing() -> None:
    house = House(pixel(shadow=True))

    results = await house.handle(unit(order_paid()))

    outcome = house.outcome()
    assert results == [None]
    assert house.tiktok.requests == []
    assert (outcome.kind, outcome.reason) == (IGNORED, "shadow")
    [told] = outcome.events
    assert (told.event, told.kind, told.reason) == ("Purchase", IGNORED, "shadow")
    assert told.event_id


async def test_a_fact_of_a_shop_without_pixels_is_done() -> None:
    assert await House().handle(unit(order_paid(), shop="other")) == [None]


# -- refusals ------------------------------------------------------------------------------------


async def test_a_refused_purchase_is_in_the_dead_letters_before_its_outcome_is_recorded() -> None:
    house = House()
    house.tiktok.troubles = [RefusedError(Kind.PERMANENT, 40002, "R9", 0, "event_id")]

    results = await house.handle(unit(order_paid(), trace=SpanRef(3, 4, sampled=True)))

    assert results == [None]
    assert house.log == [
        "letter events.C1 order_paid.98765",
        "outcome events.C1 order_paid.98765",
    ]
    outcome, [letter] = house.outcome(), house.letters.letters
    assert (outcome.kind, outcome.reason) == (DEAD, "permanent/upstream_40002")
    assert (outcome.events[0].upstream_code, outcome.events[0].upstream_request_id) == (40002, "R9")
    assert (letter.reason_class, letter.code, letter.path) == (
        "permanent",
        "upstream_40002",
        "event_id",
    )
    assert (letter.upstream_code, letter.attempts) == (40002, 1)
    assert letter.original.data == order_paid().SerializeToString()
    assert letter.traceparent == SpanRef(3, 4, sampled=True).traceparent()


async def test_a_unit_with_a_refused_event_ends_dead_and_its_good_events_are_delivered() -> None:
    house = House()
    fact = tracked(event("good"), event("bad"), event("fine"))
    house.tiktok.bad = frozenset({"bad"})

    results = await house.handle(unit(fact, "r1"))

    outcome = house.outcome(name="events_tracked.r1")
    assert results == [None]
    assert outcome.kind == DEAD
    assert [(one.event_id, one.kind) for one in outcome.events] == [
        ("good", DELIVERED),
        ("bad", DEAD),
        ("fine", DELIVERED),
    ]
    assert len(house.letters.letters) == 1


async def test_a_refused_neighbour_costs_a_unit_nothing() -> None:
    house = House()
    house.tiktok.bad = frozenset({"bad"})

    results = await house.handle(unit(tracked(event("bad")), "1"), unit(tracked(event("ok")), "2"))

    assert results == [None, None]
    assert house.outcome(name="events_tracked.1").kind == DEAD
    assert house.outcome(name="events_tracked.2").kind == DELIVERED


async def test_a_letter_that_cannot_be_stored_holds_back_its_own_outcome_only() -> None:
    house = House()
    house.tiktok.bad = frozenset({"bad"})
    house.letters.trouble = ServiceError(Kind.RETRYABLE, "nats_unavailable")

    with pytest.raises(ServiceError):
        await house.handle(unit(tracked(event("bad")), "1"), unit(tracked(event("ok")), "2"))

    assert [name for _, name in house.outcomes.kept] == ["events_tracked.2"]


# -- what cannot be read -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code"), [(b"sealed for another", "unsealing_failed"), (b"\xff", "fact_unreadable")]
)
async def test_a_fact_that_cannot_be_opened_buries_itself_alone(data: bytes, code: str) -> None:
    house = House()

    results = await house.handle(unit(data, "1"), unit(order_paid("2"), "2"))

    assert results == [None, None]
    assert house.outcome(name="order_paid.1").kind == DEAD
    assert house.outcome(name="order_paid.2").kind == DELIVERED
    [letter] = house.letters.letters
    assert (letter.unit, letter.code, letter.reason_class) == ("order_paid.1", code, "mapping")


async def test_a_record_that_cannot_be_read_is_buried_under_the_name_its_subject_gives() -> None:
    house = House()
    torn = Unit(subjects.fact("order_paid", SHOP, "a.b"), 1, b"\xff\xff", 0, redelivered=False)

    results = await house.handle(torn, unit(order_paid("2"), "2"))

    assert results == [None, None]
    assert house.outcome(name="order_paid.a.b").kind == DEAD
    assert house.outcome(name="order_paid.2").kind == DELIVERED


async def test_a_key_store_that_is_down_costs_every_unit_a_try_and_none_its_life() -> None:
    house = House()
    house.opener.trouble = ServiceError(Kind.RETRYABLE, "nats_unavailable")

    with pytest.raises(ServiceError) as caught:
        await house.handle(unit(order_paid()))

    assert caught.value.kind is Kind.RETRYABLE
    assert house.log == []


class BugError(Exception):
    """What nobody foresaw."""


class BuggySettings:
    """Settings whose pixel code fits and whose every other field is a bug."""

    pixel_code = "C1"

    def __getattr__(self, name: str) -> object:
        raise BugError(name)


async def test_a_bug_met_by_one_pixels_mapping_is_not_its_neighbours() -> None:
    broken = Pixel("example.events.C1", "events.C1", BuggySettings())  # type: ignore[arg-type]  # that is the bug
    house = House(broken, pixel("C2"))

    with capture_logs():
        [result] = await house.handle(unit(order_paid()))

    assert result is not None
    assert (result.kind, result.code) == (Kind.RETRYABLE, "unforeseen")
    assert house.outcome("events.C2").kind == DELIVERED
    assert len(house.outcomes.kept) == 1


# -- several pixels, and again -------------------------------------------------------------------


async def test_a_pixel_that_fails_is_tried_again_and_the_good_one_is_not() -> None:
    house = House(pixel("C1"), pixel("C2"))
    house.tiktok.down = {"example.events.C2": TIMEOUT}

    first = await house.handle(unit(order_paid()))
    house.tiktok.down = {}
    second = await house.handle(unit(order_paid(), attempts=1, redelivered=True))

    assert (first, second) == ([TIMEOUT], [None])
    assert {name: len(ids) for name, ids in house.tiktok.delivered.items()} == {
        "example.events.C1": 1,
        "example.events.C2": 1,
    }
    assert house.outcome("events.C2").attempts == 2


async def test_a_dead_token_of_one_pixel_holds_up_no_other_and_costs_the_lane_nothing() -> None:
    house = House(pixel("C1"), pixel("C2"), pixel("C3"))
    house.tiktok.down = {"example.events.C1": TIMEOUT, "example.events.C2": REVOKED}

    results = await house.handle(unit(order_paid()))

    assert results == [TIMEOUT]
    assert list(house.outcomes.kept) == [("events.C3", "order_paid.98765")]
    [parked] = house.parking.units
    assert (parked.sink, parked.connection_id) == ("events.C2", "example.events.C2")
    assert (parked.unit, parked.shop, parked.sequence) == ("order_paid.98765", SHOP, 1)


async def test_an_outcome_that_was_not_recorded_sends_the_same_event_again() -> None:
    house = House()
    house.outcomes.trouble = ServiceError(Kind.RETRYABLE, "nats_unavailable")
    with pytest.raises(ServiceError):
        await house.handle(unit(order_paid()))
    house.outcomes.trouble = None

    results = await house.handle(unit(order_paid(), attempts=1, redelivered=True))

    assert results == [None]
    first, again = house.tiktok.delivered["example.events.C1"]
    assert first == again


async def test_what_has_ended_is_not_sent_again_by_a_durable_that_was_made_anew() -> None:
    house = House()
    await house.handle(unit(order_paid()))

    results = await house.handle(unit(order_paid(), redelivered=False))

    assert results == [None]
    assert len(house.tiktok.requests) == 1


async def test_events_handed_in_for_one_pixel_go_to_no_other() -> None:
    house = House(pixel("C1"), pixel("C2"))

    await house.handle(unit(tracked(event("e1"), pixel_code="C2"), "r1"))

    assert list(house.tiktok.delivered) == ["example.events.C2"]
    assert list(house.outcomes.kept) == [("events.C2", "events_tracked.r1")]


async def test_each_event_that_was_handed_in_has_its_outcome_also_when_it_is_too_old() -> None:
    house = House()
    fact = tracked(event("old", AT_S - WEEK_S), event("new"))

    await house.handle(unit(fact, "r1"), unit(tracked(event("older", 1)), "r2"))

    mixed, alone = house.outcome(name="events_tracked.r1"), house.outcome(name="events_tracked.r2")
    assert {one.event_id: (one.kind, one.reason) for one in mixed.events} == {
        "new": (DELIVERED, ""),
        "old": (IGNORED, "too_old"),
    }
    assert mixed.kind == DELIVERED
    assert [(one.event_id, one.reason) for one in alone.events] == [("older", "too_old")]
    assert (alone.kind, alone.reason) == (IGNORED, "too_old")


# -- what a fact owes ----------------------------------------------------------------------------


async def test_a_fact_goes_to_the_sinks_it_names_and_to_no_pixel_connected_since() -> None:
    house = House(pixel("C1"), pixel("C2"))

    results = await house.handle(unit(order_paid(), sinks=["events.C1"]))

    assert results == [None]
    assert [sink for sink, _ in house.outcomes.kept] == ["events.C1"]


async def test_a_sink_whose_connection_cannot_be_used_is_waited_for() -> None:
    house = House(pixel("C1"))
    house.pixels.unusable = frozenset({"events.C2"})
    house.clock.advance(WEEK_S)

    [result] = await house.handle(unit(order_paid(), sinks=["events.C1", "events.C2"]))

    assert result is None
    assert [(one.sink, one.reason) for one in house.parking.units] == [
        ("events.C2", "connection_missing")
    ]
    assert [sink for sink, _ in house.outcomes.kept] == ["events.C1"]


async def test_a_sink_whose_connection_is_gone_is_waited_for_and_then_ignored() -> None:
    house = House(pixel("C1"))
    gone = unit(order_paid(), sinks=["events.C2"])

    [at_first] = await house.handle(gone)
    house.clock.advance(WEEK_S)
    [later] = await house.handle(gone)

    assert (at_first, later) == (None, None)
    assert [one.sink for one in house.parking.units] == ["events.C2"]
    assert (house.outcome("events.C2").kind, house.outcome("events.C2").reason) == (
        IGNORED,
        "connection_removed",
    )


# -- giving up -----------------------------------------------------------------------------------


async def test_giving_up_buries_the_unit_at_the_pixels_where_it_has_not_ended() -> None:
    house = House(pixel("C1"), pixel("C2"), pixel("C3"))
    house.tiktok.down = {"example.events.C2": TIMEOUT, "example.events.C3": TIMEOUT}
    await house.handle(unit(order_paid()))
    house.log.clear()

    await house.bury(unit(order_paid(), attempts=11, redelivered=True))

    assert house.log == [
        f"{what} events.{code} order_paid.98765"
        for code in ("C2", "C3")
        for what in ("letter", "outcome")
    ]
    outcome = house.outcome("events.C2")
    assert (outcome.kind, outcome.reason) == (DEAD, "exhausted/upstream_timeout")
    assert (outcome.attempts, outcome.events[0].kind) == (12, DEAD)
    assert {letter.reason_class for letter in house.letters.letters} == {"exhausted"}
    assert house.outcome("events.C1").kind == DELIVERED


async def test_giving_up_does_not_condemn_what_was_never_to_be_sent() -> None:
    house = House(pixel("C1", shadow=True), pixel("C2"))

    await house.bury(unit(order_paid()))

    assert (house.outcome("events.C1").kind, house.outcome("events.C1").reason) == (
        IGNORED,
        "shadow",
    )
    assert [letter.sink for letter in house.letters.letters] == ["events.C2"]


async def test_giving_up_twice_changes_nothing() -> None:
    house = House()
    await house.bury(unit(order_paid()))
    once = list(house.log)

    await house.bury(unit(order_paid(), redelivered=True))

    assert house.log == once


async def test_no_letter_and_no_outcome_holds_what_tiktok_quoted_or_who_bought() -> None:
    house = House()
    house.tiktok.troubles = [RefusedError(Kind.PERMANENT, 40002, "R9", 0, "user.email")]

    await house.handle(unit(order_paid()))

    [letter] = house.letters.letters
    letter.ClearField("original")
    text = f"{letter}{house.outcome()}{house.telemetry.finished}"
    assert "alice" not in text


# -- traces --------------------------------------------------------------------------------------


async def test_a_followed_fact_shows_how_it_was_consumed_below_its_delivery() -> None:
    house = House()
    parent = SpanRef(3, 4, sampled=True)

    await house.handle(unit(order_paid(), trace=parent))

    consumed = next(one for one in house.telemetry.finished if one.name == "fact consumed")
    sent = next(one for one in house.telemetry.finished if one.name == "event sent")
    assert (consumed.trace_id, consumed.parent_id) == (parent.trace_hex, f"{parent.span_id:016x}")
    assert (sent.trace_id, sent.parent_id) == (parent.trace_hex, consumed.span_id)
    assert consumed.attributes["attempt"] == 1
    assert house.outcome().trace_id == parent.trace_hex

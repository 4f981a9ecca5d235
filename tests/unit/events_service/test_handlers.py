"""Facts on their way to TikTok: what is sent, recorded and given up, and in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from structlog.testing import capture_logs

from libs.bus import subjects
from libs.bus.consumer import GivenUp, Unit
from libs.clock import FakeClock
from libs.errors import Kind, ServiceError
from libs.gates import connection_gate
from libs.limits import Priority
from libs.telemetry import SpanRef, Telemetry
from services.events.domain.answers import Meaning, RefusedError
from services.events.domain.settings import DialectName
from services.events.gatekeeper import SINK, Gatekeeper
from services.events.handlers import Handlers, Surroundings
from services.events.ports import Known, Pair, Pixel
from tests.unit.events_service.fakes import (
    AT_S,
    REVOKED,
    SHOP,
    THROTTLED,
    TIMEOUT,
    UNREACHABLE,
    ClearOpener,
    FakeTikTok,
    FixedMarks,
    FixedPixels,
    ListedDeadLetters,
    ListedParking,
    RecordingLimiter,
    burials_of,
    cart_grew,
    checkout_started,
    event,
    gates_of,
    order_paid,
    pixel,
    sender_of,
    tracked,
    unit,
)
from tidewire.commerce.v1 import fact_pb2, record_pb2
from tidewire.delivery.v1 import gate_pb2, outcome_pb2

DELIVERED = outcome_pb2.OUTCOME_KIND_DELIVERED
UNCERTAIN = outcome_pb2.OUTCOME_KIND_DELIVERED_UNCERTAIN
IGNORED = outcome_pb2.OUTCOME_KIND_IGNORED
DEAD = outcome_pb2.OUTCOME_KIND_DEAD
OPERATOR = gate_pb2.GATE_REASON_OPERATOR
OUTAGE = gate_pb2.GATE_REASON_OUTAGE
CREDENTIALS = gate_pb2.GATE_REASON_CREDENTIALS
WEEK_S = 7 * 86_400


@dataclass
class FirstStays:
    """Outcomes in memory; the first terminal one of a unit stays, as in the stream."""

    log: list[str]
    kept: dict[Pair, outcome_pb2.Outcome] = field(default_factory=dict)
    tried: dict[Pair, outcome_pb2.Outcome] = field(default_factory=dict)
    trouble: ServiceError | None = None

    async def known(self, shop: str, pairs: Sequence[Pair]) -> dict[Pair, Known]:
        stored = {**self.tried, **self.kept}
        return {pair: Known(stored[pair], 1) for pair in pairs if pair in stored}

    async def attempt(
        self, outcomes: Sequence[outcome_pb2.Outcome], known: Mapping[Pair, Known]
    ) -> dict[Pair, Known]:
        open_ones = {(o.sink, o.unit): o for o in outcomes if (o.sink, o.unit) not in self.kept}
        self.tried |= open_ones
        return {pair: Known(one, 1) for pair, one in open_ones.items()}

    async def record(
        self, outcomes: Sequence[outcome_pb2.Outcome], known: Mapping[Pair, Known] | None = None
    ) -> None:
        if self.trouble is not None:
            raise self.trouble
        for one in outcomes:
            self.log.append(f"outcome {one.sink} {one.unit}")
            self.kept.setdefault((one.sink, one.unit), one)


class House:
    """The handlers and everything around them."""

    def __init__(self, *pixels: Pixel) -> None:
        self.log: list[str] = []
        self.tiktok = FakeTikTok()
        self.opener = ClearOpener()
        self.pixels = FixedPixels(pixels or (pixel(),))
        self.outcomes = FirstStays(self.log)
        self.letters = ListedDeadLetters(self.log)
        self.telemetry = Telemetry.recording()
        self.clock = FakeClock(AT_S + 60)
        self.gates = gates_of(self.clock)
        self.marks = FixedMarks()
        self.limiter = RecordingLimiter()
        self.parking = ListedParking(self.log)
        self.burials = burials_of(self.clock, units_max=3)
        gatekeeper = self.gatekeeper = Gatekeeper(self.gates, self.marks, self.clock)
        self.handlers = Handlers(
            Surroundings(
                opener=self.opener,
                pixels=self.pixels,
                sender=sender_of(
                    self.tiktok,
                    self.telemetry,
                    limiter=self.limiter,
                    gatekeeper=gatekeeper,
                    clock=self.clock,
                ),
                gatekeeper=gatekeeper,
                outcomes=self.outcomes,
                dead_letters=self.letters,
                parking=self.parking,
                burials=self.burials,
                tracer=self.telemetry.tracer,
                metrics=self.telemetry.metrics,
                clock=self.clock,
            )
        )

    async def handle(self, *units: Unit) -> list[ServiceError | None]:
        return list(await self.handlers.handle(units))

    async def bury(self, one: Unit, error: ServiceError = TIMEOUT) -> None:
        await self.handlers.bury(GivenUp(one, f"exhausted/{error.code}", error))

    def outcome(
        self, sink: str = "events.C1", name: str = "order_paid.98765"
    ) -> outcome_pb2.Outcome:
        return self.outcomes.kept[(sink, name)]


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


# -- what may be sent, and what waits ------------------------------------------------------------


async def test_a_dead_token_shuts_its_connection_and_later_facts_wait_in_order() -> None:
    house = House()
    house.tiktok.down = {"example.events.C1": REVOKED}

    results = await house.handle(unit(order_paid("1"), "1"))
    again = await house.handle(unit(order_paid("2"), "2"))

    gate = house.gates.shut(connection_gate("example.events.C1"))
    assert gate is not None
    assert (gate.reason, gate.code, gate.mark) == (CREDENTIALS, "upstream_40105", "m1")
    assert (results, again) == ([None], [None])
    assert [one.unit for one in house.parking.units] == ["order_paid.1", "order_paid.2"]
    assert len(house.tiktok.requests) == 1


async def test_what_comes_while_others_wait_for_its_connection_queues_behind_them() -> None:
    house = House()
    house.parking.busy = {"example.events.C1"}

    results = await house.handle(unit(order_paid()))

    assert results == [None]
    assert [one.reason for one in house.parking.units] == ["behind"]
    assert house.tiktok.requests == []


async def test_parking_costs_nothing_that_was_delivered_elsewhere() -> None:
    house = House(pixel("C1"), pixel("C2"))
    await house.gates.close(connection_gate("example.events.C2"), OPERATOR)
    house.parking.trouble = ServiceError(Kind.RETRYABLE, "refused_by_nats")
    for _ in range(3):
        with pytest.raises(ServiceError, match="refused_by_nats"):
            await house.handle(unit(order_paid()))

    assert len(house.tiktok.requests) == 1
    assert list(house.outcomes.kept) == [("events.C1", "order_paid.98765")]


async def test_giving_up_at_one_pixel_leaves_what_waits_at_another() -> None:
    house = House(pixel("C1"), pixel("C2"))
    await house.gates.close(connection_gate("example.events.C2"), CREDENTIALS)

    await house.bury(unit(order_paid()))

    assert [letter.sink for letter in house.letters.letters] == ["events.C1"]


async def test_an_app_that_is_refused_shuts_the_sink_and_parks_nothing() -> None:
    house = House(pixel("C1"), pixel("C2"))
    refused = RefusedError(Kind.AUTH, 40113, "R0", None, "")
    house.tiktok.down = dict.fromkeys(["example.events.C1", "example.events.C2"], refused)

    [result] = await house.handle(unit(order_paid()))
    house.clock.advance(1.0)
    for n in "123456":
        await house.handle(unit(order_paid(n), n))

    gate = house.gates.shut(SINK)
    assert gate is not None
    assert gate.probes == 1
    assert result is not None
    assert result.code == "gate_shut"
    assert house.parking.units == []
    assert len(house.tiktok.requests) == 3


async def test_a_lone_unit_that_meets_silence_shuts_its_connection() -> None:
    house = House()
    house.tiktok.down = {"example.events.C1": TIMEOUT}

    for _ in range(3):
        await house.handle(unit(order_paid()))

    assert house.gates.shut(connection_gate("example.events.C1")) is not None


async def test_a_lone_unit_that_is_refused_with_a_failing_code_shuts_nothing() -> None:
    house = House()
    house.tiktok.sickening = frozenset({"purchase.98765"})

    for _ in range(10):
        await house.handle(unit(order_paid()))

    assert house.gates.all() == []


async def test_units_given_up_as_exhausted_are_a_run_too() -> None:
    house = House()

    for n in range(3):
        await house.bury(unit(order_paid(str(n)), str(n)))

    assert house.burials.stopped is not None


async def test_a_unit_that_cannot_be_parked_is_not_done() -> None:
    house = House()
    house.parking.trouble = ServiceError(Kind.RETRYABLE, "nats_unavailable")
    await house.gates.close(connection_gate("example.events.C1"), OPERATOR)

    with pytest.raises(ServiceError, match="nats_unavailable"):
        await house.handle(unit(order_paid()))


async def test_nothing_is_sent_while_the_sink_is_shut_and_that_costs_no_attempt() -> None:
    house = House()
    await house.gates.close(SINK, OPERATOR)

    [result] = await house.handle(unit(order_paid()))

    assert result is not None
    assert (result.kind, result.code) == (Kind.RETRYABLE, "gate_shut")
    assert (house.tiktok.requests, house.outcomes.tried) == ([], {})


async def test_an_outage_shuts_the_sink_and_its_last_failure_costs_no_attempt() -> None:
    house = House()
    house.tiktok.down = {"example.events.C1": UNREACHABLE}

    codes = [(await house.handle(unit(order_paid(n), n)))[0] for n in "12345"]

    assert [one.code for one in codes if one] == [UNREACHABLE.code] * 4 + ["gate_shut"]
    assert house.gates.shut(SINK) is not None


async def test_the_success_of_a_probe_opens_the_sink() -> None:
    house = House()
    await house.gates.close(SINK, OUTAGE)
    before = house.gatekeeper.allowance()
    house.clock.advance(1.0)

    due = house.gatekeeper.allowance()
    results = [(await house.handle(unit(order_paid(n), n)))[0] for n in "12"]

    assert (before, due, house.gatekeeper.allowance()) == (0, 1, None)
    assert results == [None, None]
    assert house.gates.shut(SINK) is None


async def test_nothing_more_is_taken_or_sent_while_a_probe_is_under_way() -> None:
    house = House()
    await house.gates.close(SINK, OUTAGE)
    house.clock.advance(1.0)

    passage = house.gatekeeper.begin(pixel())

    assert passage.sink_was_shut
    with pytest.raises(ServiceError, match="gate_shut"):
        house.gatekeeper.begin(pixel())
    assert house.gatekeeper.refuses() is not None
    assert house.gatekeeper.allowance() == 0
    # A probe that never came to its end must not be the last one.
    house.clock.advance(15.0)
    assert house.gatekeeper.allowance() == 1


async def test_a_probe_that_fails_puts_the_next_one_off() -> None:
    house = House()
    house.tiktok.down = {"example.events.C1": UNREACHABLE}
    await house.gates.close(SINK, OUTAGE)
    house.clock.advance(1.0)

    codes = [(await house.handle(unit(order_paid(n), n)))[0] for n in "12"]

    gate = house.gates.shut(SINK)
    assert gate is not None
    assert gate.probes == 1
    assert [one.code for one in codes if one] == ["gate_shut", "gate_shut"]
    assert len(house.tiktok.requests) == 1


async def test_a_throttle_is_told_to_all_replicas() -> None:
    house = House()
    house.tiktok.down = {"example.events.C1": THROTTLED}

    results = await house.handle(unit(order_paid()))

    limits = ("tiktok.events.app", "tiktok.events.pixel.C1")
    assert results == [THROTTLED]
    assert house.limiter.asked == [(Priority.LIVE, SHOP, limits)]
    assert house.limiter.reported == [(limits, 5.0, "upstream_40100")]


async def test_no_request_is_made_without_a_turn() -> None:
    house = House()
    house.limiter.trouble = ServiceError(Kind.THROTTLED, "limit_busy", retry_after_s=2.0)

    results = await house.handle(unit(order_paid()))

    assert results == [house.limiter.trouble]
    assert (house.tiktok.requests, house.outcomes.tried) == ([], {})


async def test_limits_that_answer_slowly_are_asked_again_and_cost_the_bus_nothing() -> None:
    house = House()
    slow = ServiceError(Kind.THROTTLED, "limits_unreachable", retry_after_s=0.1)
    house.limiter.troubles = [slow] * 20

    results = await house.handle(unit(order_paid()))

    assert results == [None]
    assert house.clock.now_s == pytest.approx(AT_S + 62)


async def test_limits_that_do_not_answer_at_all_hand_the_unit_back_in_the_end() -> None:
    house = House()
    house.limiter.trouble = ServiceError(Kind.THROTTLED, "limits_unreachable", retry_after_s=0.1)

    results = await house.handle(unit(order_paid()))

    assert results == [house.limiter.trouble]
    assert house.clock.now_s <= AT_S + 65


# -- tries that nobody knows the end of ----------------------------------------------------------


async def test_a_try_is_recorded_before_the_request_leaves() -> None:
    house = House()
    house.tiktok.down = {"example.events.C1": TIMEOUT}

    await house.handle(unit(order_paid()))

    tried = house.outcomes.tried[("events.C1", "order_paid.98765")]
    [event_] = tried.events
    assert tried.kind == outcome_pb2.OUTCOME_KIND_ATTEMPTED
    assert (tried.dialect, event_.event) == ("event_track", "Purchase")
    assert tried.first_attempt_at.seconds == AT_S + 60
    assert house.outcomes.kept == {}


async def test_what_was_tried_is_tried_again_under_the_same_name_and_dialect() -> None:
    house = House(pixel(dialect=DialectName.PIXEL_TRACK))
    house.tiktok.down = {"example.events.C1": TIMEOUT}
    await house.handle(unit(order_paid()))
    house.tiktok.down = {}
    house.pixels.pixels = (pixel(),)

    await house.handle(unit(order_paid(), attempts=1, redelivered=True))

    first, again = house.tiktok.requests
    assert first.path == again.path == "/open_api/v1.3/pixel/track/"
    assert [one.event for one in house.outcome().events] == ["CompletePayment"]


async def test_what_may_have_arrived_47_hours_ago_is_given_up_as_maybe_sent() -> None:
    house = House()
    house.tiktok.down = {"example.events.C1": TIMEOUT}
    await house.handle(unit(order_paid()))
    house.clock.advance(47 * 3600 + 1)

    results = await house.handle(unit(order_paid(), attempts=1, redelivered=True))

    assert results == [None]
    assert (house.outcome().kind, house.outcome().reason) == (DEAD, "maybe_sent")
    assert [one.reason_class for one in house.letters.letters] == ["maybe_sent"]
    assert len(house.tiktok.requests) == 1


async def test_what_certainly_did_not_arrive_waits_for_longer_than_47_hours() -> None:
    house = House()
    house.tiktok.down = {"example.events.C1": UNREACHABLE}
    await house.handle(unit(order_paid()))
    house.tiktok.down = {}
    house.clock.advance(60 * 3600)

    results = await house.handle(unit(order_paid(), attempts=1, redelivered=True))

    assert results == [None]
    assert house.outcome().kind == DELIVERED


async def test_what_was_tried_in_time_is_not_too_old_after_an_outage() -> None:
    house = House(pixel(max_event_age_s=3600))
    house.tiktok.down = {"example.events.C1": TIMEOUT}
    await house.handle(unit(order_paid()))
    house.tiktok.down = {}
    house.clock.advance(2 * 3600)

    await house.handle(unit(order_paid(), attempts=1, redelivered=True))

    assert house.outcome().kind == DELIVERED


async def test_a_unit_that_always_fails_is_told_from_its_neighbours() -> None:
    house = House()
    house.tiktok.sickening = frozenset({"purchase.3"})
    units = [unit(order_paid(str(n)), str(n)) for n in range(8)]

    tries = 0
    while len(house.outcomes.kept) < 7:
        tries += 1
        open_ = [
            u for u in units if ("events.C1", f"order_paid.{u_id(u)}") not in house.outcomes.kept
        ]
        for one in open_:
            one.attempts, one.tried_here = tries, True
        await house.handle(*open_)

    assert ("events.C1", "order_paid.3") not in house.outcomes.kept
    assert tries <= 6


# -- when too much is given up -------------------------------------------------------------------


async def test_a_run_of_refusals_stops_the_work_and_one_success_starts_it_again() -> None:
    house = House()
    house.tiktok.bad = frozenset(f"purchase.{n}" for n in range(3))
    for n in range(3):
        await house.handle(unit(order_paid(str(n)), str(n)))
    stopped = house.burials.stopped

    await house.handle(unit(order_paid("9"), "9"))

    assert stopped is not None
    assert (stopped.sort, dict(stopped.reasons)) == ("order_paid", {"permanent": 3})
    assert house.burials.stopped is None


async def test_what_is_in_hand_when_the_work_stops_is_held_back_and_not_given_up() -> None:
    house = House()
    house.tiktok.bad = frozenset(f"purchase.{n}" for n in range(8))

    results = await house.handle(*[unit(order_paid(str(n)), str(n)) for n in range(8)])

    assert [one.code if one else "" for one in results] == [""] * 3 + ["gate_shut"] * 5
    assert len(house.letters.letters) == len(house.outcomes.kept) == 3


async def test_what_was_lost_to_time_stops_nothing() -> None:
    house = House()

    for n in range(5):
        name = f"order_paid.{n}"
        reference = gate_pb2.ParkedUnit(sink="events.C1", unit=name, shop=SHOP, subject="x")
        await house.handlers.lose(reference)

    assert len(house.letters.letters) == 5
    assert house.burials.stopped is None


# -- what is tried again after it was given up ---------------------------------------------------


async def test_a_replay_sends_only_the_events_that_were_given_up_and_gives_way_to_live() -> None:
    house = House()
    letter = "events.C1.example.cart_lines_added.7"
    ids = await sent_ids(cart_grew("401", "402"))
    replay = unit(
        cart_grew("401", "402"),
        f"replay.{letter}",
        sinks=["events.C1"],
        replay_of=letter,
        only_event_ids=[ids[1]],
    )

    results = await house.handle(replay)

    assert results == [None]
    assert house.tiktok.delivered == {"example.events.C1": [ids[1]]}
    assert [priority for priority, _, _ in house.limiter.asked] == [Priority.REPLAY]
    outcome = house.outcome(name=f"cart_lines_added.replay.{letter}")
    assert (outcome.kind, outcome.replay_of) == (DELIVERED, letter)


async def test_a_replay_keeps_its_first_name_also_after_a_try_that_did_not_arrive() -> None:
    house = House(pixel(dialect=DialectName.PIXEL_TRACK))
    house.tiktok.bad = frozenset({"purchase.98765"})
    await house.handle(unit(order_paid(), sinks=["events.C1"]))
    house.tiktok.bad = frozenset()
    house.pixels.pixels = (pixel(),)
    [letter] = house.letters.letters
    replay = unit(
        order_paid(),
        f"replay.{letter.dead_letter_id}",
        sinks=["events.C1"],
        replay_of=letter.dead_letter_id,
    )
    house.tiktok.down = {"example.events.C1": THROTTLED}
    await house.handle(replay)
    house.tiktok.down = {}

    await house.handle(replay)

    outcome = house.outcome(name=f"order_paid.replay.{letter.dead_letter_id}")
    assert [one.event for one in outcome.events] == ["CompletePayment"]


async def test_a_replay_keeps_the_name_under_which_it_was_first_tried() -> None:
    house = House(pixel(dialect=DialectName.PIXEL_TRACK))
    house.tiktok.bad = frozenset({"purchase.98765"})
    await house.handle(unit(order_paid(), sinks=["events.C1"]))
    house.tiktok.bad = frozenset()
    house.pixels.pixels = (pixel(),)
    [letter] = house.letters.letters

    await house.handle(
        unit(
            order_paid(),
            f"replay.{letter.dead_letter_id}",
            sinks=["events.C1"],
            replay_of=letter.dead_letter_id,
            only_event_ids=letter.event_ids,
        )
    )

    assert letter.event_ids == ["purchase.98765"]
    outcome = house.outcome(name=f"order_paid.replay.{letter.dead_letter_id}")
    assert [(one.event, one.kind) for one in outcome.events] == [("CompletePayment", DELIVERED)]


# -- what is worked off after it was parked ------------------------------------------------------


async def test_what_is_drained_is_sent_at_its_pixel_alone() -> None:
    house = House(pixel("C1"), pixel("C2"))
    house.parking.busy = {"example.events.C2"}

    results = await house.handlers.drain([unit(order_paid())], "events.C2")

    assert results == [None]
    assert list(house.tiktok.delivered) == ["example.events.C2"]
    assert house.parking.units == []


async def test_what_is_drained_and_still_refused_is_not_parked_again() -> None:
    house = House()
    house.tiktok.down = {"example.events.C1": REVOKED}

    results = await house.handlers.drain([unit(order_paid())], "events.C1")

    assert results == [REVOKED]
    assert house.parking.units == []


async def test_a_parked_fact_that_has_expired_is_given_up_with_its_reason() -> None:
    house = House()

    await house.handlers.lose(
        gate_pb2.ParkedUnit(
            subject=subjects.fact("order_paid", SHOP, "98765"),
            sequence=4,
            sink="events.C1",
            connection_id="example.events.C1",
            unit="order_paid.98765",
            shop=SHOP,
        )
    )

    assert house.outcome().reason == "expired/expired_while_parked"
    assert [one.code for one in house.letters.letters] == ["expired_while_parked"]


async def test_units_of_a_shop_that_has_too_many_are_set_aside_for_each_sink_that_is_owed() -> None:
    house = House(pixel("C1"), pixel("C2"))

    await house.handlers.set_aside(
        [unit(order_paid("1"), "1"), unit(order_paid("2"), "2", sinks=["events.C2"])]
    )

    assert [(one.unit, one.sink, one.reason) for one in house.parking.units] == [
        ("order_paid.1", "events.C1", "backlog"),
        ("order_paid.1", "events.C2", "backlog"),
        ("order_paid.2", "events.C2", "backlog"),
    ]


def u_id(one: Unit) -> str:
    return record_pb2.FactRecord.FromString(one.data).fact_id


async def sent_ids(fact: fact_pb2.Fact) -> list[str]:
    """Ids of the events that a fact becomes."""
    house = House()
    await house.handle(unit(fact))
    return house.tiktok.delivered["example.events.C1"]

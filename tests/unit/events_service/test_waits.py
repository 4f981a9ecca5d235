"""Facts that wait, are tried again, or come back: gates, attempts, replays and parked queues."""

from __future__ import annotations

import pytest

from libs.bus import subjects
from libs.bus.consumer import Unit
from libs.errors import Kind, ServiceError
from libs.gates import connection_gate
from libs.limits import Priority
from services.events.domain.answers import RefusedError
from services.events.domain.settings import DialectName
from services.events.gatekeeper import SINK
from tests.unit.events_service.fakes import (
    AT_S,
    REVOKED,
    SHOP,
    THROTTLED,
    TIMEOUT,
    UNREACHABLE,
    cart_grew,
    order_paid,
    pixel,
    unit,
)
from tests.unit.events_service.house import House
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
    # Whether it was parked before nobody knows: it is done with here, so it must be there.
    assert [one.sink for one in house.parking.units] == ["events.C2"]


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

"""Each check passes on a world that agrees with itself, and fails on the one thing it is about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cli.demo.scenery import PixelPlan
from cli.demo.verdict import CHECKS, DIFFERENCES_SHOWN, DeliveryKey, Evidence, judge
from libs.ledger import Ledger
from sandbox.shopify.model import Delivery
from sandbox.shopify.oracle import CartAdditions, Expected, OrderState
from sandbox.shopify.sender import Sent
from tidewire.commerce.v1 import record_pb2
from tidewire.delivery.v1 import outcome_pb2

DELIVERED = outcome_pb2.OUTCOME_KIND_DELIVERED
UNCERTAIN = outcome_pb2.OUTCOME_KIND_DELIVERED_UNCERTAIN
IGNORED = outcome_pb2.OUTCOME_KIND_IGNORED

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SHOP = "aurora.myshopify.com"
PIXEL = PixelPlan("C1", SHOP)
OLDER = PixelPlan("C2", SHOP, "pixel_track")

Change = Callable[[Evidence], Evidence]


def _sent(delivery_id: str, status: int | None = 200, expected: int = 200) -> Sent:
    shop = "stranger.myshopify.com" if delivery_id == "stranger" else SHOP
    headers = (("X-Shopify-Webhook-Id", delivery_id),)
    delivery = Delivery(shop, "orders/paid", headers, b"{}", "order", expected)
    return Sent(delivery, status, 1, 0.01)


def _seen(delivery_id: str, *, dead: bool = False) -> record_pb2.SeenRecord:
    result = record_pb2.SEEN_RESULT_DEAD if dead else record_pb2.SEEN_RESULT_APPLIED
    reason = "not_json" if dead else ""
    return record_pb2.SeenRecord(
        delivery_id=delivery_id, shop="aurora", result=result, reason=reason
    )


def _outcome(
    unit: str,
    *events: tuple[str, str],
    pixel: str = "C1",
    kind: outcome_pb2.OutcomeKind.ValueType = DELIVERED,
    reason: str = "",
) -> outcome_pb2.Outcome:
    return outcome_pb2.Outcome(
        unit=unit,
        sink=f"events.{pixel}",
        shop="aurora",
        kind=kind,
        reason=reason,
        events=[outcome_pb2.EventOutcome(event=e, event_id=i, kind=kind) for e, i in events],
    )


def _event(pixel: str, name: str, event_id: str, value: float | None = 24.0) -> dict[str, Any]:
    return {"key": [pixel, name, event_id], "value": value, "currency": "USD"}


def _tiktok(*events: dict[str, Any]) -> dict[str, Any]:
    return {
        "requests": 2,
        "events_refused": 0,
        "events_dropped": 0,
        "refusals": [],
        "events": list(events),
    }


def _expected() -> Expected:
    return Expected(
        answers=Counter({200: 4, 401: 1}),
        purchases={SHOP: {"purchase.1"}},
        totals={"purchase.1": frozenset({("USD", "24.00"), ("EUR", "22.10")})},
        ignored={"2": "test_order"},
        checkouts={SHOP: {"checkout.t"}},
        additions={SHOP: {("cart", "7"): CartAdditions(frozenset({1, 3}), required=True)}},
        orders={SHOP: {"1": OrderState(paid=True, updated_at=NOON), "2": OrderState(deleted=True)}},
        stock={SHOP: {("item", "place"): 3}},
        products_deleted={SHOP: {"11"}},
        dead={"bad": "malformed.not_json"},
        either={"either"},
        parked=Counter({"stranger.myshopify.com": 1}),
    )


def _world() -> Evidence:
    """Order 1 is bought, order 2 a test; a checkout, a cart; one unreadable, one stranger."""
    outcomes, events = [], []
    for pixel in (PIXEL, OLDER):
        for unit, name, event_id in (
            ("order_paid.1", pixel.purchase_event, "purchase.1"),
            ("checkout_started.t", "InitiateCheckout", "checkout.t"),
            ("cart_lines_added.cart-1", "AddToCart", "atc.cart.7.3"),
        ):
            outcomes.append(_outcome(unit, (name, event_id), pixel=pixel.code))
            events.append(_event(pixel.code, name, event_id))
        silent = _outcome("order_paid.2", pixel=pixel.code, kind=IGNORED, reason="test_order")
        outcomes.append(silent)
    ids = ("first", "second", "bad")
    return Evidence(
        ledger=Ledger(received=6, delivered=2, ignored=Counter(test_order=2), dead=Counter(x=2)),
        seen=[_seen("first"), _seen("second"), _seen("bad", dead=True)],
        outcomes=outcomes,
        parked={DeliveryKey("stranger", "stranger")},
        buried={DeliveryKey("aurora", "bad")},
        orders={
            ("aurora", "1"): OrderState(paid=True, updated_at=NOON),
            ("aurora", "2"): OrderState(deleted=True, updated_at=NOON),
            ("corpus-shop", "1"): OrderState(),
        },
        stock={("aurora", "item", "place"): 3, ("aurora", "item", "elsewhere"): 0},
        products_deleted={("aurora", "11"), ("aurora", "12")},
        sandbox=_tiktok(*events),
        sent=[*map(_sent, ids), _sent("stranger"), _sent("forged", 401, 401)],
        expected=_expected(),
        pixels=[PIXEL, OLDER],
        unit_sinks={"aurora": 2},
    )


def _failed(evidence: Evidence) -> list[str]:
    return [check.name for check in judge(evidence) if not check.passed]


def _with_events(world: Evidence, change: Callable[[list[dict[str, Any]]], object]) -> Evidence:
    """TikTok's events changed, with outcomes that say the same, so that only the oracle differs."""
    events = [dict(event) for event in world.sandbox["events"]]
    change(events)
    told = [_outcome("any", (e["key"][1], e["key"][2]), pixel=e["key"][0]) for e in events]
    silent = [one for one in world.outcomes if one.kind == IGNORED]
    return replace(world, sandbox=_tiktok(*events), outcomes=[*told, *silent])


def _with_ledger(world: Evidence, **changed: Any) -> Evidence:
    return replace(world, ledger=replace(world.ledger, **changed))


def _without_silence(world: Evidence) -> Evidence:
    outcomes = [one for one in world.outcomes if one.kind != IGNORED]
    wrong = _outcome("order_paid.2", kind=IGNORED, reason="too_old")
    older = _outcome("order_paid.2", pixel="C2", kind=IGNORED, reason="test_order")
    return replace(world, outcomes=[*outcomes, wrong, older])


def _with_order(world: Evidence, state: OrderState, order_id: str = "1") -> Evidence:
    return replace(world, orders={**world.orders, ("aurora", order_id): state})


def _with_addition(world: Evidence, event_id: str) -> Evidence:
    return _with_events(world, lambda e: e.append(_event("C1", "AddToCart", event_id)))


def _refused(world: Evidence) -> Evidence:
    refusal = {"request": 2, "label": "40002", "field": "user.email", "events": 1}
    return replace(world, sandbox={**world.sandbox, "events_refused": 1, "refusals": [refusal]})


FAULTS: list[tuple[str, Change]] = [
    ("the ledger balances", lambda w: _with_ledger(w, delivered=1)),
    ("the ledger balances", lambda w: _with_ledger(w, delivered=1, in_flight=Counter(lane=1))),
    ("the ledger balances", lambda w: _with_ledger(w, delivered=1, unaccounted=1)),
    (
        "the ledger holds a unit for each delivery and pixel",
        lambda w: _with_ledger(w, received=5, delivered=1),
    ),
    (
        "every request got the right answer",
        lambda w: replace(w, sent=[*w.sent[:-1], _sent("forged", 503, 401)]),
    ),
    (
        "every request got the right answer",
        lambda w: replace(w, sent=w.sent[:-1]),
    ),
    (
        "every delivery answered 200 is accounted for",
        lambda w: replace(w, seen=[_seen("first"), _seen("bad", dead=True)]),
    ),
    (
        "every delivery answered 200 is accounted for",
        lambda w: replace(w, seen=[*w.seen, _seen("invented")]),
    ),
    (
        "what we call delivered is what TikTok received",
        lambda w: replace(w, outcomes=[*w.outcomes, _outcome("x", ("ViewContent", "v.1"))]),
    ),
    (
        "what we call delivered is what TikTok received",
        lambda w: replace(w, outcomes=w.outcomes[1:]),
    ),
    ("TikTok refused nothing", _refused),
    (
        "TikTok refused nothing",
        lambda w: replace(w, sandbox={**w.sandbox, "events_dropped": 3}),
    ),
    ("purchases are the oracle's", lambda w: _with_events(w, lambda e: e.pop(0))),
    (
        "purchases are the oracle's",
        lambda w: _with_events(w, lambda e: e.append(_event("C1", "Purchase", "purchase.9"))),
    ),
    (
        "amounts of purchases are the orders' totals",
        lambda w: _with_events(w, lambda e: e[0].update(value=24.01)),
    ),
    (
        "amounts of purchases are the orders' totals",
        lambda w: _with_events(w, lambda e: e[0].update(currency="GBP")),
    ),
    ("checkouts are the oracle's", lambda w: _with_events(w, lambda e: e.pop(1))),
    (
        "additions to carts are within the oracle's bounds",
        lambda w: _with_events(w, lambda e: e.pop(2)),
    ),
    (
        "additions to carts are within the oracle's bounds",
        lambda w: _with_events(w, lambda e: e.append(_event("C1", "AddToCart", "atc.cart.7.2"))),
    ),
    (
        "additions to carts are within the oracle's bounds",
        lambda w: _with_addition(w, "nonsense"),
    ),
    ("paid orders that are not reported have the oracle's reason", _without_silence),
    (
        "dead are the oracle's unreadable deliveries",
        lambda w: replace(w, expected=replace(w.expected, dead={})),
    ),
    (
        "dead are the oracle's unreadable deliveries",
        lambda w: replace(w, expected=replace(w.expected, dead={**w.expected.dead, "second": "x"})),
    ),
    ("every dead delivery is in the dead letters", lambda w: replace(w, buried=set())),
    (
        "parked are the deliveries of unknown shops",
        lambda w: replace(w, expected=replace(w.expected, parked=Counter())),
    ),
    (
        "orders stand where the oracle says",
        lambda w: _with_order(w, OrderState(updated_at=NOON)),
    ),
    (
        "orders stand where the oracle says",
        lambda w: _with_order(w, OrderState(paid=True, updated_at=NOON - timedelta(seconds=1))),
    ),
    ("orders stand where the oracle says", lambda w: _with_order(w, OrderState(), "9")),
    ("orders stand where the oracle says", lambda w: replace(w, orders={})),
    ("stock and products stand where the oracle says", lambda w: replace(w, stock={})),
    (
        "stock and products stand where the oracle says",
        lambda w: replace(w, stock={("aurora", "item", "place"): None}),
    ),
    (
        "stock and products stand where the oracle says",
        lambda w: replace(w, products_deleted={("aurora", "12")}),
    ),
]


def test_a_world_that_agrees_with_itself_passes_every_check() -> None:
    found = judge(_world())

    assert [(check.name, check.differences) for check in found if not check.passed] == []
    assert len(found) == len(CHECKS)


@pytest.mark.parametrize(("name", "change"), FAULTS)
def test_what_is_wrong_fails_the_check_that_is_about_it_and_no_other(
    name: str, change: Change
) -> None:
    found = judge(change(_world()))

    assert [check.name for check in found if not check.passed] == [name]


def test_every_check_is_seen_to_fail() -> None:
    assert {name for name, _ in FAULTS} == {check.name for check in judge(_world())}


def test_an_event_that_may_have_arrived_may_also_not_have() -> None:
    maybe = _outcome("order_paid.3", ("ViewContent", "v.1"), kind=UNCERTAIN)
    world = replace(_world(), outcomes=[*_world().outcomes, maybe])
    arrived = _tiktok(*world.sandbox["events"], _event("C1", "ViewContent", "v.1"))

    assert _failed(world) == []
    assert _failed(replace(world, sandbox=arrived)) == []


def test_a_refusal_is_shown_with_its_code_and_field() -> None:
    check = next(one for one in judge(_refused(_world())) if not one.passed)

    assert check.differences == ("request 2: 40002 at user.email, 1 events",)


def test_a_delivery_of_which_no_rule_decides_may_be_dead_or_alive() -> None:
    world = _world()
    dead = replace(
        world,
        seen=[_seen("first"), _seen("second", dead=True), _seen("bad", dead=True)],
        buried=world.buried | {DeliveryKey("aurora", "second")},
        expected=replace(world.expected, either={"second"}),
    )

    assert _failed(dead) == []


def test_what_the_simulator_tells_on_its_own_is_nobody_s_delivery() -> None:
    world = _world()
    own = _seen("00000000-0000-4000-8000-000000000001")

    found = judge(replace(world, seen=[*world.seen, own]))

    assert [check.name for check in found if not check.passed] == []


def test_an_amount_may_be_left_out_where_tiktok_does_not_know_the_currency() -> None:
    world = _with_events(_world(), lambda events: events[0].update(value=None, currency=None))

    assert _failed(world) == []


def test_a_failed_check_names_what_differs_and_at_most_ten_of_it_as_data() -> None:
    lost = [_sent(f"lost-{number:02d}") for number in range(12)]
    world = _world()
    found = {check.name: check for check in judge(replace(world, sent=[*world.sent, *lost]))}

    vanished = found["every delivery answered 200 is accounted for"]

    assert vanished.differences[0] == "missing: aurora/lost-00"
    assert len(vanished.differences) == 12
    assert len(vanished.as_dict()["differences"]) == DIFFERENCES_SHOWN
    assert vanished.as_dict()["differences_total"] == 12
    assert vanished.as_dict()["passed"] is False

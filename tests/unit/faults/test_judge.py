"""The judge of the fault matrix can fail: each doctored ledger is found out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cli.demo.scenery import PixelPlan
from cli.demo.verdict import EventKey
from sandbox.shopify.oracle import CartAdditions, Expected
from tests.faults.judge import DEDUP_WINDOW_S, Books, Costs, judge
from tidewire.delivery.v1 import outcome_pb2

DELIVERED = outcome_pb2.OUTCOME_KIND_DELIVERED
UNCERTAIN = outcome_pb2.OUTCOME_KIND_DELIVERED_UNCERTAIN
DEAD = outcome_pb2.OUTCOME_KIND_DEAD

SHOP = "aurora.myshopify.com"
PIXEL = PixelPlan("C1", SHOP)
OLDER = PixelPlan("C2", SHOP, "pixel_track")
REFUSED = EventKey("C1", "Purchase", "purchase.1")

Change = Callable[[Books], Books]


def accepted(pixel: str, name: str, event_id: str, at_s: float = 0.0) -> dict[str, Any]:
    return {"key": [pixel, name, event_id], "received_at": at_s, "is_duplicate": False}


def outcome(
    pixel: str, name: str, event_id: str, kind: outcome_pb2.OutcomeKind.ValueType = DELIVERED
) -> outcome_pb2.Outcome:
    event = outcome_pb2.EventOutcome(event=name, event_id=event_id, kind=kind)
    return outcome_pb2.Outcome(sink=f"events.{pixel}", kind=kind, events=[event])


@pytest.fixture
def world() -> Books:
    """A purchase, a checkout and a cart of one shop, at both of its pixels."""
    events = [
        (pixel.code, name, event_id)
        for pixel in (PIXEL, OLDER)
        for name, event_id in (
            (pixel.purchase_event, "purchase.1"),
            ("InitiateCheckout", "checkout.t"),
            ("AddToCart", "atc.a.cart.7.3"),
        )
    ]
    expected = Expected(
        purchases={SHOP: {"purchase.1"}},
        checkouts={SHOP: {"checkout.t"}},
        additions={SHOP: {("a.cart", "7"): CartAdditions(frozenset({1, 3}), required=True)}},
    )
    return Books(
        arrived=[accepted(*event) for event in events],
        outcomes=[outcome(*event) for event in events],
        due=expected,
        known=expected,
        pixels=[PIXEL, OLDER],
    )


def without(world: Books, place: int) -> Books:
    """One event less at TikTok, and none the wiser."""
    arrived = [*world.arrived[:place], *world.arrived[place + 1 :]]
    outcomes = [*world.outcomes[:place], *world.outcomes[place + 1 :]]
    return replace(world, arrived=arrived, outcomes=outcomes)


def with_event(world: Books, *event: Any) -> Books:
    return replace(world, arrived=[*world.arrived, accepted(*event)])


def ended_as(world: Books, kind: outcome_pb2.OutcomeKind.ValueType) -> Books:
    """The refused purchase never arrived; our outcome says `kind`."""
    spoiled = without(world, 0)
    told = outcome(*REFUSED, kind)
    return replace(spoiled, outcomes=[*spoiled.outcomes, told], refused={REFUSED})


def test_a_ledger_that_agrees_costs_nothing(world: Books) -> None:
    assert judge(world) == Costs()


@pytest.mark.parametrize("place", range(6))
def test_an_event_that_never_arrived_is_lost(world: Books, place: int) -> None:
    costs = judge(without(world, place))

    assert (len(costs.lost), costs.falsely_done, costs.duplicates) == (1, (), ())


def test_done_by_our_outcomes_and_unknown_to_tiktok_is_falsely_done(world: Books) -> None:
    costs = judge(replace(world, arrived=world.arrived[1:]))

    assert costs.falsely_done == ("C1 Purchase purchase.1",)
    assert costs.lost == costs.falsely_done


def test_an_uncertain_outcome_is_no_false_one_but_the_event_is_lost(world: Books) -> None:
    uncertain = [outcome(*REFUSED, UNCERTAIN), *world.outcomes[1:]]

    costs = judge(replace(world, arrived=world.arrived[1:], outcomes=uncertain))

    assert costs == Costs(lost=("C1 Purchase purchase.1",))


@pytest.mark.parametrize(
    "change",
    [
        lambda w: with_event(w, "C1", "Purchase", "purchase.1", DEDUP_WINDOW_S),
        lambda w: with_event(w, "C1", "CompletePayment", "purchase.1"),
        lambda w: with_event(w, "C1", "Purchase", "purchase.2"),
        lambda w: with_event(w, "C1", "Purchase", "checkout.t"),
        lambda w: with_event(w, "C1", "AddToCart", "atc.a.cart.7.2"),
        lambda w: with_event(w, "C1", "AddToCart", "nonsense"),
        lambda w: with_event(w, "C2", "ViewContent", "v.1"),
    ],
    ids=["late", "other-name", "other-id", "wrong-id", "quantity", "nonsense", "unheard-of"],
)
def test_what_tiktok_counts_beyond_what_happened_is_a_duplicate(
    world: Books, change: Change
) -> None:
    costs = judge(change(world))

    assert costs.duplicates
    assert (costs.lost, costs.falsely_done) == ((), ())


def test_a_repetition_that_tiktok_knows_by_its_key_is_none(world: Books) -> None:
    again = with_event(world, "C1", "Purchase", "purchase.1", DEDUP_WINDOW_S - 1)

    assert judge(again) == Costs()


def test_what_an_earlier_fault_explains_is_no_duplicate(world: Books) -> None:
    earlier = Expected(purchases={SHOP: {"purchase.0"}})
    earlier.merge(world.known)
    late = with_event(world, "C1", "Purchase", "purchase.0")

    assert judge(replace(late, known=earlier)) == Costs()
    assert judge(late).duplicates


@pytest.mark.parametrize("kind", [DEAD, UNCERTAIN])
def test_what_tiktok_refuses_for_good_may_end_so(
    world: Books, kind: outcome_pb2.OutcomeKind.ValueType
) -> None:
    assert judge(ended_as(world, kind)) == Costs()


def test_what_tiktok_refuses_for_good_must_not_be_called_delivered(world: Books) -> None:
    costs = judge(ended_as(world, DELIVERED))

    assert costs.falsely_done == ("C1 Purchase purchase.1",)


def test_what_tiktok_refuses_for_good_must_leave_a_record(world: Books) -> None:
    costs = judge(replace(without(world, 0), refused={REFUSED}))

    assert len(costs.lost) == 1

"""The judge of the races is not to be fooled, and its rounds are the same each time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.faults.report import updated, with_races
from tests.faults.token_house import Handed
from tests.faults.token_judge import Plan, Row, Seen, Strike, complaints, doubles, planned

KILL = Plan(1, Strike.KILL, "grace", asked=True, staged=True, delay_s=0.1, seconds=0.3)
KEPT = Seen(plan=KILL, refreshes=2, answer_lost=True, lost=False, served_s=3.0)
STRICT = replace(KILL, rotation="strict")
LOST = Seen(
    plan=STRICT,
    refreshes=1,
    answer_lost=True,
    lost=True,
    reported_s=3.4,
    condemned=True,
    served_s=4.0,
)
ROW = Row(
    name="tokens.kill-grace",
    what="it is killed",
    rounds=80,
    refreshes_most=2,
    lost=0,
    reported_s=None,
    served_s=3.2,
    dead_calls=0,
    complaints=(),
)


@pytest.mark.parametrize("seen", [KEPT, LOST])
def test_a_round_that_went_as_it_must_is_not_complained_of(seen: Seen) -> None:
    assert list(complaints(seen)) == []


@pytest.mark.parametrize(
    "wrong",
    [
        replace(KEPT, refreshes=3),
        replace(KEPT, refreshes=1),
        replace(KEPT, lost=True, reported_s=2.0, condemned=True),
        replace(KEPT, served_s=None),
        replace(KEPT, served_s=9.0),
        replace(KEPT, dead_calls=1),
        replace(KEPT, reported_s=2.0),
        replace(KEPT, plan=replace(KILL, strike=Strike.NAP), answer_lost=False),
        replace(LOST, reported_s=None),
        replace(LOST, reported_s=5.1),
        replace(LOST, condemned=False),
        replace(LOST, answer_lost=False),
        replace(LOST, lost=False, reported_s=None, condemned=False, refreshes=2),
        replace(LOST, plan=replace(STRICT, strike=Strike.NAP)),
    ],
)
def test_one_thing_that_does_not_hold_is_complained_of(wrong: Seen) -> None:
    assert list(complaints(wrong))


def test_a_losers_token_shows_as_a_second_one_under_a_revision() -> None:
    first = Handed("a.shopify", "auth", 2, "x")

    assert not list(doubles([first, first, Handed("b.shopify", "auth", 2, "y")]))
    assert list(doubles([first, Handed("a.shopify", "auth#2", 2, "y")]))
    assert list(doubles([first, Handed("a.shopify", "auth#2", 3, "x")]))


def test_the_same_seed_plans_the_same_rounds_of_every_kind() -> None:
    plans = planned(200, seed=1)

    assert plans == planned(200, seed=1)
    assert plans != planned(200, seed=2)
    kinds = {(one.strike, one.rotation, one.asked) for one in plans}
    assert len(kinds) == 12
    assert len({one.number for one in plans}) == 200


def test_the_races_of_a_page_are_renewed_and_the_matrix_above_them_stays() -> None:
    matrix = "# The fault matrix\n\n| `nats.kill` | a |\n"

    once = with_races(matrix, [replace(ROW, rounds=3)], "a machine")
    again = with_races(once, [ROW], "a machine")

    assert again.startswith(matrix)
    assert again.count("## Races") == 1
    assert "| `tokens.kill-grace` | it is killed | 80 | 2 | 0 |  | ≤ 5 s | 0 | holds |" in again
    assert "| 3 |" not in again
    assert updated(again, [], ["nats.kill"]) == again

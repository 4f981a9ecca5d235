"""How repeated measurements become one figure and a verdict."""

from __future__ import annotations

import pytest

from tests.bench.figures import (
    Bound,
    Goal,
    Spread,
    goal_text,
    number,
    percentile,
    ratios,
    spread,
    spread_text,
)


def _goal(bound: Bound, median: float) -> Goal:
    return Goal("speed", bound, 3.0, Spread(median, median, median, 1))


def test_a_spread_is_the_median_with_the_lowest_and_the_highest_round() -> None:
    found = spread([10.0, 50.0, 30.0])

    assert found == Spread(30.0, 10.0, 50.0, 3)


def test_no_rounds_are_no_figure() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        spread([])


def test_ratios_are_taken_round_by_round_and_not_between_medians() -> None:
    # One slow round slows both: the ratio of each round is 2, that of mixed rounds is not.
    found = ratios([100.0, 20.0, 60.0], [50.0, 10.0, 30.0])

    assert found == Spread(2.0, 2.0, 2.0, 3)


def test_rounds_that_do_not_pair_up_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        ratios([1.0, 2.0], [1.0])


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.5, 2.0), (0.75, 3.0), (0.99, 4.0), (1.0, 4.0)]
)
def test_a_percentile_is_the_smallest_value_that_covers_its_share(
    share: float, expected: float
) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], share) == expected


def test_a_percentile_of_nothing_is_zero() -> None:
    assert percentile([], 0.5) == 0.0


@pytest.mark.parametrize(
    ("value", "text"),
    [(4702.4, "4,702"), (13.14, "13.1"), (1.084, "1.08"), (0.0421, "0.042"), (0.0, "0.00")],
)
def test_a_number_has_the_digits_that_it_is_worth(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("bound", "meets", "misses"), [(Bound.AT_LEAST, 3.0, 2.99), (Bound.AT_MOST, 3.0, 3.01)]
)
def test_a_goal_is_met_at_its_limit_and_missed_beyond(
    bound: Bound, meets: float, misses: float
) -> None:
    assert _goal(bound, meets).met
    assert not _goal(bound, misses).met


def test_the_median_decides_and_not_the_best_round() -> None:
    goal = Goal("speed", Bound.AT_LEAST, 3.0, Spread(2.0, 1.0, 9.0, 3))

    assert not goal.met


def test_a_missed_goal_says_so_with_what_was_promised_and_the_range() -> None:
    goal = Goal("ours over bare", Bound.AT_LEAST, 3.0, Spread(2.5, 2.0, 2.9, 5))

    assert goal_text(goal) == "MISSED: ours over bare: 2.50 (2.00 to 2.90), goal ≥ 3.00"


def test_a_single_round_is_not_dressed_up_with_a_range() -> None:
    assert spread_text(Spread(2.5, 2.5, 2.5, 1), "ms") == "2.50 ms"

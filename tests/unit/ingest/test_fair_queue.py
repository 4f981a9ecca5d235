"""Deficit round robin."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from libs.fair_queue import FairQueue


def _filled(costs: dict[str, list[int]], quantum: int = 10) -> FairQueue[int]:
    queue: FairQueue[int] = FairQueue(quantum)
    for key, items in costs.items():
        for number, cost in enumerate(items):
            queue.put(key, number, cost)
    return queue


def test_a_quiet_key_is_served_in_the_first_turn_however_long_another_queue_is() -> None:
    queue = _filled({"noisy": [5] * 10_000, "quiet": [5]})

    taken = queue.take(items_max=10, cost_max=1000)

    assert ("quiet", 0) in taken


def test_an_item_larger_than_a_turn_is_served_in_the_end() -> None:
    queue = _filled({"large": [95], "small": [1] * 50})

    taken = queue.take(items_max=1000, cost_max=1000)

    assert ("large", 0) in taken
    assert len(taken) == 51


def test_one_item_beyond_the_cost_bound_is_still_given() -> None:
    queue = _filled({"large": [5000]})

    assert queue.take(items_max=10, cost_max=100) == [("large", 0)]


def test_an_excluded_key_keeps_its_items() -> None:
    queue = _filled({"busy": [1, 1], "free": [1]})

    assert queue.take(items_max=10, cost_max=100, excluded={"busy"}) == [("free", 0)]
    assert queue.size == 2
    assert queue.take(items_max=10, cost_max=100) == [("busy", 0), ("busy", 1)]


@given(
    st.dictionaries(st.sampled_from("abcd"), st.lists(st.integers(1, 50), max_size=20)),
    st.integers(1, 7),
    st.integers(1, 60),
)
def test_everything_comes_out_once_and_in_order(
    costs: dict[str, list[int]], items_max: int, cost_max: int
) -> None:
    queue = _filled(costs)
    out: dict[str, list[int]] = {key: [] for key in costs}
    rounds = 0

    while queue.size and rounds < 5000:
        rounds += 1
        for key, number in queue.take(items_max=items_max, cost_max=cost_max):
            out[key].append(number)

    assert out == {key: list(range(len(items))) for key, items in costs.items()}
    assert queue.cost == 0


def test_keys_share_by_cost_not_by_number() -> None:
    queue = _filled({"heavy": [10] * 1000, "light": [1] * 1000})

    taken = Counter(key for key, _ in queue.take(items_max=110, cost_max=10_000))

    assert taken == {"heavy": 10, "light": 100}

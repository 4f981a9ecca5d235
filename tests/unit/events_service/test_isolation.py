"""What is sent in place of a batch that was refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.events.domain.isolation import parts_after_refusal


@given(st.lists(st.integers(), unique=True, max_size=40), st.none() | st.integers(-2, 45))
def test_the_parts_are_smaller_and_hold_every_event_once(batch: list[int], at: int | None) -> None:
    parts = parts_after_refusal(batch, at)

    assert all(0 < len(part) < len(batch) for part in parts)
    if len(batch) > 1:
        assert sorted(one for part in parts for one in part) == sorted(batch)


def test_a_named_event_goes_alone_and_first() -> None:
    assert [list(part) for part in parts_after_refusal("abcd", 2)] == [["c"], list("abd")]


@pytest.mark.parametrize("at", [None, 4, 99, -1])
def test_without_a_name_that_fits_the_batch_is_halved(at: int | None) -> None:
    assert [list(part) for part in parts_after_refusal("abcd", at)] == [list("ab"), list("cd")]


@pytest.mark.parametrize("batch", ["", "a"])
def test_what_cannot_be_divided_is_the_bad_one(batch: str) -> None:
    assert parts_after_refusal(batch, 0) == []


@pytest.mark.parametrize("bad", [0, 1, 499, 500, 998, 999])
def test_one_bad_event_among_a_thousand_is_found_in_so_many_halvings(bad: int) -> None:
    waiting, requests = [list(range(1000))], 0
    while waiting:
        batch = waiting.pop()
        requests += 1
        if bad in batch:
            waiting += map(list, parts_after_refusal(batch, None))

    assert requests <= 1 + 2 * math.ceil(math.log2(1000))

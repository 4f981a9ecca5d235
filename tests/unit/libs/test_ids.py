from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from libs.clock import FakeClock
from libs.ids import RandomIds, SequentialIds


def test_ids_increase_within_one_millisecond_and_when_the_clock_steps_back() -> None:
    clock = FakeClock()
    ids = RandomIds(clock)

    made = [ids.new() for _ in range(500)]
    clock.advance(-60)
    made += [ids.new() for _ in range(500)]

    assert made == sorted(made)
    assert len(set(made)) == 1000


def test_ids_of_later_milliseconds_sort_later_whoever_makes_them_and_whatever_was_drawn() -> None:
    earlier = RandomIds(FakeClock(1_790_000_000.0), lambda size: b"\xff" * size)
    later = RandomIds(FakeClock(1_790_000_000.002), lambda size: b"\x00" * size)

    assert earlier.new() < later.new()


@given(now_s=st.integers(0, 2**47 // 1000), drawn=st.binary(min_size=10, max_size=10))
def test_an_id_is_26_characters_that_a_subject_may_hold(now_s: int, drawn: bytes) -> None:
    made = RandomIds(FakeClock(now_s), lambda _: drawn).new()

    assert re.fullmatch(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", made)


def test_sequential_ids_can_be_foretold() -> None:
    ids = SequentialIds("segment")

    assert [ids.new(), ids.new()] == ["segment-000001", "segment-000002"]

from __future__ import annotations

import time

import pytest

from libs.clock import SystemClock


@pytest.mark.parametrize("offset_s", [0.0, 5.0, -5.0])
def test_a_clock_may_be_wrong_by_as_much_as_a_test_wants(offset_s: float) -> None:
    before_ns = time.time_ns()

    shown_ns = SystemClock(offset_s).now_ns()

    lag_ns = shown_ns - int(offset_s * 1e9) - before_ns
    assert 0 <= lag_ns < 1_000_000_000


def test_a_wrong_clock_measures_spans_as_a_right_one() -> None:
    began_s = time.monotonic()

    assert 0 <= SystemClock(3600.0).monotonic_s() - began_s < 1

"""How a run of the limiter's bench is judged."""

from __future__ import annotations

import pytest

from tests.bench.limiter import Outage, judged, windows_of
from tests.bench.limiter_replica import Done

SECOND_NS = 1_000_000_000
DONE = [Done(granted=60, operations=15, late=1, throttled=2)] * 2


def _even(per_s: int, from_s: float, until_s: float) -> list[int]:
    count = round((until_s - from_s) * per_s)
    return [int(from_s * SECOND_NS) + number * SECOND_NS // per_s for number in range(count)]


def test_a_second_too_full_is_seen_wherever_it_begins() -> None:
    even = _even(10, 0, 10)

    assert max(windows_of(even)) == 10
    assert max(windows_of(sorted([*even, int(4.55 * SECOND_NS)]))) == 11


def test_use_is_what_arrived_of_what_was_allowed_and_operations_are_those_of_all() -> None:
    found = judged(_even(10, 0, 12), DONE, 10, SECOND_NS, 11 * SECOND_NS, None)

    assert found.use == pytest.approx(1.0)
    assert (found.above, found.most, found.recovery_s) == (0, 10, 0.0)
    assert found.operations_each == 0.25
    assert (found.late, found.throttled) == (2, 4)


def test_an_outage_counts_as_recovery_and_not_as_use_but_its_windows_do() -> None:
    arrivals = [*_even(10, 0, 4), *_even(10, 7, 12), *([8 * SECOND_NS] * 3)]
    outage = Outage(4 * SECOND_NS, 6 * SECOND_NS)

    found = judged(sorted(arrivals), DONE, 10, 0, 12 * SECOND_NS, outage)

    assert found.recovery_s == pytest.approx(1.0)
    assert found.use == pytest.approx(93 / 90)
    assert found.above > 0


def test_a_limit_that_is_never_used_again_has_not_recovered() -> None:
    outage = Outage(4 * SECOND_NS, 6 * SECOND_NS)

    found = judged(_even(10, 0, 4), DONE, 10, 0, 12 * SECOND_NS, outage)

    assert found.recovery_s > 900

"""When tokens are refreshed, tried again, and no longer handed out."""

from __future__ import annotations

import pytest

from services.auth.domain.timing import backoff_s, margin_s, refresh_due_s

_HOUR_S = 3600.0
_DAY_S = 24 * _HOUR_S


@pytest.mark.parametrize(
    ("expires_s", "draw", "due_s"),
    [
        (_HOUR_S, 0.0, 2880.0),
        (_HOUR_S, 0.5, 2790.0),
        (365 * _DAY_S, 0.0, 365 * _DAY_S - 6 * _HOUR_S),
        # Granted when it was over already: due when it ended, not later.
        (-100.0, 0.9, -100.0),
    ],
)
def test_a_token_is_refreshed_when_a_fifth_of_its_life_is_left(
    expires_s: float, draw: float, due_s: float
) -> None:
    assert refresh_due_s(0.0, expires_s, draw=draw) == pytest.approx(due_s)


@pytest.mark.parametrize(
    ("expires_s", "margin"), [(100.0, 2.0), (_HOUR_S, 60.0), (_DAY_S, 60.0), (-5.0, 0.0)]
)
def test_a_token_is_handed_out_until_shortly_before_its_end(
    expires_s: float, margin: float
) -> None:
    assert margin_s(0.0, expires_s) == pytest.approx(margin)


@pytest.mark.parametrize(
    ("failures", "draw", "wait_s"),
    [
        (0, 0.0, 0.5),
        (1, 0.0, 0.5),
        (1, 1.0, 1.0),
        (3, 0.5, 3.0),
        (6, 1.0, 25.0),
        (10_000_000, 0.0, 12.5),
    ],
)
def test_waits_between_tries_double_up_to_less_than_a_recovery_may_take(
    failures: int, draw: float, wait_s: float
) -> None:
    assert backoff_s(failures, draw=draw) == pytest.approx(wait_s)

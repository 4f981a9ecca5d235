"""Every branch of the delivery policy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.bus.verdict import DeadLetter, Done, Later, Park, Verdict, verdict_of
from libs.errors import Kind, ServiceError
from libs.retry import RetryPolicy

_POLICY = RetryPolicy(attempts_max=3, base_s=1.0, cap_s=4.0, probe_s=7.0)


@pytest.mark.parametrize(
    ("error", "attempts", "expected"),
    [
        (None, 1, Done()),
        (ServiceError(Kind.PERMANENT, "bad"), 1, DeadLetter("permanent/bad")),
        (ServiceError(Kind.AUTH, "token_dead"), 9, Park("token_dead")),
        (ServiceError(Kind.THROTTLED, "slow", retry_after_s=3), 9, Later(3, counted=False)),
        (ServiceError(Kind.THROTTLED, "slow"), 9, Later(7.0, counted=False)),
        (ServiceError(Kind.THROTTLED, "slow", retry_after_s=3600), 9, Later(15, counted=False)),
        (ServiceError(Kind.RETRYABLE, "nats_unavailable"), 9, Later(2.0, counted=False)),
        (ServiceError(Kind.RETRYABLE, "gate_shut", retry_after_s=4), 9, Later(4, counted=False)),
        (ServiceError(Kind.RETRYABLE, "down"), 3, DeadLetter("exhausted/down")),
        (ServiceError(Kind.RETRYABLE, "down"), 1, Later(0.5)),
        (ServiceError(Kind.RETRYABLE, "down"), 2, Later(1.0)),
        (ServiceError(Kind.RETRYABLE, "down", retry_after_s=9), 1, Later(9)),
        (ServiceError(Kind.RETRYABLE, "down", retry_after_s=99), 1, Later(15)),
    ],
)
def test_each_kind_of_error_has_its_verdict(
    error: ServiceError | None, attempts: int, expected: Verdict
) -> None:
    verdict = verdict_of(error, attempts=attempts, policy=_POLICY, random=lambda: 0.5)

    assert verdict == expected


@given(st.integers(1, 50), st.floats(0, 1, exclude_max=True))
def test_a_counted_retry_ends_and_never_waits_beyond_the_cap(attempts: int, draw: float) -> None:
    error = ServiceError(Kind.RETRYABLE, "down")

    verdict = verdict_of(error, attempts=attempts, policy=_POLICY, random=lambda: draw)

    if attempts >= _POLICY.attempts_max:
        assert isinstance(verdict, DeadLetter)
    else:
        assert isinstance(verdict, Later)
        assert 0 <= verdict.delay_s <= _POLICY.cap_s

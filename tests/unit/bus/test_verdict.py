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
    ("error", "attempts", "circuit_open", "expected"),
    [
        (None, 1, False, Done()),
        (ServiceError(Kind.PERMANENT, "bad"), 1, False, DeadLetter("permanent/bad")),
        (ServiceError(Kind.PERMANENT, "bad"), 1, True, DeadLetter("permanent/bad")),
        (ServiceError(Kind.AUTH, "token_dead"), 9, False, Park("token_dead")),
        (ServiceError(Kind.THROTTLED, "slow", retry_after_s=3), 9, False, Later(3, counted=False)),
        (ServiceError(Kind.THROTTLED, "slow"), 9, False, Later(7.0, counted=False)),
        (ServiceError(Kind.RETRYABLE, "nats_unavailable"), 9, False, Later(2.0, counted=False)),
        (ServiceError(Kind.RETRYABLE, "down"), 9, True, Later(7.0, counted=False)),
        (ServiceError(Kind.RETRYABLE, "down"), 3, False, DeadLetter("exhausted/down")),
        (ServiceError(Kind.RETRYABLE, "down"), 1, False, Later(0.5)),
        (ServiceError(Kind.RETRYABLE, "down"), 2, False, Later(1.0)),
    ],
)
def test_each_kind_of_error_has_its_verdict(
    error: ServiceError | None,
    attempts: int,
    circuit_open: bool,  # noqa: FBT001
    expected: Verdict,
) -> None:
    verdict = verdict_of(
        error, attempts=attempts, circuit_open=circuit_open, policy=_POLICY, random=lambda: 0.5
    )

    assert verdict == expected


@given(st.integers(1, 50), st.floats(0, 1, exclude_max=True))
def test_a_counted_retry_ends_and_never_waits_beyond_the_cap(attempts: int, draw: float) -> None:
    error = ServiceError(Kind.RETRYABLE, "down")

    verdict = verdict_of(
        error, attempts=attempts, circuit_open=False, policy=_POLICY, random=lambda: draw
    )

    if attempts >= _POLICY.attempts_max:
        assert isinstance(verdict, DeadLetter)
    else:
        assert isinstance(verdict, Later)
        assert 0 <= verdict.delay_s <= _POLICY.cap_s

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.clock import FakeClock
from libs.errors import Kind, ServiceError
from libs.retry import Retrying, RetryPolicy, wait_before_retry_s

POLICY = RetryPolicy(attempts_max=4, base_s=1.0, cap_s=8.0)


def longest() -> float:
    return 1.0


def half() -> float:
    return 0.5


class Flaky:
    """Raises what it was given, one after the other, then answers; counts its calls."""

    def __init__(self, *errors: ServiceError) -> None:
        self._errors = list(errors)
        self.attempts: list[int] = []

    async def __call__(self, attempt: int) -> str:
        self.attempts.append(attempt)
        if self._errors:
            raise self._errors.pop(0)
        return "done"


def retryable(retry_after_s: float | None = None) -> ServiceError:
    return ServiceError(Kind.RETRYABLE, "down", retry_after_s=retry_after_s)


def retrying(clock: FakeClock, policy: RetryPolicy = POLICY) -> Retrying:
    return Retrying(clock=clock, policy=policy, random=longest)


def test_the_longest_wait_doubles_up_to_the_cap() -> None:
    assert [POLICY.delay_s(n, longest) for n in (1, 2, 3, 4, 5)] == [1, 2, 4, 8, 8]


def test_jitter_is_full_so_that_a_wait_may_be_nothing() -> None:
    assert POLICY.delay_s(3, lambda: 0.0) == 0
    assert POLICY.delay_s(3, half) == 2


@given(attempt=st.integers(0, 10**9), drawn=st.floats(0, 1, exclude_max=True))
def test_no_delay_exceeds_its_cap(attempt: int, drawn: float) -> None:
    assert 0 <= POLICY.delay_s(attempt, lambda: drawn) <= POLICY.cap_s


@pytest.mark.parametrize(
    "wrong",
    [{"attempts_max": 0}, {"cap_s": 16.0}, {"base_s": 0.0}, {"base_s": 9.0, "cap_s": 8.0}],
)
def test_a_policy_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        RetryPolicy(**wrong)  # type: ignore[arg-type]  # floats where an int belongs, on purpose


@pytest.mark.parametrize("kind", [Kind.PERMANENT, Kind.AUTH])
def test_what_waiting_cannot_help_is_not_retried(kind: Kind) -> None:
    error = ServiceError(kind, "no")

    wait_s = wait_before_retry_s(error, attempt=1, left_s=60, policy=POLICY, draw=half)

    assert wait_s is None


@pytest.mark.parametrize(
    ("asked_s", "left_s", "expected_s"),
    [(3.0, 60.0, 3.0), (0.0, 60.0, 0.0), (3.0, 3.0, None), (None, 60.0, 0.5), (None, 0.5, None)],
)
def test_what_the_upstream_asks_wins_over_the_schedule_within_the_budget(
    asked_s: float | None, left_s: float, expected_s: float | None
) -> None:
    error = ServiceError(Kind.THROTTLED, "slow", retry_after_s=asked_s)

    assert expected_s == wait_before_retry_s(
        error, attempt=1, left_s=left_s, policy=POLICY, draw=half
    )


async def test_a_call_that_recovers_returns_after_the_waits_it_took() -> None:
    clock, call = FakeClock(), Flaky(retryable(), retryable(retry_after_s=7))

    answer = await retrying(clock).run(call, budget_s=60)

    assert answer == "done"
    assert call.attempts == [1, 2, 3]
    assert clock.slept_s == [1, 7]


async def test_the_last_error_is_raised_when_attempts_are_used_up() -> None:
    clock, call = FakeClock(), Flaky(*(retryable() for _ in range(9)))

    with pytest.raises(ServiceError, match="down"):
        await retrying(clock).run(call, budget_s=60)

    assert call.attempts == [1, 2, 3, 4]


async def test_the_budget_spans_all_waits_together() -> None:
    clock, call = FakeClock(), Flaky(*(retryable() for _ in range(9)))

    with pytest.raises(ServiceError):
        await retrying(clock).run(call, budget_s=3.5)

    assert clock.slept_s == [1, 2]


async def test_a_caller_can_narrow_what_is_retried() -> None:
    clock, call = FakeClock(), Flaky(retryable())

    with pytest.raises(ServiceError):
        await retrying(clock).run(call, budget_s=60, retry_if=lambda _: False)

    assert call.attempts == [1]

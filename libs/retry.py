"""How long to wait before trying again, and the loop that does it for a waiting caller."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from libs.clock import Clock
from libs.errors import Kind, ServiceError
from libs.ids import Random

T = TypeVar("T")

_CAP_MOST_S = 15.0
_DOUBLINGS_MOST = 62  # beyond it every base has met its cap, and 2.0 ** n would overflow


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often and how patiently a failed call is tried again.

    Raises:
        ValueError: a field is out of its range.
    """

    attempts_max: int = 6
    """Tries in all, the first one included; at least 1."""

    base_s: float = 0.5
    """Seconds: the longest wait after the first failure; it doubles with each further one."""

    cap_s: float = 15.0
    """Seconds: no wait is longer. At most 15, so that an outage's end is noticed soon."""

    probe_s: float = 10.0
    """Seconds between looks at an upstream that is down, where it did not say itself."""

    def __post_init__(self) -> None:
        if self.attempts_max < 1:
            raise ValueError("attempts_max counts the first try too, so it is at least 1")
        if not 0 < self.base_s <= self.cap_s <= _CAP_MOST_S:
            raise ValueError(f"0 < base_s <= cap_s <= {_CAP_MOST_S} must hold")
        if self.probe_s <= 0:
            raise ValueError("probe_s must be above 0")

    def delay_s(self, attempt: int, draw: Random) -> float:
        """Seconds to wait after failed try number `attempt` (from 1): exponential, full jitter.

        Jitter is full, from zero up, because workers that fail
        together must not come back together.
        """
        doublings = min(max(attempt - 1, 0), _DOUBLINGS_MOST)
        return draw() * min(self.cap_s, self.base_s * 2.0**doublings)


def worth_retrying(error: ServiceError) -> bool:
    """Whether the same call may succeed later without anybody's help."""
    return error.kind in (Kind.RETRYABLE, Kind.THROTTLED)


def wait_before_retry_s(
    error: ServiceError, *, attempt: int, left_s: float, policy: RetryPolicy, draw: Random
) -> float | None:
    """Seconds to wait after try number `attempt` failed with `error`; None to give up.

    What the upstream asks for wins over the schedule. A wait that would use up the `left_s`
    seconds of the caller is not begun: the caller learns of the failure while it can still act.
    """
    if not worth_retrying(error) or attempt >= policy.attempts_max:
        return None
    asked_s = error.retry_after_s
    wait_s = policy.delay_s(attempt, draw) if asked_s is None else asked_s
    return wait_s if wait_s < left_s else None


@dataclass(frozen=True, kw_only=True)
class Retrying:
    """Tries a call again as the policy says, for a caller that waits.

    Behind the bus let the bus wait: retries multiply.
    """

    clock: Clock
    policy: RetryPolicy
    random: Random

    async def run(
        self,
        call: Callable[[int], Awaitable[T]],
        *,
        budget_s: float,
        retry_if: Callable[[ServiceError], bool] = worth_retrying,
    ) -> T:
        """What `call(attempt)` returns; attempts count from 1, waits fit in `budget_s` seconds.

        The budget bounds the waits, not a try that hangs: give `call` a timeout of its own.
        `retry_if` may narrow what is tried again, for writes that must not happen twice.

        Raises:
            ServiceError: the last try's, once attempts or budget are used up, or at once if
                waiting cannot help.
        """
        deadline_s = self.clock.monotonic_s() + budget_s
        attempt = 1
        while True:
            try:
                return await call(attempt)
            except ServiceError as error:
                wait_s = self._wait_s(error, attempt, deadline_s)
                if wait_s is None or not retry_if(error):
                    raise
            await self.clock.sleep(wait_s)
            attempt += 1

    def _wait_s(self, error: ServiceError, attempt: int, deadline_s: float) -> float | None:
        return wait_before_retry_s(
            error,
            attempt=attempt,
            left_s=deadline_s - self.clock.monotonic_s(),
            policy=self.policy,
            draw=self.random,
        )

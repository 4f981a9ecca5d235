"""What the bus does with a unit after a try: the whole policy, no IO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from libs.errors import Kind, ServiceError
from libs.ids import Random
from libs.retry import RetryPolicy

_NOT_TRIED: Final = frozenset({"nats_unavailable", "refused_by_nats", "contended", "gate_shut"})
"""Trouble of our own store, or a gate that is shut: the unit has not been tried, or its outcome
could not be recorded."""

_NOT_TRIED_S: Final = 2.0
_DELAY_MOST_S: Final = 15.0
"""So that the end of an outage is noticed soon, whatever an upstream asks for."""


@dataclass(frozen=True, slots=True)
class Done:
    """It ended well, or on purpose."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """It is given up; `reason` is its class and code, such as `permanent/upstream_40002`."""

    reason: str


@dataclass(frozen=True, slots=True)
class Park:
    """Its connection needs a person; the unit waits and costs no attempt."""

    code: str


@dataclass(frozen=True, slots=True)
class Later:
    """It is tried again after `delay_s` seconds."""

    delay_s: float
    counted: bool = True


Verdict = Done | DeadLetter | Park | Later


def verdict_of(
    error: ServiceError | None,
    *,
    attempts: int,
    policy: RetryPolicy,
    random: Random,
) -> Verdict:
    """The verdict on a unit whose last try ended in `error` after `attempts` counted tries.

    Attempts count only while the gates are open: an outage or a throttle costs time, never a unit.
    """
    match error:
        case None:
            return Done()
        case ServiceError(kind=Kind.PERMANENT):
            return DeadLetter(f"permanent/{error.code}")
        case ServiceError(kind=Kind.AUTH):
            return Park(error.code)
        case ServiceError(kind=Kind.THROTTLED):
            return Later(_within(error.retry_after_s or policy.probe_s), counted=False)
        case ServiceError(code=code) if code in _NOT_TRIED:
            return Later(_within(error.retry_after_s or _NOT_TRIED_S), counted=False)
        case _ if attempts >= policy.attempts_max:
            return DeadLetter(f"exhausted/{error.code}")
        case _:
            asked_s = error.retry_after_s
            return Later(policy.delay_s(attempts, random) if asked_s is None else _within(asked_s))


def _within(delay_s: float) -> float:
    return min(delay_s, _DELAY_MOST_S)

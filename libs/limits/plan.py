"""Which of those who wait can be given a slot now, and which. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from libs.limits.gcra import HORIZON_NS, Limit, LimitState, charged, slot_ns
from libs.limits.port import Priority

SLOTS_MAX: Final = 512
"""Slots of one reservation."""

_WASTE_MAX_NS: Final = 2_000_000
"""How much time of its first limit a call may leave unused because another is not ready.

A call that waits for a slow limit must not hold a place in the wide one that all share: it comes
back when the slow one is ready.
"""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Demand(Generic[T]):
    """`count` calls of one line that want a slot, all under the same limits, the widest first."""

    line: T
    limits: tuple[Limit, ...]
    weight: int
    priority: Priority
    count: int


@dataclass(slots=True)
class Plan(Generic[T]):
    """What to reserve. `slots` are in the order in which they were given."""

    slots: list[tuple[int, T]] = field(default_factory=list)
    states: dict[str, LimitState] = field(default_factory=dict)
    """The new states of the limits that were charged."""
    blocked: dict[tuple[T, Priority], int] = field(default_factory=dict)
    """When the next slot of a line would be, that has none left within its horizon."""
    retry_ns: int | None = None
    """When there may be room for one of those that are blocked."""


def plan(
    demands: Sequence[Demand[T]], states: Mapping[str, LimitState], earliest_ns: int
) -> Plan[T]:
    """Slots from `earliest_ns` on: the more urgent first, and lines of one priority in turn.

    A demand is served under all of its limits or not at all.
    """
    made: Plan[T] = Plan()
    current = dict(states)
    for priority in Priority:
        waiting = deque((one, one.count) for one in demands if one.priority is priority)
        while waiting and len(made.slots) < SLOTS_MAX:
            demand, left = waiting.popleft()
            if _served(demand, current, made, earliest_ns) and left > 1:
                waiting.append((demand, left - 1))
    return made


def _served(
    demand: Demand[T], current: dict[str, LimitState], made: Plan[T], earliest_ns: int
) -> bool:
    """Gives the demand its next slot; or notes when to come back."""
    frees = [
        slot_ns(
            limit,
            current[limit.name],
            weight=demand.weight,
            priority=demand.priority,
            earliest_ns=earliest_ns,
        )
        for limit in demand.limits
    ]
    at_ns = max(frees)
    ready_ns = at_ns - HORIZON_NS[demand.priority]
    if at_ns - frees[0] > _waste_max_ns(demand.limits[0]):
        ready_ns = max(ready_ns, at_ns)
    if ready_ns > earliest_ns:
        made.blocked[demand.line, demand.priority] = at_ns
        made.retry_ns = ready_ns if made.retry_ns is None else min(made.retry_ns, ready_ns)
        return False
    for limit in demand.limits:
        state = charged(limit, current[limit.name], weight=demand.weight, at_ns=at_ns)
        current[limit.name] = made.states[limit.name] = state
    made.slots.append((at_ns, demand.line))
    return True


def _waste_max_ns(limit: Limit) -> float:
    """Two calls' time, and never less than a couple of milliseconds."""
    return max(_WASTE_MAX_NS, 2 * limit.windows[0].gap_ns if limit.windows else 0.0)

"""Callers of one process that wait for a turn, and the order in which they get one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from libs.errors import ServiceError
from libs.fair_queue import FairQueue
from libs.limits.gcra import Limit
from libs.limits.plan import Demand
from libs.limits.port import Priority

_GONE_MAX: Final = 256
"""Callers that have given up may stay in the queues so long as they are no more than these, or than
those that still wait."""


@dataclass(slots=True, eq=False)
class Waiter:
    """One caller. `turn` becomes the slot it may use."""

    turn: asyncio.Future[int]
    shop: str
    priority: Priority
    deadline_s: float


class Line:
    """Those who wait for the same: `weight` of every one of `limits`.

    A slot belongs to the line, and to a caller only when its time has come: so a more urgent or a
    quieter one takes what was reserved for others, and a caller that leaves costs nothing.
    """

    def __init__(self, limits: tuple[Limit, ...], weight: int) -> None:
        self.limits = limits
        self.weight = weight
        self.late_ns = min(limit.late_ns for limit in limits)
        self.gap_s = max(limit.gap_s(weight) for limit in limits)
        """Seconds that one call takes of the slowest of the limits."""
        self.in_hand = 0
        """Slots that are reserved and whose time has not come."""
        self._counts = dict.fromkeys(Priority, 0)
        self._queues = {priority: FairQueue[Waiter](1) for priority in Priority}
        self._again: deque[Waiter] = deque()
        self._waiting: dict[Waiter, None] = {}

    @property
    def waiting(self) -> int:
        """Callers without a turn."""
        return len(self._waiting)

    @property
    def unmet(self) -> int:
        """Callers for whom no slot is in hand."""
        return max(len(self._waiting) - self.in_hand, 0)

    @property
    def has_spare(self) -> bool:
        """Whether more slots are in hand than callers wait."""
        return self.in_hand > len(self._waiting)

    @property
    def is_idle(self) -> bool:
        return not self._waiting and not self.in_hand

    def put(self, waiter: Waiter) -> None:
        """Behind the others of its shop and priority."""
        self._waiting[waiter] = None
        self._counts[waiter.priority] += 1
        self._queues[waiter.priority].put(waiter.shop, waiter, 1)

    def put_again(self, waiter: Waiter) -> None:
        """Before all others: its slot came too late to be used."""
        self._waiting[waiter] = None
        self._counts[waiter.priority] += 1
        self._again.append(waiter)

    def leave(self, waiter: Waiter) -> None:
        """No longer waits; nothing happens if it does not."""
        if waiter in self._waiting:
            del self._waiting[waiter]
            self._counts[waiter.priority] -= 1
            self._tidy()

    def give(self, slot_ns: int) -> bool:
        """Gives a slot to whoever's turn it is; False if nobody waits."""
        waiter = self._next()
        if waiter is None:
            return False
        self.leave(waiter)
        waiter.turn.set_result(slot_ns)
        return True

    def demands(self) -> Iterator[Demand[Line]]:
        """What is wanted beyond the slots in hand, which the most urgent use first."""
        covered = self.in_hand
        for priority, count in self._counts.items():
            wanted = max(count - covered, 0)
            covered = max(covered - count, 0)
            if wanted:
                yield Demand(self, self.limits, self.weight, priority, wanted)

    def fail_unmet(self, error: ServiceError) -> None:
        """Fails all those for whom no slot is in hand."""
        kept = [one for _, one in zip(range(self.in_hand), iter(self._next, None), strict=False)]
        for waiter in kept:
            self._again.append(waiter)
        keeps = set(kept)
        for waiter in [one for one in self._waiting if one not in keeps]:
            self.fail(waiter, error)

    def fail_later_than(self, slot_s: float, priority: Priority, error: ServiceError) -> None:
        """Fails those of `priority` who do not want to wait until `slot_s`."""
        if self.in_hand:
            return
        for waiter in list(self._waiting):
            if waiter.priority is priority and waiter.deadline_s < slot_s:
                self.fail(waiter, error)

    def fail(self, waiter: Waiter, error: ServiceError) -> None:
        """Ends the wait of one; nothing happens if it has its turn already."""
        if waiter in self._waiting:
            self.leave(waiter)
            if not waiter.turn.done():
                waiter.turn.set_exception(error)

    def _next(self) -> Waiter | None:
        while self._again:
            waiter = self._again.popleft()
            if waiter in self._waiting and not waiter.turn.done():
                return waiter
        for queue in self._queues.values():
            while queue.size:
                [(_, waiter)] = queue.take(items_max=1, cost_max=1)
                if waiter in self._waiting and not waiter.turn.done():
                    return waiter
        return None

    def _tidy(self) -> None:
        """Drops those who left from the queues once they are too many."""
        queued = len(self._again) + sum(queue.size for queue in self._queues.values())
        if queued - len(self._waiting) <= max(_GONE_MAX, len(self._waiting)):
            return
        order = list(iter(self._next, None))
        for waiter in order:
            self._queues[waiter.priority].put(waiter.shop, waiter, 1)

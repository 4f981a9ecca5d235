"""Ends the wait of callers whose patience is over."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from typing import Any

from libs.clock import Clock
from libs.limits.errors import busy
from libs.limits.line import Line, Waiter

_RETRY_MIN_S = 0.05
_RETRY_MAX_S = 15.0


class Deadlines:
    """One timer for all callers that wait."""

    def __init__(
        self, clock: Clock, spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    ) -> None:
        self._clock = clock
        self._spawn = spawn
        self._heap: list[tuple[float, int, Line, Waiter]] = []
        self._count = 0
        self._timer: asyncio.Task[None] | None = None

    def add(self, line: Line, waiter: Waiter) -> None:
        """Fails `waiter` at its deadline, if it still waits then."""
        self._count += 1
        is_next = not self._heap or waiter.deadline_s < self._heap[0][0]
        heapq.heappush(self._heap, (waiter.deadline_s, self._count, line, waiter))
        if is_next and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._spawn(self._run())

    async def _run(self) -> None:
        while self._heap:
            deadline_s, _, line, waiter = self._heap[0]
            if not waiter.turn.done():
                wait_s = deadline_s - self._clock.monotonic_s()
                if wait_s > 0:
                    await self._clock.sleep(wait_s)
                    continue
                # What stands before it, were it alone with its process: the others' share is not
                # known here.
                queue_s = line.waiting * line.gap_s
                retry_s = min(max(queue_s, _RETRY_MIN_S), _RETRY_MAX_S)
                line.fail(waiter, busy(line.limits[0].name, retry_s))
            heapq.heappop(self._heap)
        self._timer = None

"""A clock that many tasks may sleep on: it jumps to the next to wake once nobody has work left."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")

_START_NS: Final = 1_790_000_000_000_000_000
_SETTLES_WITHIN: Final = 60
"""Turns of the event loop after which everybody who can go on has done so."""


class VirtualClock:
    """Time for tests without waiting; the same run takes the same course each time."""

    def __init__(self) -> None:
        self._elapsed_ns = 0
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = 0

    def now_ns(self) -> int:
        return _START_NS + self._elapsed_ns

    def monotonic_s(self) -> float:
        return self._elapsed_ns / 1e9

    async def sleep(self, delay_s: float) -> None:
        self._count += 1
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        wakes_ns = self._elapsed_ns + max(math.ceil(delay_s * 1e9), 0)
        heapq.heappush(self._sleepers, (wakes_ns, self._count, woken))
        await woken

    def jump(self, by_s: float) -> None:
        """Time passes and nobody notices until later, as in a process that is stopped."""
        self._elapsed_ns += int(by_s * 1e9)

    async def drive(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` returns, while the clock goes on as fast as it can.

        Raises:
            AssertionError: nobody sleeps and the work is not done: it would hang.
        """
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                for _ in range(_SETTLES_WITHIN):
                    await asyncio.sleep(0)
                if not task.done():
                    self._wake_next()
            return task.result()
        finally:
            task.cancel()

    def _wake_next(self) -> None:
        while self._sleepers:
            wakes_ns, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                self._elapsed_ns = max(self._elapsed_ns, wakes_ns)
                woken.set_result(None)
                return
        raise AssertionError("nobody sleeps and the work is not done")


class SkewedClock:
    """Another machine's clock: wrong by `skew_s`, as fast as the first."""

    def __init__(self, clock: VirtualClock, skew_s: float) -> None:
        self._clock = clock
        self._skew_s = skew_s

    def now_ns(self) -> int:
        return self._clock.now_ns() + int(self._skew_s * 1_000_000_000)

    def monotonic_s(self) -> float:
        return self._clock.monotonic_s() + self._skew_s

    async def sleep(self, delay_s: float) -> None:
        await self._clock.sleep(delay_s)

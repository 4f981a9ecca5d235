"""Time as an argument: the system's clock, and one that tests turn by hand."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What the suite asks of time."""

    def now_ns(self) -> int:
        """Nanoseconds since the Unix epoch."""

    def monotonic_s(self) -> float:
        """Seconds that never go back; only differences mean anything."""

    async def sleep(self, delay_s: float) -> None:
        """Returns after `delay_s` seconds of this clock."""


class SystemClock:
    """The machine's own time, or one that is wrong by `offset_s` seconds, for tests."""

    def __init__(self, offset_s: float = 0.0) -> None:
        self._offset_ns = int(offset_s * 1_000_000_000)

    def now_ns(self) -> int:
        return time.time_ns() + self._offset_ns

    def monotonic_s(self) -> float:
        return time.monotonic()

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)


class FakeClock:
    """A clock that moves only when told to, or when somebody sleeps on it."""

    def __init__(self, now_s: float = 1_790_000_000.0) -> None:
        self.start_s = now_s
        self.now_s = now_s
        self.slept_s: list[float] = []

    def now_ns(self) -> int:
        return int(self.now_s * 1_000_000_000)

    def monotonic_s(self) -> float:
        return self.now_s

    async def sleep(self, delay_s: float) -> None:
        self.slept_s.append(delay_s)
        self.now_s += delay_s
        await asyncio.sleep(0)

    def advance(self, by_s: float) -> None:
        """Moves the clock forward by `by_s` seconds."""
        self.now_s += by_s

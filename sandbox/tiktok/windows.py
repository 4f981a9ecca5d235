"""What passed in the last second, and in the fullest second there was."""

from __future__ import annotations

from collections import deque

WINDOW_S = 1.0


class SlidingWindow:
    """Counts over every one-second window, not over clock seconds: (now - 1 s, now]."""

    __slots__ = ("_passed", "_total", "peak")

    def __init__(self) -> None:
        self._passed: deque[tuple[float, int]] = deque()
        self._total = 0
        self.peak = 0

    def add(self, now_s: float, units: int) -> None:
        """Counts `units` at the monotonic time `now_s`."""
        self._passed.append((now_s, units))
        self._total += units
        self.peak = max(self.peak, self.count(now_s))

    def count(self, now_s: float) -> int:
        """What passed in the second up to `now_s`."""
        passed = self._passed
        while passed and passed[0][0] <= now_s - WINDOW_S:
            self._total -= passed.popleft()[1]
        return self._total

"""How busy a limit is, for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from libs.limits.gcra import SECOND_NS, Limit, LimitState, bucket_level, bucket_of, pace_at, used

_LENGTHS: Final = {1: "second", 60: "minute", 3600: "hour", 86_400: "day"}


@dataclass(frozen=True, slots=True)
class LimitSeen:
    """One window of a limit, or its bucket."""

    name: str
    units: float
    window_s: float
    pace: float
    used: float
    """Part of the window, or of the bucket, that is spent."""
    reserved_ahead_s: float
    waiters: int
    throttled_ns: int
    """0 where an upstream never did."""
    code: str
    granted: int


def seen_of(limit: Limit, state: LimitState, now_ns: int, waiters: int) -> Iterator[LimitSeen]:
    """One for each window of `limit`; a bucket's window is the time in which it drains."""
    pace = pace_at(state, now_ns)
    ahead_s = max(max(clock.last_ns for clock in state.clocks) - now_ns, 0) / SECOND_NS
    about = (ahead_s, waiters, state.throttled_ns, state.code, state.granted)
    if limit.bucket is not None:
        bucket = bucket_of(limit.bucket, state)
        share = bucket_level(limit.bucket, state, now_ns) / bucket.capacity
        drains_s = bucket.capacity / bucket.restore_per_s
        name = f"{limit.name}/bucket"
        yield LimitSeen(name, bucket.capacity, drains_s, pace, min(share, 1.0), *about)
        return
    clocks = {clock.length_s: clock for clock in state.clocks}
    for window in limit.windows:
        clock = clocks.get(window.length_s)
        share = used(window, clock, now_ns) / window.units if clock is not None else 0.0
        name = f"{limit.name}/{_LENGTHS.get(window.length_s, f'{window.length_s} s')}"
        yield LimitSeen(name, window.units, window.length_s, pace, min(share, 1.0), *about)

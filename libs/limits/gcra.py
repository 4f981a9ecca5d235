"""When a call may be made under a limit that many processes share. Pure: it is told the time.

Each window of a limit has a clock: the generic cell rate algorithm's theoretical arrival time. How
much a window admits follows from the clock alone, so a lost record costs a short quarantine and no
more (ADR 12). Times are nanoseconds of the servers' clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import msgspec

from libs.limits.port import BucketSeen, Priority

SECOND_NS: Final = 1_000_000_000

PACE: Final = 0.98
"""Part of a limit that is used: the rest is what clocks and networks may shift a call by."""

LATE_MAX_NS: Final = 50_000_000
"""A slot that nobody used by then is lost: a process that was paused must not catch up."""

HORIZON_NS: Final = {
    Priority.LIVE: 500_000_000,
    Priority.BACKFILL: 50_000_000,
    Priority.REPLAY: 0,
}
"""How far ahead a priority may reserve. What is reserved cannot be taken back, so whoever gives way
reserves little."""

ROOM: Final = {Priority.LIVE: 0.9, Priority.BACKFILL: 0.7, Priority.REPLAY: 0.5}
"""Part of an upstream's bucket that a priority may fill."""

RECOVERY_S: Final = 60.0
"""Seconds that a pace of nothing would take to recover; from 0.7 it takes 18."""

_BURST: Final = 0.01
_BURST_FROM_UNITS: Final = 1_000
_QUARANTINE_S: Final = (1.0, 60.0)
_SLOWER: Final = 0.7
_SLOWEST: Final = 0.1
_PAUSE_FIRST_S: Final = 1.0
_PAUSE_MAX_S: Final = 15.0
_ASKED_MAX_S: Final = 300.0
_DOUBLINGS_MAX: Final = 10
_CODE_CHARS_MAX: Final = 100


@dataclass(frozen=True)
class Window:
    """At most `units` in any `length_s` seconds; `spaced` ones leave an even gap between calls."""

    units: int
    length_s: int
    spaced: bool = True

    @cached_property
    def gap_ns(self) -> float:
        """Nanoseconds that one unit is worth at full pace."""
        return self.length_s * SECOND_NS / (self.units * PACE)

    @property
    def burst(self) -> float:
        """Units that may be spent at once; what any window admits is `burst` + pace x `units`."""
        return 0.0 if self.spaced else self.units * _BURST


@dataclass(frozen=True)
class Bucket:
    """An upstream's leaky bucket, as declared; once it has been observed that counts instead."""

    capacity: float
    restore_per_s: float


@dataclass(frozen=True)
class Limit:
    """One limit by its declaration: windows, or a bucket."""

    name: str
    windows: tuple[Window, ...] = ()
    bucket: Bucket | None = None

    @classmethod
    def of_windows(cls, name: str, windows: Sequence[tuple[int, int]]) -> Limit:
        """A limit of (units, seconds) pairs, shortest first.

        The shortest is spaced, so that even a second holds what it should. Longer ones of at least
        a thousand units let a hundredth of them come at once.
        """
        ordered = sorted(windows, key=lambda window: window[1])
        spaced = [number == 0 or one[0] < _BURST_FROM_UNITS for number, one in enumerate(ordered)]
        made = (Window(*one, even) for one, even in zip(ordered, spaced, strict=True))
        return cls(name, tuple(made))

    @cached_property
    def weight_max(self) -> int:
        """The heaviest call that can ever have a turn; an observed bucket may hold more."""
        if self.bucket is not None:
            return int(self.bucket.capacity)
        return min(int(window.units if window.spaced else window.burst) for window in self.windows)

    @cached_property
    def late_ns(self) -> int:
        """How late a slot may still be used.

        A pace of 0.98 leaves a fiftieth of the window: a call that is later than that would
        make one too many of those behind it. A quarter of it is left to the way to the upstream.
        """
        if self.bucket is not None:
            return LATE_MAX_NS
        shortest_ns = self.windows[0].length_s * SECOND_NS
        return min(LATE_MAX_NS, int(shortest_ns * (1 / PACE - 1) * 0.75))

    def gap_s(self, weight: int) -> float:
        """Seconds between two calls of `weight` that nothing but this limit holds up."""
        if self.bucket is not None:
            return weight / self.bucket.restore_per_s
        return max(window.gap_ns for window in self.windows) * weight / SECOND_NS


class WindowClock(msgspec.Struct, frozen=True, array_like=True):
    """Where one window stands; a bucket's `length_s` is 0."""

    length_s: int
    tat_ns: int
    """When all that is charged will have drained."""
    last_ns: int = 0
    """The last slot; a heavy call keeps its distance from it too."""
    used: float = 0.0
    """Units of late, an exponential mean over the window: to be looked at, not to decide by."""


class LimitState(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What all replicas share of one limit: the content of its key. New fields go to the end."""

    clocks: tuple[WindowClock, ...]
    granted: int = 0
    paused_until_ns: int = 0
    pace: float = 1.0
    """Part of the pace that was left by the last throttle, at `throttled_ns`."""
    throttled_ns: int = 0
    throttles: int = 0
    """Throttles in a row: each within the recovery from the one before."""
    code: str = ""
    capacity: float = 0.0
    """Of a bucket that was observed; 0.0 before."""
    restore_per_s: float = 0.0


def fresh_state(limit: Limit, now_ns: int) -> LimitState:
    """The state of a limit of which nothing is known: as if all of it had just been used.

    Spaced windows stand still for the length of the shortest, which outlasts every reservation
    that somebody may still hold. Longer ones begin with their burst spent, and a bucket full: from
    there the pace alone keeps every window, whatever was admitted before.
    """
    if limit.bucket is not None:
        full_ns = now_ns + int(limit.bucket.capacity * _bucket_gap_ns(limit.bucket, 1.0))
        return LimitState(clocks=(WindowClock(0, full_ns),))
    least_s, most_s = _QUARANTINE_S
    start_ns = now_ns + int(min(max(limit.windows[0].length_s, least_s), most_s) * SECOND_NS)
    return LimitState(clocks=tuple(_fresh_clock(window, start_ns) for window in limit.windows))


def aligned(limit: Limit, state: LimitState, now_ns: int) -> LimitState:
    """`state` with the clocks that `limit` has by now; those that were not there are fresh."""
    wanted = tuple(window.length_s for window in limit.windows) or (0,)
    if tuple(clock.length_s for clock in state.clocks) == wanted:
        return state
    known = {clock.length_s: clock for clock in state.clocks}
    made = fresh_state(limit, now_ns).clocks
    clocks = tuple(known.get(clock.length_s, clock) for clock in made)
    return msgspec.structs.replace(state, clocks=clocks)


def pace_at(state: LimitState, now_ns: int) -> float:
    """Part of the full pace at `now_ns`: lowered by a throttle, recovering ever since."""
    if state.pace >= 1.0:
        return 1.0
    recovered = max(now_ns - state.throttled_ns, 0) / (RECOVERY_S * SECOND_NS)
    return min(1.0, state.pace + recovered)


def slot_ns(
    limit: Limit, state: LimitState, *, weight: int, priority: Priority, earliest_ns: int
) -> int:
    """The first instant, not before `earliest_ns`, at which `weight` may be spent."""
    earliest_ns = max(earliest_ns, state.paused_until_ns)
    pace = pace_at(state, earliest_ns)
    if limit.bucket is not None:
        bucket = bucket_of(limit.bucket, state)
        # A call that does not fit into the room of its priority waits until the bucket is empty.
        room = max(bucket.capacity * ROOM[priority], float(weight))
        free_ns = state.clocks[0].tat_ns + int((weight - room) * _bucket_gap_ns(bucket, pace)) + 1
        return max(earliest_ns, free_ns)
    slot = earliest_ns
    for window, clock in zip(limit.windows, state.clocks, strict=True):
        gap_ns = window.gap_ns / pace
        if window.spaced:
            free_ns = clock.last_ns + math.ceil(_distance(window, weight) * gap_ns)
            slot = max(slot, clock.tat_ns, free_ns)
        else:
            slot = max(slot, clock.tat_ns + math.ceil((weight - window.burst) * gap_ns))
    return slot


def charged(limit: Limit, state: LimitState, *, weight: int, at_ns: int) -> LimitState:
    """The state once `weight` has been given the slot `at_ns`."""
    pace = pace_at(state, at_ns)
    if limit.bucket is not None:
        gap_ns = _bucket_gap_ns(bucket_of(limit.bucket, state), pace)
        clock = state.clocks[0]
        tat_ns = max(clock.tat_ns, at_ns) + math.ceil(weight * gap_ns)
        clocks: tuple[WindowClock, ...] = (WindowClock(0, tat_ns, at_ns),)
    else:
        clocks = tuple(
            _charged_clock(window, clock, weight, at_ns, pace)
            for window, clock in zip(limit.windows, state.clocks, strict=True)
        )
    return LimitState(
        clocks=clocks,
        granted=state.granted + weight,
        paused_until_ns=state.paused_until_ns,
        pace=state.pace,
        throttled_ns=state.throttled_ns,
        throttles=state.throttles,
        code=state.code,
        capacity=state.capacity,
        restore_per_s=state.restore_per_s,
    )


def throttled(
    state: LimitState, now_ns: int, *, retry_after_s: float | None, code: str
) -> LimitState:
    """The state once an upstream has refused a call: everybody pauses, then goes on more slowly.

    What several replicas are told of one overload counts once: a report during the pause of the
    one before makes the pause longer, and the pace no lower.
    """
    is_same = now_ns < state.paused_until_ns and state.throttled_ns > 0
    recovered = pace_at(state, now_ns) >= 1.0
    throttles = state.throttles if is_same else 1 if recovered else state.throttles + 1
    if retry_after_s is None:
        doublings = min(max(throttles - 1, 0), _DOUBLINGS_MAX)
        pause_s = min(_PAUSE_MAX_S, _PAUSE_FIRST_S * 2.0**doublings)
    else:
        pause_s = min(max(retry_after_s, 0.0), _ASKED_MAX_S)
    until_ns = (state.throttled_ns if is_same and retry_after_s is None else now_ns) + int(
        pause_s * SECOND_NS
    )
    pace = state.pace if is_same else max(_SLOWEST, pace_at(state, now_ns) * _SLOWER)
    return msgspec.structs.replace(
        state,
        paused_until_ns=max(until_ns, state.paused_until_ns),
        pace=pace,
        throttled_ns=state.throttled_ns if is_same else now_ns,
        throttles=throttles,
        code=code[:_CODE_CHARS_MAX],
    )


def observed(limit: Limit, state: LimitState, now_ns: int, seen: BucketSeen) -> LimitState:
    """The state once an upstream has told of its bucket.

    A bucket that is fuller there than we thought is believed at once. One that is emptier may only
    not know yet of calls under way, so that we go half the way each time.
    """
    if limit.bucket is None or seen.capacity <= 0 or seen.restore_per_s <= 0:
        return state
    pace = pace_at(state, now_ns)
    before = bucket_level(limit.bucket, state, now_ns)
    theirs = min(max(seen.capacity - seen.available, 0.0), seen.capacity)
    level = theirs if theirs >= before else (before + theirs) / 2
    told = msgspec.structs.replace(state, capacity=seen.capacity, restore_per_s=seen.restore_per_s)
    gap_ns = _bucket_gap_ns(bucket_of(limit.bucket, told), pace)
    clock = WindowClock(0, now_ns + int(level * gap_ns), state.clocks[0].last_ns)
    return msgspec.structs.replace(told, clocks=(clock,))


def bucket_of(declared: Bucket, state: LimitState) -> Bucket:
    """The bucket as it was observed, or as it is declared."""
    return Bucket(state.capacity, state.restore_per_s) if state.capacity > 0 else declared


def bucket_level(declared: Bucket, state: LimitState, now_ns: int) -> float:
    """Units in the bucket by our own account."""
    gap_ns = _bucket_gap_ns(bucket_of(declared, state), pace_at(state, now_ns))
    return max(state.clocks[0].tat_ns - now_ns, 0) / gap_ns


def used(window: Window, clock: WindowClock, now_ns: int) -> float:
    """Units of late in a window of `window`'s length."""
    return clock.used * math.exp(-max(now_ns - clock.last_ns, 0) / (window.length_s * SECOND_NS))


def _fresh_clock(window: Window, start_ns: int) -> WindowClock:
    tat_ns = start_ns + int(window.burst * window.gap_ns)
    return WindowClock(window.length_s, tat_ns, start_ns - int(window.gap_ns))


def _distance(window: Window, weight: int) -> float:
    """Units that a spaced call keeps from its neighbours.

    Of calls that each keep max(their own, their neighbour's) distance a window holds at most
    `units`, whatever their weights: leave out the lightest, and the distances of the others lie
    side by side within the window.
    """
    if weight == 1:
        return 1.0
    return weight * window.units / max(window.units - weight + 1, 1)


def _charged_clock(
    window: Window, clock: WindowClock, weight: int, at_ns: int, pace: float
) -> WindowClock:
    gap_ns = window.gap_ns / pace
    recent = used(window, clock, at_ns) + weight
    if window.spaced:
        tat_ns = at_ns + math.ceil(_distance(window, weight) * gap_ns)
        return WindowClock(window.length_s, tat_ns, at_ns, recent)
    tat_ns = max(clock.tat_ns, at_ns) + math.ceil(weight * gap_ns)
    return WindowClock(window.length_s, tat_ns, at_ns, recent)


def _bucket_gap_ns(bucket: Bucket, pace: float) -> float:
    return SECOND_NS / (bucket.restore_per_s * PACE * pace)

"""Turns under limits that all replicas share, by reservation (ADR 12)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import suppress
from typing import Any, Final

import structlog

from libs import metric_names
from libs.bus.commit_log import CommitLog, ConflictError, Stored
from libs.clock import Clock
from libs.errors import ServiceError, permanent
from libs.ids import Random
from libs.limits.deadlines import Deadlines
from libs.limits.declared import DeclaredLimits
from libs.limits.desk import Desk, Office
from libs.limits.errors import busy, unreachable
from libs.limits.gcra import Limit, LimitState, bucket_level, bucket_of, observed, throttled
from libs.limits.line import Line, Waiter
from libs.limits.port import BucketSeen, Priority
from libs.limits.records import Known, Records, name_of, state_in
from libs.limits.seen import LimitSeen, seen_of
from libs.limits.server_time import ServerTime
from libs.telemetry import Metrics

Announce = Callable[[Mapping[str, int]], Awaitable[None]]
"""Tells the other replicas until when limits are paused, by name; may be lost."""

Others = Callable[[str], Awaitable[Mapping[str, int]]]
"""Callers of other processes that wait for limits whose name begins so, by name; raises nothing."""

Listing = Callable[[], AsyncIterator[Stored]]
"""Every record there is.

Raises:
    ServiceError: RETRYABLE, where nothing answered.
"""

OPERATION_TIMEOUT_S: Final = 0.5
"""What the log's own timeout should be."""

WAITERS_MAX: Final = 20_000
"""Callers of one process that may wait at once."""

_FULL_AGAIN_S: Final = 1.0
_LINES_MAX: Final = 10_000
_WRITE_TRIES: Final = 6
_WRITE_JITTER_S: Final = 0.005
_OBSERVED_SHARE: Final = 0.02
"""Part of a bucket by which our account of it may be off before that is worth a write."""

_log = structlog.stdlib.get_logger()

Change = Callable[[Limit, LimitState, int], LimitState]
"""The new state of a limit at an instant; the same object where nothing changes."""


class SharedLimiter:
    """`Limiter` on records that all replicas write, each by compare-and-set.

    A process reserves slots for the callers that it has in hand, and gives them out as their times
    come. Callers whose first limit is the same share their writes: name the limit first that most
    callers share.
    """

    def __init__(
        self,
        log: CommitLog,
        listing: Listing,
        *,
        declared: DeclaredLimits,
        time: ServerTime,
        clock: Clock,
        random: Random,
        metrics: Metrics,
        announce: Announce | None = None,
        others: Others | None = None,
    ) -> None:
        self.records = Records(log, clock, metrics)
        self._listing = listing
        self._declared = declared
        self._time = time
        self._clock = clock
        self._random = random
        self._announce = announce
        self._others = others
        self._tasks: set[asyncio.Task[None]] = set()
        self._paused: dict[str, int] = {}
        self._lines: dict[tuple[tuple[str, ...], int], tuple[Desk, Line] | None] = {}
        self._desks: dict[str, Desk] = {}
        self._deadlines = Deadlines(clock, self._spawn)
        self._waiting = 0
        self._turns = {
            result: metrics.counter(metric_names.LIMITER_TURNS, result=result)
            for result in ("granted", "busy", "unreachable")
        }
        self._waited = metrics.histogram(metric_names.LIMITER_WAIT)
        metrics.gauge(metric_names.LIMITER_WAITING, lambda: float(self._waiting))
        self._office = Office(
            records=self.records,
            time=time,
            clock=clock,
            random=random,
            late=metrics.counter(metric_names.LIMITER_LATE),
            paused=self._paused,
            spawn=self._spawn,
        )

    async def turn(
        self,
        limits: Sequence[str],
        *,
        weight: int = 1,
        priority: Priority = Priority.LIVE,
        shop: str = "",
        max_wait_s: float = 1.0,
    ) -> None:
        """Returns when `weight` may be spent of every one of `limits`: of all or of none.

        Raises:
            ServiceError: THROTTLED, `limit_busy` or `limits_unreachable`, with the wait; PERMANENT,
                `limit_undeclared` or `weight_above_limit`.
        """
        found = self._line(tuple(limits), weight)
        if found is None:
            return
        began_s = self._clock.monotonic_s()
        self._waiting += 1
        try:
            await self._turn(*found, shop, priority, began_s + max_wait_s)
        except ServiceError as error:
            self._turns["busy" if error.code == "limit_busy" else "unreachable"].add()
            raise
        finally:
            self._waiting -= 1
        self._turns["granted"].add()
        self._waited.observe(self._clock.monotonic_s() - began_s)

    async def report(
        self, limits: Sequence[str], *, retry_after_s: float | None, code: str
    ) -> None:
        """Tells all replicas that the upstream has throttled: they slow at once."""

        def change(_: Limit, state: LimitState, now_ns: int) -> LimitState:
            slower = throttled(state, now_ns, retry_after_s=retry_after_s, code=code)
            return state if slower.paused_until_ns == state.paused_until_ns else slower

        named = list(self._limits_of(limits))
        if not named or not self._time.is_known:
            return
        # Before anything is written: whatever becomes of that, this process stays away.
        now_ns = self._time.now_ns()
        alone = throttled(LimitState(clocks=()), now_ns, retry_after_s=retry_after_s, code=code)
        self.heard({limit.name: alone.paused_until_ns for limit in named})
        states = await self._change(named, change)
        if states and self._announce is not None:
            await self._announce({name: one.paused_until_ns for name, one in states.items()})

    async def observe(self, limit: str, seen: BucketSeen) -> None:
        """Lets the shared state of a bucket follow what the upstream itself reports."""

        def change(known: Limit, state: LimitState, now_ns: int) -> LimitState:
            told = observed(known, state, now_ns, seen)
            return told if _differs(known, state, told, now_ns) else state

        named = [one for one in self._limits_of([limit]) if one.bucket is not None]
        if named and self._time.is_known:
            await self._change(named, change)

    def heard(self, paused_until_ns: Mapping[str, int]) -> None:
        """Another replica was throttled: what is in hand of these limits is not used."""
        now_ns = self._time.now_ns()
        for name in [name for name, until_ns in self._paused.items() if until_ns < now_ns]:
            del self._paused[name]
        self._paused.update(
            (name, until_ns)
            for name, until_ns in paused_until_ns.items()
            if until_ns > self._paused.get(name, now_ns)
        )
        self.records.forget(paused_until_ns)
        for desk in list(self._desks.values()):
            if desk.holds(list(paused_until_ns)):
                desk.forget_slots()

    async def describe(self, prefix: str = "") -> list[LimitSeen]:
        """Every window of every limit that was ever used and whose name begins so, by name.

        The callers that wait are those of all processes, as far as they answered.

        Raises:
            ServiceError: RETRYABLE, where the shared state did not answer.
        """
        if not self._time.is_known:
            raise unreachable(prefix or "all limits")
        waiters = Counter(self.waiters(prefix))
        if self._others is not None:
            waiters.update(await self._others(prefix))
        found: list[LimitSeen] = []
        async for stored in self._listing():
            name = name_of(stored.subject)
            state = state_in(stored) if name.startswith(prefix) else None
            if state is None:
                continue
            for limit in self._limits_of([name]):
                found += seen_of(limit, state, self._time.now_ns(), waiters[name])
        return sorted(found, key=lambda one: (one.name, one.window_s))

    def waiters(self, prefix: str = "") -> dict[str, int]:
        """Callers of this process that wait for limits whose name begins so, by name."""
        found: Counter[str] = Counter()
        for one in self._lines.values():
            if one is None or not one[1].waiting:
                continue
            for limit in one[1].limits:
                if limit.name.startswith(prefix):
                    found[limit.name] += one[1].waiting
        return dict(found)

    async def close(self) -> None:
        """Ends what is under way; those who wait are told that nothing can be reached."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for one in self._lines.values():
            if one is not None:
                one[1].in_hand = 0
                one[1].fail_unmet(unreachable(one[1].limits[0].name))

    async def _turn(
        self, desk: Desk, line: Line, shop: str, priority: Priority, deadline_s: float
    ) -> None:
        first = line.limits[0].name
        if not self._time.is_known or (desk.is_down and not line.has_spare):
            raise unreachable(first)
        if self._waiting > WAITERS_MAX:
            raise busy(first, _FULL_AGAIN_S)
        put = line.put
        while True:
            waiter = Waiter(asyncio.get_running_loop().create_future(), shop, priority, deadline_s)
            put(waiter)
            self._deadlines.add(line, waiter)
            desk.wants(line, priority)
            try:
                slot_ns = await waiter.turn
            except asyncio.CancelledError:
                self._left(line, waiter)
                raise
            if self._time.now_ns() - slot_ns <= line.late_ns:
                return
            self._office.late.add()
            put = line.put_again

    def _left(self, line: Line, waiter: Waiter) -> None:
        """A caller is gone: what it had goes to the next one."""
        line.leave(waiter)
        turn = waiter.turn
        if turn.done() and not turn.cancelled() and turn.exception() is None:
            line.give(turn.result())

    def _line(self, names: tuple[str, ...], weight: int) -> tuple[Desk, Line] | None:
        """Where callers of the same wait; None where nothing limits them."""
        key = (names, weight)
        try:
            return self._lines[key]
        except KeyError:
            pass
        limits = []
        for name in dict.fromkeys(names):
            limit = self._declared.limit(name)
            if limit is None:
                continue
            if not 1 <= weight <= limit.weight_max:
                raise permanent(
                    "weight_above_limit", f"{weight} can never be spent of {name} at once"
                )
            limits.append(limit)
        if len(self._lines) >= _LINES_MAX:
            self._drop_idle()
        if not limits:
            self._lines[key] = None
            return None
        first = limits[0].name
        desk = self._desks.setdefault(first, Desk(first, self._office))
        self._lines[key] = (desk, Line(tuple(limits), weight))
        return self._lines[key]

    def _drop_idle(self) -> None:
        self._lines = {
            key: one for key, one in self._lines.items() if one is not None and not one[1].is_idle
        }
        self._desks = {name: desk for name, desk in self._desks.items() if not desk.is_idle}

    def _limits_of(self, names: Iterable[str]) -> Iterable[Limit]:
        for name in dict.fromkeys(names):
            with suppress(ServiceError):
                limit = self._declared.limit(name)
                if limit is not None:
                    yield limit

    async def _change(self, limits: Sequence[Limit], change: Change) -> dict[str, LimitState]:
        """Reads, changes and writes, until nobody comes between; what was written, if anything."""
        for attempt in range(_WRITE_TRIES):
            now_ns = self._time.now_ns()
            try:
                known = await self.records.read(limits, now_ns)
                states = _changed(limits, known, change, now_ns)
                if states:
                    await self.records.write(states, known)
            except ConflictError:
                await self._clock.sleep(self._random() * _WRITE_JITTER_S * 2**attempt)
                continue
            except ServiceError as error:
                _log.info("limit_not_written", code=error.code)
                return {}
            return states
        _log.info("limit_not_written", code="contended")
        return {}

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("limiter_failed", exc_info=error)


def _changed(
    limits: Sequence[Limit], known: Mapping[str, Known], change: Change, now_ns: int
) -> dict[str, LimitState]:
    found = {}
    for limit in limits:
        before = known[limit.name]
        state = change(limit, before.state, now_ns)
        if state is not before.state or before.is_new:
            found[limit.name] = state
    return found


def _differs(limit: Limit, before: LimitState, after: LimitState, now_ns: int) -> bool:
    if limit.bucket is None:
        return False
    if bucket_of(limit.bucket, before) != bucket_of(limit.bucket, after):
        return True
    apart = bucket_level(limit.bucket, after, now_ns) - bucket_level(limit.bucket, before, now_ns)
    return abs(apart) > _OBSERVED_SHARE * after.capacity

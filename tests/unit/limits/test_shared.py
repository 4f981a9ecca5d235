"""The shared limiter where its log is slow or silent, and what no interleaving may do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.bus.api import ApiError
from libs.bus.commit_log import ConflictError, Entry, MemoryLog, Stored
from libs.clock import SystemClock
from libs.errors import Kind, ServiceError
from libs.limits import LimitedError, Priority, SharedLimiter
from libs.limits.records import name_of, subject_of
from libs.limits.server_time import ServerTime
from libs.telemetry import Metrics
from tests.contract.limiter_bed import DECLARED, MemoryBed, idle, names


class SlowLog(MemoryLog):
    """A log that answers after `delay_s`; None: never."""

    delay_s: float | None = 0.0

    async def read_fresh(self, subjects: Sequence[str]) -> dict[str, Stored]:
        await self._wait()
        return await super().read_fresh(subjects)

    async def commit(self, entries: Sequence[Entry]) -> int:
        await self._wait()
        return await super().commit(entries)

    async def _wait(self) -> None:
        if self.delay_s is None:
            await asyncio.sleep(0.5)
            raise ServiceError(Kind.RETRYABLE, "nats_unavailable")
        await asyncio.sleep(self.delay_s)


class ContestedLog(SlowLog):
    """A log on which another writer was quicker, `conflicts` times."""

    conflicts: int = 0

    async def commit(self, entries: Sequence[Entry]) -> int:
        await self._wait()
        if self.conflicts:
            self.conflicts -= 1
            raise ConflictError(1)
        return await MemoryLog.commit(self, entries)


class FullLog(SlowLog):
    """A log that reads as ever and has no room for more."""

    is_full = False

    async def commit(self, entries: Sequence[Entry]) -> int:
        if self.is_full:
            raise ApiError("KV_limits", 10077, "maximum bytes exceeded")
        return await super().commit(entries)


async def _limiter(log: MemoryLog) -> SharedLimiter:
    clock = SystemClock()

    async def ask() -> int:
        return clock.now_ns()

    def listing() -> Any:
        raise NotImplementedError

    server_time = ServerTime(clock, ask)
    await server_time.measure()
    return SharedLimiter(
        log,
        listing,
        declared=DECLARED,
        time=server_time,
        clock=clock,
        random=lambda: 0.5,
        metrics=Metrics(),
    )


async def test_a_conflict_that_comes_late_is_an_answer_and_no_outage() -> None:
    [limit] = names("wide")
    log = ContestedLog()
    await idle(log, time.time_ns(), [limit])
    limiter = await _limiter(log)
    await limiter.turn([limit])
    log.delay_s, log.conflicts = 0.06, 1

    with pytest.raises(LimitedError, match="limits_unreachable"):
        await limiter.turn([limit])
    log.delay_s = 0.0

    # Those who waited were sent away, so nobody was left who would ask again for the others.
    async with asyncio.timeout(10):
        while not await _has_turn(limiter, limit):  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(0.02)
    await limiter.close()


async def _has_turn(limiter: SharedLimiter, limit: str) -> bool:
    try:
        await limiter.turn([limit])
    except LimitedError:
        return False
    return True


async def test_while_the_state_is_gone_callers_are_told_within_50_ms_and_afterwards_served() -> (
    None
):
    [limit] = names("wide")
    log = SlowLog()
    await idle(log, time.time_ns(), [limit])
    limiter = await _limiter(log)
    await limiter.turn([limit])
    log.delay_s = None

    took_s = []
    for _ in range(20):
        began_s = time.perf_counter()
        with pytest.raises(LimitedError, match="limits_unreachable"):
            await limiter.turn([limit])
        took_s.append(time.perf_counter() - began_s)
        await asyncio.sleep(0.03)
    log.delay_s = 0.0
    await asyncio.sleep(0.6)
    await limiter.turn([limit])

    # The median: a pause of the test's own process is not the limiter's.
    assert sorted(took_s)[10] < 0.05
    await limiter.close()


async def test_a_state_that_takes_nothing_is_one_that_is_gone() -> None:
    [limit] = names("wide")
    log = FullLog()
    await idle(log, time.time_ns(), [limit])
    limiter = await _limiter(log)
    await limiter.turn([limit])
    log.is_full = True

    with pytest.raises(LimitedError, match="limits_unreachable"):
        await limiter.turn([limit], max_wait_s=5.0)
    await limiter.report([limit], retry_after_s=0.1, code="429")
    log.is_full = False

    async with asyncio.timeout(10):
        while not await _has_turn(limiter, limit):  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(0.02)
    await limiter.close()


async def test_callers_whose_slots_are_in_hand_use_them_though_the_state_is_gone() -> None:
    [limit] = names("ten")
    log = SlowLog()
    await idle(log, time.time_ns(), [limit])
    limiter = await _limiter(log)
    await limiter.turn([limit])
    waiting = [asyncio.ensure_future(limiter.turn([limit], max_wait_s=3.0)) for _ in range(8)]
    await asyncio.sleep(0.05)
    log.delay_s = None

    ended = await asyncio.gather(*waiting, return_exceptions=True)

    assert 2 <= ended.count(None) <= 6
    assert all(one is None or isinstance(one, LimitedError) for one in ended)
    await limiter.close()


async def test_a_state_that_is_always_slow_still_serves_those_who_come_back() -> None:
    [limit] = names("wide")
    log = SlowLog()
    await idle(log, time.time_ns(), [limit])
    limiter = await _limiter(log)
    log.delay_s = 0.06
    granted = 0

    for _ in range(14):
        try:
            await limiter.turn([limit])
        except LimitedError as error:
            await asyncio.sleep(error.retry_after_s or 0.0)
        else:
            granted += 1

    assert granted >= 2
    await limiter.close()


async def test_before_the_servers_time_is_known_nothing_is_granted() -> None:
    async def ask() -> int:
        raise ServiceError(Kind.RETRYABLE, "nats_unavailable")

    limiter = await _limiter(MemoryLog())
    limiter._time = ServerTime(SystemClock(), ask)

    with pytest.raises(LimitedError, match="limits_unreachable"):
        await limiter.turn(names("wide"))


async def test_a_record_that_cannot_be_read_is_as_good_as_none() -> None:
    [limit] = names("fifty")
    log = MemoryLog()
    await log.commit([Entry(subject_of(limit), b"\xc1 of another make")])
    limiter = await _limiter(log)

    with pytest.raises(LimitedError, match="limit_busy"):
        await limiter.turn([limit], max_wait_s=0.2)
    await limiter.turn([limit], max_wait_s=2.0)
    await limiter.close()


async def test_a_process_that_was_stopped_does_not_use_the_slots_of_that_time() -> None:
    [limit] = names("ten")
    bed = MemoryBed()
    await bed.used_long_ago(limit)
    one, other = bed.replicas[:2]
    at: list[float] = []

    async def caller(limiter: SharedLimiter) -> None:
        await limiter.turn([limit], max_wait_s=20.0)
        at.append(bed.clock.monotonic_s())

    async def stopped_in_between() -> None:
        await caller(one)
        stopped = [asyncio.ensure_future(caller(one)) for _ in range(4)]
        await bed.clock.sleep(0.05)
        bed.clock.jump(3.0)
        # Nobody reserved meanwhile: all of what was in hand is late, and the other goes first.
        await asyncio.gather(*(caller(other) for _ in range(5)), *stopped)

    await bed.do(stopped_in_between())

    gaps = [later - earlier for earlier, later in pairwise(at)]
    assert len(at) == 10
    assert min(gaps) > 0.09
    assert one._office.late.value >= 4
    for limiter in bed.replicas:
        await limiter.close()


async def test_a_caller_that_leaves_in_the_moment_of_its_turn_gives_it_to_the_next() -> None:
    [limit] = names("ten")
    limiter = await _limiter(MemoryLog())
    # The limit is new and stands still for a second: nothing but what is given below is granted.
    first, second = (asyncio.ensure_future(limiter.turn([limit], max_wait_s=5.0)) for _ in range(2))
    await asyncio.sleep(0.05)
    found = limiter._lines[(limit,), 1]
    assert found is not None

    found[1].give(limiter._time.now_ns())
    first.cancel()
    await asyncio.sleep(0.05)

    assert first.cancelled()
    assert second.done()
    await limiter.close()


async def test_a_limiter_that_is_closed_leaves_nobody_waiting() -> None:
    [limit] = names("ten")
    log = MemoryLog()
    await idle(log, time.time_ns(), [limit])
    limiter = await _limiter(log)
    crowd = [asyncio.ensure_future(limiter.turn([limit], max_wait_s=30.0)) for _ in range(9)]
    await asyncio.sleep(0.05)

    await limiter.close()
    ended = await asyncio.wait_for(asyncio.gather(*crowd, return_exceptions=True), 5)

    assert sum(isinstance(one, LimitedError) for one in ended) >= 7


def test_a_name_comes_back_from_its_subject() -> None:
    for name in ("tiktok.events.app", "shopify.a b.graphql", "x..y", "é"):
        assert name_of(subject_of(name)) == name


calls = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.floats(0, 1.5),
        st.sampled_from(Priority),
        st.sampled_from(["a", "b"]),
        st.booleans(),
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=25, deadline=None)
@given(calls=calls, lost_s=st.one_of(st.none(), st.floats(0, 1.5)))
async def test_no_interleaving_of_replicas_callers_and_losses_makes_a_second_too_full(
    calls: list[tuple[int, float, Priority, str, bool]], lost_s: float | None
) -> None:
    [limit] = names("ten")
    bed = MemoryBed()
    await bed.used_long_ago(limit)
    at: list[float] = []

    async def caller(replica: int, later_s: float, priority: Priority, shop: str) -> None:
        await bed.clock.sleep(later_s)
        try:
            await bed.replicas[replica].turn([limit], priority=priority, shop=shop, max_wait_s=2.0)
        except LimitedError:
            return
        at.append(bed.clock.monotonic_s())

    async def leaves(work: asyncio.Task[None], later_s: float) -> None:
        await bed.clock.sleep(later_s + 0.2)
        work.cancel()

    async def loses() -> None:
        if lost_s is not None:
            await bed.clock.sleep(lost_s)
            await bed.lose(limit)

    async def everybody() -> None:
        tasks = []
        for replica, later_s, priority, shop, is_leaving in calls:
            task = asyncio.ensure_future(caller(replica, later_s, priority, shop))
            tasks.append(task)
            if is_leaving:
                tasks.append(asyncio.ensure_future(leaves(task, later_s)))
        await asyncio.gather(loses(), *tasks, return_exceptions=True)

    await bed.do(everybody())
    for one in bed.replicas:
        await one.close()

    assert max((sum(one <= x < one + 1.0 for x in at) for one in at), default=0) <= 10

"""Replicas of the shared limiter, in memory with a virtual clock or on a real NATS."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from typing import Any, Final, Protocol, TypeVar
from uuid import uuid4

import msgspec
from nats.aio.client import Client

from libs.bus import streams, subjects
from libs.bus.api import js_api
from libs.bus.commit_log import CommitLog, Entry, MemoryLog, Stored
from libs.bus.jetstream_log import JetStreamLog
from libs.clock import Clock, SystemClock
from libs.foundation import connected
from libs.ids import RandomIds
from libs.limits import DeclaredLimits, LimiterPart, SharedLimiter
from libs.limits.gcra import SECOND_NS, fresh_state
from libs.limits.records import subject_of
from libs.limits.server_time import ServerTime
from libs.telemetry import Metrics
from tests.fakes.nats_server import NatsServer
from tests.fakes.virtual_clock import SkewedClock, VirtualClock

DECLARED: Final = DeclaredLimits(
    "test.*.ten=10/s;test.*.fifty=50/s;test.*.wide=1000/s;test.*.free=none;test.*.shop=1000@50/s;"
    "test.*.rest=40@2/s"
)
SKEWS_S: Final = (0.0, -3.0, 2.0)
"""What the clocks of the replicas are wrong by."""

T = TypeVar("T")


class Bed(Protocol):
    """What the suite needs of either."""

    @property
    def replicas(self) -> Sequence[SharedLimiter]:
        """At least three."""

    @property
    def clock(self) -> Clock:
        """A clock that goes as theirs do."""

    async def do(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` returns."""

    async def used_long_ago(self, *names: str) -> None:
        """Gives limits records, as if they had been used and were idle since."""

    async def lose(self, name: str) -> None:
        """Takes a limit's record away."""


def names(*kinds: str) -> list[str]:
    """Limits of these kinds that no other test uses."""
    own = uuid4().hex[:12]
    return [f"test.{own}.{kind}" for kind in kinds]


async def idle(log: CommitLog, now_ns: int, limits: Sequence[str]) -> None:
    """Writes the records of limits that nobody has used for an hour."""
    for name in limits:
        limit = DECLARED.limit(name)
        assert limit is not None
        state = fresh_state(limit, now_ns - 3600 * SECOND_NS)
        await log.commit([Entry(subject_of(name), msgspec.msgpack.encode(state))])


class MemoryBed:
    """Replicas over one log in memory, whose clocks are seconds apart."""

    def __init__(self, seed: int = 1) -> None:
        self.clock = VirtualClock()
        self.log = MemoryLog()
        self.replicas = [self._replica(skew_s, Random(seed).random) for skew_s in SKEWS_S]

    async def do(self, work: Coroutine[Any, Any, T]) -> T:
        for one in self.replicas:
            await one._time.measure()
        return await self.clock.drive(work)

    async def used_long_ago(self, *names: str) -> None:
        await idle(self.log, self.clock.now_ns(), names)

    async def lose(self, name: str) -> None:
        self.log.expire(subject_of(name))

    def _replica(self, skew_s: float, random: Any) -> SharedLimiter:
        clock = SkewedClock(self.clock, skew_s)

        async def ask() -> int:
            return self.clock.now_ns()

        async def listing() -> AsyncIterator[Stored]:
            for stored in list(self.log.newest.values()):
                yield stored

        async def announce(paused_until_ns: Mapping[str, int]) -> None:
            for one in self.replicas:
                one.heard(paused_until_ns)

        async def others(prefix: str) -> Mapping[str, int]:
            waiters: Counter[str] = Counter()
            for one in self.replicas:
                if one is not made:
                    waiters.update(one.waiters(prefix))
            return waiters

        made = SharedLimiter(
            self.log,
            listing,
            declared=DECLARED,
            time=ServerTime(clock, ask),
            clock=clock,
            random=random,
            metrics=Metrics(),
            announce=announce,
            others=others,
        )
        return made


class NatsBed:
    """Replicas with a connection each to a real server."""

    def __init__(self, clients: Sequence[Client], replicas: Sequence[SharedLimiter]) -> None:
        self.clock = SystemClock()
        self.replicas = replicas
        self._nats = clients[0]
        self._log = JetStreamLog(clients[0], "KV_limits", RandomIds(self.clock))

    async def do(self, work: Coroutine[Any, Any, T]) -> T:
        return await work

    async def used_long_ago(self, *names: str) -> None:
        await idle(self._log, self.clock.now_ns(), names)

    async def lose(self, name: str) -> None:
        stream = subjects.bucket_stream(subjects.LIMITS)
        await js_api(self._nats, f"STREAM.PURGE.{stream}", {"filter": subject_of(name)})


@asynccontextmanager
async def nats_bed(server: NatsServer, count: int = len(SKEWS_S)) -> AsyncIterator[NatsBed]:
    """A bed on `server`; the replicas know the time when it is there."""
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        clients = []
        parts = []
        for _ in range(count):
            client = await connected(server.url)
            stack.push_async_callback(client.close)
            clients.append(client)
        await streams.apply(clients[0], scale_mib=16)
        for client in clients:
            part = LimiterPart(
                client,
                declared=DECLARED,
                clock=clock,
                ids=RandomIds(clock),
                random=Random(1).random,
                metrics=Metrics(),
            )
            await stack.enter_async_context(_running(part))
            parts.append(part)
        yield NatsBed(clients, [part.limiter for part in parts])


@asynccontextmanager
async def _running(part: LimiterPart) -> AsyncIterator[None]:
    is_ready = asyncio.Event()
    running = asyncio.create_task(part.run(is_ready.set))
    try:
        await asyncio.wait_for(is_ready.wait(), 30)
        yield
    finally:
        part.stop()
        await running

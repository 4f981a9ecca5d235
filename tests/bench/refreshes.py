"""Ten thousand connections whose tokens last an hour: none may expire while somebody refreshes.

A simulated day in memory, all granted at the same moment; two simulated hours on a real NATS, on a
clock that runs many times faster than time, granted one after the other before. Then a process of
the service starts on what the two hours left.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

import structlog

from libs.bus import subjects
from libs.bus.commit_log import CommitLog
from libs.bus.follow import bucket_follower
from libs.bus.jetstream_log import JetStreamLog
from libs.bus.streams import create_missing
from libs.clock import Clock, SystemClock
from libs.foundation import connected
from libs.ids import RandomIds
from libs.keys import KekRing, KvKeySource, LocalKek, MemoryKeySource, load_kek
from libs.telemetry import Metrics
from libs.vault import Vault
from services.auth.adapters.grants import GrantStore
from services.auth.domain.grants import Family, Grant
from services.auth.refresher import Refresher
from tests.bench.bed import STREAM_SCALE_MIB, Bed
from tests.bench.figures import Bound, Goal, spread
from tests.bench.machine import CpuMeter, rss_mib
from tests.bench.options import Options
from tests.bench.played_grants import (
    Alone,
    FastClock,
    Provider,
    Providers,
    ShortLog,
    SteppedClock,
    Watch,
)
from tests.bench.report import Section, Table
from tidewire.auth.v1 import record_pb2

Say = Callable[[str], None]

CONNECTIONS: Final = 10_000
CONNECTIONS_QUICK: Final = 200
_DAY_S: Final = 24 * 3600.0
_DAY_S_QUICK: Final = 3 * 3600.0
_TWO_HOURS_S: Final = 2 * 3600.0
_TWO_HOURS_S_QUICK: Final = 3600.0
_SPEED: Final = 30.0
_SPEED_QUICK: Final = 600.0
_BEFORE_S: Final = 2_700.0
"""Granted within so long before: none is due yet, as where somebody has refreshed all along."""
_AT_ONCE: Final = 32


@dataclass(frozen=True, slots=True)
class Span:
    """What came of some simulated hours."""

    where: str
    hours: float
    refreshes: int
    refused: int
    late: int
    least_left_s: float
    wall_s: float
    cpu_s: float
    nats_cores: float

    def row(self) -> tuple[str, ...]:
        """For a table."""
        return (
            self.where,
            f"{self.hours:g}",
            f"{self.refreshes:,}",
            f"{self.late:,}",
            f"{self.least_left_s:,.0f}",
            f"{self.wall_s:,.0f}",
            f"{self.refreshes / self.wall_s:,.0f}",
            f"{self.cpu_s / max(self.refreshes, 1) * 1e3:.2f}",
            f"{self.nats_cores:.2f}" if self.nats_cores else "-",
        )

    def flat(self) -> dict[str, float]:
        """For the JSON."""
        return {
            "hours": self.hours,
            "refreshes": self.refreshes,
            "late": self.late,
            "least_left_s": self.least_left_s,
            "seconds": self.wall_s,
        }


@dataclass(slots=True)
class _House:
    """One process's part of the service, with a provider."""

    clock: Clock
    grants: GrantStore
    provider: Provider
    watch: Watch
    refresher: Refresher

    @classmethod
    def on(cls, log: CommitLog, vault: Vault, clock: Clock) -> _House:
        grants, provider = GrantStore(log, vault), Provider(clock)
        watch = Watch(grants, clock)
        grants.subscribe(watch.look)
        refresher = Refresher(grants, Providers(provider), Alone(), clock, Metrics())
        return cls(clock, grants, provider, watch, refresher)

    async def connect(self, count: int, *, over_s: float) -> None:
        """A grant for each, granted one after the other in the `over_s` seconds before now."""
        numbers = iter(range(count))

        async def work() -> None:
            for number in numbers:
                await self._connect(number, ago_s=over_s * (number + 1) / count)

        await asyncio.gather(*(work() for _ in range(_AT_ONCE)))

    async def _connect(self, number: int, ago_s: float) -> None:
        shop = f"shop-{number}"
        connection_id = f"{shop}.shopify"
        grant = self.provider.granted(f"{shop}.myshopify.com")
        assert grant.expires_at is not None
        expires_at = grant.expires_at - timedelta(seconds=ago_s)
        record = record_pb2.StoredGrant(
            connection_id=connection_id, family=Family.SHOPIFY.value, token_revision=1
        )
        record.granted_at.FromNanoseconds(self.clock.now_ns() - int(ago_s * 1e9))
        await self.grants.seal(
            connection_id,
            Grant(
                access_token=grant.access_token,
                expires_at=expires_at,
                refresh_token=grant.refresh_token,
            ),
            record,
        )
        await self.grants.write(connection_id, record, expected=0)

    def span(
        self, where: str, seconds: float, nats_cores: float, wall_s: float, cpu_s: float
    ) -> Span:
        """What came of `seconds` of this house's clock."""
        self.watch.end()
        return Span(
            where,
            seconds / 3600,
            self.provider.refreshes,
            self.provider.refused,
            self.watch.late,
            self.watch.least_s,
            wall_s,
            cpu_s,
            nats_cores,
        )


async def refreshes(options: Options, say: Say) -> list[Section]:
    """A day in memory, two hours on NATS, and a start on what they left."""
    quiet = structlog.make_filtering_bound_logger(logging.WARNING)
    structlog.configure(wrapper_class=quiet)  # else a line a refresh
    quick = options.quick
    count = CONNECTIONS_QUICK if quick else CONNECTIONS
    day = await in_memory(count, _DAY_S_QUICK if quick else _DAY_S)
    say(f"in memory: {day.refreshes:,} refreshes in {day.wall_s:.0f} s, {day.late} late")
    with Bed(options.directory / "refreshes", options.now, connections="connections: []\n") as bed:
        seconds = _TWO_HOURS_S_QUICK if quick else _TWO_HOURS_S
        hours = await on_nats(bed, count, seconds, _SPEED_QUICK if quick else _SPEED, say)
        say(f"on NATS: {hours.refreshes:,} refreshes in {hours.wall_s:.0f} s, {hours.late} late")
        start = await _start(bed)
    say(f"a process is ready after {start.seconds:.1f} s")
    return [_section(count, [day, hours], start)]


async def in_memory(count: int, seconds: float) -> Span:
    """`count` connections for so many simulated seconds, all granted at the same moment."""
    clock = SteppedClock(time.time_ns())
    house = _House.on(ShortLog(), Vault(MemoryKeySource()), clock)
    await house.connect(count, over_s=0.0)
    span = partial(house.span, "memory, all granted at once", seconds, 0.0)
    began_s, cpu_s = time.monotonic(), time.process_time()
    running = asyncio.create_task(house.refresher.run(lambda: None))
    await clock.run_until(seconds)
    found = span(time.monotonic() - began_s, time.process_time() - cpu_s)
    house.refresher.stop()
    await clock.run_until(seconds + _BEFORE_S)
    await running
    return found


async def on_nats(bed: Bed, count: int, seconds: float, speed: float, say: Say) -> Span:
    """The same on a real NATS at `always`, `speed` times as fast as time."""
    client = await connected(bed.nats.url)
    try:
        await create_missing(client, replicas=bed.nats.count, scale_mib=STREAM_SCALE_MIB)
        ring = KekRing(LocalKek(load_kek(bed.kek_file)))
        keys = await KvKeySource.open(client.jetstream(), ring, timeout_s=30.0)
        bucket = subjects.bucket_stream(subjects.TOKENS)
        clock = FastClock(speed)
        log = JetStreamLog(client, bucket, RandomIds(SystemClock()))
        house = _House.on(log, Vault(keys), clock)
        filled_s = time.monotonic()
        await house.connect(count, over_s=_BEFORE_S)
        say(f"{count:,} grants with a key each, stored in {time.monotonic() - filled_s:.0f} s")
        follower = bucket_follower(client, subjects.TOKENS, house.grants.take)
        following = asyncio.create_task(follower.run(lambda: None))
        meter = CpuMeter({"nats": bed.nats.pids})
        clock.begin()
        began_s, cpu_s = time.monotonic(), time.process_time()
        running = asyncio.create_task(house.refresher.run(lambda: None))
        await clock.sleep(seconds)
        cores = meter.cores()["nats"]
        found = house.span(
            f"NATS at `always`, {speed:g} times as fast",
            seconds,
            cores,
            time.monotonic() - began_s,
            time.process_time() - cpu_s,
        )
        house.refresher.stop()
        follower.stop()
        await asyncio.gather(running, following)
    finally:
        await client.close()
    return found


@dataclass(frozen=True, slots=True)
class Start:
    """A process of the service on a full store."""

    seconds: float
    mib: float


async def _start(bed: Bed) -> Start:
    began_s = time.monotonic()
    auth = await bed.serve_auth()
    try:
        return Start(time.monotonic() - began_s, rss_mib([auth.pid]))
    finally:
        await auth.stop()


def _section(count: int, spans: list[Span], start: Start) -> Section:
    late = sum(one.late for one in spans)
    refused = sum(one.refused for one in spans)
    return Section(
        name="refreshes",
        title=f"Refreshing {count:,} connections whose tokens last an hour",
        goals=(
            Goal("tokens past the time to use them", Bound.AT_MOST, 0, spread([float(late)])),
            Goal("refresh tokens used twice", Bound.AT_MOST, 0, spread([float(refused)])),
        ),
        tables=(
            Table("Simulated hours", _COLUMNS, tuple(one.row() for one in spans)),
            Table(
                "A process of the service that starts on what the hours on NATS left",
                ("connections", "seconds until ready", "MiB then"),
                ((f"{count:,}", f"{start.seconds:.1f}", f"{start.mib:.0f}"),),
            ),
        ),
        notes=(
            "A refresh is a read and two writes, an intent and what came of it, each synced.",
            "*Least left*: for how long a token could still have been used when it was replaced.",
        ),
        raw={"refreshes": [one.flat() for one in spans]},
    )


_COLUMNS: Final = (
    "store",
    "hours",
    "refreshes",
    "late",
    "least left, s",
    "seconds",
    "refreshes/s",
    "ms of processor each",
    "nats cores",
)

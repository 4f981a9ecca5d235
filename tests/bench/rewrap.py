"""All data keys wrapped anew by another KEK, with readers that must not notice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from nats.js import JetStreamContext

from libs.errors import ServiceError
from libs.foundation import connected
from libs.keys import KekRing, KvKeySource, LocalKek, Rewrapped, Rewrapper
from libs.sealing import DataKey, seal, unseal
from tests.bench.figures import Bound, Goal, percentile, spread
from tests.bench.options import Options
from tests.bench.report import Section, Table
from tests.fakes.nats_server import NatsServer

Say = Callable[[str], None]

RECORDS: Final = 10_000
RECORDS_QUICK: Final = 300
_READERS: Final = 4
_MAKERS: Final = 32
_BOUND: Final = b"bench"


@dataclass(slots=True)
class Reads:
    """What the readers met: reads of wrapped keys from the bucket, never from memory."""

    count: int = 0
    failed: int = 0
    times_ms: list[float] = field(default_factory=list)


async def rewrap(options: Options, say: Say) -> list[Section]:
    """Fills a bucket, and wraps it anew while it is read."""
    records = RECORDS_QUICK if options.quick else RECORDS
    old, new = LocalKek(bytes([1]) * 32), LocalKek(bytes([2]) * 32)
    with NatsServer(directory=options.directory / "rewrap") as server:
        client = await connected(server.url)
        try:
            js = client.jetstream()
            keys = await fill(js, KekRing(old), records)
            say(f"{records:,} data keys are there")
            ring = KekRing(new, old)
            started_s = time.monotonic()
            done, reads = await read_all_while(js, ring, keys, Rewrapper(js, ring).rewrap())
            seconds = time.monotonic() - started_s
            status = await Rewrapper(js, KekRing(new)).status()
        finally:
            await client.close()
    say(f"{done.wrapped:,} wrapped anew in {seconds:.1f} s, {reads.count:,} reads")
    return [_section(records, done, reads, seconds, status.by_kek.get(new.kek_id, 0))]


async def fill(js: JetStreamContext, ring: KekRing, count: int) -> dict[str, DataKey]:
    """A data key for each of `count` scopes, wrapped by the ring's primary."""
    source = await KvKeySource.open(js, ring, timeout_s=30.0)
    scopes = iter([f"shop-{number}" for number in range(count)])
    keys: dict[str, DataKey] = {}

    async def make() -> None:
        for scope in scopes:
            keys[scope] = await source.current(scope)

    await asyncio.gather(*(make() for _ in range(_MAKERS)))
    return keys


async def read_all_while(
    js: JetStreamContext,
    ring: KekRing,
    keys: Mapping[str, DataKey],
    work: Coroutine[Any, Any, Rewrapped],
) -> tuple[Rewrapped, Reads]:
    """What `work` gives, and what readers met who went on until it had ended, each key at least
    once."""
    reads, over = Reads(), asyncio.Event()
    kv = await js.key_value("keys")

    async def read(number: int) -> None:
        for place, (scope, key) in enumerate(_turns(list(keys.items()), number)):
            if over.is_set() and place * _READERS >= len(keys):
                return
            # A source of its own has nothing in memory.
            source = KvKeySource(js, kv, ring, timeout_s=10.0)
            started_s = time.monotonic()
            try:
                found = await source.by_id(scope, key.key_id)
                reads.failed += not _is_same(key, found)
            except ServiceError:
                reads.failed += 1
            reads.count += 1
            reads.times_ms.append((time.monotonic() - started_s) * 1000)

    readers = [asyncio.create_task(read(number)) for number in range(_READERS)]
    try:
        done = await work
    finally:
        over.set()
    await asyncio.gather(*readers)
    return done, reads


def _turns(keys: list[tuple[str, DataKey]], first: int) -> Iterator[tuple[str, DataKey]]:
    """Every fourth key, over and over."""
    while mine := keys[first::_READERS]:
        yield from mine


def _is_same(key: DataKey, other: DataKey) -> bool:
    sealed = seal(b"text", key, associated=_BOUND)
    return unseal(sealed, {other.key_id: other}.get, associated=_BOUND) == b"text"


def _section(records: int, done: Rewrapped, reads: Reads, seconds: float, on_new: int) -> Section:
    return Section(
        name="rewrap",
        title=f"Re-wrapping {records:,} data keys while they are read",
        goals=(
            Goal("failed reads", Bound.AT_MOST, 0, spread([float(reads.failed)])),
            Goal("data keys left on the old KEK", Bound.AT_MOST, 0, spread([records - on_new])),
        ),
        tables=(
            Table(
                "One run",
                ("", "wrapped", "seconds", "a second", "reads", "failed", "read p50 ms", "p99 ms"),
                (
                    (
                        "KEK from a file",
                        f"{done.wrapped:,}",
                        f"{seconds:.1f}",
                        f"{done.wrapped / seconds:,.0f}",
                        f"{reads.count:,}",
                        f"{reads.failed:,}",
                        f"{percentile(reads.times_ms, 0.5):.2f}",
                        f"{percentile(reads.times_ms, 0.99):.2f}",
                    ),
                ),
            ),
        ),
        notes=("Each write is synced to disk; readers take every key from the bucket.",),
        raw={"rewrap": [{"seconds": seconds, "reads": reads.count, "failed": reads.failed}]},
    )

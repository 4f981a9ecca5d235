"""Deliveries a second from stored segment to committed state and facts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Any, Final

import msgspec
from nats.aio.client import Client

from libs.bus import subjects
from libs.bus.api import js_api
from libs.foundation import connected
from services.ingest.settings import Settings
from tests.bench.bed import Bed, Child
from tests.bench.figures import Bound, Goal, number, spread, spread_text
from tests.bench.generator import run_job
from tests.bench.load import Job
from tests.bench.machine import CpuMeter, rss_mib
from tests.bench.options import Options
from tests.bench.report import Section, Table

Say = Callable[[str], None]

DELIVERIES: Final = 20_000
DELIVERIES_QUICK: Final = 2_000
_GOAL_PER_S: Final = 3_000.0
_MIXES: Final = {"storm": "a storm of all topics", "orders": "orders alone"}
_REPLICAS: Final = (1, 2)
_WITHIN_S: Final = 600.0
_LOOK_EVERY_S: Final = 0.1

_COLUMNS: Final = (
    "deliveries",
    "replicas",
    "deliveries/s",
    "normalizers",
    "nats",
    "MiB before",
    "MiB after",
    "nats MiB before",
    "nats MiB after",
)


class Pass(msgspec.Struct, frozen=True):
    """All stored segments normalised once. Cores and MiB are of all normalizers together."""

    per_s: float
    seconds: float
    stored_messages: float
    normalizer_cores: float
    nats_cores: float
    normalizer_mib_before: float
    normalizer_mib_after: float
    nats_mib_before: float
    nats_mib_after: float


Key = tuple[str, int]


async def normalizer(options: Options, say: Say) -> list[Section]:
    """Both mixes, with one process and with two, in turn; `always`, one node."""
    count = DELIVERIES_QUICK if options.quick else DELIVERIES
    passes: dict[Key, list[Pass]] = {}
    notes = []
    async with AsyncExitStack() as stack:
        beds = {}
        for mix in _MIXES:
            beds[mix] = stack.enter_context(Bed(options.directory / f"norm-{mix}", options.now))
            notes.append(await _stored(beds[mix], mix, count, options, say))
        for round_number in range(1, options.rounds + 1):
            for mix, bed in beds.items():
                for replicas in _REPLICAS:
                    found = await _pass(bed, replicas, count)
                    passes.setdefault((mix, replicas), []).append(found)
                    say(
                        f"round {round_number}: {_MIXES[mix]}, {replicas} replicas:"
                        f" {number(found.per_s)} deliveries/s"
                    )
    return [_section(passes, notes)]


async def _stored(bed: Bed, mix: str, count: int, options: Options, say: Say) -> str:
    """Has our own door store `count` deliveries, packed as it packs under load; says how."""
    door = await bed.serve("http")
    try:
        job = Job(url=door.url, mix=mix, count=count, now_s=options.now.timestamp())
        burst = await run_job(job)
    finally:
        await door.stop()
    if burst.refused or burst.broken:
        raise RuntimeError(f"{burst.refused + burst.broken} deliveries were not stored")
    state = (await bed.api(f"STREAM.INFO.{subjects.WEBHOOKS}", {}))["state"]
    told = f"{_MIXES[mix]}: {count:,} deliveries in {state['messages']:,} segments"
    say(f"stored {told}")
    return f"{told}, {count / state['messages']:.0f} each."


async def _pass(bed: Bed, replicas: int, count: int) -> Pass:
    await _forget(bed)
    client = await connected(bed.nats.url)
    running: list[Child] = []
    try:
        # Started together, or the first would have done much before the second is there.
        starting = (bed.serve("normalizer") for _ in range(replicas))
        started = await asyncio.gather(*starting, return_exceptions=True)
        running = [one for one in started if isinstance(one, Child)]
        if len(running) < replicas:
            raise RuntimeError("a normalizer did not come up; its log says why")
        groups = {"normalizer": [one.pid for one in running], "nats": bed.nats.pids}
        meter = CpuMeter(groups)
        before = {name: rss_mib(pids) for name, pids in groups.items()}
        await _until_done(client)
        cores = meter.cores()
        state = (await js_api(client, f"STREAM.INFO.{subjects.COMMERCE}"))["state"]
        after = {name: rss_mib(pids) for name, pids in groups.items()}
    finally:
        await asyncio.gather(*(one.stop() for one in running))
        await client.close()
    return _pass_of(state, count, cores, before, after)


async def _forget(bed: Bed) -> None:
    """Everything as before the first delivery was read, but the segments stay."""
    await bed.purge(subjects.COMMERCE, subjects.PARKED, subjects.DEAD_LETTERS)
    durable = f"{subjects.WEBHOOKS}.{subjects.NORMALIZER}"
    names = await bed.api(f"CONSUMER.NAMES.{subjects.WEBHOOKS}", {})
    if subjects.NORMALIZER in (names.get("consumers") or ()):
        await bed.api(f"CONSUMER.DELETE.{durable}", {})


async def _until_done(client: Client) -> None:
    """Returns once every segment has been acknowledged.

    Raises:
        TimeoutError: that took ten minutes.
    """
    deadline_s = time.monotonic() + _WITHIN_S
    name = f"CONSUMER.INFO.{subjects.WEBHOOKS}.{subjects.NORMALIZER}"
    while True:
        info = await js_api(client, name)
        if not info["num_pending"] and not info["num_ack_pending"]:
            return
        if time.monotonic() > deadline_s:
            raise TimeoutError("the normalizer did not come to its end")
        await asyncio.sleep(_LOOK_EVERY_S)


def _pass_of(
    state: Mapping[str, Any],
    count: int,
    cores: Mapping[str, float],
    before: Mapping[str, float],
    after: Mapping[str, float],
) -> Pass:
    """The rate from the first commit to the last, by the server's own times of them.

    The work for the first batch lies before the first commit, so that batch does not count.
    """
    seconds = _instant_s(state["last_ts"]) - _instant_s(state["first_ts"])
    counted = count - Settings.batch_deliveries
    return Pass(
        per_s=counted / seconds,
        seconds=seconds,
        stored_messages=float(state["messages"]),
        normalizer_cores=cores["normalizer"],
        nats_cores=cores["nats"],
        normalizer_mib_before=before["normalizer"],
        normalizer_mib_after=after["normalizer"],
        nats_mib_before=before["nats"],
        nats_mib_after=after["nats"],
    )


def _instant_s(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _section(passes: Mapping[Key, Sequence[Pass]], notes: Sequence[str]) -> Section:
    goal = Goal(
        "deliveries/s at `always`, a storm of all topics, one replica",
        Bound.AT_LEAST,
        _GOAL_PER_S,
        spread([one.per_s for one in passes["storm", 1]]),
    )
    rows = tuple(_row(key, found) for key, found in passes.items())
    return Section(
        name="normalizer",
        title="Normalizer",
        goals=(goal,),
        tables=(Table("From stored segments to committed facts", _COLUMNS, rows),),
        notes=(*notes, "Cores and MiB of the normalizers are of all replicas together."),
        raw={
            f"{_MIXES[mix]}, {replicas} replicas": [msgspec.structs.asdict(one) for one in found]
            for (mix, replicas), found in passes.items()
        },
    )


def _row(key: Key, found: Sequence[Pass]) -> tuple[str, ...]:
    mix, replicas = key
    return (
        _MIXES[mix],
        str(replicas),
        spread_text(spread([one.per_s for one in found])),
        f"{spread([one.normalizer_cores for one in found]).median:.2f}",
        f"{spread([one.nats_cores for one in found]).median:.2f}",
        f"{spread([one.normalizer_mib_before for one in found]).median:.0f}",
        f"{spread([one.normalizer_mib_after for one in found]).median:.0f}",
        f"{spread([one.nats_mib_before for one in found]).median:.0f}",
        f"{spread([one.nats_mib_after for one in found]).median:.0f}",
    )

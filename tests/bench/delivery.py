"""Events a second from COMMERCE to TikTok's receipt, for ten shops and for a thousand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import msgspec
from nats.aio.client import Client

from libs.bus import subjects
from libs.bus.api import js_api
from libs.foundation import connected
from tests.bench.bed import Bed, Child
from tests.bench.commerce import store_facts
from tests.bench.figures import Bound, Goal, number, ratios, spread, spread_text
from tests.bench.machine import CpuMeter, rss_mib
from tests.bench.options import Options
from tests.bench.report import Section, Table
from tests.bench.shops import bench_shops, connections_of

Say = Callable[[str], None]

EVENTS: Final = 20_000
EVENTS_QUICK: Final = 2_000
_GOAL_PER_S: Final = 3_000.0
_GOAL_KEPT: Final = 0.8
_SHOPS: Final = (10, 1_000)
_SHOPS_QUICK: Final = (10, 100)
_LATENCY_MS: Final = 20
_WITHIN_S: Final = 300.0
_LOOK_EVERY_S: Final = 0.25

_COLUMNS: Final = (
    "shops",
    "events/s",
    "events a request",
    "sent twice",
    "events",
    "nats",
    "simulated TikTok",
    "MiB events",
    "MiB nats",
)


class Pass(msgspec.Struct, frozen=True):
    """All stored facts sent once. Cores are of the whole pass, MiB at its end."""

    per_s: float
    seconds: float
    requests: float
    events_a_request: float
    twice: float
    events_cores: float
    nats_cores: float
    sandbox_cores: float
    events_mib: float
    nats_mib: float


@dataclass(slots=True)
class _Setting:
    """A bed whose facts wait to be sent, and its simulated TikTok."""

    bed: Bed
    sandbox: Child


async def delivery(options: Options, say: Say) -> list[Section]:
    """Few shops and many in turn, at `always`, one node."""
    count = EVENTS_QUICK if options.quick else EVENTS
    passes: dict[int, list[Pass]] = {}
    async with AsyncExitStack() as stack:
        settings: dict[int, _Setting] = {}
        for shops in _SHOPS_QUICK if options.quick else _SHOPS:
            settings[shops], each = await _stored(stack, shops, count, options)
            say(f"stored {count:,} paid orders of {shops:,} shops, {each:,.0f} bytes each")
        for round_number in range(1, options.rounds + 1):
            for shops, setting in settings.items():
                found = await _pass(setting, count)
                passes.setdefault(shops, []).append(found)
                say(f"round {round_number}: {shops:,} shops: {number(found.per_s)} events/s")
    return [_section(passes, count)]


async def _stored(
    stack: AsyncExitStack, count_of_shops: int, count: int, options: Options
) -> tuple[_Setting, float]:
    shops = bench_shops(count_of_shops, options.now)
    bed = stack.enter_context(
        Bed(
            options.directory / f"delivery-{count_of_shops}",
            options.now,
            connections=connections_of(shops),
        )
    )
    each = await store_facts(bed, shops, count, options.now)
    sandbox = await bed.sandbox(_LATENCY_MS)
    stack.push_async_callback(sandbox.stop)
    return _Setting(bed, sandbox), each


async def _pass(setting: _Setting, count: int) -> Pass:
    bed, sandbox = setting.bed, setting.sandbox
    await _forget(setting)
    client = await connected(bed.nats.url)
    events: Child | None = None
    try:
        events = await bed.serve_events(sandbox.url)
        ready_s = time.monotonic()
        groups = {"events": [events.pid], "nats": bed.nats.pids, "sandbox": [sandbox.pid]}
        meter = CpuMeter(groups)
        await _until_done(client)
        cores = meter.cores()
        mib = {name: rss_mib(pids) for name, pids in groups.items()}
        ledger = await _ledger(sandbox)
    finally:
        if events is not None:
            await events.stop()
        await client.close()
    return _pass_of(ledger, count, ready_s, cores, mib)


async def _forget(setting: _Setting) -> None:
    """Everything as before the first fact was read, but the facts stay."""
    await setting.bed.purge(subjects.OUTCOMES, subjects.DEAD_LETTERS, subjects.PARKED)
    names = await setting.bed.api(f"CONSUMER.NAMES.{subjects.COMMERCE}", {})
    for name in names.get("consumers") or ():
        await setting.bed.api(f"CONSUMER.DELETE.{subjects.COMMERCE}.{name}", {})
    async with (
        aiohttp.ClientSession() as session,
        session.delete(f"{setting.sandbox.url}/_sandbox/ledger") as answer,
    ):
        answer.raise_for_status()


async def _until_done(client: Client) -> None:
    """Returns once every fact has been acknowledged.

    Raises:
        TimeoutError: that took five minutes.
    """
    deadline_s = time.monotonic() + _WITHIN_S
    while await _left(client):
        if time.monotonic() > deadline_s:
            raise TimeoutError("the events service did not come to its end")
        await asyncio.sleep(_LOOK_EVERY_S)


async def _left(client: Client) -> int:
    listed = await js_api(client, f"CONSUMER.LIST.{subjects.COMMERCE}")
    found = {one["name"]: one for one in listed["consumers"] or ()}
    lanes = [found.get(subjects.events_durable(lane)) for lane in range(subjects.LANES)]
    # What a busy shop has too much of is acknowledged in its lane and waits in PARKED.
    parked = (await js_api(client, f"STREAM.INFO.{subjects.PARKED}"))["state"]["messages"]
    in_lanes = sum(one["num_pending"] + one["num_ack_pending"] if one else 1 for one in lanes)
    return int(in_lanes + parked)


async def _ledger(sandbox: Child) -> dict[str, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{sandbox.url}/_sandbox/ledger?full=1") as answer,
    ):
        found: dict[str, Any] = msgspec.json.decode(await answer.read())
        return found


def _pass_of(
    ledger: Mapping[str, Any],
    count: int,
    ready_s: float,
    cores: Mapping[str, float],
    mib: Mapping[str, float],
) -> Pass:
    """The rate at the receiver, from when the service was ready to the last request's arrival.

    Raises:
        RuntimeError: not every event has arrived, so that there is no rate to speak of.
    """
    if ledger["events_unique"] != count:
        raise RuntimeError(f"{ledger['events_unique']:,} of {count:,} events arrived")
    arrivals = [at_s for every in ledger["arrivals"].values() for at_s, _ in every]
    # A lane may have begun before the service as a whole said that it is ready.
    seconds = max(arrivals) - min(*arrivals, ready_s)
    requests = ledger["requests"]
    return Pass(
        per_s=count / seconds,
        seconds=seconds,
        requests=requests,
        events_a_request=ledger["events_received"] / requests,
        twice=ledger["events_duplicate"],
        events_cores=cores["events"],
        nats_cores=cores["nats"],
        sandbox_cores=cores["sandbox"],
        events_mib=mib["events"],
        nats_mib=mib["nats"],
    )


def _section(passes: Mapping[int, Sequence[Pass]], count: int) -> Section:
    few, many = passes
    rates = {shops: [one.per_s for one in found] for shops, found in passes.items()}
    goals = (
        Goal(
            f"events/s at `always`, {few} shops, one process",
            Bound.AT_LEAST,
            _GOAL_PER_S,
            spread(rates[few]),
        ),
        Goal(
            f"events/s of {many:,} shops over those of {few}",
            Bound.AT_LEAST,
            _GOAL_KEPT,
            ratios(rates[many], rates[few]),
        ),
    )
    rows = tuple(_row(shops, found) for shops, found in passes.items())
    return Section(
        name="delivery",
        title="Delivery: from COMMERCE to TikTok",
        goals=goals,
        tables=(Table("Facts to receipts; processes in cores used", _COLUMNS, rows),),
        notes=(
            f"{count:,} paid orders, each of another person, the shops' in turn; a pixel a shop.",
            f"The simulator checks every field and answers after {_LATENCY_MS} ms.",
            "It, NATS and the service share the cores.",
        ),
        raw={
            f"{shops} shops": [msgspec.structs.asdict(one) for one in found]
            for shops, found in passes.items()
        },
    )


def _row(shops: int, found: Sequence[Pass]) -> tuple[str, ...]:
    return (
        f"{shops:,}",
        spread_text(spread([one.per_s for one in found])),
        number(spread([one.events_a_request for one in found]).median),
        f"{sum(one.twice for one in found):,.0f}",
        *(f"{spread(one).median:.2f}" for one in _cores(found)),
        f"{spread([one.events_mib for one in found]).median:.0f}",
        f"{spread([one.nats_mib for one in found]).median:.0f}",
    )


def _cores(found: Sequence[Pass]) -> tuple[list[float], ...]:
    return (
        [one.events_cores for one in found],
        [one.nats_cores for one in found],
        [one.sandbox_cores for one in found],
    )

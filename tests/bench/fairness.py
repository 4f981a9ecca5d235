"""How soon a quiet shop's events arrive while another shop of its lane is in trouble."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Final

import aiohttp
import msgspec

from cli.stack import Stack
from sandbox.shopify.model import Shop
from tests.bench.figures import Bound, Goal, number, percentile, spread, spread_text
from tests.bench.generator import run_job
from tests.bench.load import Job, one_paid_order
from tests.bench.options import Options
from tests.bench.report import Section, Table
from tests.bench.shops import bench_shops, connections_of, handle_of, pixel_of

Say = Callable[[str], None]

_LANE: Final = 3
_LATENCY_MS: Final = 20
_EVERY_S: Final = 0.5
_WAITED_S: Final = 60.0
"""An event that has not arrived so long after its 200 counts as this late."""

_GOAL_TIMES: Final = 2.0
_GOAL_MORE_MS: Final = 1_000.0
_FIRST_ID: Final = 7_000_000_000


@dataclass(frozen=True, slots=True)
class Trouble:
    """What happens to the other shop: deliveries at once, and a fault of its pixel's answers."""

    name: str
    deliveries: int = 0
    effect: Mapping[str, object] | None = None


TROUBLES: Final = (
    Trouble("idle"),
    Trouble("10,000 deliveries at once", 10_000),
    Trouble("a dead token", 2_000, {"kind": "code", "code": 40105}),
    Trouble("a hung destination", 2_000, {"kind": "hang"}),
)
_QUICK_DELIVERIES: Final = 200


class Watched(msgspec.Struct, frozen=True):
    """The quiet shop's events under one trouble, from 200 to receipt."""

    p50_ms: float
    p99_ms: float
    events: float
    late: float
    """Events that did not arrive within a minute."""

    others_per_s: float
    """How fast the other shop's deliveries were taken at the door."""


async def fairness(options: Options, say: Say) -> list[Section]:
    """Each trouble in a suite of its own, in turn."""
    found: dict[str, list[Watched]] = {}
    for round_number in range(1, options.rounds + 1):
        for place, trouble in enumerate(TROUBLES):
            directory = options.directory / f"fairness-{round_number}-{place}"
            async with _suite(directory) as (stack, quiet, other):
                watched = await _watched(stack, quiet, other, trouble, options)
            found.setdefault(trouble.name, []).append(watched)
            say(f"round {round_number}: {trouble.name}: p99 {number(watched.p99_ms)} ms")
    return [_section(found)]


@asynccontextmanager
async def _suite(directory: Path) -> AsyncIterator[tuple[Stack, Shop, Shop]]:
    """Every process, and two shops of one lane, each with a pixel and a token of its own."""
    quiet, other = bench_shops(2, datetime.now(UTC), lane=_LANE)
    environ = {
        **os.environ,
        "TIDEWIRE_SANDBOX_LATENCY_MS": str(_LATENCY_MS),
        "TIDEWIRE_STREAM_SCALE_MIB": "512",
    }
    async with Stack(directory, environ) as stack:
        stack.connections_file.write_text(connections_of([quiet, other]), encoding="utf-8")
        await stack.start_all()
        yield stack, quiet, other


async def _watched(
    stack: Stack, quiet: Shop, other: Shop, trouble: Trouble, options: Options
) -> Watched:
    if trouble.effect is not None:
        await _post_fault(stack, {"match": {"pixel": pixel_of(other)}, "effect": trouble.effect})
    rng = Random(5)
    # The first order wakes everything up (keys, connections) and is not counted.
    await _received(stack, quiet, await _sent(stack, quiet, rng, _FIRST_ID, lambda: False))
    noise = asyncio.create_task(_noise(stack, other, trouble, options))
    afterwards = options.seconds * 5

    def goes_on() -> bool:
        return not noise.done() or time.time() < noise.result().ended_s + afterwards

    sent_s = await _sent(stack, quiet, rng, _FIRST_ID + 1, goes_on)
    heard = noise.result()
    # While the other shop's deliveries are prepared nothing is amiss yet.
    answered_s = {one: at_s for one, at_s in sent_s.items() if at_s >= heard.began_s}
    received_s = await _received(stack, quiet, answered_s)
    waits_ms = [
        (received_s[event_id] - at_s if event_id in received_s else _WAITED_S) * 1000
        for event_id, at_s in answered_s.items()
    ]
    return Watched(
        p50_ms=percentile(waits_ms, 0.5),
        p99_ms=percentile(waits_ms, 0.99),
        events=len(waits_ms),
        late=len(answered_s.keys() - received_s.keys()),
        others_per_s=heard.per_s,
    )


@dataclass(frozen=True, slots=True)
class _Noise:
    """When the other shop sent what it sent, and how fast that was taken."""

    began_s: float
    ended_s: float
    per_s: float


async def _noise(stack: Stack, other: Shop, trouble: Trouble, options: Options) -> _Noise:
    """Sends what the other shop sends, over 64 connections."""
    if not trouble.deliveries:
        return _Noise(time.time(), time.time(), 0.0)
    burst = await run_job(
        Job(
            url=stack.webhooks_url,
            mix="paid",
            count=_QUICK_DELIVERIES if options.quick else trouble.deliveries,
            now_s=time.time(),
            shop=handle_of(other),
        )
    )
    ended_s = time.time()
    return _Noise(ended_s - burst.seconds, ended_s, burst.per_s)


async def _post_fault(stack: Stack, fault: Mapping[str, object]) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{stack.sandbox_url}/_sandbox/faults", json=[fault]) as answer,
    ):
        answer.raise_for_status()


async def _sent(
    stack: Stack, shop: Shop, rng: Random, first_id: int, goes_on: Callable[[], bool]
) -> dict[str, float]:
    """When each order's webhook was answered, by event id; one order at least."""
    answered_s: dict[str, float] = {}
    async with aiohttp.ClientSession() as session:
        for order_id in itertools.count(first_id):
            began_s = time.monotonic()
            order = one_paid_order(rng, shop, datetime.now(UTC), order_id)
            async with session.post(
                stack.webhooks_url, data=order.body, headers=dict(order.headers)
            ) as answer:
                answer.raise_for_status()
            answered_s[f"purchase.{order_id}"] = time.time()
            await asyncio.sleep(max(began_s + _EVERY_S - time.monotonic(), 0.0))
            if not goes_on():
                break
    return answered_s


async def _received(stack: Stack, shop: Shop, wanted: Mapping[str, float]) -> dict[str, float]:
    """When the simulator had each event of the shop, without those that never came."""
    deadline_s = time.monotonic() + _WAITED_S
    pixel = pixel_of(shop)
    async with aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{stack.sandbox_url}/_sandbox/ledger") as answer:
                summary: dict[str, Any] = msgspec.json.decode(await answer.read())
            arrived = summary["by_pixel"].get(pixel, {}).get("unique", 0)
            # The full ledger of ten thousand others is long: it is read once, at the end.
            if arrived >= _events_so_far(wanted) or time.monotonic() > deadline_s:
                break
            await asyncio.sleep(0.2)
        async with session.get(f"{stack.sandbox_url}/_sandbox/ledger?full=1") as answer:
            ledger: dict[str, Any] = msgspec.json.decode(await answer.read())
    keys = ((event["key"], event["received_at"]) for event in ledger["events"])
    return {key[2]: at_s for key, at_s in keys if key[0] == pixel and key[2] in wanted}


def _events_so_far(wanted: Mapping[str, float]) -> int:
    """How many events the shop has had in all: ids are given without gaps."""
    return max(int(one.rpartition(".")[2]) for one in wanted) - _FIRST_ID + 1


def _section(found: Mapping[str, Sequence[Watched]]) -> Section:
    idle, *troubles = found
    idle_ms = spread([one.p99_ms for one in found[idle]]).median
    limit_ms = _GOAL_TIMES * idle_ms + _GOAL_MORE_MS
    goals = tuple(
        Goal(
            f"a quiet shop's p99 while its lane's other shop has {name}",
            Bound.AT_MOST,
            limit_ms,
            spread([one.p99_ms for one in found[name]]),
            "ms",
        )
        for name in troubles
    )
    columns = ("the other shop", "p50 ms", "p99 ms", "events", "not in a minute", "others' req/s")
    rows = tuple(_row(name, every) for name, every in found.items())
    return Section(
        name="fairness",
        title="Fairness: a quiet shop beside one of its lane",
        goals=goals,
        tables=(Table("From a quiet shop's 200 to the receipt at TikTok", columns, rows),),
        notes=(
            f"An order every {_EVERY_S:g} s. With so few events p99 is the slowest one.",
            f"The goal is {_GOAL_TIMES:g} x idle + {_GOAL_MORE_MS:g} ms.",
            f"What has not arrived after {_WAITED_S:g} s counts as that late.",
        ),
        raw={name: [msgspec.structs.asdict(one) for one in every] for name, every in found.items()},
    )


def _row(name: str, every: Sequence[Watched]) -> tuple[str, ...]:
    return (
        name,
        spread_text(spread([one.p50_ms for one in every])),
        spread_text(spread([one.p99_ms for one in every])),
        f"{sum(one.events for one in every):,.0f}",
        f"{sum(one.late for one in every):,.0f}",
        spread_text(spread([one.others_per_s for one in every])),
    )

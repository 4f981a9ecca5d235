"""From Shopify's 200 to TikTok's receipt, when little is going on."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any, Final

import aiohttp
import msgspec

from cli.demo.scenery import connections_yaml, plan_pixels
from cli.stack import Stack
from sandbox.shopify.model import Shop
from sandbox.shopify.storm import default_shops
from tests.bench.figures import Bound, Goal, percentile, spread
from tests.bench.load import one_paid_order
from tests.bench.options import Options
from tests.bench.report import Section, Table

Say = Callable[[str], None]

EVENTS: Final = 60
_GOAL_MS: Final = 1_000.0
EVENTS_QUICK: Final = 3
_EVERY_S: Final = 1.0
_SANDBOX_LATENCY_MS: Final = 20
_WITHIN_S: Final = 30.0
# A shop with one pixel that speaks the current dialect.
_SHOP_PLACE: Final = 2


async def latency(options: Options, say: Say) -> list[Section]:
    """One paid order a second through the whole suite, each a process of its own."""
    shops = default_shops(datetime.now(UTC))
    environ = {**os.environ, "TIDEWIRE_SANDBOX_LATENCY_MS": str(_SANDBOX_LATENCY_MS)}
    async with Stack(options.directory / "latency", environ) as stack:
        text = connections_yaml(shops, plan_pixels(shops))
        stack.connections_file.write_text(text, encoding="utf-8")
        await stack.start_all()
        answered_s, taken_s = await _sent(
            stack, shops[_SHOP_PLACE], EVENTS_QUICK if options.quick else EVENTS
        )
        received_s = await _received(stack, answered_s)
    waits_ms = [(received_s[one] - at_s) * 1000 for one, at_s in answered_s.items()]
    say(f"{len(waits_ms)} events, p50 {percentile(waits_ms, 0.5):.0f} ms")
    return [_section(waits_ms, [one * 1000 for one in taken_s])]


async def _sent(stack: Stack, shop: Shop, count: int) -> tuple[dict[str, float], list[float]]:
    """When each event's order was answered, by event id; and how long each answer took.

    The first order wakes everything up (keys, connections) and is not counted.
    """
    rng = Random(5)
    answered_s: dict[str, float] = {}
    taken_s = []
    async with aiohttp.ClientSession() as session:
        for number in range(count + 1):
            began_s = time.monotonic()
            order_id = 7_000_000_000 + number
            order = one_paid_order(rng, shop, datetime.now(UTC), order_id)
            sent_s = time.monotonic()
            async with session.post(
                stack.webhooks_url, data=order.body, headers=dict(order.headers)
            ) as answer:
                answer.raise_for_status()
            if number:
                answered_s[f"purchase.{order_id}"] = time.time()
                taken_s.append(time.monotonic() - sent_s)
            await asyncio.sleep(max(began_s + _EVERY_S - time.monotonic(), 0.0))
    return answered_s, taken_s


async def _received(stack: Stack, wanted: dict[str, float]) -> dict[str, float]:
    """When the sandbox had each event, by event id.

    Raises:
        TimeoutError: one is missing after half a minute.
    """
    deadline_s = time.monotonic() + _WITHIN_S
    url = f"{stack.sandbox_url}/_sandbox/ledger?full=1"
    async with aiohttp.ClientSession() as session:
        while True:
            async with session.get(url) as answer:
                ledger: dict[str, Any] = msgspec.json.decode(await answer.read())
            found = {event["key"][2]: event["received_at"] for event in ledger["events"]}
            if wanted.keys() <= found.keys():
                return found
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"{len(wanted.keys() - found.keys())} events never arrived")
            await asyncio.sleep(0.1)


def _section(waits_ms: list[float], taken_ms: list[float]) -> Section:
    rows = (
        _row("webhook sent to its 200", taken_ms),
        _row("its 200 to the receipt at the simulated TikTok", waits_ms),
    )
    return Section(
        name="latency",
        title="Latency: one paid order a second",
        goals=(
            Goal(
                "p99 from the webhook's 200 to the receipt at TikTok",
                Bound.AT_MOST,
                _GOAL_MS,
                spread([percentile(waits_ms, 0.99)]),
                "ms",
            ),
        ),
        tables=(Table("Milliseconds", ("from, to", "p50", "p99", "most", "events"), rows),),
        notes=(
            f"The simulator answers after {_SANDBOX_LATENCY_MS} ms; its receipt is before that.",
            "With this few events p99 is the slowest one.",
        ),
        raw={
            "events": [
                {"answer_ms": taken, "receipt_ms": wait}
                for taken, wait in zip(taken_ms, waits_ms, strict=True)
            ]
        },
    )


def _row(name: str, values_ms: list[float]) -> tuple[str, ...]:
    shares = (percentile(values_ms, share) for share in (0.5, 0.99, 1.0))
    return (name, *(f"{value:.1f}" for value in shares), str(len(values_ms)))

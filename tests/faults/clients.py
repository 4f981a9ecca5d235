"""Faults of those who send webhooks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

import aiohttp

from sandbox.shopify.model import Delivery
from sandbox.shopify.sender import send_all
from tests.faults.scene import Scene
from tests.faults.trial import Fault

_SLOW_SENDERS: Final = 60
_DRIPS: Final = 20
_UNHURT_WITHIN_S: Final = 5.0
_PATIENCE_S: Final = 0.01


async def slow_senders(scene: Scene) -> None:
    """Bodies that come in drops, over 1 to 6 s: some in time, some not."""
    await scene.reaches(0.2)
    spans_s = [1.0 + 5.0 * place / _SLOW_SENDERS for place in range(_SLOW_SENDERS)]
    async with asyncio.TaskGroup() as group, scene.door_watched():
        for span_s in spans_s:
            group.create_task(_dripped(scene, span_s))
        await asyncio.sleep(1)
        await scene.unhurt(*scene.site.shops, within_s=_UNHURT_WITHIN_S)


async def _dripped(scene: Scene, span_s: float) -> None:
    delivery, due, _ = scene.site.fresh_order(scene.site.others[1])
    scene.due.merge(due)
    size = -(-len(delivery.body) // _DRIPS)

    async def body() -> AsyncIterator[bytes]:
        for start in range(0, len(delivery.body), size):
            yield delivery.body[start : start + size]
            await asyncio.sleep(span_s / _DRIPS)

    with suppress(aiohttp.ClientError, TimeoutError, OSError):
        async with scene.site.session.post(
            scene.stack.webhooks_url,
            data=body(),
            headers=delivery.headers,
            timeout=aiohttp.ClientTimeout(total=10),
        ) as answer:
            if answer.status not in {200, 408, 503}:
                scene.complaints.append(f"a slow sender was answered {answer.status}")
    # Whoever had no 200 sends again, at the usual pace; what came twice must not count twice.
    await _sent_again(scene, [delivery])


async def impatient_senders(scene: Scene) -> None:
    """Senders that hang up before the answer, and send the same again."""
    await scene.reaches(0.2)
    deliveries = []
    for number in range(150):
        delivery, due, _ = scene.site.fresh_order(scene.site.shops[number % 3])
        scene.due.merge(due)
        deliveries.append(delivery)
    timeout = aiohttp.ClientTimeout(total=_PATIENCE_S)
    for delivery in deliveries:
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with scene.site.session.post(
                scene.stack.webhooks_url,
                data=delivery.body,
                headers=delivery.headers,
                timeout=timeout,
            ):
                pass
    await _sent_again(scene, deliveries)


async def repeated_across_restart(scene: Scene) -> None:
    """All that was sent comes again after everything that dedupes has been restarted."""
    await scene.reaches(1.0)
    await scene.comes_to_rest()
    repeats = scene.site.accepted.repeats
    for name in ("ingest-http", "ingest-normalizer", "events"):
        await scene.kill(name)
        await scene.start(name)
    for name in ("ingest-http", "ingest-normalizer", "events"):
        await scene.stack.wait_ready(name)
    readable = [one for one in scene.storm.deliveries if one.expected_status == 200]
    await send_all(scene.stack.webhooks_url, readable)
    scene.over()
    await scene.comes_to_rest()
    if extra := scene.site.accepted.repeats - repeats:
        scene.complaints.append(f"{extra} events were sent to TikTok again")


async def _sent_again(scene: Scene, deliveries: list[Delivery]) -> None:
    report = await send_all(scene.stack.webhooks_url, deliveries)
    scene.site.sent += report.sent


CLIENTS: Final = (
    Fault(
        name="clients.slow",
        what=f"{_SLOW_SENDERS} senders whose bodies take 1 to 6 s to come, then send again",
        expected=f"new orders of every shop arrive within {_UNHURT_WITHIN_S:.0f} s meanwhile",
        inflict=slow_senders,
    ),
    Fault(
        name="clients.impatient",
        what="150 senders that hang up after 10 ms and send the same again",
        inflict=impatient_senders,
    ),
    Fault(
        name="clients.repeated-across-restart",
        what="a whole storm sent again after ingest, normalizer and events were killed",
        expected="not one event is sent to TikTok again",
        inflict=repeated_across_restart,
    ),
)

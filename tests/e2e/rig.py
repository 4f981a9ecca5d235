"""The whole suite under a storm, for tests that do something to it meanwhile."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from nats.aio.client import Client

from cli.demo.evidence import gather_evidence
from cli.demo.scenery import PixelPlan, connections_yaml, plan_pixels
from cli.demo.verdict import Check, Evidence, judge
from cli.demo.watch import pending
from cli.stack import Stack
from libs.bus import subjects
from libs.foundation import connected
from libs.http.session import http_session
from sandbox.shopify.model import Shop
from sandbox.shopify.oracle import Expected
from sandbox.shopify.sender import Manners, Progress, Sent, send_all
from sandbox.shopify.storm import default_shops, make_storm

_SEED: Final = 11
_QUIET_WITHIN_S: Final = 90.0
_LOOK_EVERY_S: Final = 0.25
_SLOW_MS: Final = 400

# Shopify retries for hours; here for a good minute, which is longer than any restart takes.
_MANNERS: Final = Manners(connections=16, retries=80, backoff_s=0.05, backoff_max_s=1.0)


Meanwhile = Callable[["Sending"], Coroutine[None, None, None]]
"""What a test does while a storm is being sent."""


class Sending:
    """A storm that is being sent."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._finished = 0
        self._moved = asyncio.Event()

    @property
    def over(self) -> bool:
        """Whether every delivery has had its answer."""
        return self._finished >= self._total

    def note(self, progress: Progress) -> None:
        """Takes in how far the sender is."""
        self._finished = progress.finished
        self._moved.set()

    async def reaches(self, share: float) -> None:
        """Returns once `share` of all deliveries have had their answer."""
        while self._finished < share * self._total:
            self._moved.clear()
            await self._moved.wait()


class Rig:
    """A running stack, all that it was ever sent, and what must have come of it.

    Storms of one rig tell of different resources, so the verdict is always on all of them.
    """

    def __init__(
        self, stack: Stack, nats: Client, shops: tuple[Shop, ...], pixels: Sequence[PixelPlan]
    ) -> None:
        self.stack = stack
        self.nats = nats
        self._shops = shops
        self._pixels = pixels
        self._now = datetime.now(UTC)
        self._wave = 0
        self._sent: list[Sent] = []
        self._expected = Expected()

    async def storm(self, size: int, meanwhile: Meanwhile) -> None:
        """Sends `size` deliveries while `meanwhile` runs, and returns when nothing moves any more.

        Raises:
            TimeoutError: something is still on its way after 90 s.
        """
        brewed = await asyncio.to_thread(
            make_storm, _SEED, size, self._shops, self._now, wave=self._wave
        )
        self._wave += 1
        self._expected.merge(brewed.expected)
        sending = Sending(size)
        async with asyncio.TaskGroup() as group:
            group.create_task(meanwhile(sending))
            report = await send_all(
                self.stack.webhooks_url, brewed.deliveries, _MANNERS, on_progress=sending.note
            )
        self._sent += report.sent
        await self._until_quiet()

    async def has_work_for(self, name: str) -> None:
        """Returns when the process `name` has something in hand that a kill can hurt."""
        durable = {"ingest-normalizer": subjects.NORMALIZER, "events": "events-"}.get(name)
        if durable is None:
            return
        while not any(found.startswith(durable) for found in await pending(self.nats)):
            continue

    @asynccontextmanager
    async def slow_tiktok(self) -> AsyncIterator[None]:
        """TikTok takes events at once and is slow to say so: a kill then falls between the two."""
        url = f"{self.stack.sandbox_url}/_sandbox/faults"
        async with http_session() as session:
            async with session.post(url, json=[{"latency_ms": _SLOW_MS}]) as answer:
                assert answer.status == 200
            try:
                yield
            finally:
                async with session.delete(url) as answer:
                    assert answer.status == 200

    async def evidence(self) -> Evidence:
        """All that the two sides say of what has happened so far."""
        return await gather_evidence(
            self.nats,
            self.stack.kek_file,
            await self._sandbox(),
            self._sent,
            self._expected,
            self._pixels,
            self._pixels,
        )

    async def failed_checks(self) -> list[Check]:
        """What does not hold of everything that was ever sent."""
        return [check for check in judge(await self.evidence()) if not check.passed]

    async def _until_quiet(self) -> None:
        deadline_s = time.monotonic() + _QUIET_WITHIN_S
        while found := await pending(self.nats):
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"still on its way after {_QUIET_WITHIN_S:.0f} s: {found}")
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _sandbox(self) -> dict[str, Any]:
        async with http_session() as session:
            url = f"{self.stack.sandbox_url}/_sandbox/ledger?full=1"
            async with session.get(url) as answer:
                found: dict[str, Any] = msgspec.json.decode(await answer.read())
                return found


@asynccontextmanager
async def raised(directory: Path) -> AsyncIterator[Rig]:
    """A rig with the demo's shops, everything of it up and ready."""
    shops = default_shops(datetime.now(UTC))
    pixels = plan_pixels(shops)
    async with Stack(directory, os.environ) as stack:
        stack.connections_file.write_text(connections_yaml(shops, pixels), encoding="utf-8")
        await stack.start_all()
        nats = await connected(stack.nats.url)
        try:
            yield Rig(stack, nats, shops, pixels)
        finally:
            await nats.close()

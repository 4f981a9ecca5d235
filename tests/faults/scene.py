"""What a fault is inflicted with: a site under a storm, and words for doing things to it."""

from __future__ import annotations

import asyncio
import fnmatch
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from cli.demo.verdict import EventKey
from libs.bus import subjects
from libs.bus.api import js_api
from sandbox.shopify.model import Delivery, Shop
from sandbox.shopify.oracle import Expected
from sandbox.shopify.sender import Manners, Progress, Sent, send_all
from sandbox.shopify.storm import Storm
from tests.faults.crew import Crew
from tests.faults.judge import missing, named
from tests.faults.site import Site, in_flight

ANSWER_WITHIN_S: Final = 2.5
_ANSWER_SLACK_S: Final = 0.5
"""On top: it is timed in a process that shares two cores with the load, the judge and the suite."""

_PATIENCE_S: Final = 5.0
_TRIES_MAX: Final = 200
_AGAIN_S: Final = 0.25
_LOOK_S: Final = 0.15
_REST_WITHIN_S: Final = 60.0
_WORK_WITHIN_S: Final = 15.0
"""Longer than a process takes to start: the one before it in the chain may have been killed."""
_WORK_LOOK_S: Final = 0.01
_CHUNKS: Final = 20

# Shopify retries for hours; here for some minutes, which is longer than any fault takes.
_MANNERS: Final = Manners(connections=4, retries=200, backoff_s=0.05, backoff_max_s=1.0)


@dataclass(frozen=True, slots=True)
class Try:
    """One POST at the door; `status` is None where no answer came."""

    status: int | None
    latency_s: float
    retry_after: str | None

    def complaint(self) -> str:
        """What is wrong with the answer of a door that must always answer; empty for nothing."""
        if self.status not in {200, 503}:
            return f"the door answered {self.status} after {self.latency_s:.1f} s"
        if self.latency_s > ANSWER_WITHIN_S + _ANSWER_SLACK_S:
            return f"the door took {self.latency_s:.1f} s for its {self.status}"
        if self.status == 503 and not self.retry_after:
            return "the door answered 503 without Retry-After"
        return ""


class Scene(Crew):
    """One fault at one site. `due` is what must have come of all that is sent meanwhile."""

    def __init__(self, site: Site, storm: Storm, spread_s: float) -> None:
        super().__init__(site.stack)
        self.site = site
        self.storm = storm
        self.due = Expected()
        self.due.merge(storm.expected)
        self.refused: set[EventKey] = set()
        self.complaints: list[str] = []
        self.ended_s = 0.0
        """When the fault ended, in Unix seconds."""

        self._spread_s = spread_s
        self._finished = [0] * _CHUNKS
        self._moved = asyncio.Event()

    def over(self) -> None:
        """The fault ends now, where nothing has said so before."""
        self.ended_s = self.ended_s or time.time()

    # -- the storm ------------------------------------------------------------------------------

    async def send(self) -> None:
        """Sends the storm, spread evenly; returns when every delivery has its answer."""
        deliveries = self.storm.deliveries
        size = -(-len(deliveries) // _CHUNKS)
        async with asyncio.TaskGroup() as group:
            for place in range(_CHUNKS):
                part = deliveries[place * size : (place + 1) * size]
                group.create_task(self._send_part(place, part))
                await asyncio.sleep(self._spread_s / _CHUNKS)

    async def _send_part(self, place: int, deliveries: Sequence[Delivery]) -> None:
        def note(progress: Progress) -> None:
            self._finished[place] = progress.finished
            self._moved.set()

        url = self.stack.webhooks_url
        report = await send_all(url, deliveries, _MANNERS, on_progress=note)
        self.site.sent += report.sent

    async def reaches(self, share: float) -> None:
        """Returns once `share` of all deliveries have had their answer."""
        while sum(self._finished) < share * len(self.storm.deliveries):
            self._moved.clear()
            await self._moved.wait()

    # -- fresh orders ---------------------------------------------------------------------------

    async def fresh(self, shop: Shop, tries: list[Try] | None = None) -> set[EventKey]:
        """Tells of a new order until it is answered 200; the events that must come of it."""
        delivery, due, event_id = self.site.fresh_order(shop)
        self.due.merge(due)
        for number in range(1, _TRIES_MAX + 1):
            made = await self._post(delivery)
            if tries is not None:
                tries.append(made)
            if made.status == 200:
                self.site.sent.append(Sent(delivery, 200, number, made.latency_s))
                break
            await asyncio.sleep(_AGAIN_S)
        pixels = self.site.pixels_of(shop)
        return {EventKey(pixel.code, pixel.purchase_event, event_id) for pixel in pixels}

    async def served(self, *shops: Shop) -> float:
        """Tells of one new order of each shop; when the last of them came to TikTok, Unix time."""
        keys = set().union(*await asyncio.gather(*(self.fresh(shop) for shop in shops)))
        first_s = self.site.accepted.first_s
        while not keys <= first_s.keys():
            await asyncio.sleep(_LOOK_S)
            await self.site.look()
        return max(first_s[key] for key in keys)

    async def unhurt(self, *shops: Shop, within_s: float) -> None:
        """Complains unless new orders of these shops come through in time, now."""
        began_s = time.time()
        try:
            async with asyncio.timeout(within_s):
                await self.served(*shops)
        except TimeoutError:
            waited_s = time.time() - began_s
            names = ", ".join(shop.domain.partition(".")[0] for shop in shops)
            self.complaints.append(f"during the fault an order of {names} waited {waited_s:.0f} s")

    @asynccontextmanager
    async def door_watched(self, every_s: float = 0.15) -> AsyncIterator[None]:
        """Knocks all the time, and complains of every answer that is late or wrong."""
        tries: list[Try] = []
        async with asyncio.TaskGroup() as knocks:

            async def knock() -> None:
                while True:
                    knocks.create_task(self.fresh(self.site.others[0], tries))
                    await asyncio.sleep(every_s)

            knocking = asyncio.create_task(knock())
            try:
                yield
            finally:
                knocking.cancel()
        self.complaints += sorted({made.complaint() for made in tries} - {""})[:3]

    async def _post(self, delivery: Delivery) -> Try:
        began_s = time.monotonic()
        status, retry_after = None, None
        timeout = aiohttp.ClientTimeout(total=_PATIENCE_S)
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with self.site.session.post(
                self.stack.webhooks_url,
                data=delivery.body,
                headers=delivery.headers,
                timeout=timeout,
            ) as answer:
                status, retry_after = answer.status, answer.headers.get("Retry-After")
        return Try(status, time.monotonic() - began_s, retry_after)

    # -- processes ------------------------------------------------------------------------------

    async def has_work_for(self, name: str, *, within_s: float = _WORK_WITHIN_S) -> None:
        """Returns when a process has in hand what a fault can hurt; complains if it never has."""
        durable = {"ingest-normalizer": subjects.NORMALIZER, "events": "events-"}.get(name)
        if durable is None:
            return
        try:
            async with asyncio.timeout(within_s):
                while True:
                    if any(one.startswith(durable) for one in await in_flight(self.site)):
                        return
                    await asyncio.sleep(_WORK_LOOK_S)
        except TimeoutError:
            self.complaints.append(f"{name} had no work in hand: nothing was tried")

    # -- TikTok ---------------------------------------------------------------------------------

    @asynccontextmanager
    async def scripted(self, *faults: dict[str, Any], is_all: bool = True) -> AsyncIterator[None]:
        """The simulator misbehaves for as long as this lasts; complains if nothing met it.

        `is_all`: it is what is tried. Else it only keeps requests on the wire for longer.
        """
        await self.site.script(*faults)
        try:
            yield
            if is_all:
                self.complaints += untried(await self.site.scripted())
        finally:
            await self.site.unscript()

    def refuses(self, pattern: str, *pixels: str) -> None:
        """Notes that events of these pixels whose id fits the pattern are refused for good."""
        for pixel in self.site.pixels:
            if pixel.code not in pixels:
                continue
            for event, due in (
                (pixel.purchase_event, self.due.purchases),
                ("InitiateCheckout", self.due.checkouts),
            ):
                self.refused |= {
                    EventKey(pixel.code, event, event_id)
                    for event_id in due.get(pixel.shop, ())
                    if fnmatch.fnmatchcase(event_id, pattern)
                }

    # -- NATS -----------------------------------------------------------------------------------

    async def leave_room(self, stream: str, room_bytes: int) -> int:
        """Bounds a stream to what it holds and `room_bytes`; what it was bounded to before."""
        info = await js_api(self.site.nats, f"STREAM.INFO.{stream}")
        before = int(info["config"]["max_bytes"])
        # A bound of 0 would be none.
        await self.bound(stream, max(1, int(info["state"]["bytes"]) + room_bytes))
        return before

    async def bound(self, stream: str, max_bytes: int) -> None:
        """Sets a stream's bound."""
        info = await js_api(self.site.nats, f"STREAM.INFO.{stream}")
        config = {**info["config"], "max_bytes": max_bytes}
        await js_api(self.site.nats, f"STREAM.UPDATE.{stream}", config)

    async def leader_of(self, stream: str) -> str:
        """The server that leads a stream."""
        info = await js_api(self.site.nats, f"STREAM.INFO.{stream}")
        return str(info["cluster"]["leader"])

    # -- rest -----------------------------------------------------------------------------------

    async def comes_to_rest(self) -> None:
        """Returns when all that is due has come and nothing is on its way any more.

        Only the time for it is bounded here; what is missing then is the judge's to say.
        """
        site = self.site
        refused = {named(key) for key in self.refused}
        moving: dict[str, int] = {}
        with suppress(TimeoutError):
            async with asyncio.timeout(_REST_WITHIN_S):
                while True:
                    await site.look()
                    lacking = missing(self.due, site.pixels, site.accepted.first_s.keys())
                    moving = await in_flight(site)
                    if not moving and lacking <= refused:
                        return
                    await asyncio.sleep(_LOOK_S)
        if moving:
            self.complaints.append(f"still on its way after {_REST_WITHIN_S:.0f} s: {moving}")

    # -- afterwards -----------------------------------------------------------------------------

    async def tidied(self) -> None:
        """Leaves the site as it was: nothing scripted, nobody stopped, more or less."""
        self.all_go_on()
        await self.site.unscript()
        for wire in (self.site.tiktok, self.site.nats_wire):
            if wire is not None:
                await wire.mend()
        await self.as_before()


def untried(lines: Iterable[Mapping[str, Any]]) -> list[str]:
    """Complaints of the simulator's faults that no request has met."""
    return [
        f"no request met the fault {line['fault'].get('effect', {}).get('kind', 'latency')}:"
        " nothing was tried"
        for line in lines
        if not line["hits"]
    ]

"""Deliveries of shops that nobody had connected: kept, listed, and taken up once one does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog
from nats.aio.client import Client

from libs.bus import subjects
from libs.bus.api import ApiError, js_api, refused
from libs.bus.commit_log import Stored
from libs.bus.scan import page, scan
from libs.clock import Clock
from libs.connections import Connections
from libs.errors import ServiceError
from services.ingest.normalizer import Normalizer
from services.ingest.work import OpenSegment
from tidewire.ingest.v1 import delivery_pb2

_log = structlog.stdlib.get_logger()

PARKED_DELIVERIES: Final = "parked.ingest.*"
_LOOK_EVERY_S: Final = 30.0
_AT_ONCE: Final = 200


class ParkedDeliveries:
    """Gives parked deliveries to the normalizer when their shop has become known."""

    def __init__(
        self, nats: Client, connections: Connections, normalizer: Normalizer, clock: Clock
    ) -> None:
        self._nats = nats
        self._connections = connections
        self._normalizer = normalizer
        self._clock = clock
        self._look = asyncio.Event()
        self._settled = asyncio.Event()
        self._stopping = False
        self._under_way: set[int] = set()
        connections.subscribe(self._look.set)

    async def run(self, ready: Callable[[], None]) -> None:
        """Looks at the start, whenever the connections change, and now and then."""
        ready()
        while not self._stopping:
            self._look.clear()
            try:
                await self._take_up()
            except ServiceError as error:
                _log.info("parked_not_read", reason=error.code)
            try:
                await asyncio.wait_for(self._look.wait(), _LOOK_EVERY_S)
            except TimeoutError:
                continue

    def stop(self) -> None:
        """Takes up nothing more."""
        self._stopping = True
        self._look.set()
        self._settled.set()

    async def _take_up(self) -> None:
        for subject in await self._waiting():
            if self._connections.shop(subjects.text_of(subject.rsplit(".", 1)[1])) is None:
                continue
            async for stored in scan(self._nats, subjects.PARKED, subject):
                while len(self._under_way) >= _AT_ONCE and not self._stopping:
                    self._settled.clear()
                    await self._settled.wait()
                if self._stopping:
                    return
                if stored.sequence not in self._under_way:
                    self._begin(stored)

    async def _waiting(self) -> list[str]:
        """The subjects that hold parked deliveries, one a shop."""
        request = {"subjects_filter": PARKED_DELIVERIES}
        try:
            info = await js_api(self._nats, f"STREAM.INFO.{subjects.PARKED}", request)
        except ApiError as error:
            raise refused(error) from error
        return sorted(info["state"].get("subjects") or ())

    def _begin(self, stored: Stored) -> None:
        delivery = delivery_pb2.Delivery.FromString(stored.data)
        received_ns = delivery.received_at.ToNanoseconds()
        self._under_way.add(stored.sequence)

        async def remove() -> None:
            try:
                await js_api(
                    self._nats,
                    f"STREAM.MSG.DELETE.{subjects.PARKED}",
                    {"seq": stored.sequence, "no_erase": True},
                )
            except ApiError as error:
                _log.info("parked_not_removed", reason=error.description)
            finally:
                self._under_way.discard(stored.sequence)
                self._settled.set()

        async def nothing() -> None:
            return None

        async def leave() -> None:
            self._under_way.discard(stored.sequence)
            self._settled.set()

        segment = OpenSegment(
            # Sequences of WEBHOOKS are positive: these cannot be mistaken for one.
            sequence=-stored.sequence,
            acknowledge=remove,
            still_working=nothing,
            postpone=leave,
            remaining=1,
            size_bytes=len(stored.data),
            received_s=self._clock.monotonic_s(),
            committing_ns=received_ns,
            stored_ns=received_ns,
        )
        self._normalizer.add(segment, [delivery])


async def parked_page(
    nats: Client, shop: str, *, after: int, limit: int
) -> list[tuple[int, delivery_pb2.Delivery]]:
    """Parked deliveries behind sequence `after`, of one shop or (empty) of all."""
    pattern = subjects.parked("ingest", shop) if shop else PARKED_DELIVERIES
    stored = await page(nats, subjects.PARKED, pattern, after=after, limit=limit)
    return [(one.sequence, delivery_pb2.Delivery.FromString(one.data)) for one in stored]

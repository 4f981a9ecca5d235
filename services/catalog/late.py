"""Requests that left for TikTok when their sender no longer owned the lane.

Whoever is paused between looking whether it owns a lane and its request sends what may be older
than what its successor has sent since. Nothing calls it back; so it says what it has sent, and the
owner sends those items again.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from libs.clock import Clock
from libs.errors import ServiceError
from services.catalog import keys, records
from services.catalog.records import Flight
from services.catalog.store import SyncStore

_log = structlog.stdlib.get_logger()

KEPT_S: Final = 600
"""So long an owner that takes the lane over hears of it."""

_TRIES: Final = 60
_AGAIN_S: Final = 1.0
"""Whoever was paused has to find NATS again first."""


class LateWords:
    """Tells owners of lanes what was sent late. Its telling outlives the work that it is about."""

    def __init__(self, store: SyncStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    def tell(self, shop: str, connection_id: str, flight: Flight) -> None:
        """Begins to say that this may have reached TikTok just now."""
        task = asyncio.create_task(self._told(keys.late(shop, connection_id), flight))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        _log.warning("catalog_sent_late", connection=connection_id, items=len(flight.items))

    async def _told(self, name: str, flight: Flight) -> None:
        for _ in range(_TRIES):
            try:
                await self._store.put(name, records.encode(flight), None, ttl_s=KEPT_S)
            except ServiceError:
                await self._clock.sleep(_AGAIN_S)
            else:
                return
        _log.error("late_submit_not_told", items=len(flight.items))

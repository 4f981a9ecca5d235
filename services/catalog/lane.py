"""The shops of one lane, worked by one process at a time: taken over, tended, given up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

import structlog

from libs.bus import subjects
from libs.bus.consumer import Consumer
from libs.bus.lease import LEASE_S, Lease
from libs.errors import ServiceError
from services.catalog import intake, keys, records
from services.catalog.adapters.connections import catalog_settings
from services.catalog.book import ShopBook
from services.catalog.domain.settings import CatalogSettings
from services.catalog.pauses import either
from services.catalog.ports import ShopFacts
from services.catalog.retold import StockRetold
from services.catalog.shop_work import CANCEL_AGAIN_S, Means, ShopWork, over
from tidewire.commerce.v1 import shop_pb2
from tidewire.connections.v1.connection_pb2 import CONNECTION_KIND_TIKTOK_CATALOG

_log = structlog.stdlib.get_logger()

_TRY_EVERY_S: Final = 1.0
_AFTER_TROUBLE_S: Final = 3.0


class LanePart:
    """A part of the process that owns a lane whenever nobody else does."""

    def __init__(self, number: int, means: Means, lease: Lease) -> None:
        self.number = number
        self.work: LaneWork | None = None
        """What is done while the lane is owned."""
        self._means = means
        self._lease = lease
        self._stopping = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Items that TikTok does not have as it should."""
        return sum(
            catalog.waiting.pending()
            for shop in (self.work.shops() if self.work else ())
            for catalog in shop.book.catalogs.values()
        )

    @property
    def held(self) -> int:
        """Catalogs to which nothing can be sent."""
        return sum(
            one.is_held
            for shop in (self.work.shops() if self.work else ())
            for one in shop.senders.values()
        )

    async def run(self, ready: Callable[[], None]) -> None:
        """Owns the lane when it can, until `stop`."""
        ready()
        # What a shop without catalogs changes concerns nobody, and one that has not been told of
        # yet would be taken for such a shop.
        await either(self._means.connections.told(), self._stopping.wait())
        while not self._stopping.is_set():
            # It may be told to stop while it asks.
            if await self._lease.hold() and not self._stopping.is_set():
                await self._own()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _TRY_EVERY_S)
        await self._lease.release(self._means.nats)

    def owners(self, connection_id: str) -> Callable[[str], str | None] | None:
        """What tells which product of a catalog an id belongs to; None where it is not here."""
        for shop in self.work.shops() if self.work else ():
            catalog = shop.book.catalogs.get(connection_id)
            if catalog is not None:
                return catalog.waiting.owner_of
        return None

    def gates_changed(self) -> None:
        """Somebody has shut or opened a gate: whoever waits may look again."""
        for shop in self.work.shops() if self.work else ():
            for catalog in shop.book.catalogs.values():
                catalog.woken.set()

    def stop(self) -> None:
        """Ends `run`; what is under way at TikTok is taken up by the next owner."""
        self._stopping.set()
        if self.work is not None:
            self.work.stop()

    async def _own(self) -> None:
        self.work = LaneWork(self.number, self._means, lambda: self._lease.is_held)
        work = asyncio.create_task(self.work.run(), name=f"lane {self.number}")
        try:
            while not work.done():
                await asyncio.wait({work}, timeout=LEASE_S / 4)
                if not work.done() and not await self._lease.hold():
                    _log.warning("lane_lost", lane=self.number)
                    return
            failure = work.exception()
            if failure is not None:
                code = failure.code if isinstance(failure, ServiceError) else ""
                unforeseen = None if code else failure
                _log.warning("lane_given_up", lane=self.number, reason=code, exc_info=unforeseen)
                await self._means.clock.sleep(_AFTER_TROUBLE_S)
        finally:
            await self._ended(self.work, work)
            self.work = None

    async def _ended(self, work: LaneWork, task: asyncio.Task[None]) -> None:
        """Returns when a lane's work is over; nothing of it may go on beside its successor's.

        A cancellation may be swallowed on the way (see `over`), so it is said again, until the work
        clears up: to break that off would leave senders behind.
        """
        while not task.done():
            if not work.is_clearing_up:
                task.cancel()
            await asyncio.wait({task}, timeout=CANCEL_AGAIN_S)
        if not task.cancelled():
            task.exception()


class LaneWork:
    """All that is done for the shops of a lane by its owner."""

    def __init__(self, number: int, means: Means, is_owner: Callable[[], bool]) -> None:
        self._number = number
        self._means = means
        self._sending = means.sending(is_owner)
        self._intake = means.intake(self, self._wants)
        self._retold = StockRetold(means.nats, self._intake.handle)
        self._shops: dict[str, ShopWork] = {}
        self._changed = asyncio.Event()
        self._consumer: Consumer | None = None
        self._is_stopping = False
        self.is_clearing_up = False
        """Whether it has ended but for what it had begun, which is being ended."""
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # -- for the intake ------------------------------------------------------------------------

    async def book(self, shop: str) -> ShopBook | None:
        """The shop's book, once all its catalogs are open; None where it has no catalog."""
        found = self._shops.get(shop)
        if found is None:
            return None
        await found.begun.wait()
        return found.book

    async def shop_told(self, shop: str, told: shop_pb2.Shop) -> None:
        """A shop says what it is."""
        found = self._shops.get(shop)
        if found is not None and told.currency:
            await found.told(
                ShopFacts(
                    currency=told.currency,
                    primary_domain=told.primary_domain,
                    country=told.country,
                    language=told.primary_locale,
                )
            )

    def bulk_ended(self, shop: str) -> None:
        """A bulk operation of a shop has come to its end."""
        found = self._shops.get(shop)
        if found is not None:
            found.runs.bulk_ended()

    # -- for those who look on -----------------------------------------------------------------

    def shop(self, handle: str) -> ShopWork | None:
        """What is done for a shop."""
        return self._shops.get(handle)

    def shops(self) -> Iterator[ShopWork]:
        """All shops that have catalogs."""
        yield from self._shops.values()

    # -- work ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Works until it is cancelled or stopped.

        Raises:
            ServiceError: RETRYABLE, where NATS does not answer or somebody else owns the lane.
        """
        unsubscribe = self._means.connections.subscribe(self._changed.set)
        nats = self._means.nats
        nudges = [
            await nats.subscribe(keys.runs_in(self._number), cb=self._nudged),
            await nats.subscribe(keys.late_in(self._number), cb=self._told_late),
        ]
        try:
            await self._refresh()
            spec = intake.products(self._number, self._intake, self._means.policy)
            self._consumer = Consumer(self._means.nats, spec, self._means.clock)
            if self._is_stopping:
                self._consumer.stop()
            consuming = asyncio.create_task(self._consumer.run(lambda: None))
            following = asyncio.create_task(self._follow_connections())
            try:
                await asyncio.wait(
                    {consuming, following, self._failed}, return_when=asyncio.FIRST_COMPLETED
                )
                for one in (consuming, following, self._failed):
                    if one.done():
                        one.result()
            finally:
                self.is_clearing_up = True
                await over([consuming, following])
        finally:
            self.is_clearing_up = True
            unsubscribe()
            for nudge in nudges:
                with suppress(Exception):
                    await nudge.unsubscribe()
            for shop in self._shops.values():
                await shop.end()
            if self._failed.done():
                self._failed.exception()

    def stop(self) -> None:
        """Takes nothing new."""
        self._is_stopping = True
        if self._consumer is not None:
            self._consumer.stop()

    async def _nudged(self, message: Any) -> None:
        found = self._shops.get(keys.product_of(message.subject))
        if found is not None:
            found.woken.set()

    async def _told_late(self, message: Any) -> None:
        connection_id = keys.product_of(message.subject)
        for shop in self._shops.values():
            if connection_id in shop.senders and message.data:
                shop.senders[connection_id].sent_late(records.flight(message.data))

    async def _follow_connections(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._refresh()

    async def _refresh(self) -> None:
        """Has a shop's work for each shop of the lane that has catalogs, and for no other."""
        wanted = dict(self._catalogs())
        for handle in set(self._shops) - set(wanted):
            await self._shops.pop(handle).end()
        for handle, catalogs in wanted.items():
            shop = self._shops.get(handle)
            if shop is None:
                shop = ShopWork(handle, self._means, self._sending, self._retold, self._gave_up)
                # Known before it begins: what it has begun is ended where it cannot go on.
                self._shops[handle] = shop
                await shop.begin(catalogs)
            else:
                await shop.refresh(catalogs)

    def _catalogs(self) -> Iterator[tuple[str, list[CatalogSettings]]]:
        connections = self._means.connections
        for view in connections.shops():
            if subjects.lane(view.handle) != self._number:
                continue
            found = [
                catalog_settings(one, view, api_version=self._means.api_version)
                for one in connections.connections(view.handle, CONNECTION_KIND_TIKTOK_CATALOG)
            ]
            if found:
                yield view.handle, found

    def _wants(self, shop: str) -> tuple[bool, bool]:
        found = self._shops.get(shop)
        if found is None:
            return False, False
        wanted = found.wanted
        return bool(wanted.languages), bool(wanted.countries)

    def _gave_up(self, failure: BaseException) -> None:
        if not self._failed.done():
            self._failed.set_exception(failure)

"""The shops of one lane, worked by one process at a time: taken over, tended, given up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Final

import structlog
from nats.aio.client import Client

from libs.bus import subjects
from libs.bus.consumer import Consumer
from libs.bus.lease import LEASE_S, Lease
from libs.clock import Clock
from libs.connections import Connections
from libs.errors import ServiceError
from libs.retry import RetryPolicy
from services.catalog import intake, keys, records, runs, sender
from services.catalog.adapters.connections import catalog_settings, wanted_of
from services.catalog.basis import Bases
from services.catalog.book import Catalog, ShopBook
from services.catalog.domain.due import MAPPING_VERSION, Intervals, digest, due, next_resend_ns
from services.catalog.domain.settings import CatalogSettings
from services.catalog.domain.states import SyncKind, SyncPhase
from services.catalog.intake import Intake
from services.catalog.ports import ShopFacts, Wanted
from services.catalog.reading import Rereader
from services.catalog.records import ShopRecord, Status
from services.catalog.reviewer import Reviewer
from services.catalog.runs import ShopRuns
from services.catalog.sender import Sender
from tidewire.commerce.v1 import shop_pb2
from tidewire.connections.v1.connection_pb2 import CONNECTION_KIND_TIKTOK_CATALOG

_log = structlog.stdlib.get_logger()

_TRY_EVERY_S: Final = 1.0
_TEND_EVERY_S: Final = 2.0
_TELL_EVERY_S: Final = 1.0
_AFTER_TROUBLE_S: Final = 3.0
_CANCEL_AGAIN_S: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What the lanes of a process share."""

    nats: Client
    connections: Connections
    bases: Bases
    sending: Callable[[Callable[[], bool]], sender.Means]
    """What senders need, given how to tell whether a lane is still owned."""
    syncing: runs.Means
    intake: Callable[[intake.Shops, Callable[[str], tuple[bool, bool]]], Intake]
    clock: Clock
    intervals: Intervals
    policy: RetryPolicy
    api_version: str
    settle_s: float
    review_every_s: float


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
        while not self._stopping.is_set():
            if await self._lease.hold():
                await self._own()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _TRY_EVERY_S)
        await self._lease.release(self._means.nats)

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
            await _over([work])
            self.work = None


class LaneWork:
    """All that is done for the shops of a lane by its owner."""

    def __init__(self, number: int, means: Means, is_owner: Callable[[], bool]) -> None:
        self._number = number
        self._means = means
        self._sending = means.sending(is_owner)
        self._shops: dict[str, ShopWork] = {}
        self._changed = asyncio.Event()
        self._consumer: Consumer | None = None
        self._is_stopping = False
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # -- for the intake ------------------------------------------------------------------------

    def book(self, shop: str) -> ShopBook | None:
        """The shop's book; None where it has no catalog."""
        found = self._shops.get(shop)
        return found.book if found else None

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
        nudges = await self._means.nats.subscribe(keys.runs_in(self._number), cb=self._nudged)
        try:
            await self._refresh()
            handler = self._means.intake(self, self._wants)
            spec = intake.products(self._number, handler, self._means.policy)
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
                await _over([consuming, following])
        finally:
            unsubscribe()
            with suppress(Exception):
                await nudges.unsubscribe()
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
                shop = ShopWork(handle, self._means, self._sending, self._gave_up)
                await shop.begin(catalogs)
                self._shops[handle] = shop
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


class ShopWork:
    """All that is done for one shop."""

    def __init__(
        self,
        handle: str,
        means: Means,
        sending: sender.Means,
        gave_up: Callable[[BaseException], None],
    ) -> None:
        self.handle = handle
        self.book = ShopBook(
            handle,
            means.syncing.store,
            means.clock,
            lambda: means.bases.of(handle, self._facts),
            settle_s=means.settle_s,
        )
        self.senders: dict[str, Sender] = {}
        self.woken = asyncio.Event()
        self.runs = ShopRuns(
            self.book,
            means.syncing,
            wanted=lambda: self.wanted,
            facts_read=self._read,
            is_at_rest=lambda: all(one.is_at_rest for one in self.senders.values()),
            before_end=self._tell_all,
        )
        self._means = means
        self._sending = sending
        self._gave_up = gave_up
        self._facts = ShopRecord()
        self._tasks: dict[str, list[asyncio.Task[None]]] = {}
        self._told: dict[str, Status] = {}

    @property
    def wanted(self) -> Wanted:
        """What the shop's catalogs need of Shopify."""
        settings = [one.settings for one in self.book.catalogs.values()]
        return wanted_of(settings, self._facts.language)

    async def begin(self, catalogs: list[CatalogSettings]) -> None:
        """Reads what is stored and begins to work.

        Raises:
            ServiceError: RETRYABLE, where NATS does not answer.
        """
        stored = await self._means.syncing.store.read(keys.shop(self.handle))
        if stored is not None:
            self._facts = records.shop(stored.data)
        await self.runs.read()
        await self.refresh(catalogs)
        reader = Rereader(self.book, self._means.syncing.shopify, self._means.clock)
        self._start("", self._tend(), reader.run(lambda: self.wanted), self._tell())

    async def refresh(self, catalogs: list[CatalogSettings]) -> None:
        """Takes in which catalogs the shop has now, and their settings.

        Raises:
            ServiceError: RETRYABLE, where NATS does not answer.
        """
        for connection_id in set(self.book.catalogs) - {one.connection_id for one in catalogs}:
            await self._cancel(connection_id)
            self.senders.pop(connection_id, None)
            self.book.close(connection_id)
        for settings in catalogs:
            is_new = settings.connection_id not in self.book.catalogs
            catalog = await self.book.open(settings)
            if is_new:
                self._work_for(catalog)
        self.woken.set()

    async def end(self) -> None:
        """Ends all work."""
        for name in list(self._tasks):
            await self._cancel(name)

    async def told(self, facts: ShopFacts) -> None:
        """The shop says what it is.

        Raises:
            ServiceError: RETRYABLE, where it cannot be stored.
        """
        self._read(facts)
        await self._keep_facts()
        self.woken.set()

    def _read(self, facts: ShopFacts) -> None:
        self._facts = ShopRecord(
            currency=facts.currency or self._facts.currency,
            domain=facts.primary_domain or self._facts.domain,
            country=facts.country or self._facts.country,
            language=facts.language or self._facts.language,
        )

    async def _keep_facts(self) -> None:
        store = self._means.syncing.store
        await store.put(keys.shop(self.handle), records.encode(self._facts), None)

    # -- syncs ---------------------------------------------------------------------------------

    async def _tend(self) -> None:
        """Performs the sync that was asked for, or that is due."""
        while True:
            self.woken.clear()
            try:
                await self.runs.read()
                await self._sync_if_due()
            except ServiceError as error:
                if error.code == "not_the_owner":
                    raise
                _log.info("catalog_sync_waits", shop=self.handle, reason=error.code)
                await self._means.clock.sleep(error.retry_after_s or _AFTER_TROUBLE_S)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.woken.wait(), _TEND_EVERY_S)

    async def _sync_if_due(self) -> None:
        newest = self.runs.newest
        if newest is None or SyncPhase(newest.phase).is_end:
            now_ns = self._means.clock.now_ns()
            history = self.runs.history
            found = due(history, self._read_as(), self._mapped_as(), self._means.intervals, now_ns)
            if found is None:
                return
            await self.runs.begin(found)
            newest = self.runs.newest
        await self.runs.perform(self._read_as, self._mapped_as)
        if newest is not None and newest.kind == SyncKind.FULL:
            await self._keep_facts()
            for catalog in self.book.catalogs.values():
                catalog.waiting.look_at_all()

    def _read_as(self) -> str:
        return digest(asdict(self.wanted))

    def _mapped_as(self) -> str:
        settings = [
            sorted((name, repr(value)) for name, value in asdict(one.settings).items())
            for _, one in sorted(self.book.catalogs.items())
        ]
        converts = any(
            one.settings.currency != self._facts.currency for one in self.book.catalogs.values()
        )
        rates = self._means.bases.rates_as if converts else ""
        facts = (self._facts.currency, self._facts.domain, self._facts.language)
        return digest(MAPPING_VERSION, settings, facts, rates)

    # -- catalogs ------------------------------------------------------------------------------

    def _work_for(self, catalog: Catalog) -> None:
        connection_id = catalog.settings.connection_id
        sending = Sender(self.book, catalog, self._sending)
        self.senders[connection_id] = sending
        work: list[Coroutine[Any, Any, None]] = [sending.run()]
        if self._means.review_every_s > 0:
            reviewer = Reviewer(
                self.book,
                catalog,
                self._sending.api,
                self._sending.gatekeeper,
                self._means.syncing.store,
                self._means.clock,
                every_s=self._means.review_every_s,
            )
            work.append(reviewer.run())
        self._start(connection_id, *work)

    async def _tell(self) -> None:
        """Writes down how each catalog is, for those who look on from other processes."""
        while True:
            await self._means.clock.sleep(_TELL_EVERY_S)
            with suppress(ServiceError):
                await self._tell_all()

    async def _tell_all(self) -> None:
        next_ns = next_resend_ns(self.runs.history, self._means.intervals)
        for connection_id, one in list(self.senders.items()):
            status = one.status(next_resend_ns=next_ns)
            if self._told.get(connection_id) != status:
                name = keys.status(self.handle, connection_id)
                await self._means.syncing.store.put(name, records.encode(status), None)
                self._told[connection_id] = status

    # -- tasks ---------------------------------------------------------------------------------

    def _start(self, name: str, *work: Coroutine[Any, Any, None]) -> None:
        for each in work:
            task = asyncio.create_task(each, name=f"catalog {self.handle} {name}")
            task.add_done_callback(self._ended)
            self._tasks.setdefault(name, []).append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Work that ends unasked ends the ownership: the lane is taken over anew, by whomever."""
        if task.cancelled():
            return
        failure = task.exception()
        self._gave_up(failure or AssertionError(f"{task.get_name()} ended unasked"))

    async def _cancel(self, name: str) -> None:
        await _over(self._tasks.pop(name, []))


async def _over(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Returns when tasks that are cancelled have ended, however.

    A cancellation is swallowed by `wait_for` where what it waits for comes at the same moment; so
    it is said again.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN_S)
    for task in tasks:
        if not task.cancelled():
            task.exception()

"""All that is done for one shop by the owner of its lane: its syncs, senders, reviews, reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

import structlog
from nats.aio.client import Client

from libs.clock import Clock
from libs.connections import Connections
from libs.errors import ServiceError
from libs.retry import RetryPolicy
from services.catalog import intake, keys, records, runs, sender
from services.catalog.adapters.connections import wanted_of
from services.catalog.basis import Bases
from services.catalog.book import ShopBook
from services.catalog.comparing import Catalog
from services.catalog.domain.due import MAPPING_VERSION, Intervals, digest, due, next_resend_ns
from services.catalog.domain.settings import CatalogSettings
from services.catalog.domain.states import SyncKind, SyncPhase
from services.catalog.intake import Intake
from services.catalog.pauses import pause
from services.catalog.ports import ShopFacts, Wanted
from services.catalog.reading import Rereader
from services.catalog.records import ShopRecord, Status
from services.catalog.retold import StockRetold
from services.catalog.reviewer import Reviewer
from services.catalog.runs import ShopRuns
from services.catalog.sender import Sender

_log = structlog.stdlib.get_logger()

_TEND_EVERY_S: Final = 2.0
_TELL_EVERY_S: Final = 1.0
_AFTER_TROUBLE_S: Final = 3.0
CANCEL_AGAIN_S: Final = 0.25


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


class ShopWork:
    """All that is done for one shop."""

    def __init__(
        self,
        handle: str,
        means: Means,
        sending: sender.Means,
        retold: StockRetold,
        gave_up: Callable[[BaseException], None],
    ) -> None:
        self.handle = handle
        self.book = ShopBook(
            handle,
            means.syncing.store,
            means.clock,
            lambda: means.bases.of(handle, self._facts),
            settle_s=means.settle_s,
            is_owner=sending.is_owner,
        )
        self.senders: dict[str, Sender] = {}
        self.woken = asyncio.Event()
        self.begun = asyncio.Event()
        """Set when its catalogs are open."""
        self.runs = ShopRuns(
            self.book,
            means.syncing,
            wanted=lambda: self.wanted,
            facts_read=self._read,
            is_at_rest=lambda since_s: all(
                one.is_at_rest(since_s) for one in self.senders.values()
            ),
            before_end=self._tell_all,
            retell_stock=partial(retold.since, handle),
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
        self.begun.set()
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
            await pause(self._means.clock, _TEND_EVERY_S, self.woken)

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
            sorted((name, written(value)) for name, value in asdict(one.settings).items())
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
        await over(self._tasks.pop(name, []))


def written(value: object) -> str:
    """The same text for the same value in every process."""
    return repr(sorted(value)) if isinstance(value, frozenset) else repr(value)


async def over(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Returns when tasks that are cancelled have ended, however.

    A cancellation is swallowed by `wait_for` where what it waits for comes at the same moment; so
    it is said again.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)
    for task in tasks:
        if not task.cancelled():
            task.exception()

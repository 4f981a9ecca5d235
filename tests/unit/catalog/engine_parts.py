"""A catalog's sender and book on a log in memory, with a TikTok and a Shopify that are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from libs.bus.commit_log import Entry, MemoryLog, Stored
from libs.clock import FakeClock
from libs.errors import Kind, ServiceError
from libs.telemetry import Metrics, Sampler, Tracer
from services.catalog import keys, records
from services.catalog.book import ShopBook
from services.catalog.comparing import Catalog
from services.catalog.domain.dialect import HttpRequest
from services.catalog.domain.feed_log import CatalogFacts, FeedLog, Review, Submitted
from services.catalog.domain.model import Product
from services.catalog.domain.settings import CatalogSettings
from services.catalog.domain.sync import SyncProduct
from services.catalog.late import LateWords
from services.catalog.mapper import Basis
from services.catalog.ports import Held, Images
from services.catalog.sender import Means, Sender
from services.catalog.store import SyncStore
from tests.unit.catalog.goods import CATALOG, SHOP, TODAY, product, variant

ID = CATALOG.connection_id


class Log(MemoryLog):
    """A log that loses answers, or fails, when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.unheard = 0
        """Writes that are made and whose answer is lost."""
        self.failing = 0

    async def read(self, subjects: Sequence[str]) -> dict[str, Stored]:
        if self.failing:
            self.failing -= 1
            raise away()
        return await super().read(subjects)

    async def commit(self, entries: Sequence[Entry]) -> int:
        last = await super().commit(entries)
        if self.unheard:
            self.unheard -= 1
            raise away()
        return last


def away() -> ServiceError:
    return ServiceError(Kind.RETRYABLE, "nats_away", "no answer", retry_after_s=0.1)


class Store(SyncStore):
    """The store on a log in memory; scans read the log."""

    def __init__(self, log: Log) -> None:
        super().__init__(None, log)  # type: ignore[arg-type]  # only scans ask NATS
        self.log = log

    async def every_sync(
        self, shop: str, connection_id: str, *, after: int = 0
    ) -> AsyncIterator[tuple[int, SyncProduct]]:
        begins = keys.syncs(shop, connection_id).removesuffix("*")
        for one in list(self.log.newest.values()):
            if one.subject.startswith(begins) and one.sequence > after:
                yield one.sequence, records.sync_product(one.data)

    async def every_product(self, shop: str) -> AsyncIterator[Product]:
        begins = keys.sources(shop).removesuffix("*")
        for one in list(self.log.newest.values()):
            if one.subject.startswith(begins):
                yield records.product(one.data)


Answer = Callable[[HttpRequest], Submitted]


@dataclass
class TikTok:
    """`TikTokCatalog` that answers as it is told, and takes everything else."""

    clock: FakeClock
    answers: list[Answer | ServiceError] = field(default_factory=list)
    logs: list[FeedLog | ServiceError] = field(default_factory=list)
    endless: bool = False
    submits: list[tuple[float, HttpRequest]] = field(default_factory=list)
    asked: list[Sequence[str]] = field(default_factory=list)
    reviewed: list[Review] = field(default_factory=list)
    during: list[Callable[[], Any]] = field(default_factory=list)
    """Done while a log is asked for."""

    async def submit(self, catalog: CatalogSettings, request: HttpRequest) -> Submitted:
        self.submits.append((self.clock.now_s, request))
        answer = self.answers.pop(0) if self.answers else lambda _: Submitted("log-1")
        if isinstance(answer, ServiceError):
            raise answer
        return answer(request)

    async def feed_log(self, catalog: CatalogSettings, feed_log_id: str) -> FeedLog:
        for act in self.during:
            await act()
        self.during.clear()
        if self.logs:
            told = self.logs.pop(0)
            if isinstance(told, ServiceError):
                raise told
            return told
        return FeedLog(ended=not self.endless, added=9999, deleted=9999)

    async def reviews(self, catalog: CatalogSettings, sku_ids: Sequence[str]) -> Sequence[Review]:
        self.asked.append(tuple(sku_ids))
        for act in self.during:
            await act()
        self.during.clear()
        return self.reviewed

    async def facts(self, catalog: CatalogSettings) -> CatalogFacts:
        return CatalogFacts("US", "USD", "CLIENT")

    async def bind_event_source(
        self, catalog: CatalogSettings, *, advertiser_id: str, pixel_code: str
    ) -> None:
        """Nothing is told of it."""


@dataclass
class Gate:
    """`Gatekeeper` that a test shuts by hand."""

    held: Held | None = None

    def may_send(self, catalog: CatalogSettings) -> Held | None:
        return self.held

    async def ended(self, catalog: CatalogSettings, error: ServiceError | None) -> None:
        """Nothing follows from it."""


class NoImages:
    async def look(self, urls: Sequence[str], found: MutableMapping[str, str]) -> None:
        found.update(dict.fromkeys(urls, "too_small"))


class Rig:
    """One catalog of one shop."""

    def __init__(self, **settings: Any) -> None:
        self.clock = FakeClock()
        self.log = Log()
        self.store = Store(self.log)
        self.tiktok = TikTok(self.clock)
        self.gate = Gate()
        self.images: Images = NoImages()
        self.metrics = Metrics()
        self.basis = Basis(SHOP, None, TODAY)
        self.is_owner = True
        self.settings = {"spacing_s": 0.0, **settings}
        self.book = self.new_book()

    def new_book(self) -> ShopBook:
        return ShopBook(
            "example",
            self.store,
            self.clock,
            lambda: self.basis,
            settle_s=0.0,
            is_owner=lambda: self.is_owner,
        )

    async def opened(self, book: ShopBook | None = None, **changes: Any) -> Catalog:
        return await (book or self.book).open(replace(CATALOG, **(self.settings | changes)))

    def sender(self, catalog: Catalog, book: ShopBook | None = None) -> Sender:
        return Sender(
            book or self.book,
            catalog,
            Means(
                api=self.tiktok,
                images=self.images,
                gatekeeper=self.gate,
                store=self.store,
                clock=self.clock,
                random=lambda: 1.0,
                tracer=Tracer(Sampler(self.clock), None, strict=True),
                metrics=self.metrics,
                log_poll_s=0.1,
                log_patience_s=5.0,
                is_owner=lambda: self.is_owner,
                late=LateWords(self.store, self.clock),
            ),
        )

    async def has(self, *products: Product, book: ShopBook | None = None, **how: Any) -> None:
        """The shop has these products, as they are given."""
        changes = {one.product_id: (lambda _, one=one: one) for one in products}
        await (book or self.book).take(changes, **how)

    def record(self, product_id: str = "1") -> SyncProduct:
        return records.sync_product(self.log.newest[keys.sync("example", ID, product_id)].data)


def shoe(number: str = "1", **changes: Any) -> Product:
    """A product of one variant, both called by the number."""
    one = variant(variant_id=f"10{number}", sku=f"SHOE-{number}", inventory_item_id=f"20{number}")
    return product(one, product_id=number, **changes)


async def until(holds: Callable[[], bool], sender: Sender, turns: int = 3000) -> None:
    """Lets the sender work until `holds`.

    Raises:
        AssertionError: it never does.
    """
    task = asyncio.create_task(sender.run())
    try:
        for _ in range(turns):
            if holds() or task.done():
                break
            await asyncio.sleep(0)
        if task.done():
            task.result()
        assert holds()
    finally:
        task.cancel()
        await asyncio.wait([task])

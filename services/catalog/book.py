"""A shop's products and what its catalogs have of them: the one place where both are changed.

Whoever owns the shop's lane has one book of it. What a change says is put to what is stored,
mapped for each catalog and compared with what that catalog has; product and items are written
together, or not at all where somebody else has written meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import structlog

from libs.bus.commit_log import ConflictError, Entry
from libs.clock import Clock
from libs.errors import Kind, ServiceError
from services.catalog import keys, records
from services.catalog.domain import sync
from services.catalog.domain.merging import GONE
from services.catalog.domain.model import Product
from services.catalog.domain.settings import CatalogSettings
from services.catalog.domain.states import ItemState
from services.catalog.domain.sync import Sent, Settled, SyncIssue, SyncProduct
from services.catalog.domain.waiting import Act, Waiting
from services.catalog.mapper import Basis, Made, inventory_items, made_of
from services.catalog.store import GONE_TTL_S, Kept, KeptProduct, SyncStore

_log = structlog.stdlib.get_logger()

Change = Callable[[Product | None], Product | None]
"""What a product is after something was told of it, given what was known; None: it stays unknown.
The same object means that nothing has changed."""

T = TypeVar("T")

CHUNK: Final = 100
"""Products that are read, mapped and written at a time: others of the process wait meanwhile."""

_TRIES: Final = 3


@dataclass(slots=True)
class Catalog:
    """One catalog of the shop, in memory."""

    settings: CatalogSettings
    waiting: Waiting
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when something waits that did not."""


@dataclass(slots=True)
class Taken:
    """What came of changes."""

    products: int = 0
    items: int = 0
    changed: int = 0
    """Items that wait to be sent now and did not before."""
    deleted: int = 0


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An item that is to be sent, or taken out."""

    sent: Sent
    body: bytes
    image_url: str = ""


def unchanged(product: Product | None) -> Product | None:
    """The change that changes nothing: to map anew what is known."""
    return product


class ShopBook:
    """One shop. All that writes holds one lock, so that only another owner can come between."""

    def __init__(
        self,
        handle: str,
        store: SyncStore,
        clock: Clock,
        basis: Callable[[], Basis],
        *,
        settle_s: float,
    ) -> None:
        self.handle = handle
        self.catalogs: dict[str, Catalog] = {}
        self.to_read: dict[str, None] = {}
        """Products of which something is lacking."""
        self.reading_wanted = asyncio.Event()
        self._store = store
        self._clock = clock
        self._basis = basis
        self._settle_s = settle_s
        self._lock = asyncio.Lock()
        self._by_inventory_item: dict[str, str] = {}

    @property
    def products(self) -> set[str]:
        """Products that any catalog has, or should have, items of."""
        return {one for each in self.catalogs.values() for one in each.waiting.product_ids()}

    def product_of(self, inventory_item_id: str) -> str | None:
        """The product that an inventory item belongs to."""
        return self._by_inventory_item.get(inventory_item_id)

    async def open(self, settings: CatalogSettings) -> Catalog:
        """Takes a catalog in and reads what it has; a known one is given new settings."""
        known = self.catalogs.get(settings.connection_id)
        if known is not None:
            known.settings = settings
            return known
        catalog = Catalog(settings, Waiting(self._settle_s))
        now_s = self._clock.monotonic_s()
        async with self._lock:
            async for _, record in self._store.every_sync(self.handle, settings.connection_id):
                catalog.waiting.note(record, now_s)
                self._index(record)
                if record.reread:
                    self.to_read.setdefault(record.product_id)
            self.catalogs[settings.connection_id] = catalog
        catalog.woken.set()
        if self.to_read:
            self.reading_wanted.set()
        return catalog

    def close(self, connection_id: str) -> None:
        """Forgets a catalog; what is stored of it stays."""
        self.catalogs.pop(connection_id, None)

    # -- from the shop -------------------------------------------------------------------------

    async def take(
        self,
        changes: Mapping[str, Change],
        *,
        anew: bool = False,
        resend_before_ns: int = 0,
        lacking: Collection[str] = (),
        read: Collection[str] = (),
    ) -> Taken:
        """Puts changes to products and compares what came of them with each catalog.

        `anew` maps products too that have not changed. Items taken before `resend_before_ns` are
        sent again. `lacking` are products to be read from Shopify (changes may add to it while they
        are put), `read` those that were.

        Raises:
            ServiceError: RETRYABLE where NATS does not answer, or `not_the_owner`.
        """
        taken = Taken()
        found = list(changes)
        for start in range(0, len(found), CHUNK):
            part = {one: changes[one] for one in found[start : start + CHUNK]}
            step = _Step(self, part, anew, resend_before_ns, lacking, read)
            await self._exclusively(lambda step=step: self._take(step, taken))  # type: ignore[misc]
        return taken

    async def _take(self, step: _Step, taken: Taken) -> None:
        stored = await self._store.products(self.handle, list(step.changes), list(self.catalogs))
        groups: list[Sequence[Entry]] = []
        noted: list[tuple[str, SyncProduct]] = []
        for product_id, kept in stored.items():
            after = step.changes[product_id](kept.source.record)
            if after is None:
                continue
            group = list(self._source_entries(kept, after))
            if not group and not step.concerns(product_id):
                continue
            for connection_id, record in step.planned(after, kept):
                noted.append((connection_id, record))
                group.append(self._sync_entry(connection_id, record, kept.syncs[connection_id]))
            if group:
                groups.append(group)
            taken.products += 1
        await self._store.write(groups)
        for connection_id, record in noted:
            self._note(connection_id, record, taken)

    def _source_entries(self, kept: KeptProduct, after: Product) -> Iterator[Entry]:
        if after is kept.source.record or after == kept.source.record:
            return
        yield Entry(
            keys.source(self.handle, after.product_id),
            records.encode(after),
            expected=kept.source.sequence,
            ttl_s=GONE_TTL_S if after.status == GONE else None,
        )

    def _sync_entry(
        self, connection_id: str, record: SyncProduct, before: Kept[SyncProduct | None]
    ) -> Entry:
        return Entry(
            keys.sync(self.handle, connection_id, record.product_id),
            records.encode(record),
            expected=before.sequence,
            ttl_s=GONE_TTL_S if record.is_over else None,
        )

    # -- for the senders -----------------------------------------------------------------------

    async def outgoing(self, connection_id: str, act: Act, items_max: int) -> list[Outgoing]:
        """What is to be sent next of one kind, mapped from the newest that is known.

        Raises:
            ServiceError: as `take`.
        """
        catalog = self.catalogs[connection_id]
        chosen = catalog.waiting.products_for(act, items_max)
        found: list[Outgoing] = []
        behind: list[str] = []
        for start in range(0, len(chosen), CHUNK):
            part = chosen[start : start + CHUNK]
            stored = await self._store.products(self.handle, part, [connection_id])
            for product_id in part:
                kept = stored[product_id]
                record = kept.syncs[connection_id].record
                if record is None:
                    continue
                if act is Act.DELETE:
                    found += _to_delete(record)
                elif kept.source.record is not None:
                    made = self._made(catalog, kept.source.record, record)
                    more = _to_upload(record, made)
                    if more is None:
                        behind.append(product_id)
                    else:
                        found += more
        if behind:
            # Rates, rules or settings are others than when it was compared.
            await self.take(dict.fromkeys(behind, unchanged), anew=True)
        return found[:items_max]

    async def settle(self, connection_id: str, ends: Sequence[Settled]) -> None:
        """Records what became of items that were sent.

        Raises:
            ServiceError: as `take`.
        """
        by_product: dict[str, list[Settled]] = {}
        for end in ends:
            by_product.setdefault(end.sent.product_id, []).append(end)
        now_ns = self._clock.now_ns()
        await self._each(
            connection_id,
            by_product,
            lambda product_id, record: sync.settled(record, by_product[product_id], now_ns),
        )

    async def reviewed(
        self,
        connection_id: str,
        found: Mapping[str, tuple[ItemState | None, tuple[SyncIssue, ...]]],
    ) -> None:
        """Records what TikTok's review says of items, by their ids.

        Raises:
            ServiceError: as `take`.
        """
        owner_of = self.catalogs[connection_id].waiting.owner_of
        products = {owner for sku_id in found if (owner := owner_of(sku_id)) is not None}
        now_ns = self._clock.now_ns()
        await self._each(
            connection_id, products, lambda _, record: sync.looked_at(record, found, now_ns)
        )

    async def doubt(self, connection_id: str, sent: Sequence[Sent]) -> None:
        """Records that a request with these items may have left, by nobody knows whom.

        Raises:
            ServiceError: as `take`.
        """
        by_product: dict[str, list[str]] = {}
        for one in sent:
            by_product.setdefault(one.product_id, []).append(one.sku_id)
        await self._each(
            connection_id,
            by_product,
            lambda product_id, record: sync.marked_maybe(record, by_product[product_id]),
        )

    async def _each(
        self,
        connection_id: str,
        product_ids: Collection[str],
        change: Callable[[str, SyncProduct], SyncProduct],
    ) -> None:
        """Changes the items of products, without their being mapped."""
        chosen = list(product_ids)
        for start in range(0, len(chosen), CHUNK * 2):
            part = chosen[start : start + CHUNK * 2]
            await self._exclusively(lambda part=part: self._change(connection_id, part, change))  # type: ignore[misc]

    async def _change(
        self,
        connection_id: str,
        product_ids: Sequence[str],
        change: Callable[[str, SyncProduct], SyncProduct],
    ) -> None:
        stored = await self._store.syncs(self.handle, connection_id, product_ids)
        groups: list[Sequence[Entry]] = []
        noted: list[SyncProduct] = []
        for product_id, kept in stored.items():
            if kept.record is None:
                continue
            after = change(product_id, kept.record)
            if after != kept.record:
                groups.append([self._sync_entry(connection_id, after, kept)])
                noted.append(after)
        await self._store.write(groups)
        for record in noted:
            self._note(connection_id, record, Taken())

    # -- what both need ------------------------------------------------------------------------

    async def _exclusively(self, act: Callable[[], Awaitable[None]]) -> None:
        """Does it; where somebody else has written meanwhile, again from what is stored then."""
        async with self._lock:
            for _ in range(_TRIES):
                try:
                    return await act()
                except ConflictError as error:
                    conflict = error
            raise ServiceError(
                Kind.RETRYABLE,
                "not_the_owner",
                f"somebody else writes the products of {self.handle}",
            ) from conflict

    def _made(self, catalog: Catalog, product: Product, before: SyncProduct | None) -> Made:
        return made_of(product, catalog.settings, self._basis(), before, catalog.waiting.owner_of)

    def _note(self, connection_id: str, record: SyncProduct, taken: Taken) -> None:
        catalog = self.catalogs.get(connection_id)
        if catalog is None:
            return
        before = catalog.waiting.pending(), catalog.waiting.deletes
        catalog.waiting.note(record, self._clock.monotonic_s())
        self._index(record)
        after = catalog.waiting.pending(), catalog.waiting.deletes
        taken.items += len(record.items)
        taken.changed += max(0, after[0] - before[0])
        taken.deleted += max(0, after[1] - before[1])
        if record.reread:
            self.to_read.setdefault(record.product_id)
            self.reading_wanted.set()
        if after[0] > before[0] or any(one.is_urgent for one in record.items):
            catalog.woken.set()

    def _index(self, record: SyncProduct) -> None:
        for one in record.items:
            if one.inventory_item_id:
                self._by_inventory_item[one.inventory_item_id] = record.product_id


class _Step:
    """Some changes, and what their products are in each catalog afterwards."""

    def __init__(
        self,
        book: ShopBook,
        changes: Mapping[str, Change],
        anew: bool,  # noqa: FBT001  # made in one place
        resend_before_ns: int,
        lacking: Collection[str],
        read: Collection[str],
    ) -> None:
        self.changes = changes
        self._book = book
        self._anew = anew or resend_before_ns > 0
        self._resend_before_ns = resend_before_ns
        self._lacking = lacking
        self._read = read
        self._claims: dict[tuple[str, str], str] = {}

    def concerns(self, product_id: str) -> bool:
        """Whether a product is looked at although it has not changed."""
        return self._anew or product_id in self._lacking or product_id in self._read

    def planned(self, product: Product, kept: KeptProduct) -> Iterator[tuple[str, SyncProduct]]:
        """The records of the product's items that are others than before."""
        for connection_id, catalog in self._book.catalogs.items():
            before = kept.syncs[connection_id].record
            record = self._planned(catalog, product, before)
            if record is None or record == (before or SyncProduct(product_id=product.product_id)):
                continue
            yield connection_id, record

    def _planned(
        self, catalog: Catalog, product: Product, before: SyncProduct | None
    ) -> SyncProduct | None:
        try:
            made = made_of(
                product,
                catalog.settings,
                self._book._basis(),  # noqa: SLF001  # it is the book's own
                before,
                self._owner_of(catalog),
            )
        except Exception:  # noqa: BLE001  # a mapping's bug costs this product's change, not the catalog
            _log.exception(
                "product_not_mapped",
                connection=catalog.settings.connection_id,
                product_id=product.product_id,
            )
            return None
        sku_ids = [
            *(item.sku_id for item in made.mapped.items),
            *(refusal.sku_id for refusal in made.mapped.refusals),
        ]
        for sku_id in sku_ids:
            self._claims.setdefault((catalog.settings.connection_id, sku_id), product.product_id)
        lacks = product.product_id in self._lacking or (before is not None and before.reread)
        return sync.planned(
            before,
            product.product_id,
            made.mapped,
            made.encoded,
            inventory_items=inventory_items(product),
            now_ns=self._book._clock.now_ns(),  # noqa: SLF001
            resend_before_ns=self._resend_before_ns,
            reread=lacks and product.product_id not in self._read,
        )

    def _owner_of(self, catalog: Catalog) -> Callable[[str], str | None]:
        connection_id = catalog.settings.connection_id

        def owner_of(sku_id: str) -> str | None:
            claimed = self._claims.get((connection_id, sku_id))
            return claimed or catalog.waiting.owner_of(sku_id)

        return owner_of


def _to_delete(record: SyncProduct) -> list[Outgoing]:
    return [
        Outgoing(Sent(record.product_id, one.sku_id, 0, 0), b"")
        for one in record.items
        if one.waits_for_delete
    ]


def _to_upload(record: SyncProduct, made: Made) -> list[Outgoing] | None:
    """What waits of a product; None where it is no longer what was compared."""
    found = []
    images = {item.sku_id: item.image_url for item in made.mapped.items}
    for one in record.items:
        if not one.waits_for_upload:
            continue
        now = made.encoded.get(one.sku_id)
        if now is None or now.digest != one.wanted:
            return None
        sent = Sent(record.product_id, one.sku_id, now.digest, now.availability)
        found.append(Outgoing(sent, made.bodies[one.sku_id], images[one.sku_id]))
    return found

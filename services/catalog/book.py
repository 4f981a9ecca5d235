"""A shop's products and what its catalogs have of them: the one place where both are changed.

Whoever owns the shop's lane has one book of it. What a change says is put to what is stored,
mapped for each catalog and compared with what that catalog has; product and items are written
together, or not at all where somebody else has written meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from libs.bus.commit_log import ConflictError, Entry
from libs.clock import Clock
from libs.errors import Kind, ServiceError
from services.catalog import keys, records
from services.catalog.comparing import (
    Catalog,
    Change,
    Comparison,
    Outgoing,
    Ready,
    to_delete,
    to_upload,
)
from services.catalog.domain import fates
from services.catalog.domain.fates import Fate, Sent, Settled
from services.catalog.domain.merging import GONE
from services.catalog.domain.model import Product
from services.catalog.domain.settings import CatalogSettings
from services.catalog.domain.states import ItemState
from services.catalog.domain.sync import SyncIssue, SyncProduct
from services.catalog.domain.waiting import Act, Waiting
from services.catalog.mapper import Basis, made_of
from services.catalog.store import GONE_TTL_S, RECORD_BYTES_MAX, Kept, KeptProduct, SyncStore

_log = structlog.stdlib.get_logger()

CHUNK: Final = 100
"""Products that are read, mapped and written at a time: others of the process wait meanwhile."""

_CHUNK_ITEMS: Final = 1000
"""With the product that reaches as many, a part ends too: 100 of 2,048 variants are far beyond the
300 MiB that a process is given."""

_TRIES: Final = 3

_DECIDED: Final = frozenset({Fate.TAKEN, Fate.REFUSED, Fate.GONE, Fate.KEPT})


@dataclass(slots=True)
class Taken:
    """What came of changes."""

    products: int = 0
    items: int = 0
    changed: int = 0
    """Items that wait to be sent now and did not before."""
    deleted: int = 0


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
        is_owner: Callable[[], bool] = lambda: True,
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
        self._is_owner = is_owner
        self._lock = asyncio.Lock()
        self._ready = Ready()
        self._by_inventory_item: dict[str, str] = {}
        self._inventory_of: dict[tuple[str, str], tuple[str, ...]] = {}
        """What stands in the index, by connection and product."""

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
            self._ready.forget_all(settings.connection_id)
            known.woken.set()
            return known
        catalog = Catalog(settings, Waiting(self._settle_s))
        now_s = self._clock.monotonic_s()
        async with self._lock:
            async for _, record in self._store.every_sync(self.handle, settings.connection_id):
                catalog.waiting.note(record, now_s)
                self._index(settings.connection_id, record)
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
        self._ready.forget_all(connection_id)
        for place in [one for one in self._inventory_of if one[0] == connection_id]:
            self._inventory_of.pop(place)

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
        for part in self._parts(changes):
            step = Comparison(
                self.catalogs,
                {one: changes[one] for one in part},
                self._basis(),
                self._clock.now_ns(),
                anew=anew,
                resend_before_ns=resend_before_ns,
                lacking=lacking,
                read=read,
            )
            await self._exclusively(lambda step=step: self._take(step, taken))  # type: ignore[misc]
        return taken

    async def _take(self, step: Comparison, taken: Taken) -> None:
        stored = await self._store.products(self.handle, list(step.changes), list(self.catalogs))
        groups: list[Sequence[Entry]] = []
        # Those too that stay as they are: what an earlier try has written may not be noted yet.
        noted: list[tuple[str, SyncProduct]] = []
        for product_id, kept in stored.items():
            after = step.changed(product_id, kept.source.record)
            records_after = {
                connection_id: record.record or SyncProduct(product_id=product_id)
                for connection_id, record in kept.syncs.items()
            }
            if after is not None:
                group = list(self._source_entries(kept, after))
                fits = all(len(entry.data) <= RECORD_BYTES_MAX for entry in group)
                if not fits:
                    _log.warning("product_too_large", shop=self.handle, product_id=product_id)
                    # What is known of it stays known, for nothing may be sent but what is.
                    group = []
                if group or not fits or step.concerns(product_id):
                    plans = step.planned(after, kept) if fits else step.too_large(after, kept)
                    for connection_id, record in plans:
                        records_after[connection_id] = record
                        before = kept.syncs[connection_id]
                        group.append(self._sync_entry(connection_id, record, before))
                if group:
                    groups.append(group)
            noted += records_after.items()
        await self._store.write(groups)
        taken.products += len(stored)
        for connection_id, record in noted:
            self._note(connection_id, record, taken)
        for connection_id, prepared in step.prepared:
            self._ready.put(connection_id, prepared)

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

    async def outgoing(
        self, connection_id: str, act: Act, items_max: int, *, of: Sequence[str] | None = None
    ) -> list[Outgoing]:
        """What is to be sent next of one kind, mapped from the newest that is known.

        `of` are products to choose from; None: those whose turn it is.

        Raises:
            ServiceError: as `take`.
        """
        catalog = self.catalogs[connection_id]
        chosen = list(of) if of is not None else catalog.waiting.products_for(act, items_max)
        found: list[Outgoing] = []
        behind: list[str] = []
        if act is Act.UPLOAD:
            chosen = await self._without_ready(connection_id, chosen, found)
        for part in self._parts(chosen):
            stored = await self._store.products(self.handle, part, [connection_id])
            for product_id in part:
                kept = stored[product_id]
                record = kept.syncs[connection_id].record or SyncProduct(product_id=product_id)
                if act is Act.DELETE:
                    more: list[Outgoing] | None = to_delete(record)
                else:
                    more = self._to_upload(catalog, kept.source.record, record)
                if more is None:
                    behind.append(product_id)
                elif not more:
                    # What is stored is right, whatever was thought to wait.
                    self._note(connection_id, record, Taken())
                found += more or ()
        if behind:
            # Rates, rules or settings are others than when it was compared.
            await self.take(dict.fromkeys(behind, unchanged), anew=True)
        return found[:items_max]

    async def _without_ready(
        self, connection_id: str, chosen: list[str], found: list[Outgoing]
    ) -> list[str]:
        """Those of the products that have to be mapped again; what is ready joins `found`."""
        stored = await self._store.syncs(self.handle, connection_id, chosen)
        basis = self._basis()
        rest = []
        for product_id in chosen:
            record = stored[product_id].record
            ready = None if record is None else self._ready.take(connection_id, record, basis)
            if ready is None:
                rest.append(product_id)
            else:
                found += ready
        return rest

    def _to_upload(
        self, catalog: Catalog, product: Product | None, record: SyncProduct
    ) -> list[Outgoing] | None:
        """What waits of a product; None where it is to be compared anew."""
        if product is None or not any(one.waits_for_upload for one in record.items):
            return []
        try:
            made = made_of(
                product, catalog.settings, self._basis(), record, catalog.waiting.owner_of
            )
        except Exception:  # noqa: BLE001  # comparing it anew says so of its items
            return None
        return to_upload(record, made)

    async def settle(self, connection_id: str, ends: Sequence[Settled]) -> None:
        """Records what became of items that were sent.

        Raises:
            ServiceError: as `take`.
        """
        by_product: dict[str, list[Settled]] = {}
        owner_of = self.catalogs[connection_id].waiting.owner_of
        for end in ends:
            # An id that has gone to another product meanwhile is that one's to send.
            if owner_of(end.sent.sku_id) in (None, end.sent.product_id):
                by_product.setdefault(end.sent.product_id, []).append(end)
        now_ns = self._clock.now_ns()
        decided = {end.sent.sku_id for end in ends if end.fate in _DECIDED}
        await self._each(
            connection_id,
            by_product,
            lambda product_id, record: fates.settled(record, by_product[product_id], now_ns),
            decided,
        )

    async def reviewed(
        self,
        connection_id: str,
        found: Mapping[str, tuple[ItemState | None, tuple[SyncIssue, ...]]],
        asked_ns: int,
    ) -> None:
        """Records what TikTok's review says of items, by their ids, since it was asked.

        Raises:
            ServiceError: as `take`.
        """
        owner_of = self.catalogs[connection_id].waiting.owner_of
        products = {owner for sku_id in found if (owner := owner_of(sku_id)) is not None}
        now_ns = self._clock.now_ns()
        await self._each(
            connection_id,
            products,
            lambda _, record: fates.looked_at(record, found, asked_ns, now_ns),
        )

    async def doubt(self, connection_id: str, sent: Sequence[Sent]) -> None:
        """Records that a request with these items may have left, by nobody knows whom.

        Raises:
            ServiceError: as `take`.
        """
        by_product: dict[str, list[Sent]] = {}
        owner_of = self.catalogs[connection_id].waiting.owner_of
        for one in sent:
            if owner_of(one.sku_id) in (None, one.product_id):
                by_product.setdefault(one.product_id, []).append(one)
        now_ns = self._clock.now_ns()
        await self._each(
            connection_id,
            by_product,
            lambda product_id, record: fates.marked_maybe(record, by_product[product_id], now_ns),
        )

    async def _each(
        self,
        connection_id: str,
        product_ids: Collection[str],
        change: Callable[[str, SyncProduct], SyncProduct],
        decided: Collection[str] = (),
    ) -> None:
        """Changes the items of products, without their being mapped.

        Where all that still waits of a product is among `decided`, it waits since now.
        """
        chosen = list(product_ids)
        for start in range(0, len(chosen), CHUNK * 2):
            part = chosen[start : start + CHUNK * 2]
            await self._exclusively(
                lambda part=part: self._change(connection_id, part, change, decided)  # type: ignore[misc]
            )

    async def _change(
        self,
        connection_id: str,
        product_ids: Sequence[str],
        change: Callable[[str, SyncProduct], SyncProduct],
        decided: Collection[str],
    ) -> None:
        stored = await self._store.syncs(self.handle, connection_id, product_ids)
        groups: list[Sequence[Entry]] = []
        noted: list[SyncProduct] = []
        for product_id, kept in stored.items():
            before = kept.record or SyncProduct(product_id=product_id)
            after = change(product_id, before)
            noted.append(after)
            if after != before:
                groups.append([self._sync_entry(connection_id, after, kept)])
        await self._store.write(groups)
        for record in noted:
            waits = [one for one in record.items if one.waits_for_upload or one.waits_for_delete]
            is_new = bool(decided) and all(one.sku_id in decided for one in waits)
            self._note(connection_id, record, Taken(), renewed=is_new)

    def _parts(self, product_ids: Iterable[str]) -> Iterator[list[str]]:
        """As many products at a time as memory has room for, by what is known of them."""
        part: list[str] = []
        items = 0
        for product_id in product_ids:
            part.append(product_id)
            counts = (one.waiting.items_of(product_id) for one in self.catalogs.values())
            items += max(counts, default=0)
            if len(part) >= CHUNK or items >= _CHUNK_ITEMS:
                yield part
                part, items = [], 0
        if part:
            yield part

    # -- what both need ------------------------------------------------------------------------

    async def _exclusively(self, act: Callable[[], Awaitable[None]]) -> None:
        """Does it; where somebody else has written meanwhile, again from what is stored then."""
        async with self._lock:
            for _ in range(_TRIES):
                if not self._is_owner():
                    # What it would write its successor would not know of, and never send.
                    raise ServiceError(Kind.RETRYABLE, "not_the_owner", self.handle)
                try:
                    return await act()
                except ConflictError as error:
                    conflict = error
            raise ServiceError(
                Kind.RETRYABLE,
                "not_the_owner",
                f"somebody else writes the products of {self.handle}",
            ) from conflict

    def _note(
        self, connection_id: str, record: SyncProduct, taken: Taken, *, renewed: bool = False
    ) -> None:
        catalog = self.catalogs.get(connection_id)
        if catalog is None:
            return
        self._ready.forget(connection_id, record.product_id)
        before = catalog.waiting.pending(), catalog.waiting.deletes
        catalog.waiting.note(record, self._clock.monotonic_s(), renewed=renewed)
        self._index(connection_id, record)
        after = catalog.waiting.pending(), catalog.waiting.deletes
        taken.items += len(record.items)
        taken.changed += max(0, after[0] - before[0])
        taken.deleted += max(0, after[1] - before[1])
        if record.reread:
            self.to_read.setdefault(record.product_id)
            self.reading_wanted.set()
        if after[0] > before[0] or any(one.is_urgent for one in record.items):
            catalog.woken.set()

    def _index(self, connection_id: str, record: SyncProduct) -> None:
        place = connection_id, record.product_id
        ids = tuple(one.inventory_item_id for one in record.items if one.inventory_item_id)
        was = self._inventory_of.get(place, ())
        if ids == was:
            return
        for gone in set(was) - set(ids):
            if self._by_inventory_item.get(gone) == record.product_id:
                del self._by_inventory_item[gone]
        if ids:
            self._inventory_of[place] = ids
        else:
            self._inventory_of.pop(place, None)
        self._by_inventory_item.update(dict.fromkeys(ids, record.product_id))

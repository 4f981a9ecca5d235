"""What changes make of products, and of their items in each catalog: compared, nothing written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import structlog

from services.catalog.domain import sync
from services.catalog.domain.fates import Sent
from services.catalog.domain.ids import assign_ids
from services.catalog.domain.items import Mapped, Refusal
from services.catalog.domain.model import Product
from services.catalog.domain.settings import CatalogSettings
from services.catalog.domain.sync import SyncItem, SyncProduct
from services.catalog.domain.waiting import Waiting
from services.catalog.mapper import Basis, Made, inventory_items, made_of
from services.catalog.store import KeptProduct

_log = structlog.stdlib.get_logger()

Change = Callable[[Product | None], Product | None]
"""What a product is after something was told of it, given what was known; None: it stays unknown.
The same object means that nothing has changed."""


@dataclass(slots=True)
class Catalog:
    """One catalog of the shop, in memory."""

    settings: CatalogSettings
    waiting: Waiting
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when something waits that did not."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An item that is to be sent, or taken out."""

    sent: Sent
    body: bytes
    image_url: str = ""


READY_BYTES_MAX: Final = 32 * 1024 * 1024
"""Of a shop's items that are kept as they go over the wire until they are sent: to map them again
costs as much as to compare them, and a seed sends all that it has compared."""


_TOO_LARGE: Final = "the product has more variants, locations or texts than can be kept of one"
_LESS: Final = "split it, or stock it at fewer locations"


@dataclass(frozen=True, slots=True)
class Prepared:
    """What waits of a product, as it is to be sent; good for this record and this basis alone."""

    record: SyncProduct
    basis: Basis
    outgoing: Sequence[Outgoing]


class Ready:
    """Products that were just compared, with their items as they are to be sent.

    Those that do not fit are mapped again when their turn comes.
    """

    def __init__(self, bytes_max: int = READY_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._held: dict[tuple[str, str], tuple[Prepared, int]] = {}
        self._bytes = 0

    def put(self, connection_id: str, prepared: Prepared) -> None:
        """Keeps what waits of a product while there is room."""
        size = sum(len(one.body) for one in prepared.outgoing)
        if prepared.outgoing and self._bytes + size <= self._bytes_max:
            self._held[connection_id, prepared.record.product_id] = (prepared, size)
            self._bytes += size

    def forget(self, connection_id: str, product_id: str) -> None:
        """What was kept of a product is no longer what is to be sent."""
        found = self._held.pop((connection_id, product_id), None)
        if found is not None:
            self._bytes -= found[1]

    def forget_all(self, connection_id: str) -> None:
        """A catalog has other settings, or is gone."""
        for place in [one for one in self._held if one[0] == connection_id]:
            self.forget(*place)

    def take(
        self, connection_id: str, record: SyncProduct, basis: Basis
    ) -> Sequence[Outgoing] | None:
        """What waits of a product, once; None where it is not kept, or is another by now."""
        found = self._held.get((connection_id, record.product_id))
        if found is None:
            return None
        self.forget(connection_id, record.product_id)
        prepared = found[0]
        is_good = prepared.record == record and prepared.basis == basis
        return prepared.outgoing if is_good else None


class Comparison:
    """Some changes, and what their products are in each catalog afterwards."""

    def __init__(
        self,
        catalogs: Mapping[str, Catalog],
        changes: Mapping[str, Change],
        basis: Basis,
        now_ns: int,
        *,
        anew: bool = False,
        resend_before_ns: int = 0,
        lacking: Collection[str] = (),
        read: Collection[str] = (),
    ) -> None:
        """`anew` and the others are those of `ShopBook.take`."""
        self.changes = changes
        self._catalogs = catalogs
        self._basis = basis
        self._now_ns = now_ns
        self._anew = anew or resend_before_ns > 0
        self._resend_before_ns = resend_before_ns
        self._lacking = lacking
        self._read = read
        self._claims: dict[tuple[str, str], str] = {}
        self.prepared: list[tuple[str, Prepared]] = []
        """What waits of products that were mapped, with the connection that it is for."""

    def changed(self, product_id: str, known: Product | None) -> Product | None:
        """What the product is after its change; where that fails, as it was."""
        try:
            return self.changes[product_id](known)
        except Exception:  # noqa: BLE001  # a bug costs this product's change, not those beside it
            _log.exception("product_not_changed", product_id=product_id)
            return known

    def concerns(self, product_id: str) -> bool:
        """Whether a product is looked at although it has not changed."""
        return self._anew or product_id in self._lacking or product_id in self._read

    def planned(self, product: Product, kept: KeptProduct) -> Iterator[tuple[str, SyncProduct]]:
        """The records of the product's items that are others than before."""
        for connection_id, catalog in self._catalogs.items():
            before = kept.syncs[connection_id].record
            record = self._planned(catalog, product, before)
            if record is None or record == (before or SyncProduct(product_id=product.product_id)):
                continue
            yield connection_id, record

    def _planned(
        self, catalog: Catalog, product: Product, before: SyncProduct | None
    ) -> SyncProduct | None:
        owner_of = self._owner_of(catalog)
        try:
            made = made_of(product, catalog.settings, self._basis, before, owner_of)
        except Exception:  # noqa: BLE001  # a mapping's bug costs this product's change, not the catalog
            _log.exception(
                "product_not_mapped",
                connection=catalog.settings.connection_id,
                product_id=product.product_id,
            )
            return sync.unmapped(before, self._now_ns) if before else None
        sku_ids = [
            *(item.sku_id for item in made.mapped.items),
            *(refusal.sku_id for refusal in made.mapped.refusals),
        ]
        for sku_id in sku_ids:
            self._claims.setdefault((catalog.settings.connection_id, sku_id), product.product_id)
        lacks = product.product_id in self._lacking or (before is not None and before.reread)
        record = sync.planned(
            before,
            product.product_id,
            made.mapped,
            made.encoded,
            inventory_items=inventory_items(product),
            now_ns=self._now_ns,
            resend_before_ns=self._resend_before_ns,
            reread=lacks and product.product_id not in self._read,
        )
        prepared = Prepared(record, self._basis, to_upload(record, made) or ())
        self.prepared.append((catalog.settings.connection_id, prepared))
        return record

    def too_large(self, product: Product, kept: KeptProduct) -> Iterator[tuple[str, SyncProduct]]:
        """The records of a product that is more than can be kept, so that it stays as it was known.

        Its items say so; where nothing was known of it, each of its variants is refused.
        """
        known = kept.source.record
        is_known = known is not None and known.variants
        for connection_id, catalog in self._catalogs.items():
            before = kept.syncs[connection_id].record
            if not is_known:
                record = self._refused(catalog, product, before)
            elif before is None:
                continue
            else:
                record = sync.unmapped(before, self._now_ns)
                record = msgspec.structs.replace(
                    record,
                    items=tuple(map(_said_to_be_too_large, record.items)),
                    reread=record.reread and product.product_id not in self._read,
                )
            if record != before:
                yield connection_id, record

    def _refused(
        self, catalog: Catalog, product: Product, before: SyncProduct | None
    ) -> SyncProduct:
        known = before.ids if before else {}
        ids, _ = assign_ids(product, catalog.settings, known, self._owner_of(catalog))
        refusals = tuple(
            Refusal(one, sku_id, "product_too_large", "variants", f"{_TOO_LARGE}: {_LESS}")
            for one, sku_id in ids.items()
        )
        return sync.planned(
            before,
            product.product_id,
            Mapped(refusals=refusals),
            {},
            inventory_items=inventory_items(product),
            now_ns=self._now_ns,
        )

    def _owner_of(self, catalog: Catalog) -> Callable[[str], str | None]:
        connection_id = catalog.settings.connection_id

        def owner_of(sku_id: str) -> str | None:
            claimed = self._claims.get((connection_id, sku_id))
            return claimed or catalog.waiting.owner_of(sku_id)

        return owner_of


def _said_to_be_too_large(item: SyncItem) -> SyncItem:
    issues = tuple(
        msgspec.structs.replace(one, text=_TOO_LARGE, fix=_LESS)
        if one.code == sync.MAPPING_FAILED
        else one
        for one in item.issues
    )
    return msgspec.structs.replace(item, issues=issues)


def to_delete(record: SyncProduct) -> list[Outgoing]:
    """What of a product is to be taken out."""
    return [
        Outgoing(Sent(record.product_id, one.sku_id, 0, 0), b"")
        for one in record.items
        if one.waits_for_delete
    ]


def to_upload(record: SyncProduct, made: Made) -> list[Outgoing] | None:
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

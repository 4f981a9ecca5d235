"""A product as one catalog gets it: mapped, named, encoded, and what its record is then. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from hashlib import blake2b

from services.catalog.domain.dialects import dialect_of
from services.catalog.domain.ids import assign_ids
from services.catalog.domain.items import Mapped, Note
from services.catalog.domain.mapping import map_product
from services.catalog.domain.model import Product
from services.catalog.domain.rates import RateTable
from services.catalog.domain.settings import CatalogSettings, ShopContext
from services.catalog.domain.sync import Encoded, SyncProduct


@dataclass(frozen=True, slots=True)
class Basis:
    """What every product of a shop is mapped with."""

    shop: ShopContext
    rates: RateTable | None
    today: date


@dataclass(frozen=True, slots=True)
class Made:
    """What one catalog gets of a product."""

    mapped: Mapped
    bodies: Mapping[str, bytes]
    """Each item on the wire, by its id."""
    encoded: Mapping[str, Encoded]
    notes: tuple[Note, ...]
    """Of the ids that were given."""


def made_of(
    product: Product,
    catalog: CatalogSettings,
    basis: Basis,
    before: SyncProduct | None,
    owner_of: Callable[[str], str | None],
) -> Made:
    """Maps and encodes. `owner_of` tells which product an id belongs to so far."""
    ids, notes = assign_ids(product, catalog, before.ids if before else {}, owner_of)
    mapped = map_product(product, basis.shop, catalog, ids, basis.rates, basis.today)
    dialect = dialect_of(catalog.dialect)
    bodies = {item.sku_id: dialect.encode(item) for item in mapped.items}
    encoded = {
        item.sku_id: Encoded(digest_of(bodies[item.sku_id]), int(item.availability))
        for item in mapped.items
    }
    return Made(mapped, bodies, encoded, notes)


def digest_of(body: bytes) -> int:
    """8 bytes of the item's digest, never 0: that means that there is no item."""
    return int.from_bytes(blake2b(body, digest_size=8).digest(), "big") or 1


def inventory_items(product: Product) -> dict[str, str]:
    """The inventory item of each variant."""
    return {one.variant_id: one.inventory_item_id for one in product.variants}

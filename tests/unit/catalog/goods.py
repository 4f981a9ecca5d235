"""A product that maps without a word of complaint, for tests to break in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import Any

import msgspec

from services.catalog.domain.ids import assign_ids
from services.catalog.domain.items import Item, Mapped, Refusal
from services.catalog.domain.mapping import map_product
from services.catalog.domain.model import Image, Money, Product, Variant
from services.catalog.domain.rates import RateTable
from services.catalog.domain.settings import CatalogSettings, ShopContext

TODAY = date(2026, 11, 27)
CDN = "https://cdn.shopify.com/s/files/1/0001"

SHOP = ShopContext(
    handle="example",
    domain="shop.example.com",
    currency="USD",
    country="US",
    language="en",
)
CATALOG = CatalogSettings(
    connection_id="example.catalog.7001",
    shop="example",
    catalog_id="7001",
    business_center_id="9001",
    country="US",
    currency="USD",
)


def variant(**other: Any) -> Variant:
    """A running shoe in size 42."""
    plain = Variant(
        variant_id="101",
        sku="SHOE-42",
        barcode="4006381333931",
        title="42",
        option_values=("42",),
        price=Money(12000, "USD"),
        policy="deny",
        inventory_item_id="201",
        tracked=True,
        quantity=5,
        image_id="301",
        weight="0.5",
        weight_unit="kg",
    )
    return msgspec.structs.replace(plain, **other)


def product(*variants: Variant, **other: Any) -> Product:
    """A running shoe, with one size of it unless others are given."""
    plain = Product(
        product_id="1",
        title="Running Shoe",
        body_html="<p>Runs by itself.</p>",
        vendor="Acme",
        product_type="Shoes",
        handle="running-shoe",
        status="active",
        option_names=("Size",),
        category="Apparel & Accessories > Shoes > Sneakers > Running",
        images=(Image(f"{CDN}/a.jpg", "301", 800, 800), Image(f"{CDN}/b.jpg", "302", 800, 800)),
        variants=variants or (variant(),),
    )
    return msgspec.structs.replace(plain, **other)


def mapped(
    given: Product,
    *,
    shop: ShopContext = SHOP,
    rates: RateTable | None = None,
    today: date = TODAY,
    **settings: Any,
) -> Mapped:
    """What a catalog with these settings gets of the product."""
    catalog = replace(CATALOG, **settings)
    return map_product(given, shop, catalog, ids_of(given, catalog), rates, today)


def ids_of(given: Product, catalog: CatalogSettings = CATALOG) -> Mapping[str, str]:
    """Ids as in a catalog that holds nothing yet."""
    return assign_ids(given, catalog, {}, lambda _: None)[0]


def item(given: Product, **other: Any) -> Item:
    """The one item of a product of one variant."""
    found = mapped(given, **other)
    assert not found.refusals, found.refusals
    (one,) = found.items
    return one


def refused(given: Product, **other: Any) -> Refusal:
    """The one refusal of a product of one variant."""
    found = mapped(given, **other)
    assert not found.items, found.items
    (one,) = found.refusals
    return one


def codes(found: Mapped) -> list[str]:
    """The codes of the notes."""
    return [note.code for note in found.notes]

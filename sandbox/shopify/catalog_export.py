"""Puts a shop's own product export on the shelf: Shopify's CSV, a row a variant or image.

Shopify admin → Products → Export. Rows of one handle are one product; its first row tells what
all variants share. What an export does not say (ids, dates, the size of pictures) is made up.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Final

from sandbox.shopify.catalog_model import (
    DEFAULT_OPTION,
    DEFAULT_VALUES,
    CatalogShop,
    Item,
    Level,
    Medium,
    Option,
    OptionValue,
    Product,
    Variant,
)
from sandbox.shopify.catalog_shop import Maker

_FIELD_BYTES_MAX: Final = 2**20
_PLACES: Final = (1, 2, 3)
_GUARD: Final = "'"
"""What spreadsheets put before long numbers."""

_DAY_S: Final = 86_400

Row = Mapping[str, str]


class ExportError(ValueError):
    """That is no export of products; says what is missing."""


def add_export(shop: CatalogShop, text: str, now_s: int, variants_max: int) -> int:
    """Puts the products of an export on the shelf, whole ones and at most so many variants.

    Returns how many variants that were. Prices are taken as the shop's currency.

    Raises:
        ExportError: it is not an export of products.
    """
    maker = Maker(shop, Random(0), now_s)
    handles = {one.handle for one in shop.products.values()}
    added = 0
    for rows in _products(text):
        product = _product(shop, maker, rows, now_s)
        if added + len(product.variants) > variants_max:
            break
        if product.handle in handles:
            product.handle = f"{product.handle}-{product.number}"
        handles.add(product.handle)
        shop.add(product)
        added += len(product.variants)
    return added


def _products(text: str) -> Iterator[list[Row]]:
    """The rows of each product, in the order of the file."""
    limit = csv.field_size_limit(_FIELD_BYTES_MAX)
    try:
        return iter(_by_handle(csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))).values())
    finally:
        # It holds for the whole process, where others count on theirs.
        csv.field_size_limit(limit)


def _by_handle(lines: csv.DictReader[str]) -> dict[str, list[Row]]:
    missing = {"Handle", "Title", "Variant Price"} - set(lines.fieldnames or ())
    if missing:
        raise ExportError(f"an export of products has the columns {', '.join(sorted(missing))}")
    found: dict[str, list[Row]] = {}
    for row in lines:
        found.setdefault(row["Handle"], []).append(
            {name: value or "" for name, value in row.items() if isinstance(name, str)}
        )
    return found


def _product(shop: CatalogShop, maker: Maker, rows: Sequence[Row], now_s: int) -> Product:
    first = next((row for row in rows if row["Title"]), rows[0])
    is_published = first.get("Published", "").lower() == "true"
    made_s = now_s - 30 * _DAY_S
    product = Product(
        number=maker.number(),
        title=first["Title"],
        body_html=first.get("Body (HTML)", ""),
        vendor=first.get("Vendor", ""),
        product_type=first.get("Type", ""),
        handle=first["Handle"],
        status=(first.get("Status") or "active").upper(),
        tags=[tag for one in first.get("Tags", "").split(",") if (tag := one.strip())],
        created_at_s=made_s,
        updated_at_s=made_s,
        published_at_s=made_s if is_published else None,
        category=first.get("Product Category") or None,
    )
    of_variants = [row for row in rows if row["Variant Price"] or row.get("Option1 Value")]
    names = [name for place in _PLACES if (name := first.get(f"Option{place} Name"))]
    product.media = [Medium(maker.number(), url) for url in _pictures(rows)]
    by_url = {one.url: one for one in product.media}
    for place, row in enumerate(of_variants, 1):
        product.variants.append(_variant(shop, maker, product, row, len(names), place))
        medium = by_url.get(row.get("Variant Image", ""))
        product.variants[-1].media = [medium] if medium else []
    product.options = list(_options(maker, product, names))
    return product


def _pictures(rows: Sequence[Row]) -> Iterator[str]:
    """In the order of their positions; older exports have none and are in order."""
    told = [row for row in rows if row.get("Image Src")]
    told.sort(key=lambda row: int(row.get("Image Position") or 0))
    of_variants = (url for row in rows if (url := row.get("Variant Image")))
    yield from dict.fromkeys([*(row["Image Src"] for row in told), *of_variants])


def _options(maker: Maker, product: Product, names: Sequence[str]) -> Iterator[Option]:
    if not names:
        default = OptionValue(maker.number(), DEFAULT_VALUES[0])
        yield Option(maker.number(), DEFAULT_OPTION, [default])
    for place, name in enumerate(names):
        found = dict.fromkeys(one.values[place] for one in product.variants)
        values = [OptionValue(maker.number(), value) for value in found]
        yield Option(maker.number(), name, values, position=place + 1)


def _variant(
    shop: CatalogShop, maker: Maker, product: Product, row: Row, options: int, position: int
) -> Variant:
    values = tuple(row.get(f"Option{place} Value", "") for place in _PLACES[:options])
    variant = Variant(
        number=maker.number(),
        product=product,
        values=values or DEFAULT_VALUES,
        price=row["Variant Price"] or "0.00",
        compare_at_price=row.get("Variant Compare At Price") or None,
        sku=row.get("Variant SKU", "").removeprefix(_GUARD) or None,
        barcode=row.get("Variant Barcode", "").removeprefix(_GUARD) or None,
        inventory_policy=(row.get("Variant Inventory Policy") or "deny").upper(),
        position=position,
        created_at_s=product.created_at_s,
        updated_at_s=product.updated_at_s,
    )
    item = Item(maker.number(), variant, updated_at_s=product.updated_at_s)
    item.tracked = bool(row.get("Variant Inventory Tracker"))
    grams = float(row.get("Variant Grams") or 0)
    item.weight, item.weight_unit = (grams, "GRAMS") if grams else (None, item.weight_unit)
    stock = int(row.get("Variant Inventory Qty") or 0)
    for place, location in enumerate(shop.locations):
        # An export has the sum of all places; here the first has it all.
        item.levels.append(Level(item, location, 0 if place else stock, product.updated_at_s))
    variant.item = item
    return variant

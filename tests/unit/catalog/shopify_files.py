"""Products of Shopify's own exports: a CSV with a row for each variant and image, or REST JSON."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec
from google.protobuf.timestamp_pb2 import Timestamp

from libs.errors import ServiceError
from libs.money import minor
from services.catalog.domain.model import Image, Money, Product, Variant
from services.catalog.states import product_of
from services.ingest.normalize import DeliveryMeta, Normalized, ShopContext, normalize
from tidewire.commerce.v1 import product_pb2

Row = Mapping[str, str]
_METAFIELD: Final = re.compile(r"\(product\.metafields\.([^)]+)\)$")
_GUARD: Final = "'"
"""What spreadsheets put before long numbers."""


def products_of_csv(file: Path, currency: str) -> list[Product]:
    """The products of an export, numbered in its order; prices are in `currency`."""
    by_handle: dict[str, list[Row]] = {}
    limit = csv.field_size_limit(sys.maxsize)
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            for row in csv.DictReader(lines):
                by_handle.setdefault(row["Handle"], []).append(row)
    finally:
        # It holds for the whole process, where other tests count on theirs.
        csv.field_size_limit(limit)
    return [
        _product(number, rows, currency) for number, rows in enumerate(by_handle.values(), start=1)
    ]


def products_of_json(file: Path, currency: str) -> Iterator[Product]:
    """The products of a REST answer, read as the webhooks that have the same form."""
    found = msgspec.json.decode(file.read_bytes())
    for body in found["products"] if "products" in found else [found.get("product", found)]:
        meta = DeliveryMeta(body_hash=1, received_at=Timestamp(seconds=1))
        shop = ShopContext(shop="example", country="US", currency=currency)
        told = normalize("products/update", msgspec.json.encode(body), shop, meta)
        assert isinstance(told, Normalized)
        assert isinstance(told.message, product_pb2.Product)
        yield product_of(told.message, None)


def _product(number: int, rows: list[Row], currency: str) -> Product:
    first = next((row for row in rows if row["Title"]), rows[0])
    variants = [row for row in rows if row["Variant Price"] or row["Option1 Value"]]
    names = [first[f"Option{place} Name"] for place in (1, 2, 3)]
    return Product(
        product_id=str(number),
        title=first["Title"],
        body_html=first["Body (HTML)"],
        vendor=first["Vendor"],
        product_type=first["Type"],
        handle=first["Handle"],
        status=first.get("Status") or "active",
        published=first["Published"].lower() == "true",
        tags=tuple(tag.strip() for tag in first["Tags"].split(",")),
        option_names=tuple(name for name in names if name),
        category=first.get("Product Category") or "",
        images=tuple(_images(rows)),
        variants=tuple(
            _variant(f"{number}{place:04}", row, currency) for place, row in enumerate(variants, 1)
        ),
        metafields=dict(_metafields(first)),
    )


def _variant(variant_id: str, row: Row, currency: str) -> Variant:
    values = [row[f"Option{place} Value"] for place in (1, 2, 3)]
    shown = [value for value in values if value]
    return Variant(
        variant_id=variant_id,
        sku=row["Variant SKU"].removeprefix(_GUARD),
        barcode=row["Variant Barcode"].removeprefix(_GUARD),
        title=" / ".join(shown),
        option_values=tuple(shown),
        price=_money(row["Variant Price"], currency),
        compare_at=_money(row["Variant Compare At Price"], currency),
        policy=row["Variant Inventory Policy"],
        tracked=bool(row["Variant Inventory Tracker"]),
        quantity=int(row.get("Variant Inventory Qty") or 0),
        image_url=row.get("Variant Image") or "",
        weight=row["Variant Grams"],
        weight_unit="g",
    )


def _images(rows: Iterable[Row]) -> Iterator[Image]:
    """In the order of their positions; older exports have none and are in order."""
    told = [row for row in rows if row.get("Image Src")]
    for row in sorted(told, key=lambda row: int(row.get("Image Position") or 0)):
        yield Image(row["Image Src"])


def _metafields(row: Row) -> Iterator[tuple[str, str]]:
    for name, value in row.items():
        found = _METAFIELD.search(name)
        if found is not None and value:
            yield found[1], value


def _money(text: str, currency: str) -> Money | None:
    try:
        return Money(minor(text, currency), currency)
    except ServiceError:
        return None

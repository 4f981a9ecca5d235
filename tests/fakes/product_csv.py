"""A product export as Shopify's admin writes it, of lamps that nobody sells."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Final

COLUMNS: Final = (
    "Handle", "Title", "Body (HTML)", "Vendor", "Type", "Tags", "Published", "Option1 Name",
    "Option1 Value", "Option2 Name", "Option2 Value", "Variant SKU", "Variant Grams",
    "Variant Inventory Tracker", "Variant Inventory Qty", "Variant Inventory Policy",
    "Variant Price", "Variant Compare At Price", "Variant Barcode", "Image Src", "Image Position",
    "Variant Image", "Status",
)  # fmt: skip


def csv_text(rows: Iterable[Mapping[str, str]]) -> str:
    """The file, with the mark that Shopify puts before it."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return "\ufeff" + text.getvalue()


def product_csv(products: int) -> str:
    """So many products, each in two sizes with two pictures."""
    return csv_text(row for number in range(products) for row in lamp(f"lamp-{number}"))


def lamp(handle: str) -> list[dict[str, str]]:
    """The rows of one: the first tells of the product too, the last of a picture alone."""
    cdn = "https://cdn.example.com/files"
    shared = {
        "Handle": handle,
        "Variant Inventory Tracker": "shopify",
        "Variant Inventory Policy": "deny",
    }
    small = {
        "Title": f"Lamp {handle}",
        "Body (HTML)": "<p>Lit &amp; warm</p>",
        "Vendor": "Tidal Works",
        "Type": "Lantern",
        "Tags": "gift, new",
        "Published": "true",
        "Status": "active",
        "Option1 Name": "Size",
        "Option1 Value": "S",
        "Variant SKU": f"'{handle}-S",
        "Variant Grams": "700",
        "Variant Inventory Qty": "4",
        "Variant Price": "19.50",
        "Variant Compare At Price": "25.00",
        "Image Src": f"{cdn}/{handle}-front.jpg",
        "Image Position": "2",
    }
    large = {
        "Option1 Value": "L",
        "Variant SKU": f"{handle}-L",
        "Variant Inventory Qty": "0",
        "Variant Price": "29.50",
        "Variant Image": f"{cdn}/{handle}-front.jpg",
        "Image Src": f"{cdn}/{handle}-back.jpg",
        "Image Position": "1",
    }
    picture = {"Image Src": f"{cdn}/{handle}-side.jpg", "Image Position": "3"}
    return [shared | small, shared | large, {"Handle": handle} | picture]

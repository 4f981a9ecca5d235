"""Products that a careful sender makes, and a catalog that is quick."""

from __future__ import annotations

import copy
from typing import Any

from sandbox.tiktok.catalog.settings import CatalogSettings

BC = "7000000000000000100"
CATALOG = "7000000000000000200"
TOKEN = "catalog-token-of-the-tests"
GONE = object()
QUICK = CatalogSettings(submit_spacing_s=0, ingestion_ms=0, ingestion_us_per_item=0, review_ms=0)


def product(sku: str = "SKU-1") -> dict[str, Any]:
    return {
        "sku_id": sku,
        "item_group_id": "GRP-1",
        "title": "Technical Running Shoes - Größe 42",
        "description": "High-performance footwear.\nFor “engineers”.",
        "availability": "IN_STOCK",
        "brand": "Acme",
        "image_url": "https://cdn.example.com/1.jpg",
        "additional_image_urls": ["https://cdn.example.com/2.jpg"],
        "google_product_category": "Apparel & Accessories > Shoes",
        "global_trade_item_number": "4006381333931",
        "product_detail": {"condition": "NEW", "color": "Blue", "size": "42", "gender": "UNISEX"},
        "price_info": {"price": 120, "sale_price": 99.5, "currency": "USD"},
        "landing_page": {"landing_page_url": "https://shop.example.com/products/shoes?variant=1"},
        "extra_info": {"custom_label_0": "winter"},
    }


def flat(item_id: str = "SKU-12345") -> dict[str, Any]:
    """The integration guide's item."""
    return {
        "item_id": item_id,
        "item_group_id": "GRP-999",
        "title": "Technical Running Shoes",
        "description": "High-performance footwear for engineers.",
        "availability": "in stock",
        "condition": "new",
        "price": "120.00",
        "currency": "USD",
        "link": "https://mystore.example.com/products/running-shoes",
        "image_link": "https://cdn.example.com/s/files/1/image.jpg",
    }


def spoiled(good: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """`good` with one field changed, or GONE."""
    changed = copy.deepcopy(good)
    *parents, key = path.split(".")
    part = changed
    for parent in parents:
        part = part[parent]
    if value is GONE:
        part.pop(key)
    else:
        part[key] = value
    return changed

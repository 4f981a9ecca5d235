"""Items with everything that a test does not care about."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from services.catalog.domain.items import Availability, Item


def item(**changes: Any) -> Item:
    """An item that any catalog would take."""
    sku_id = changes.get("sku_id", "SKU-1")
    plain: dict[str, Any] = {
        "sku_id": sku_id,
        "variant_id": "11",
        "item_group_id": "1",
        "first_sku": sku_id,
        "title": "Lamp",
        "description": "A lamp.",
        "availability": Availability.IN_STOCK,
        "condition": "NEW",
        "brand": "Lumen",
        "price": Decimal("12.50"),
        "sale_price": None,
        "currency": "USD",
        "image_url": "https://cdn.example.com/1.jpg",
        "additional_image_urls": (),
        "landing_page_url": "https://example.com/products/lamp?variant=11",
    }
    return Item(**(plain | changes))

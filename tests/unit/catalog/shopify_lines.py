"""Lines of bulk results, as Shopify writes them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

Json = dict[str, Any]


def gid(kind: str, number: int) -> str:
    return f"gid://shopify/{kind}/{number}"


def jsonl(nodes: Iterable[Json]) -> bytes:
    lines = (json.dumps(node, separators=(",", ":")).replace("/", "\\/") for node in nodes)
    return "".join(f"{line}\n" for line in lines).encode()


def product(number: int, **changes: Any) -> Json:
    return {
        "id": gid("Product", number),
        "title": f"Product {number}",
        "descriptionHtml": "<p>Good</p>",
        "vendor": "Acme",
        "productType": "Shirts",
        "handle": f"product-{number}",
        "status": "ACTIVE",
        "tags": ["new", "sale"],
        "publishedAt": "2025-01-01T00:00:00Z",
        "updatedAt": "2026-01-02T03:04:05Z",
        "category": {"fullName": "Apparel > Shirts"},
        "options": [{"name": "Size"}, {"name": "Colour"}],
        **changes,
    }


def variant(number: int, parent: int | None = None, **changes: Any) -> Json:
    return {
        "id": gid("ProductVariant", number),
        "sku": f"SKU-{number}",
        "barcode": "4006381333931",
        "title": "S / Red",
        "price": "12.50",
        "compareAtPrice": None,
        "inventoryPolicy": "DENY",
        "inventoryQuantity": 7,
        "updatedAt": "2026-01-02T03:04:05Z",
        "selectedOptions": [{"name": "Size", "value": "S"}, {"name": "Colour", "value": "Red"}],
        "inventoryItem": {
            "id": gid("InventoryItem", number + 1),
            "tracked": True,
            "measurement": {"weight": {"value": 1.5, "unit": "KILOGRAMS"}},
        },
        **({"__parentId": gid("Product", parent)} if parent else {}),
        **changes,
    }


def medium(number: int, parent: int | None = None, **changes: Any) -> Json:
    url = f"https://cdn.example.com/{number}.jpg"
    return {
        "id": gid("MediaImage", number),
        "image": {"url": url, "width": 800, "height": 600},
        **({"__parentId": gid("Product", parent)} if parent else {}),
        **changes,
    }


def own_medium(number: int, variant_number: int) -> Json:
    return {
        "id": gid("MediaImage", number),
        "__parentId": gid("ProductVariant", variant_number),
    }


def level(location: int, available: int | None, variant_number: int | None = None) -> Json:
    above = {"__parentId": gid("ProductVariant", variant_number)} if variant_number else {}
    return {
        "id": gid("InventoryLevel", location) + f"?inventory_item_id={variant_number or 1}",
        "updatedAt": "2026-01-03T00:00:00Z",
        "location": {"id": gid("Location", location)},
        "quantities": [{"name": "available", "quantity": available}],
        **above,
    }

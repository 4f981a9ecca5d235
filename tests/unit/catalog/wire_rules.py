"""TikTok's rules for a product of its catalog, written down apart from what has to keep them."""

from __future__ import annotations

import json
import re
import unicodedata
from functools import lru_cache
from typing import Any

LENGTHS = {
    "sku_id": 100,
    "title": 500,
    "description": 10_000,
    "brand": 150,
    "product_detail.color": 100,
    "product_detail.pattern": 100,
    "product_detail.material": 200,
    **{f"extra_info.custom_label_{n}": 100 for n in range(5)},
}
NEEDED = (
    *("sku_id", "title", "description", "availability", "brand", "image_url"),
    *("product_detail.condition", "price_info.price", "landing_page.landing_page_url"),
)
ENUMS = {
    "availability": {"IN_STOCK", "AVAILABLE_FOR_ORDER", "PREORDER", "OUT_OF_STOCK", "DISCONTINUED"},
    "product_detail.condition": {"NEW", "REFURBISHED", "USED"},
    "product_detail.age_group": {"NEW_BORN", "INFANT", "TODDLER", "KIDS", "ADULT"},
    "product_detail.gender": {"MALE", "FEMALE", "UNISEX"},
}
_GTIN = re.compile(r"\d{8}|\d{12,14}", re.ASCII)
_WEIGHT = re.compile(r"\d+(\.\d+)? (g|kg|lb|oz)", re.ASCII)


def broken_rules(body: bytes) -> list[str]:
    """What TikTok would refuse or warn of in a product of `product_upload`; empty where nothing."""
    found = _flat(json.loads(body))
    broken = [f"{name} is missing" for name in NEEDED if name not in found]
    broken += [f"{name} is empty" for name, value in found.items() if value in ("", [], None)]
    broken += [
        f"{name} is longer than {most}"
        for name, most in LENGTHS.items()
        if len(found.get(name, "")) > most
    ]
    broken += [
        f"{name} is not one of TikTok's"
        for name, known in ENUMS.items()
        if name in found and found[name] not in known
    ]
    for name, value in found.items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and _has_control(text, name):
                broken.append(f"{name} has a control character or an emoji")
    return broken + _odd_values(found)


def _odd_values(found: dict[str, Any]) -> list[str]:
    broken = []
    price, sale = found.get("price_info.price", 0), found.get("price_info.sale_price")
    if not isinstance(price, int | float) or price <= 0:
        broken.append("price is not a number above 0")
    if sale is not None and not 0 < sale < price:
        broken.append("sale_price is not below price")
    addresses = [found.get("image_url", ""), *found.get("additional_image_urls", [])]
    broken += [
        f"{url!r} is no address"
        for url in (*addresses, found.get("landing_page.landing_page_url", ""))
        if not url.startswith("https://") or "," in url or not url.isascii() or " " in url
    ]
    if len(addresses) > 11 or len(set(addresses)) < len(addresses):
        broken.append("too many images, or one twice")
    if "global_trade_item_number" in found and not _GTIN.fullmatch(
        found["global_trade_item_number"]
    ):
        broken.append("global_trade_item_number")
    weight = found.get("product_detail.shipping_weight")
    if weight is not None and not _WEIGHT.fullmatch(weight):
        broken.append("shipping_weight")
    return broken + [
        f"{name} has more than three levels"
        for name in ("google_product_category", "product_detail.product_category")
        if found.get(name, "").count(">") > 2
    ]


@lru_cache(maxsize=1024)
def _has_control(text: str, name: str) -> bool:
    if name == "description":
        text = text.replace("\n", "")
    if text.isascii() and text.isprintable():
        return False
    return any(
        unicodedata.category(one) in {"Cc", "Cs", "Co"}
        or 0x1F000 <= ord(one) <= 0x1FAFF
        or one in "\u2705\u2764\u2b50\ufe0f"
        for one in text
        if not one.isalnum()
    )


def _flat(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat

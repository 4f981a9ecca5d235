"""What TikTok thinks of an item after it was taken in, and how `/catalog/product/get/` shows it."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec

from sandbox.tiktok.catalog.feedlog import Now
from sandbox.tiktok.catalog.rules import FLAT_AVAILABILITY, FLAT_CONDITION
from sandbox.tiktok.catalog.settings import CatalogSettings, ReviewRule
from sandbox.tiktok.catalog.shelf import Item

Audit: TypeAlias = Literal["approved", "rejected", "processing"]

_SELLABLE: Final = frozenset({"IN_STOCK", "AVAILABLE_FOR_ORDER", "PREORDER"})
_FLAT_NAMES: Final = {"item_id": "sku_id", "image_link": "image_url"}


class Review(NamedTuple):
    """Where an item stands."""

    audit: Audit
    image_status: str
    rule: ReviewRule | None = None


def product_of(item: Item) -> dict[str, Any]:
    """The item in the shape of an upload, whatever dialect it came in."""
    found: dict[str, Any] = msgspec.json.decode(item.raw)
    if item.kind != "item_batch":
        return found
    product = {_FLAT_NAMES.get(key, key): value for key, value in found.items()}
    product["availability"] = FLAT_AVAILABILITY[product["availability"]]
    product["product_detail"] = {"condition": FLAT_CONDITION[product.pop("condition")]}
    product["price_info"] = {
        "price": float(product.pop("price")),
        "currency": product.pop("currency", None),
    }
    product["landing_page"] = {"landing_page_url": product.pop("link")}
    return product


def review_of(
    sku: str, item: Item, product: dict[str, Any], settings: CatalogSettings, now: Now
) -> Review:
    """What the review says of an item by now; a changed item is reviewed again."""
    for image in settings.image_rules:
        if fnmatchcase(str(product.get("image_url", "")), image.url):
            return Review("processing", image.status)
    if now.monotonic_s - item.changed_monotonic_s < settings.review_ms / 1e3:
        return Review("processing", "PROCESSING")
    for rule in settings.review_rules:
        if _fits(rule, sku, product):
            return Review("rejected", "SUCCESS", rule)
    return Review("approved", "SUCCESS")


def _fits(rule: ReviewRule, sku: str, product: dict[str, Any]) -> bool:
    if rule.sku is not None and not fnmatchcase(sku, rule.sku):
        return False
    if rule.field is None:
        return True
    value: object = product
    for key in rule.field.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value is not None and fnmatchcase(str(value), rule.value)


def shown(sku: str, item: Item, settings: CatalogSettings, now: Now) -> dict[str, Any]:
    """One product as TikTok lists it: `product_detail` is still called `profession`."""
    product = product_of(item)
    review = review_of(sku, item, product, settings, now)
    prices = product.get("price_info") or {}
    product["price_info"] = prices | {"currency": prices.get("currency") or settings.currency}
    product["profession"] = product.pop("product_detail", {})
    rejected = [_rejection(review.rule, settings)] if review.rule is not None else []
    sellable = review.audit == "approved" and product.get("availability") in _SELLABLE
    return product | {
        "product_id": item.product_id,
        "audit": {"audit_status": review.audit, "rejected_info": rejected},
        "ad_creation_eligible": "AVAILABLE" if sellable else "NOT_AVAILABLE",
        "active_status": "ACTIVATED",
        "image_status": review.image_status,
    }


def _rejection(rule: ReviewRule, settings: CatalogSettings) -> dict[str, Any]:
    return {
        "reason": rule.reason,
        "suggestion": rule.suggestion,
        "affected_placement": ["TikTok"],
        "affected_country": [settings.region],
    }

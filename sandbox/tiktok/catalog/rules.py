"""The rules of one product, built once for a catalog; both dialects are checked the same way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sandbox.tiktok.catalog.issues import Fault, Found, Level, Sample
from sandbox.tiktok.catalog.settings import CatalogSettings
from sandbox.tiktok.catalog.sure import Group, Sure
from sandbox.tiktok.catalog.texts import (
    Check,
    amount,
    currency,
    enum,
    missing,
    number,
    span,
    text,
    url,
    urls,
)

AVAILABILITY: Final = (
    "IN_STOCK",
    "AVAILABLE_FOR_ORDER",
    "PREORDER",
    "OUT_OF_STOCK",
    "DISCONTINUED",
)
CONDITION: Final = ("NEW", "REFURBISHED", "USED")
AGE_GROUP: Final = ("NEW_BORN", "INFANT", "TODDLER", "KIDS", "ADULT")
GENDER: Final = ("MALE", "FEMALE", "UNISEX")
APP_LINKS: Final = (
    "ios_url",
    "ios_app_store_id",
    "ios_app_name",
    "iphone_app_store_id",
    "iphone_app_name",
    "ipad_app_store_id",
    "ipad_app_name",
    "android_url",
    "android_package",
    "android_app_name",
)
_REQUIRED: Final = {
    "": ("sku_id", "title", "description", "availability", "brand", "image_url"),
    "product_detail": ("condition",),
    "price_info": ("price",),
    "landing_page": ("landing_page_url",),
    "extra_info": (),
}
NO_CATEGORY: Final = Fault(
    Level.WARNING,
    "google_product_category",
    "An optional but recommended field is missing: google_product_category/product_type",
    "Send a category",
)
"""None of the two fields that may hold it."""

_DEAR_SALE: Final = Fault(
    Level.ERROR, "price_info.sale_price", "The sale price is above the price", "Lower it"
)
_NO_OBJECT: Final = Fault(Level.SHAPE, "", "Not a valid object")


class Rules:
    """Everything that is checked of an item of one dialect in one catalog."""

    __slots__ = ("_currency", "_groups", "_is_flat", "_partial", "_top", "id_key", "sure")

    def __init__(self, settings: CatalogSettings, *, dialect: str = "product_upload") -> None:
        self._currency = settings.currency
        self._is_flat = dialect == "item_batch"
        self._partial = dialect == "product_update"
        self.id_key = "item_id" if self._is_flat else "sku_id"
        """The key that names the item."""

        emoji = settings.prose_emoji == "accept"
        foreign = Level.NOTE if settings.currency_mismatch == "silent" else Level.ERROR
        money_field = "currency" if self._is_flat else "price_info.currency"
        money = currency(money_field, settings.currency, foreign)
        if self._is_flat:
            groups = {"": _flat_group(money, emoji=emoji)}
        else:
            groups = _groups(money, emoji=emoji, partial=self._partial)
        self.sure = None if self._partial else Sure(groups, self.id_key)
        """What tells most good items by one quick look; None for parts of items."""

        self._top = groups.pop("")
        self._groups = groups

    def check(self, product: dict[str, Any]) -> list[Found]:
        """What is wrong with a product, nothing for most."""
        found: list[Found] = []
        self._check_group(product, self._top, found)
        for key, group in self._groups.items():
            part = product.get(key)
            if type(part) is dict:
                self._check_group(part, group, found)
            elif part is None:
                found += [Found(fault) for fault in group.required.values()]
            else:
                found.append(Found(_NO_OBJECT._replace(field=key)))
        if not self._is_flat:
            self._check_together(product, found)
        return found

    def _check_group(self, part: dict[str, Any], group: Group, found: list[Found]) -> None:
        checks = group.checks
        for key, value in part.items():
            if value is None:
                continue
            check = checks.get(key)
            if check is None:
                if key not in self._groups or group.prefix:
                    found.append(Found(Fault(Level.NOTE, group.prefix + key[:60], "unknown")))
                continue
            wrong = check.find(value)
            if wrong is not None:
                found.append(wrong)
        for key, fault in group.required.items():
            if part.get(key) is None:
                found.append(Found(fault))

    def _check_together(self, product: dict[str, Any], found: list[Found]) -> None:
        prices, detail = product.get("price_info"), product.get("product_detail")
        if type(prices) is dict:
            sale: Any = prices.get("sale_price")
            if _is_number(sale) and _is_number(prices.get("price")) and sale > prices["price"]:
                found.append(Found(_DEAR_SALE, sale))
        has_type = type(detail) is dict and detail.get("product_category")
        if not self._partial and not has_type and not product.get("google_product_category"):
            found.append(Found(NO_CATEGORY))

    def is_foreign(self, product: dict[str, Any]) -> bool:
        """Whether the product names a currency that is not the catalog's."""
        prices = product if self._is_flat else product.get("price_info")
        return type(prices) is dict and prices.get("currency", self._currency) != self._currency

    def sample(self, product: dict[str, Any]) -> Sample:
        """How the log shows the product."""
        page = product.get("landing_page")
        link = page.get("landing_page_url") if type(page) is dict else product.get("link")
        words = (product.get("title"), product.get("description"), link)
        return Sample(*(word[:200] if type(word) is str else "" for word in words))


def _is_number(value: object) -> bool:
    return type(value) is float or type(value) is int


def _groups(money: Check, *, emoji: bool, partial: bool) -> dict[str, Group]:
    tops: dict[str, Check] = {
        "sku_id": text("sku_id", 100, required=True),
        "title": text("title", 500, required=True),
        "description": text("description", 10_000, required=True, prose=True, emoji=emoji),
        "availability": enum("availability", AVAILABILITY),
        "brand": text("brand", 150, required=True, emoji=emoji),
        "image_url": url("image_url", required=True),
        "additional_image_urls": urls("additional_image_urls", 10),
        "video_url": url("video_url"),
    } | {
        key: text(key, emoji=emoji)
        for key in (
            "item_group_id",
            "google_product_category",
            "global_trade_item_number",
            "manufacturer_part_number",
        )
    }
    details: dict[str, Check] = {
        "condition": enum("product_detail.condition", CONDITION),
        "age_group": enum("product_detail.age_group", AGE_GROUP, Level.WARNING),
        "gender": enum("product_detail.gender", GENDER, Level.WARNING),
    } | {
        key: text(f"product_detail.{key}", longest, emoji=emoji)
        for key, longest in _DETAIL_TEXTS.items()
    }
    prices = {
        "price": number("price_info.price"),
        "sale_price": number("price_info.sale_price"),
        "currency": money,
        "sale_price_effective_date": span("price_info.sale_price_effective_date"),
    }
    pages = {"landing_page_url": url("landing_page.landing_page_url", required=True)} | {
        key: text(f"landing_page.{key}", emoji=emoji) for key in APP_LINKS
    }
    labels = {
        key: text(f"extra_info.{key}", 100, emoji=emoji)
        for key in (f"custom_label_{number}" for number in range(5))
    }
    checks = {
        "": tops,
        "product_detail": details,
        "price_info": prices,
        "landing_page": pages,
        "extra_info": labels,
    }
    required: Mapping[str, tuple[str, ...]] = {"": ("sku_id",)} if partial else _REQUIRED
    return {name: _group(name, checks[name], required.get(name, ())) for name in checks}


_DETAIL_TEXTS: Final = {
    "color": 100,
    "pattern": 100,
    "material": 200,
    "size": None,
    "tax": None,
    "shipping": None,
    "shipping_weight": None,
    "product_category": None,
}


def _group(name: str, checks: Mapping[str, Check], required: tuple[str, ...]) -> Group:
    prefix = f"{name}." if name else ""
    return Group(checks, {key: missing(prefix + key) for key in required}, prefix)


def _flat_group(money: Check, *, emoji: bool) -> Group:
    """The guide's flat item, with the words of TikTok's CSV files."""
    checks: dict[str, Check] = {
        "item_id": text("item_id", 100, required=True),
        "item_group_id": text("item_group_id", emoji=emoji),
        "title": text("title", 500, required=True),
        "description": text("description", 10_000, required=True, prose=True, emoji=emoji),
        "availability": enum("availability", tuple(FLAT_AVAILABILITY)),
        "condition": enum("condition", tuple(FLAT_CONDITION)),
        "price": amount("price"),
        "sale_price": amount("sale_price"),
        "currency": money,
        "link": url("link", required=True),
        "image_link": url("image_link", required=True),
        "brand": text("brand", 150, emoji=emoji),
    }
    return _group("", checks, tuple(key for key in checks if key not in _FLAT_OPTIONAL))


_FLAT_OPTIONAL: Final = frozenset({"item_group_id", "sale_price", "currency", "brand"})
FLAT_AVAILABILITY: Final = {each.lower().replace("_", " "): each for each in AVAILABILITY}
FLAT_CONDITION: Final = {each.lower(): each for each in CONDITION}
"""The words of files, and those of the JSON that mean the same."""

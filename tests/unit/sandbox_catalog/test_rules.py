from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.tiktok.catalog.issues import Level
from sandbox.tiktok.catalog.rules import Rules
from sandbox.tiktok.catalog.settings import CatalogSettings
from tests.unit.sandbox_catalog.samples import GONE, flat, product, spoiled

RULES = Rules(CatalogSettings())
FLAT = Rules(CatalogSettings(), dialect="item_batch")

# Field, a value that is wrong there, how bad that is, the field that is blamed.
WRONG: list[tuple[str, Any, Level, str]] = [
    ("sku_id", GONE, Level.SHAPE, "sku_id"),
    ("sku_id", "", Level.SHAPE, "sku_id"),
    ("sku_id", 7, Level.SHAPE, "sku_id"),
    ("sku_id", "x" * 101, Level.ERROR, "sku_id"),
    ("sku_id", "a\tb", Level.ERROR, "sku_id"),
    ("sku_id", "a\x85b", Level.ERROR, "sku_id"),
    ("sku_id", "a\x7fb", Level.ERROR, "sku_id"),
    ("title", GONE, Level.SHAPE, "title"),
    ("title", None, Level.SHAPE, "title"),
    ("title", " \u00a0", Level.SHAPE, "title"),
    ("title", "x" * 501, Level.ERROR, "title"),
    ("title", "Shoes 👟", Level.ERROR, "title"),
    ("title", "Sun ☀\ufe0f", Level.ERROR, "title"),
    ("title", "Watch ⌚", Level.ERROR, "title"),
    ("title", "Star ⭐", Level.ERROR, "title"),
    ("title", "a\nb", Level.ERROR, "title"),
    ("description", GONE, Level.SHAPE, "description"),
    ("description", "x" * 10_001, Level.ERROR, "description"),
    ("description", "Shoes 👟", Level.ERROR, "description"),
    ("description", "a\x00b", Level.ERROR, "description"),
    ("availability", GONE, Level.SHAPE, "availability"),
    ("availability", "in stock", Level.SHAPE, "availability"),
    ("brand", GONE, Level.SHAPE, "brand"),
    ("brand", "x" * 151, Level.ERROR, "brand"),
    ("image_url", GONE, Level.SHAPE, "image_url"),
    ("image_url", "//cdn.example.com/1.jpg", Level.ERROR, "image_url"),
    ("image_url", "https://cdn.example.com/a b.jpg", Level.ERROR, "image_url"),
    ("image_url", "https:///1.jpg", Level.ERROR, "image_url"),
    ("additional_image_urls", "https://a.example/1.jpg", Level.SHAPE, "additional_image_urls"),
    ("additional_image_urls", ["/1.jpg"], Level.ERROR, "additional_image_urls"),
    ("additional_image_urls", ["https://a.example/,"], Level.ERROR, "additional_image_urls"),
    ("additional_image_urls", ["https://a.example"] * 11, Level.ERROR, "additional_image_urls"),
    ("google_product_category", GONE, Level.WARNING, "google_product_category"),
    ("product_detail", GONE, Level.SHAPE, "product_detail.condition"),
    ("product_detail", [], Level.SHAPE, "product_detail"),
    ("product_detail.condition", "new", Level.SHAPE, "product_detail.condition"),
    ("product_detail.gender", "women", Level.WARNING, "product_detail.gender"),
    ("product_detail.age_group", "old", Level.WARNING, "product_detail.age_group"),
    ("product_detail.color", "x" * 101, Level.ERROR, "product_detail.color"),
    ("product_detail.material", "x" * 201, Level.ERROR, "product_detail.material"),
    ("price_info.price", GONE, Level.SHAPE, "price_info.price"),
    ("price_info.price", "120.00", Level.SHAPE, "price_info.price"),
    ("price_info.price", True, Level.SHAPE, "price_info.price"),
    ("price_info.sale_price", -1, Level.ERROR, "price_info.sale_price"),
    ("price_info.price", 99.4, Level.ERROR, "price_info.sale_price"),
    ("price_info.currency", "EUR", Level.ERROR, "price_info.currency"),
    (
        "price_info.sale_price_effective_date",
        "2026-12-24T00:00+00:00/2026-12-01T00:00+00:00",
        Level.ERROR,
        "price_info.sale_price_effective_date",
    ),
    (
        "price_info.sale_price_effective_date",
        "tomorrow",
        Level.ERROR,
        "price_info.sale_price_effective_date",
    ),
    ("landing_page", GONE, Level.SHAPE, "landing_page.landing_page_url"),
    ("landing_page.landing_page_url", "ftp://x", Level.ERROR, "landing_page.landing_page_url"),
    ("extra_info.custom_label_0", "x" * 101, Level.ERROR, "extra_info.custom_label_0"),
    ("colour", "red", Level.NOTE, "colour"),
    ("product_detail.colour", "red", Level.NOTE, "product_detail.colour"),
]
RIGHT: list[tuple[str, Any]] = [
    ("title", "x" * 500),
    ("title", "Ünïted™ ★ 北京 → ½ © “Shoes”"),
    ("description", "One\ntwo\r\n\tthree"),
    ("price_info.price", 99.5),
    ("price_info.currency", GONE),
    ("price_info.sale_price", None),
    ("item_group_id", ""),
    ("image_url", "http://cdn.example.com?a=b,c"),
    ("extra_info", GONE),
    ("additional_image_urls", []),
    (
        "price_info.sale_price_effective_date",
        "2026-12-01T00:00+00:00/2026-12-24T00:00-05:00",
    ),
]
FLAT_WRONG: list[tuple[str, Any, Level]] = [
    ("item_id", GONE, Level.SHAPE),
    ("availability", "IN_STOCK", Level.SHAPE),
    ("condition", "NEW", Level.SHAPE),
    ("price", 120.0, Level.SHAPE),
    ("price", "120.00 USD", Level.SHAPE),
    ("price", "-1", Level.SHAPE),
    ("currency", "EUR", Level.ERROR),
    ("link", "/products/x", Level.ERROR),
    ("image_link", GONE, Level.SHAPE),
    ("title", "x" * 501, Level.ERROR),
]


def found_in(rules: Rules, item: dict[str, Any]) -> list[tuple[Level, str]]:
    return [(found.fault.level, found.fault.field) for found in rules.check(item)]


def sure_of(rules: Rules, item: dict[str, Any]) -> str | None:
    assert rules.sure is not None
    look = rules.sure.look(msgspec.json.encode(item))
    return look[0] if look is not None and look[1] else None


@pytest.mark.parametrize(("path", "value", "level", "blamed"), WRONG)
def test_a_wrong_field_is_found_and_named(
    path: str, value: object, level: Level, blamed: str
) -> None:
    item = spoiled(product(), path, value)

    assert found_in(RULES, item) == [(level, blamed)]
    assert sure_of(RULES, item) is None


@pytest.mark.parametrize(("path", "value"), RIGHT)
def test_what_tiktok_takes_is_taken(path: str, value: object) -> None:
    assert found_in(RULES, spoiled(product(), path, value)) == []


@pytest.mark.parametrize(("path", "value", "level"), FLAT_WRONG)
def test_a_wrong_field_of_the_guides_item_is_found(path: str, value: object, level: Level) -> None:
    item = spoiled(flat(), path, value)

    assert found_in(FLAT, item) == [(level, path)]
    assert sure_of(FLAT, item) is None


def test_a_price_may_be_zero_and_not_less() -> None:
    free = spoiled(product(), "price_info", {"price": 0})

    assert found_in(RULES, free) == []
    negative = spoiled(free, "price_info.price", -0.01)
    assert found_in(RULES, negative) == [(Level.ERROR, "price_info.price")]


def test_good_items_of_both_dialects_pass_the_quick_look() -> None:
    assert sure_of(RULES, product()) == "SKU-1"
    assert sure_of(FLAT, flat()) == "SKU-12345"


def test_a_part_of_a_product_needs_its_sku_alone() -> None:
    rules = Rules(CatalogSettings(), dialect="product_update")

    assert found_in(rules, {"sku_id": "a", "price_info": {"price": 3}}) == []
    assert found_in(rules, {"price_info": {"price": 3}}) == [(Level.SHAPE, "sku_id")]
    assert found_in(rules, {"sku_id": "a", "title": ""}) == [(Level.SHAPE, "title")]


def test_emoji_in_prose_can_be_allowed() -> None:
    rules = Rules(CatalogSettings(prose_emoji="accept"))

    assert found_in(rules, spoiled(product(), "description", "Shoes 👟")) == []
    assert found_in(rules, spoiled(product(), "title", "Shoes 👟")) == [(Level.ERROR, "title")]


_PATHS = st.sampled_from(sorted({path for path, *_ in WRONG} | {path for path, _ in RIGHT}))
_VALUES: Any = (
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    | st.sampled_from([value for _, value, *_ in WRONG] + [value for _, value in RIGHT])
    | st.sampled_from([1e300, -0.0, 0, [], {}, None, False, "https://@x", "https://x y", "\u20e3"])
)


@given(changes=st.lists(st.tuples(_PATHS, _VALUES), max_size=3))
def test_what_passes_the_quick_look_keeps_every_rule(changes: list[tuple[str, Any]]) -> None:
    item = product()
    for path, value in changes:
        try:
            item = spoiled(item, path, value)
        except (KeyError, TypeError, AttributeError):
            continue

    if sure_of(RULES, item) is not None:
        assert found_in(RULES, item) == []

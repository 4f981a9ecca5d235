"""A generated catalog: as large as asked, always the same, with the trouble that was asked for."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest

from sandbox.shopify.catalog_model import CatalogShop, Variant, truths
from sandbox.shopify.catalog_plan import CatalogPlan
from sandbox.shopify.catalog_shop import make_catalog

NOW_S = 1_790_000_000
SHOP = "made.myshopify.com"


def made(**asked: Any) -> CatalogShop:
    wish: dict[str, Any] = {"shop": SHOP, "variants": 400} | asked
    return make_catalog(CatalogPlan(**wish), NOW_S)


def all_of(shop: CatalogShop) -> list[Variant]:
    return [variant for product in shop.products.values() for variant in product.variants]


def told(shop: CatalogShop) -> bytes:
    return msgspec.json.encode(list(truths(shop, 0, 10**9)))


@pytest.fixture(scope="module")
def large() -> CatalogShop:
    return made(variants=10_000)


@pytest.fixture(scope="module")
def clean() -> CatalogShop:
    return made(variants=3000, odd=[])


def is_gtin(barcode: str) -> bool:
    if len(barcode) != 13 or not barcode.isdigit():
        return False
    total = sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(barcode))
    return total % 10 == 0


def test_the_same_plan_makes_the_same_shop_and_another_seed_another() -> None:
    assert told(made()) == told(made())
    assert told(made()) != told(made(seed=2))


@pytest.mark.parametrize("variants", [1, 7, 400])
def test_there_are_exactly_as_many_variants_as_were_asked_for(variants: int) -> None:
    shop = made(variants=variants)

    assert len(all_of(shop)) == len(shop.variants) == len(shop.items) == variants


def test_a_large_shop_has_products_of_every_size_and_one_of_the_largest(
    large: CatalogShop,
) -> None:
    sizes = Counter(len(product.variants) for product in large.products.values())

    assert len(large.variants) == 10_000
    assert (sizes[2048], sizes[250]) == (1, 3)
    assert sizes[1] > 100
    assert max(size for size in sizes if size not in {250, 2048}) > 60


def test_no_two_variants_of_a_product_are_the_same_and_no_id_is_used_twice(
    large: CatalogShop,
) -> None:
    for product in large.products.values():
        chosen = {variant.values for variant in product.variants}
        assert len(chosen) == len(product.variants)
        assert all(len(one) == len(product.options) for one in chosen)
    media = [one.number for product in large.products.values() for one in product.media]
    numbers = [*large.products, *large.variants, *large.items, *media]
    assert len(set(numbers)) == len(numbers)
    assert list(large.products) == sorted(large.products)


def test_all_kinds_of_trouble_are_there(large: CatalogShop) -> None:
    variants = all_of(large)
    products = large.products.values()
    skus = Counter(variant.sku for variant in variants)
    media = [one for product in products for one in product.media]

    assert skus[None] > 0
    assert skus[""] > 0
    assert any(count > 1 for sku, count in skus.items() if (sku or "").strip())
    assert any(one.barcode and not is_gtin(one.barcode) for one in variants)
    assert any(one.barcode and is_gtin(one.barcode) for one in variants)
    assert {one.status for one in products} == {"ACTIVE", "DRAFT", "ARCHIVED", "UNLISTED"}
    assert any(not product.media for product in products)
    assert any(one.url.startswith("http://") for one in media)
    assert any(one.status == "PROCESSING" for one in media)
    assert any(float(one.price) == 0 for one in variants)
    assert any(not product.vendor for product in products)
    assert any("<script>" in product.body_html for product in products)
    assert any(len(product.body_html) > 10_000 for product in products)
    assert any(level.available < 0 for item in large.items.values() for level in item.levels)
    assert any(not item.tracked for item in large.items.values())
    assert {one.inventory_policy for one in variants} == {"DENY", "CONTINUE"}


def test_without_trouble_every_variant_is_as_a_catalog_wants_it(clean: CatalogShop) -> None:
    variants = all_of(clean)
    skus = {variant.sku for variant in variants}

    assert len(skus) == len(variants)
    assert all(skus)
    for variant in variants:
        product = variant.product
        assert (product.status, bool(product.vendor)) == ("ACTIVE", True)
        assert product.published_at_s
        assert 0 < float(variant.price) < float(variant.compare_at_price or "inf")
        assert variant.barcode is None or is_gtin(variant.barcode)
        pictures = [one for one in product.media if one.content_type == "IMAGE"]
        assert pictures
        assert all(one.url.startswith("https://cdn.example.com/") for one in pictures)
        assert variant.item.tracked


def test_a_shop_has_prices_by_country_texts_by_language_and_places_with_stock(
    clean: CatalogShop,
) -> None:
    variant = all_of(clean)[5]
    products = clean.products.values()

    assert {country: one.currency for country, one in variant.prices.items()} == {
        "FR": "EUR",
        "JP": "JPY",
    }
    assert "." not in variant.prices["JP"].amount
    assert [level.location for level in variant.item.levels] == clean.locations
    assert [one.fulfills_online_orders for one in clean.locations] == [True, True, False]
    assert {code for product in products for code in product.translations} == {"fr", "de"}
    assert any("body_html" not in told for one in products for told in one.translations.values())
    assert any(value.translations for one in products for value in one.options[0].values)


def test_nothing_that_was_made_is_in_the_future(large: CatalogShop) -> None:
    times = [(one.created_at_s, one.updated_at_s) for one in large.products.values()]

    assert all(created <= updated < NOW_S for created, updated in times)

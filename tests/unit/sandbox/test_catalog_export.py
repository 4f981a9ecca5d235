"""A real shop's product export becomes a shop of the sandbox."""

from __future__ import annotations

import pytest

from sandbox.shopify.catalog_export import ExportError, add_export
from sandbox.shopify.catalog_model import CatalogShop
from sandbox.shopify.catalog_plan import CatalogPlan
from sandbox.shopify.catalog_shop import make_catalog
from tests.fakes.product_csv import csv_text, lamp, product_csv

NOW_S = 1_790_000_000


def empty_shop() -> CatalogShop:
    return make_catalog(CatalogPlan(shop="lamps.myshopify.com", variants=0), NOW_S)


def test_a_product_is_read_with_its_variants_pictures_and_stock() -> None:
    shop = empty_shop()

    assert add_export(shop, csv_text(lamp("tide")), NOW_S, 10) == 2

    (product,) = shop.products.values()
    small, large = product.variants
    assert (product.title, product.vendor, product.status) == ("Lamp tide", "Tidal Works", "ACTIVE")
    assert (product.tags, product.published_at_s is not None) == (["gift", "new"], True)
    assert [one.url.rpartition("-")[2] for one in product.media] == [
        "back.jpg",
        "front.jpg",
        "side.jpg",
    ]
    assert (small.sku, small.price, small.compare_at_price) == ("tide-S", "19.50", "25.00")
    assert (small.quantity, small.item.tracked, small.is_for_sale) == (4, True, True)
    assert (small.item.weight, small.item.weight_unit) == (700.0, "GRAMS")
    assert (large.values, large.quantity, large.is_for_sale) == (("L",), 0, False)
    assert large.media == [product.media[1]]
    ((size,), values) = product.options, product.options[0].values
    assert (size.name, [one.name for one in values]) == ("Size", ["S", "L"])
    assert shop.variants.keys() == {small.number, large.number}


def test_a_product_in_one_form_has_shopifys_names_for_it() -> None:
    plain = {"Handle": "bell", "Title": "Bell", "Variant Price": "5.00"}
    shop = empty_shop()

    add_export(shop, csv_text([plain]), NOW_S, 10)

    (product,) = shop.products.values()
    assert product.has_only_default_variant
    assert product.options[0].name == "Title"
    assert product.published_at_s is None


def test_whole_products_are_taken_up_to_the_bound() -> None:
    shop = empty_shop()

    assert add_export(shop, product_csv(products=5), NOW_S, 7) == 6

    assert len(shop.products) == 3


def test_a_handle_that_is_taken_gets_another_name() -> None:
    shop = empty_shop()
    add_export(shop, csv_text(lamp("tide")), NOW_S, 10)
    add_export(shop, csv_text(lamp("tide")), NOW_S, 10)

    first, second = shop.products.values()

    assert first.handle == "tide"
    assert second.handle == f"tide-{second.number}"


def test_what_is_no_export_is_refused_and_says_what_an_export_has() -> None:
    with pytest.raises(ExportError, match="Handle, Variant Price"):
        add_export(empty_shop(), "Title,Price\nLamp,5\n", NOW_S, 10)

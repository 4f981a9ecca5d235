"""Products read from what Shopify's GraphQL tells, whole and odd."""

from __future__ import annotations

from typing import Any

import pytest

from services.catalog.domain.graphql_nodes import (
    VariantParts,
    instant_ns,
    kind_and_number,
    product_of,
)
from services.catalog.domain.model import Image, Level, MarketPrice, Money, Product, Text, Variant
from tests.unit.catalog.shopify_lines import Json, level, medium, product, variant

AT_NS = 1_767_323_045_000_000_000  # 2026-01-02T03:04:05Z
LEVEL_AT_NS = 1_767_398_400_000_000_000  # 2026-01-03T00:00:00Z
MATERIAL = f"m_{b'custom.material'.hex()}"


def told(name: str, words: str | None) -> list[Json]:
    return [{"key": name, "value": words}]


def read(node: Json, *variants: Json, media: list[Json] | None = None) -> Product:
    parts = [VariantParts(one, [], []) for one in variants]
    return product_of(node, media or [], parts, "USD")


def only(node: Json, currency: str = "USD") -> Variant:
    (found,) = product_of(product(1), [], [VariantParts(node, [], [])], currency).variants
    return found


def test_everything_that_is_told_is_read() -> None:
    options = [
        {
            "name": "Size",
            "t_fr": told("name", "Taille"),
            "optionValues": [
                {"name": "S", "t_fr": told("name", "P")},
                {"name": "M", "t_fr": []},
            ],
        },
        {"name": "Colour", "t_fr": [], "optionValues": []},
    ]
    node = product(
        8,
        options=options,
        t_fr=[*told("title", "Chemise"), *told("body_html", "<p>Bon</p>")],
        t_pt_BR=[],
        **{MATERIAL: {"value": "cotton"}},
    )
    price = {"price": {"amount": "11.5", "currencyCode": "EUR"}, "compareAtPrice": None}
    own = variant(21, compareAtPrice="15", p_FR=price) | {MATERIAL: {"value": "wool"}}
    parts = VariantParts(own, [medium(6)], [level(2, 4), level(10, None)])

    found = product_of(node, [medium(5), medium(6)], [parts], "USD")

    assert found == Product(
        product_id="8",
        title="Product 8",
        body_html="<p>Good</p>",
        vendor="Acme",
        product_type="Shirts",
        handle="product-8",
        status="active",
        tags=("new", "sale"),
        option_names=("Size", "Colour"),
        category="Apparel > Shirts",
        images=(
            Image("https://cdn.example.com/5.jpg", "5", 800, 600),
            Image("https://cdn.example.com/6.jpg", "6", 800, 600),
        ),
        variants=(
            Variant(
                variant_id="21",
                sku="SKU-21",
                barcode="4006381333931",
                title="S / Red",
                option_values=("S", "Red"),
                price=Money(1250, "USD"),
                compare_at=Money(1500, "USD"),
                policy="deny",
                inventory_item_id="22",
                tracked=True,
                quantity=7,
                levels=(Level("10", None, LEVEL_AT_NS), Level("2", 4, LEVEL_AT_NS)),
                image_id="6",
                image_url="https://cdn.example.com/6.jpg",
                weight="1.5",
                weight_unit="kg",
                prices={"FR": MarketPrice(Money(1150, "EUR"))},
                option_texts={"fr": ("P", "")},
                metafields={"custom.material": "wool"},
                updated_ns=AT_NS,
            ),
        ),
        texts={"fr": Text("Chemise", "<p>Bon</p>", {"Size": "Taille"})},
        metafields={"custom.material": "cotton"},
        updated_ns=AT_NS,
    )


ODD: list[Any] = [None, 7, "", "odd", [], [None], [7], {}, {"x": 1}, True, 1.5]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("key", [*product(1), "featuredMedia", "t_fr", MATERIAL])
def test_no_odd_field_of_a_product_fails_it(key: str, odd: Any) -> None:
    found = product_of(product(1, **{key: odd}), [medium(5)], [], "USD")

    assert len(found.images) == 1


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(
    "key", [*variant(1), "position", "p_FR", MATERIAL, "location", "quantities", "image"]
)
def test_no_odd_field_of_what_is_below_it_fails_it(key: str, odd: Any) -> None:
    parts = VariantParts(
        variant(1, **{key: odd}), [medium(1) | {key: odd}], [level(1, 1) | {key: odd}]
    )

    found = product_of(product(1), [medium(5) | {key: odd}], [parts], "USD")

    assert len(found.variants) == 1


def test_a_product_that_the_store_does_not_show_is_not_published() -> None:
    assert read(product(1)).published
    assert not read(product(1, publishedAt=None)).published


@pytest.mark.parametrize(
    ("amount", "currency", "expected"),
    [
        ("12.5", "USD", Money(1250, "USD")),
        ("1200", "JPY", Money(1200, "JPY")),
        ("1.234", "KWD", Money(1234, "KWD")),
        ("-3", "USD", Money(-300, "USD")),
        ("free", "USD", None),
        ("", "USD", None),
        (12.5, "USD", None),
        ("12.5", "", None),
    ],
)
def test_a_price_is_in_the_shop_s_currency_or_not_known(
    amount: Any, currency: str, expected: Money | None
) -> None:
    assert only(variant(1, price=amount), currency).price == expected


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (200.0, "GRAMS", ("200", "g")),
        (0.00001, "POUNDS", ("0.00001", "lb")),
        (3, "OUNCES", ("3", "oz")),
        (1e20, "KILOGRAMS", ("100000000000000000000", "kg")),
        (1.0, "STONES", ("1", "")),
    ],
)
def test_a_weight_is_plain_digits(value: float, unit: str, expected: tuple[str, str]) -> None:
    item = {"measurement": {"weight": {"value": value, "unit": unit}}}

    found = only(variant(1, inventoryItem=item))

    assert (found.weight, found.weight_unit) == expected


def test_what_a_variant_chose_stands_in_the_order_of_the_options() -> None:
    chosen = [{"name": "Colour", "value": "Red"}, {"name": "Size", "value": "S"}]

    assert only(variant(1, selectedOptions=chosen)).option_values == ("S", "Red")


def test_a_variant_s_image_may_be_told_with_it_or_be_one_of_the_product_s() -> None:
    bare = {"id": medium(5)["id"]}
    with_one = VariantParts(variant(1), [bare], [])
    with_own = VariantParts(variant(2), [medium(9)], [])
    with_none = VariantParts(variant(3), [{"id": medium(8)["id"]}], [])

    found = product_of(product(1), [medium(5)], [with_one, with_own, with_none], "USD")

    assert [one.image_id for one in found.variants] == ["5", "9", ""]


def test_what_comes_in_disorder_is_put_in_the_merchant_s_order() -> None:
    node = product(1, featuredMedia={"id": medium(6)["id"]})
    places = [variant(11, position=3), variant(12, position=1), variant(13, position=2)]

    found = read(node, *places, media=[medium(7), medium(6), medium(5)])

    assert [one.variant_id for one in found.variants] == ["12", "13", "11"]
    assert [one.image_id for one in found.images] == ["6", "7", "5"]


def test_media_without_an_image_are_left_out_and_addresses_get_their_scheme() -> None:
    media = [medium(5, image=None), medium(6, image={"url": "//cdn.example.com/6.jpg"})]

    found = read(product(1), media=media)

    assert found.images == (Image("https://cdn.example.com/6.jpg", "6"),)


def test_a_level_that_does_not_tell_where_it_is_is_left_out() -> None:
    parts = VariantParts(variant(1), [], [level(1, 3) | {"location": None}, level(2, 4)])

    (found,) = product_of(product(1), [], [parts], "USD").variants

    assert [one.location_id for one in found.levels] == ["2"]


@pytest.mark.parametrize(
    ("gid", "expected"),
    [
        ("gid://shopify/Product/12", ("Product", 12)),
        ("gid://shopify/InventoryLevel/5?inventory_item_id=7", ("InventoryLevel", 5)),
        ("gid://shopify/Product/0", ("", 0)),
        ("gid://shopify/Product/", ("", 0)),
        ("gid://shopify/Product/x", ("", 0)),
        ("gid://shopify/Product/9223372036854775808", ("", 0)),
        ("gid://shopify/Product/12345678901234567890", ("", 0)),
        ("gid://other/Product/12", ("", 0)),
        ("12", ("", 0)),
        ("", ("", 0)),
    ],
)
def test_a_global_id_is_a_type_and_a_number(gid: str, expected: tuple[str, int]) -> None:
    assert kind_and_number(gid) == expected


def test_times_keep_their_fraction_and_their_zone() -> None:
    assert instant_ns("2026-01-02T03:04:05.5Z") == AT_NS + 500_000_000
    assert instant_ns("2026-01-02T05:04:05+02:00") == AT_NS
    assert instant_ns("yesterday") == instant_ns(None) == instant_ns("1960-01-01T00:00:00Z") == 0

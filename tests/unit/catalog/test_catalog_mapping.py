"""A product in one catalog: words, brand, page, and what is not for sale or refused."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import msgspec
import pytest

from services.catalog.domain.items import Availability, Item, Mapped
from services.catalog.domain.model import Money, Product, Text
from tests.unit.catalog.goods import (
    CDN,
    SHOP,
    codes,
    item,
    mapped,
    product,
    refused,
    variant,
)


def test_a_good_product_becomes_an_item_without_a_word() -> None:
    found = mapped(product())

    assert found == Mapped(
        items=(
            Item(
                sku_id="SHOE-42",
                variant_id="101",
                item_group_id="1",
                first_sku="SHOE-42",
                title="Running Shoe - 42",
                description="Runs by itself.",
                availability=Availability.IN_STOCK,
                condition="NEW",
                brand="Acme",
                price=Decimal("120.00"),
                sale_price=None,
                currency="USD",
                image_url=f"{CDN}/a.jpg",
                additional_image_urls=(f"{CDN}/b.jpg",),
                landing_page_url="https://shop.example.com/products/running-shoe?variant=101",
                google_product_category="Apparel & Accessories > Shoes > Sneakers",
                product_category="Shoes",
                gtin="4006381333931",
                size="42",
                shipping_weight="0.5 kg",
            ),
        )
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": "draft"}, "not_active"),
        ({"status": "archived"}, "not_active"),
        ({"status": "deleted"}, "not_active"),
        ({"status": "unlisted"}, "unlisted"),
        ({"status": "ACTIVE", "published": False}, "not_published"),
        ({"variants": ()}, "no_variants"),
    ],
)
def test_a_product_that_is_not_for_sale_is_excluded_whole(
    changes: dict[str, object], reason: str
) -> None:
    assert mapped(msgspec.structs.replace(product(), **changes)) == Mapped(excluded=reason)


@pytest.mark.parametrize("status", ["", "active", "ACTIVE"])
def test_a_product_without_a_told_status_is_for_sale(status: str) -> None:
    assert item(product(status=status)).sku_id == "SHOE-42"


@pytest.mark.parametrize(
    ("values", "title", "expected"),
    [
        (("Red", "42"), "Red / 42", "Running Shoe - Red / 42"),
        (("Default Title",), "Default Title", "Running Shoe"),
        ((), "Default Title", "Running Shoe"),
        ((), "Small", "Running Shoe - Small"),
        (("1/2 inch", "a/b"), "1/2 inch / a/b", "Running Shoe - 1/2 inch / a/b"),
        (("🔥", "42"), "🔥 / 42", "Running Shoe - 42"),
        ((), "", "Running Shoe"),
    ],
)
def test_the_title_says_which_variant_it_is(
    values: tuple[str, ...], title: str, expected: str
) -> None:
    given = product(variant(option_values=values, title=title), option_names=("A", "B"))

    assert item(given).title == expected


def test_options_with_slashes_stay_what_they_are_each() -> None:
    values, title = ("S/M", "Red / Blue"), "S/M / Red / Blue"
    given = product(variant(option_values=values, title=title), option_names=("Size", "Color"))

    found = item(given)

    assert (found.size, found.color) == values
    assert found.title == f"Running Shoe - {title}"


def test_a_title_of_3000_characters_is_cut_between_words_and_keeps_its_options() -> None:
    found = mapped(product(title="word " * 600))

    title = found.items[0].title
    assert len(title) <= 500
    assert title.endswith("word - 42")
    assert codes(found) == ["title_cut"]


def test_endless_options_leave_the_title_half_the_room() -> None:
    found = item(product(variant(option_values=("y " * 400,)), title="x" * 3000))

    assert len(found.title) <= 500
    assert found.title.startswith("x" * 248 + " - y")


def test_a_title_of_emoji_only_is_refused_by_its_name() -> None:
    found = refused(product(title="🔥🔥 👟"))

    assert (found.code, found.field, found.sku_id) == ("title_missing", "title", "SHOE-42")


def test_emoji_in_a_title_are_left_out_and_noted_once() -> None:
    found = mapped(product(variant(), variant(variant_id="102", sku="B"), title="Shoe 🔥"))

    assert [one.title for one in found.items] == ["Shoe - 42", "Shoe - 42"]
    assert codes(found) == ["title_cleaned"]


def test_entities_in_a_title_are_what_they_stand_for() -> None:
    assert item(product(title="Salt &amp; Pepper & Co")).title == "Salt & Pepper & Co - 42"


@pytest.mark.parametrize("html", ["", "  ", "<p></p>", "<script>only()</script>", "<img src=x>"])
def test_without_a_description_the_title_stands_in(html: str) -> None:
    found = mapped(product(body_html=html))

    assert found.items[0].description == "Running Shoe - 42"
    assert codes(found) == ["description_missing"]


def test_a_long_description_is_cut_to_10000_characters() -> None:
    found = mapped(product(body_html="<p>" + "word " * 5000))

    assert 9_990 < len(found.items[0].description) <= 10_000
    assert codes(found) == ["description_cut"]


FRENCH = Text(title="Chaussure", body_html="<p>Court seule.</p>")
GERMAN = Text(title="Laufschuh")


def translated(**texts: Text) -> Product:
    one = variant(option_texts={"fr": ("quarante-deux",)})
    return product(one, texts={key.replace("_", "-"): text for key, text in texts.items()})


def test_words_are_in_the_catalogs_language() -> None:
    found = item(translated(fr=FRENCH), language="fr")

    assert (found.title, found.description) == ("Chaussure - quarante-deux", "Court seule.")
    assert found.size == "quarante-deux"


def test_each_word_comes_from_the_first_language_that_has_it() -> None:
    found = item(translated(fr=FRENCH, de=GERMAN), language="de", fallback_languages=("fr",))

    assert (found.title, found.description) == ("Laufschuh - quarante-deux", "Court seule.")


def test_a_language_stands_in_for_that_of_one_country() -> None:
    assert item(translated(fr=FRENCH), language="fr-CA").title == "Chaussure - quarante-deux"


def test_what_is_not_translated_is_told_in_the_merchants_own_words_and_noted() -> None:
    found = mapped(translated(de=GERMAN), language="es")

    assert found.items[0].title == "Running Shoe - 42"
    assert codes(found) == ["not_translated"]


def test_the_shops_own_language_is_no_translation() -> None:
    given = translated(en=Text(title="Stale"), fr=FRENCH)

    found = mapped(given, language="en", fallback_languages=("fr",))

    assert found.items[0].title == "Running Shoe - 42"
    assert codes(found) == []


def test_of_a_shop_whose_language_is_not_known_translations_are_taken_first() -> None:
    shop = replace(SHOP, language="")

    assert item(translated(en=Text(title="Shoe")), shop=shop).title == "Shoe - 42"
    assert codes(mapped(product(), shop=shop, language="es")) == []


def test_a_missing_vendor_is_refused_by_its_name_unless_the_settings_give_a_brand() -> None:
    found = refused(product(vendor=" 🔥 "))

    assert (found.code, found.field) == ("brand_missing", "vendor")
    assert item(product(vendor=""), brand="House").brand == "House"
    assert item(product(), brand="House").brand == "Acme"


def test_a_long_vendor_is_cut_to_150_characters() -> None:
    found = mapped(product(vendor="x" * 151))

    assert found.items[0].brand == "x" * 150
    assert codes(found) == ["brand_cut"]


@pytest.mark.parametrize(
    ("handle", "settings", "expected"),
    [
        ("shoe", {}, "https://shop.example.com/products/shoe?variant=101"),
        ("ch\u00e4t", {}, "https://shop.example.com/products/ch%C3%A4t?variant=101"),
        ("a b/c?", {}, "https://shop.example.com/products/a%20b%2Fc%3F?variant=101"),
        (
            "shoe",
            {"storefront_url": "https://example.com/fr-ca/"},
            "https://example.com/fr-ca/products/shoe?variant=101",
        ),
    ],
)
def test_the_landing_page_has_the_variant_chosen(
    handle: str, settings: dict[str, str], expected: str
) -> None:
    assert item(product(handle=handle), **settings).landing_page_url == expected


def test_a_product_without_a_page_is_refused() -> None:
    assert refused(product(handle="")).field == "handle"
    assert refused(product(handle="\ud800")).field == "handle"
    assert refused(product(), shop=replace(SHOP, domain="")).field == "storefront_url"


def test_a_refusal_tells_all_that_is_wrong_at_once() -> None:
    found = refused(product(variant(price=None), vendor="", title=""))

    assert found.code == "title_missing"
    assert "vendor" in found.message
    assert "price" in found.message


def test_one_bad_variant_keeps_no_other_back() -> None:
    given = product(
        variant(variant_id="101", sku="A"),
        variant(variant_id="102", sku="B", price=Money(0, "USD")),
        variant(variant_id="103", sku="C"),
    )

    found = mapped(given)

    assert [one.sku_id for one in found.items] == ["A", "C"]
    assert [(one.variant_id, one.sku_id) for one in found.refusals] == [("102", "B")]


def test_all_of_2048_variants_become_items_of_one_group() -> None:
    given = product(*(variant(variant_id=str(n), sku=f"S-{n}") for n in range(2048)))

    found = mapped(given)

    assert len({one.sku_id for one in found.items}) == 2048
    assert {one.item_group_id for one in found.items} == {"1"}
    assert {one.first_sku for one in found.items} == {"S-0"}


def test_a_product_whose_first_variant_has_no_sku_is_the_group() -> None:
    given = product(variant(sku=""), variant(variant_id="102", sku="B"))

    assert {one.first_sku for one in mapped(given).items} == {"1"}


def test_a_variant_that_is_told_twice_is_one_item() -> None:
    assert len(mapped(product(variant(), variant())).items) == 1

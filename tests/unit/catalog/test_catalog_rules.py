"""Fields that the merchant's rules fill, and those that options fill without any."""

from __future__ import annotations

import pytest

from services.catalog.domain.gtin import gtin_of
from services.catalog.domain.settings import FieldRule
from tests.unit.catalog.goods import codes, item, mapped, product, variant


def rules(**sources: str) -> tuple[FieldRule, ...]:
    return tuple(FieldRule(target, source) for target, source in sources.items())


def test_without_rules_colour_size_and_material_are_the_options_of_that_name() -> None:
    given = product(
        variant(option_values=("Red", "42", "Wool")), option_names=("COLOUR ", "size", "Material")
    )

    found = item(given)

    assert (found.color, found.size, found.material) == ("Red", "42", "Wool")


def test_options_of_other_names_fill_nothing() -> None:
    found = item(product(variant(option_values=("Rot",)), option_names=("Farbe",)))

    assert (found.color, found.size, found.material, found.pattern) == ("", "", "", "")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("metafield:custom.season", "Winter of the variant"),
        ("metafield:custom.line", "Alpine"),
        ("metafield:custom.list", "Red, Blue"),
        ("metafield:custom.none", ""),
        ("option:size", "42"),
        ("option:nothing", ""),
        ("tag:season:", "autumn"),
        ("tag:nothing:", ""),
        ("vendor", "Acme"),
        ("product_type", "Shoes"),
        ("category", "Apparel & Accessories > Shoes > Sneakers > Running"),
        ("barcode", "4006381333931"),
        ("text:Sale now on", "Sale now on"),
    ],
)
def test_a_rule_reads_its_source(source: str, expected: str) -> None:
    given = product(
        variant(metafields={"custom.season": "Winter of the variant"}),
        tags=("new", "Season: autumn"),
        metafields={
            "custom.season": "Summer",
            "custom.line": "Alpine",
            "custom.list": '["Red","Blue"]',
        },
    )

    found = item(given, rules=rules(custom_label_1=source))

    assert found.custom_labels == (("", expected, "", "", "") if expected else ())


def test_each_variant_is_read_for_itself() -> None:
    given = product(
        variant(variant_id="101", metafields={"a.b": "one"}),
        variant(variant_id="102", sku="B", metafields={"a.b": "two"}),
        variant(variant_id="103", sku="C"),
        metafields={"a.b": "all"},
    )

    found = mapped(given, rules=rules(color="metafield:a.b"))

    assert [one.color for one in found.items] == ["one", "two", "all"]


def test_the_first_rule_that_gives_something_counts_and_then_the_option() -> None:
    several = (FieldRule("size", "metafield:a.b"), FieldRule("size", "text:wide"))

    assert item(product(), rules=several).size == "wide"
    assert item(product(), rules=several[:1]).size == "42"


def test_a_rule_for_the_brand_comes_before_the_vendor() -> None:
    given = product(metafields={"custom.brand": "Better"})

    assert item(given, rules=rules(brand="metafield:custom.brand")).brand == "Better"
    assert item(product(), rules=rules(brand="metafield:custom.brand")).brand == "Acme"


def test_a_brand_by_rule_needs_no_vendor() -> None:
    assert item(product(vendor=""), rules=rules(brand="option:Size")).brand == "42"


@pytest.mark.parametrize(
    ("target", "told", "expected"),
    [
        ("gender", "Women's", "FEMALE"),
        ("gender", "men", "MALE"),
        ("gender", "UNISEX", "UNISEX"),
        ("age_group", "newborn", "NEW_BORN"),
        ("age_group", "new born", "NEW_BORN"),
        ("age_group", "Adults", "ADULT"),
        ("age_group", "kids", "KIDS"),
    ],
)
def test_gender_and_age_are_told_in_tiktoks_words(target: str, told: str, expected: str) -> None:
    assert getattr(item(product(), rules=rules(**{target: f"text:{told}"})), target) == expected


@pytest.mark.parametrize(
    ("target", "told", "code"),
    [
        ("gender", "dragons", "gender_unknown"),
        ("age_group", "41", "age_group_unknown"),
        ("color", "gid://shopify/Metaobject/1", "metafield_is_reference"),
        ("color", '["gid://shopify/Metaobject/1"]', "metafield_is_reference"),
    ],
)
def test_what_tiktok_does_not_know_is_left_out_and_noted(target: str, told: str, code: str) -> None:
    found = mapped(product(metafields={"a.b": told}), rules=rules(**{target: "metafield:a.b"}))

    assert getattr(found.items[0], target) == ""
    assert codes(found) == [code]


@pytest.mark.parametrize(
    ("target", "limit"),
    [("color", 100), ("pattern", 100), ("material", 200), ("custom_label_0", 100), ("brand", 150)],
)
def test_a_value_is_cut_to_tiktoks_limit_and_that_is_noted(target: str, limit: int) -> None:
    given = product(metafields={"a.b": "x" * 300})

    found = mapped(given, rules=rules(**{target: "metafield:a.b"}))

    one = found.items[0]
    value = one.custom_labels[0] if target == "custom_label_0" else getattr(one, target)
    assert value == "x" * limit
    assert codes(found) == [f"{target}_cut"]


def test_categories_are_told_to_the_third_level() -> None:
    found = item(product())

    assert found.google_product_category == "Apparel & Accessories > Shoes > Sneakers"
    assert found.product_category == "Shoes"


def test_a_rule_may_name_the_categories() -> None:
    found = item(
        product(),
        rules=rules(google_product_category="text:A>B > C> D", product_category="vendor"),
    )

    assert (found.google_product_category, found.product_category) == ("A > B > C", "Acme")


def test_a_product_of_no_category_is_noted() -> None:
    found = mapped(product(category="", product_type=""))

    assert codes(found) == ["category_missing"]


@pytest.mark.parametrize(
    ("barcode", "gtin"),
    [
        ("4006381333931", "4006381333931"),
        ("'4006381333931", "4006381333931"),
        (" 4006381-333931 ", "4006381333931"),
        ("036000291452", "036000291452"),
        ("73513537", "73513537"),
        ("10614141000415", "10614141000415"),
        ("4006381333930", None),
        ("036000291453", None),
        ("400638133393", None),
        ("000000000000", None),
        ("ABC", None),
        ("\u0664\u0660\u0660\u0666\u0663\u0668\u0661\u0663\u0663\u0663\u0669\u0663\u0661", None),
        ("", None),
    ],
)
def test_a_gtin_has_one_of_four_lengths_and_a_right_check_digit(
    barcode: str, gtin: str | None
) -> None:
    assert gtin_of(barcode) == gtin


def test_a_barcode_that_is_no_gtin_is_left_out_and_noted() -> None:
    found = mapped(product(variant(barcode="12345")))

    assert found.items[0].gtin == ""
    assert [(one.code, one.field) for one in found.notes] == [
        ("barcode_invalid", "variants.barcode")
    ]


@pytest.mark.parametrize(
    ("weight", "unit", "expected", "noted"),
    [
        ("0.50", "kg", "0.5 kg", []),
        ("1E+2", "G", "100 g", []),
        ("0", "kg", "", []),
        ("0.0", "", "", []),
        ("", "kg", "", []),
        ("-1", "kg", "", ["weight_unreadable"]),
        ("NaN", "kg", "", ["weight_unreadable"]),
        ("1e999999", "kg", "", ["weight_unreadable"]),
        ("heavy", "kg", "", ["weight_unreadable"]),
        ("1", "stone", "", ["weight_unit_unknown"]),
    ],
)
def test_a_weight_has_a_number_above_zero_and_one_of_four_units(
    weight: str, unit: str, expected: str, noted: list[str]
) -> None:
    found = mapped(product(variant(weight=weight, weight_unit=unit)))

    assert found.items[0].shipping_weight == expected
    assert codes(found) == noted

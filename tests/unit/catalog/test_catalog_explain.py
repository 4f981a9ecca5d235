"""Each field of an item tells where it comes from; the documentation shows the same table."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from services.catalog.domain.dialects import dialect_of
from services.catalog.domain.explain import ROWS, Explained, explained
from services.catalog.domain.model import Money, Product, Text
from services.catalog.domain.rates import RateTable, rates_of_text
from services.catalog.domain.settings import CatalogSettings, DialectName, FieldRule
from tests.unit.catalog.goods import CATALOG, SHOP, TODAY, item, mapped, product, variant

DOCUMENT = Path(__file__).parents[3] / "docs" / "mapping-catalog.md"
DOMAIN = Path(__file__).parents[3] / "services" / "catalog" / "domain"
_CODE = re.compile(
    r'(?:Fault\(\s*|Note\(\s*variant_id,\s*|^ {4})"((?:[a-z]+_)+[a-z]+)"(?=,|:)', re.MULTILINE
)
RATES = rates_of_text("2026-11-26;USD=1.08", 7)


def story(
    given: Product, catalog: CatalogSettings = CATALOG, rates: RateTable | None = None
) -> dict[str, Explained]:
    changes: dict[str, Any] = {
        "currency": catalog.currency,
        "language": catalog.language,
        "rules": catalog.rules,
    }
    found = mapped(given, rates=rates, **changes)
    one = next(iter(found.items), None)
    fields = explained(given, "101", SHOP, catalog, one, rates, TODAY)
    assert len({field.field for field in fields}) == len(fields)
    return {field.field: field for field in fields}


def test_a_field_tells_its_value_its_source_what_stands_there_and_the_rule() -> None:
    found = story(product(variant(price=Money(8000, "USD"), compare_at=Money(12000, "USD"))))

    assert found["price_info.price"].value == "120.00"
    assert found["price_info.sale_price"].value == "80.00"
    assert found["price_info.price"].source == "variants.price"
    assert found["price_info.price"].source_value == "80.00 USD, compare at 120.00 USD"
    assert found["title"].value == '"Running Shoe - 42"'
    assert found["title"].source_value == "Running Shoe"
    assert found["brand"] == Explained("brand", '"Acme"', "vendor", "Acme", found["brand"].rule)
    assert found["product_detail.gender"].value == ""
    assert all(field.rule for field in found.values())


def test_every_field_that_is_sent_is_explained() -> None:
    rules = (FieldRule("custom_label_3", "text:x"), FieldRule("gender", "text:male"))
    catalog = replace(CATALOG, rules=rules)
    one = item(product(), rules=rules)
    for name in DialectName:
        chosen = replace(catalog, dialect=name)
        fields = explained(product(), "101", SHOP, chosen, one, None, TODAY)

        assert {field.field for field in fields if field.value} == _paths(
            json.loads(dialect_of(name).encode(one))
        )


def test_a_converted_price_tells_its_rate() -> None:
    catalog = replace(CATALOG, currency="EUR")

    found = story(product(), catalog, rates_of_text("2026-11-26;USD=1.25", 7))

    assert found["price_info.price"].value == "96.00"
    assert found["price_info.price"].source_value == "120.00 USD, converted at 0.8"


def test_a_translation_is_named_by_its_language() -> None:
    catalog = replace(CATALOG, language="fr")

    found = story(product(texts={"fr": Text("Chaussure", "<p>Oui</p>")}), catalog)

    assert found["title"].source == "translations(fr).title, variants.option"
    assert found["description"].source_value == "<p>Oui</p>"


def test_a_rule_is_named_as_it_is_written() -> None:
    catalog = replace(CATALOG, rules=(FieldRule("color", "metafield:custom.tone"),))

    found = story(product(metafields={"custom.tone": "Red"}), catalog)

    assert found["product_detail.color"].source == "metafield:custom.tone"
    assert found["product_detail.color"].source_value == "Red"


def test_stock_tells_what_was_counted_and_what_the_policy_is() -> None:
    found = story(product(variant(quantity=-3, policy="continue")))

    assert found["availability"].source_value == "-3 units, policy continue"


def test_a_refused_variant_is_explained_without_values() -> None:
    found = story(product(variant(price=Money(0, "USD")), images=()))

    assert not any(field.value for field in found.values())
    assert found["image_url"].source == "images"
    assert found["title"].source_value == "Running Shoe"


def test_a_variant_that_is_not_there_has_no_story() -> None:
    assert explained(product(), "999", SHOP, CATALOG, None, None, TODAY) == ()


def test_a_source_as_long_as_a_book_is_shown_in_part() -> None:
    found = story(product(body_html="x" * 500_000))

    assert len(found["description"].source_value) == 2_001


def test_the_documented_table_is_the_one_that_explanations_are_made_of() -> None:
    rows = [
        f"| {_code(row.upload)} | {_code(row.batch)} | {row.source} | {row.rule} |" for row in ROWS
    ]

    assert "\n".join(["| --- | --- | --- | --- |", *rows]) in DOCUMENT.read_text()


def test_every_code_of_a_refusal_or_a_note_is_documented() -> None:
    source = "".join(file.read_text() for file in DOMAIN.glob("*.py"))
    found = set(_CODE.findall(source))

    assert len(found) > 20
    assert [code for code in sorted(found) if f"`{code}`" not in DOCUMENT.read_text()] == []


def _code(name: str) -> str:
    return f"`{name}`" if name else ""


def _paths(document: dict[str, object], prefix: str = "") -> set[str]:
    paths: set[str] = set()
    for name, value in document.items():
        if isinstance(value, dict):
            paths |= _paths(value, f"{prefix}{name}.")
        else:
            paths.add(prefix + name)
    return paths

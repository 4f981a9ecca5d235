"""Every product of the corpus becomes items, or refusals with reasons, as docs/corpus.md counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from services.catalog.domain.dialects import dialect_of
from services.catalog.domain.ids import assign_ids
from services.catalog.domain.mapping import map_product
from services.catalog.domain.model import Product
from services.catalog.domain.settings import DialectName
from tests.unit.catalog.goods import CATALOG, SHOP, TODAY
from tests.unit.catalog.shopify_files import products_of_csv, products_of_json
from tests.unit.catalog.wire_rules import broken_rules

DOCUMENT = Path(__file__).parents[3] / "docs" / "corpus.md"
CURRENCIES = {"ae": "AED", "dk": "DKK", "brl": "BRL", "vnd": "VND"}
"""By the end of a file's name; the others are in dollars."""


@dataclass
class Counts:
    """One row of the table."""

    file: str
    products: int = 0
    variants: int = 0
    items: int = 0
    excluded: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    def row(self) -> str:
        return (
            f"| `{self.file}` | {self.products} | {self.variants} | {self.items} |"
            f" {_words(self.excluded)} | {_words(self.refused)} |"
        )


def _words(counted: Counter[str]) -> str:
    return ", ".join(f"{count} `{code}`" for code, count in sorted(counted.items()))


def read(file: Path) -> tuple[str, list[Product]]:
    currency = CURRENCIES.get(file.stem.rpartition("_")[2], "USD")
    if file.suffix == ".csv":
        return currency, products_of_csv(file, currency)
    return currency, list(products_of_json(file, currency))


def counts_of(file: Path) -> Counts:
    """Maps all products of a file as one shop, and checks each item by TikTok's rules."""
    currency, products = read(file)
    catalog = replace(CATALOG, currency=currency)
    shop = replace(SHOP, currency=currency)
    found = Counts(file.name)
    owners: dict[str, str] = {}
    for product in products:
        ids, _ = assign_ids(product, catalog, {}, owners.get)
        owners.update(dict.fromkeys(ids.values(), product.product_id))
        mapped = map_product(product, shop, catalog, ids, None, TODAY)
        found.products += 1
        found.variants += len(product.variants)
        found.items += len(mapped.items)
        if mapped.excluded:
            found.excluded[mapped.excluded] += len(product.variants)
        found.refused.update(refusal.code for refusal in mapped.refusals)
        ended = len(mapped.items) + len(mapped.refusals)
        assert ended == (0 if mapped.excluded else len(product.variants))
        for item in mapped.items:
            broken = broken_rules(dialect_of(DialectName.PRODUCT_UPLOAD).encode(item))
            assert broken == [], (file.name, item)
    return found


def test_every_product_file_becomes_what_the_documentation_counts(corpus_dir: Path) -> None:
    files = sorted((corpus_dir / "data" / "products").glob("*.*"))
    if not files:
        pytest.skip("the corpus holds no product files")

    rows = [counts_of(file).row() for file in files]

    document = DOCUMENT.read_text()
    assert [row for row in rows if row not in document] == []

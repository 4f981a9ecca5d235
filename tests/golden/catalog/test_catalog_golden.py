"""The guide's own request, and the cases beside this file: input.json says why each exists."""

from __future__ import annotations

import json
import re
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from services.catalog.domain.dialects import dialect_of
from services.catalog.domain.model import Image, Money, Product, Variant
from services.catalog.domain.settings import CatalogSettings, DialectName, ShopContext
from services.catalog.mapper import Basis, made_of
from tests.golden.catalog.cases import HERE, case_names, digits, load, outcome

CASES = case_names()

_SAMPLE = re.compile(r"TikTok Batch Request:\s*(\{.*?\n\})\s*Phase 4", re.DOTALL)


@pytest.mark.parametrize("name", CASES)
def test_a_product_becomes_exactly_the_expected_request(name: str) -> None:
    expected = json.loads((HERE / name / "expected.json").read_text(), parse_float=Decimal)

    assert digits(outcome(load(name))) == digits(expected)


@pytest.mark.parametrize("name", CASES)
def test_every_case_says_why_it_exists(name: str) -> None:
    assert len(load(name).why.split()) >= 5


def test_the_guides_own_sample_is_what_the_guides_dialect_makes_of_its_product(
    corpus_dir: Path,
) -> None:
    found = _SAMPLE.search((corpus_dir / "integration-guide.txt").read_text())
    assert found, "the guide no longer holds its sample where it was"
    sample = json.loads(found[1])
    # The guide's page opens on whichever variant the shop shows first; ours on the one it is of.
    sample["items"][0]["link"] += "?variant=12345"
    dialect = dialect_of(DialectName.ITEM_BATCH)

    made = made_of(_RUNNING_SHOES, _CATALOG, _BASIS, None, lambda _: None)
    request = dialect.upload(_CATALOG, [made.bodies["SKU-12345"]])

    assert (request.method, request.path) == ("POST", "/open_api/v1.3/catalog/item/batch/")
    assert request.body.decode() == json.dumps(sample, separators=(",", ":"))


_CATALOG = CatalogSettings(
    connection_id="example.catalog.1",
    shop="example",
    catalog_id="7234567890123456789",
    business_center_id="1",
    dialect=DialectName.ITEM_BATCH,
    country="US",
    currency="USD",
)
_BASIS = Basis(
    ShopContext(
        handle="example", domain="mystore.com", currency="USD", country="US", language="en"
    ),
    None,
    date(2026, 11, 27),
)
_RUNNING_SHOES = Product(
    product_id="999",
    title="Technical Running Shoes",
    body_html="<p>High-performance footwear for engineers.</p>",
    vendor="Acme",
    handle="running-shoes",
    status="active",
    images=(Image("https://cdn.shopify.com/s/files/1/image.jpg", "1", 800, 800),),
    variants=tuple(
        Variant(variant_id=number, sku=sku, price=Money(12000, "USD"), tracked=False)
        for number, sku in (("12344", "GRP-999"), ("12345", "SKU-12345"))
    ),
)
"""The guide's group is the SKU of the product's first variant."""

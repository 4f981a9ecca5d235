"""The guide's own request, and the cases beside this file: input.json says why each exists."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path

import pytest

from services.catalog.domain.dialects import dialect_of
from services.catalog.domain.items import Availability, Item
from services.catalog.domain.settings import CatalogSettings, DialectName
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


def test_the_guides_own_sample_is_what_the_guides_dialect_sends(corpus_dir: Path) -> None:
    found = _SAMPLE.search((corpus_dir / "integration-guide.txt").read_text())
    assert found, "the guide no longer holds its sample where it was"
    dialect = dialect_of(DialectName.ITEM_BATCH)
    catalog = CatalogSettings(
        connection_id="example.catalog.1",
        shop="example",
        catalog_id="7234567890123456789",
        business_center_id="1",
        dialect=DialectName.ITEM_BATCH,
    )

    request = dialect.upload(catalog, [dialect.encode(_RUNNING_SHOES)])

    assert (request.method, request.path) == ("POST", "/open_api/v1.3/catalog/item/batch/")
    assert request.body.decode() == json.dumps(json.loads(found[1]), separators=(",", ":"))


_RUNNING_SHOES = Item(
    sku_id="SKU-12345",
    variant_id="12345",
    item_group_id="999",
    first_sku="GRP-999",
    title="Technical Running Shoes",
    description="High-performance footwear for engineers.",
    availability=Availability.IN_STOCK,
    condition="NEW",
    brand="Acme",
    price=Decimal("120.00"),
    sale_price=None,
    currency="USD",
    image_url="https://cdn.shopify.com/s/files/1/image.jpg",
    additional_image_urls=(),
    landing_page_url="https://mystore.com/products/running-shoes",
)

"""Golden cases of the catalog mapping: a product, its catalog, and the request that they make."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from services.catalog.domain.dialects import dialect_of
from services.catalog.domain.ids import assign_ids
from services.catalog.domain.mapping import map_product
from services.catalog.domain.model import Product
from services.catalog.domain.rates import rates_of_text
from services.catalog.domain.settings import CatalogSettings, ShopContext

HERE = Path(__file__).parent
_CATALOG = {
    "connection_id": "example.catalog.7001",
    "shop": "example",
    "catalog_id": "7001",
    "business_center_id": "9001",
    "country": "US",
    "currency": "USD",
}
_SHOP = {
    "handle": "example",
    "domain": "shop.example.com",
    "currency": "USD",
    "country": "US",
    "language": "en",
}


class Case(msgspec.Struct, forbid_unknown_fields=True):
    """One `input.json`. Settings and shop say only what differs from the plain ones."""

    why: str
    product: Product
    settings: dict[str, Any] = {}
    shop: dict[str, Any] = {}
    rates: str = ""
    today: date = date(2026, 11, 27)


def case_names() -> list[str]:
    return sorted(path.parent.name for path in HERE.glob("*/input.json"))


def load(name: str) -> Case:
    return msgspec.json.decode((HERE / name / "input.json").read_bytes(), type=Case)


def outcome(case: Case) -> dict[str, Any]:
    """What the mapping makes of `case`, amounts as decimals."""
    catalog = msgspec.convert({**_CATALOG, **case.settings}, CatalogSettings)
    shop = msgspec.convert({**_SHOP, **case.shop}, ShopContext)
    rates = rates_of_text(case.rates, 7) if case.rates else None
    ids, named = assign_ids(case.product, catalog, {}, lambda _: None)
    mapped = map_product(case.product, shop, catalog, ids, rates, case.today)
    dialect = dialect_of(catalog.dialect)
    request = dialect.upload(catalog, [dialect.encode(item) for item in mapped.items])
    return {
        "path": request.path if mapped.items else "",
        "body": json.loads(request.body, parse_float=Decimal) if mapped.items else None,
        "refused": [asdict(one) for one in mapped.refusals],
        "notes": [asdict(one) for one in (*named, *mapped.notes)],
        "excluded": mapped.excluded,
    }


def digits(document: Any) -> Any:
    """`document` with every fraction as its digits, so that 120.0 is not 120.00 nor a string."""
    if isinstance(document, Decimal):
        return {"number": str(document)}
    if isinstance(document, dict):
        return {key: digits(value) for key, value in document.items()}
    if isinstance(document, list):
        return [digits(value) for value in document]
    return document


def rendered(document: dict[str, Any]) -> bytes:
    encoded = msgspec.json.Encoder(decimal_format="number").encode(document)
    return msgspec.json.format(encoded, indent=2) + b"\n"

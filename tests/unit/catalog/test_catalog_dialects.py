"""Both dialects, to the byte."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal

import msgspec
import pytest

from libs.limits.declared import DeclaredLimits
from services.catalog.domain.dialects import dialect_of
from services.catalog.domain.items import Availability
from services.catalog.domain.settings import DialectName
from tests.unit.catalog.goods import CATALOG, CDN, item, product
from tests.unit.catalog.wire_rules import broken_rules

UPLOAD = dialect_of(DialectName.PRODUCT_UPLOAD)
BATCH = dialect_of(DialectName.ITEM_BATCH)
SHOE = item(product())


def shoe(**other: object) -> bytes:
    return UPLOAD.encode(msgspec.structs.replace(SHOE, **other))


def test_an_item_is_a_product_of_tiktoks_documents() -> None:
    body = UPLOAD.encode(SHOE)

    assert broken_rules(body) == []
    assert json.loads(body) == {
        "sku_id": "SHOE-42",
        "title": "Running Shoe - 42",
        "description": "Runs by itself.",
        "availability": "IN_STOCK",
        "brand": "Acme",
        "image_url": f"{CDN}/a.jpg",
        "product_detail": {
            "condition": "NEW",
            "size": "42",
            "shipping_weight": "0.5 kg",
            "product_category": "Shoes",
        },
        "price_info": {"price": 120.00, "currency": "USD"},
        "landing_page": {
            "landing_page_url": "https://shop.example.com/products/running-shoe?variant=101"
        },
        "additional_image_urls": [f"{CDN}/b.jpg"],
        "item_group_id": "1",
        "google_product_category": "Apparel & Accessories > Shoes > Sneakers",
        "global_trade_item_number": "4006381333931",
    }


@pytest.mark.parametrize(
    ("price", "written"),
    [
        ("120.00", b"120.00"),
        ("16320", b"16320"),
        ("0.407", b"0.407"),
        ("90071992547409.93", b"90071992547409.93"),
        ("0.10", b"0.10"),
    ],
)
def test_a_price_is_a_json_number_with_the_digits_of_its_currency(
    price: str, written: bytes
) -> None:
    assert b'"price":' + written + b"," in shoe(price=Decimal(price))


def test_everything_that_an_item_may_have_has_its_place() -> None:
    found = json.loads(
        shoe(
            sale_price=Decimal("99.90"),
            mpn="M-1",
            gender="FEMALE",
            age_group="ADULT",
            color="Red",
            pattern="Dots",
            material="Wool",
            custom_labels=("a", "", "", "", "e"),
        )
    )

    assert found["price_info"] == {"price": 120.00, "sale_price": 99.90, "currency": "USD"}
    assert found["manufacturer_part_number"] == "M-1"
    assert (
        found["product_detail"].items()
        >= {
            "gender": "FEMALE",
            "age_group": "ADULT",
            "color": "Red",
            "pattern": "Dots",
            "material": "Wool",
        }.items()
    )
    assert found["extra_info"] == {"custom_label_0": "a", "custom_label_4": "e"}


def test_an_upload_names_business_center_and_catalog_and_a_feed_where_there_is_one() -> None:
    request = UPLOAD.upload(CATALOG, [b'{"a":1}', b'{"b":2}'])
    fed = UPLOAD.upload(replace(CATALOG, feed_id="77"), [b"{}"])

    assert (request.method, request.path) == ("POST", "/open_api/v1.3/catalog/product/upload/")
    assert request.body == b'{"bc_id":"9001","catalog_id":"7001","products":[{"a":1},{"b":2}]}'
    assert json.loads(fed.body)["feed_id"] == "77"


def test_a_deletion_is_the_same_in_both_dialects() -> None:
    request = UPLOAD.delete(CATALOG, ["A", 'B"2'])

    assert BATCH.delete(CATALOG, ["A", 'B"2']) == request
    assert (request.method, request.path) == ("POST", "/open_api/v1.3/catalog/product/delete/")
    assert json.loads(request.body) == {
        "bc_id": "9001",
        "catalog_id": "7001",
        "sku_ids": ["A", 'B"2'],
    }


def test_the_guides_dialect_sends_its_ten_fields_and_what_buyers_pay() -> None:
    on_sale = msgspec.structs.replace(SHOE, sale_price=Decimal("99.90"))

    found = json.loads(BATCH.encode(on_sale))

    assert found == {
        "item_id": "SHOE-42",
        "item_group_id": "SHOE-42",
        "title": "Running Shoe - 42",
        "description": "Runs by itself.",
        "availability": "in stock",
        "condition": "new",
        "price": "99.90",
        "currency": "USD",
        "link": "https://shop.example.com/products/running-shoe?variant=101",
        "image_link": f"{CDN}/a.jpg",
    }


@pytest.mark.parametrize(
    ("availability", "upload", "batch"),
    [
        (Availability.IN_STOCK, "IN_STOCK", "in stock"),
        (Availability.AVAILABLE_FOR_ORDER, "AVAILABLE_FOR_ORDER", "available for order"),
        (Availability.PREORDER, "PREORDER", "preorder"),
        (Availability.OUT_OF_STOCK, "OUT_OF_STOCK", "out of stock"),
        (Availability.DISCONTINUED, "DISCONTINUED", "discontinued"),
    ],
)
def test_availability_has_each_dialects_words(
    availability: Availability, upload: str, batch: str
) -> None:
    one = msgspec.structs.replace(SHOE, availability=availability)

    assert json.loads(UPLOAD.encode(one))["availability"] == upload
    assert json.loads(BATCH.encode(one))["availability"] == batch


def test_requests_are_as_large_as_tiktok_and_the_guide_allow() -> None:
    assert (UPLOAD.uploads_max, UPLOAD.deletes_max) == (5_000, 1_000)
    assert (BATCH.uploads_max, BATCH.deletes_max) == (1_000, 1_000)


def test_every_request_counts_under_limits_that_are_declared() -> None:
    declared = DeclaredLimits()
    requests = [
        *(one.upload(CATALOG, []) for one in (UPLOAD, BATCH)),
        *(one.delete(CATALOG, []) for one in (UPLOAD, BATCH)),
    ]

    assert [request.limits for request in requests] == [
        *[("tiktok.catalog.app", "tiktok.catalog.upload", "tiktok.catalog.upload.7001")] * 2,
        *[("tiktok.catalog.app", "tiktok.catalog.delete", "tiktok.catalog.delete.7001")] * 2,
    ]
    assert all(declared.limit(name) for request in requests for name in request.limits)

"""Bodies that tests start from: what Shopify sends, cut to what is read, all of it good."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from services.ingest.normalize import (
    DeliveryMeta,
    Normalized,
    ShopContext,
    TopicNotUsed,
    normalize,
)

Body = dict[str, Any]
SHOP = ShopContext(shop="example", country="US", currency="USD")
RECEIVED_S = 1_790_000_000


def meta_of(body: bytes, triggered_s: int | None = None) -> DeliveryMeta:
    return DeliveryMeta(
        body_hash=int.from_bytes(sha256(body).digest()[:8], "big"),
        received_at=Timestamp(seconds=RECEIVED_S),
        triggered_at=None if triggered_s is None else Timestamp(seconds=triggered_s),
    )


def outcome(
    topic: str, body: Body | bytes, *, shop: ShopContext = SHOP, triggered_s: int | None = None
) -> Normalized | TopicNotUsed:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return normalize(topic, raw, shop, meta_of(raw, triggered_s))


def normalized(
    topic: str, body: Body | bytes, *, shop: ShopContext = SHOP, triggered_s: int | None = None
) -> Normalized:
    found = outcome(topic, body, shop=shop, triggered_s=triggered_s)
    assert isinstance(found, Normalized)
    return found


def both(amount: str, currency: str = "USD") -> Body:
    money = {"amount": amount, "currency_code": currency}
    return {"shop_money": money, "presentment_money": dict(money)}


def address(**changes: Any) -> Body:
    return {
        "first_name": "Ada",
        "last_name": "Byron",
        "company": None,
        "address1": "1 Example Road",
        "address2": "",
        "city": "Springfield",
        "zip": "62701",
        "province": "Illinois",
        "province_code": "IL",
        "country": "United States",
        "country_code": "US",
        "phone": "(202) 555-0143",
        **changes,
    }


def line(line_id: int = 11, quantity: int = 2, **changes: Any) -> Body:
    return {
        "id": line_id,
        "variant_id": 101,
        "product_id": 201,
        "sku": "CUP-1",
        "title": "Cup",
        "variant_title": "Blue",
        "vendor": "Example",
        "quantity": quantity,
        "current_quantity": quantity,
        "price": "10.00",
        "price_set": both("10.00"),
        "total_discount": "0.00",
        "total_discount_set": both("0.00"),
        "discount_allocations": [{"amount": "2.00", "amount_set": both("2.00")}],
        "gift_card": False,
        "properties": [{"name": "engraving", "value": "A"}],
        **changes,
    }


def refund(**changes: Any) -> Body:
    return {
        "id": 31,
        "order_id": 1001,
        "created_at": "2026-09-01T12:00:00Z",
        "note": None,
        "order_adjustments": [{"amount": "-3.00"}],
        "refund_line_items": [{"line_item_id": 11, "quantity": 1, "subtotal": 9.5, "total_tax": 0}],
        "transactions": [
            {"kind": "refund", "status": "success", "amount": "9.50", "currency": "USD"},
            {"kind": "refund", "status": "failure", "amount": "9.50", "currency": "USD"},
        ],
        **changes,
    }


def order(**changes: Any) -> Body:
    return {
        "id": 1001,
        "admin_graphql_api_id": "gid://shopify/Order/1001",
        "name": "#1001",
        "order_number": 1001,
        "created_at": "2026-09-01T08:00:00-04:00",
        "updated_at": "2026-09-01T08:00:05-04:00",
        "processed_at": "2026-09-01T08:00:00-04:00",
        "cancelled_at": None,
        "closed_at": None,
        "financial_status": "paid",
        "fulfillment_status": None,
        "test": False,
        "source_name": "web",
        "source_identifier": None,
        "app_id": 580111,
        "tags": "vip, first",
        "checkout_token": "c0ffee",
        "cart_token": "cafe",
        "currency": "USD",
        "presentment_currency": "USD",
        "total_price": "18.00",
        "total_price_set": both("18.00"),
        "total_line_items_price": "20.00",
        "total_line_items_price_set": both("20.00"),
        "total_tax": "0.00",
        "total_tax_set": both("0.00"),
        "total_shipping_price_set": both("0.00"),
        "total_discounts": "2.00",
        "total_discounts_set": both("2.00"),
        "email": "ada@example.com",
        "contact_email": "ada@example.com",
        "phone": "+12025550143",
        "browser_ip": "192.0.2.7",
        "customer_locale": "en-US",
        "landing_site": "/?ttclid=abc",
        "referring_site": None,
        "order_status_url": "https://example.com/orders/1",
        "client_details": {"browser_ip": "192.0.2.7", "user_agent": "Mozilla/5.0"},
        "note_attributes": [{"name": "_ttp", "value": "xyz"}],
        "discount_codes": [{"code": "TWO", "amount": "2.00", "type": "fixed_amount"}],
        "customer": {
            "id": 77,
            "email": "ada@example.com",
            "phone": None,
            "first_name": "Ada",
            "last_name": "Byron",
            "updated_at": "2026-09-01T08:00:00-04:00",
            "default_address": address(),
        },
        "billing_address": address(),
        "shipping_address": address(),
        "line_items": [line(), line(12, 1, variant_id=None, product_id=None, sku=None)],
        "refunds": [refund()],
        **changes,
    }


def product(**changes: Any) -> Body:
    return {
        "id": 201,
        "title": "Cup",
        "body_html": "<p>A cup</p>",
        "vendor": "Example",
        "product_type": "Cups",
        "handle": "cup",
        "status": "active",
        "tags": "kitchen",
        "created_at": "2026-08-01T00:00:00Z",
        "updated_at": "2026-09-01T12:00:00Z",
        "published_at": None,
        "options": [{"name": "Colour"}],
        "variants": [{"id": 101, "price": "10.00", "compare_at_price": None, "option1": "Blue"}],
        "images": [{"id": 5, "src": "//cdn.example.com/cup.jpg", "width": 10, "height": 10}],
        "variant_gids": [{"admin_graphql_api_id": "gid://shopify/ProductVariant/101"}],
        **changes,
    }


def cart(*lines: Body, **changes: Any) -> Body:
    return {
        "id": "cafe",
        "token": "cafe",
        "note": None,
        "created_at": "2026-09-01T11:00:00.000Z",
        "updated_at": "2026-09-01T12:00:00.123Z",
        "line_items": list(lines) or [line(101, 1)],
        **changes,
    }


def checkout(**changes: Any) -> Body:
    return {
        "token": "c0ffee",
        "cart_token": "cafe",
        "created_at": "2026-09-01T11:00:00Z",
        "updated_at": "2026-09-01T12:00:00Z",
        "completed_at": None,
        "currency": "USD",
        "presentment_currency": "USD",
        "total_price": "18.00",
        "email": None,
        "phone": None,
        "shipping_address": [],
        "abandoned_checkout_url": "https://example.com/recover",
        "line_items": [line(properties=None)],
        **changes,
    }


def level(**changes: Any) -> Body:
    return {
        "inventory_item_id": 301,
        "location_id": 401,
        "available": 5,
        "updated_at": "2026-09-01T12:00:00Z",
        **changes,
    }


def shop(**changes: Any) -> Body:
    return {
        "id": 9,
        "name": "Example",
        "myshopify_domain": "example.myshopify.com",
        "domain": "example.com",
        "plan_name": "basic",
        "shop_owner": "Ada",
        "country_code": "US",
        "currency": "USD",
        "updated_at": "2026-09-01T12:00:00Z",
        **changes,
    }

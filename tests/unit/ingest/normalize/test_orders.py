from __future__ import annotations

import json
from typing import Any

import pytest

from services.ingest.normalize import ShopContext
from tests.unit.ingest.normalize.bodies_of import SHOP, Body, address, both, line, normalized, order
from tidewire.commerce.v1 import order_pb2


def read(body: Body | bytes, shop: ShopContext = SHOP) -> order_pb2.Order:
    found = normalized("orders/updated", body, shop=shop)
    assert isinstance(found.message, order_pb2.Order)
    return found.message


def flags(message: order_pb2.Order) -> list[tuple[str, str]]:
    return [(flag.path, flag.reason) for flag in message.flags]


def test_a_good_order_is_read_whole_and_without_flags() -> None:
    message = read(order())

    assert flags(message) == []
    assert message.order_id == "1001"
    assert message.total.shop.amount_minor == 1800
    assert message.subtotal.presentment.amount_minor == 2000
    assert message.line_items[0].total_discount.shop.amount_minor == 200
    assert message.line_items[1].variant_id == ""
    assert message.customer.default_address.phone.e164 == "+12025550143"
    assert list(message.tags) == ["vip", "first"]
    assert message.client.user_agent == "Mozilla/5.0"
    assert message.paid


def test_ids_beyond_2_to_53_stay_exact() -> None:
    assert read(order(id=820982911946154508)).order_id == "820982911946154508"


def test_an_id_that_a_tool_made_a_float_is_read_from_the_global_id() -> None:
    body = json.dumps(
        order(id=0, admin_graphql_api_id="gid://shopify/Order/820982911946154508")
    ).replace('"id": 0', '"id": 8.209829119461545e17', 1)

    message = read(body.encode())

    assert message.order_id == "820982911946154508"
    assert flags(message) == [("$.id", "id_was_float")]


@pytest.mark.parametrize(
    ("written", "seconds", "nanos"),
    [
        ("2026-09-01T12:00:05Z", 1788264005, 0),
        ("2026-09-01T08:00:05-04:00", 1788264005, 0),
        ("2026-09-01T12:00:05.123Z", 1788264005, 123_000_000),
        ("2026-09-01T12:00:05.123456789Z", 1788264005, 123_456_789),
    ],
)
def test_every_form_of_time_is_the_same_instant(written: str, seconds: int, nanos: int) -> None:
    found = normalized("orders/updated", order(updated_at=written))

    assert found.version.updated_at.seconds == seconds
    assert found.version.updated_at.nanos == nanos


def test_a_missing_update_time_falls_back_and_says_so() -> None:
    created = normalized("orders/updated", order(updated_at=None))
    sent = normalized(
        "orders/updated", order(updated_at=None, created_at=None), triggered_s=1_789_000_000
    )
    received = normalized("orders/updated", order(updated_at="soon", created_at=None))

    assert created.version.updated_at.seconds == 1788264000
    assert sent.version.updated_at.seconds == 1_789_000_000
    assert received.version.updated_at.seconds == 1_790_000_000
    assert [f.reason for f in received.flags] == ["time_unreadable", "updated_at_missing"]


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"shipping_address": []}, ("$.shipping_address", "not_an_object")),
        ({"customer": ""}, ("$.customer", "not_an_object")),
        ({"line_items": None}, ("$.line_items", "not_a_list")),
        ({"line_items": [line(), None]}, ("$.line_items[1]", "not_an_object")),
        ({"line_items": [line(quantity=-1)]}, ("$.line_items[0].quantity", "number_negative")),
        ({"line_items": [line(quantity=2**70)]}, ("$.line_items[0].quantity", "number_unreadable")),
        ({"total_price_set": "18.00"}, ("$.total_price_set", "not_an_object")),
        ({"currency": "dollars"}, ("$.currency", "currency_unreadable")),
        ({"closed_at": "yesterday"}, ("$.closed_at", "time_unreadable")),
        ({"processed_at": "2026-09-01T12:00:00"}, ("$.processed_at", "time_without_zone")),
        ({"financial_status": "haggling"}, ("$.financial_status", "status_unknown")),
        ({"test": "perhaps"}, ("$.test", "boolean_unreadable")),
        ({"name": {"a": 1}}, ("$.name", "text_unreadable")),
        ({"phone": "555-555-SHIP"}, ("$.phone", "phone_unreadable")),
    ],
)
def test_an_odd_field_is_left_out_and_flagged(changes: Body, flag: tuple[str, str]) -> None:
    message = read(order(**changes))

    assert message.order_id == "1001"
    assert flag in flags(message)


@pytest.mark.parametrize(
    "changes",
    [
        {"customer": None},
        {"client_details": None, "phone": None, "landing_site": None},
        {"line_items": [line(properties=None), line(properties={}), line(properties=[])]},
        {"line_items": [line(properties={"_a": "b"})]},
        {"note_attributes": {}},
        {"tags": ["a", "b"]},
    ],
)
def test_what_shopify_usually_leaves_out_is_no_oddity(changes: Body) -> None:
    assert flags(read(order(**changes))) == []


def test_an_amount_without_its_set_is_in_the_shops_currency_alone() -> None:
    message = read(order(total_price_set=None, currency="jpy", total_price="1800"))

    assert message.total.shop.currency == "JPY"
    assert message.total.shop.amount_minor == 1800
    assert not message.total.HasField("presentment")


def test_both_currencies_of_an_amount_are_kept() -> None:
    pair = {
        "shop_money": {"amount": "27.50", "currency_code": "AUD"},
        "presentment_money": {"amount": "1800", "currency_code": "JPY"},
    }

    message = read(order(currency="AUD", presentment_currency="JPY", total_price_set=pair))

    assert (message.total.shop.currency, message.total.shop.amount_minor) == ("AUD", 2750)
    assert (message.total.presentment.currency, message.total.presentment.amount_minor) == (
        "JPY",
        1800,
    )


def test_more_decimals_than_the_currency_has_are_rounded_and_flagged() -> None:
    message = read(order(total_price_set=both("17.999")))

    assert message.total.shop.amount_minor == 1800
    assert ("$.total_price_set", "money_rounded") in flags(message)


def test_a_set_with_one_bad_side_keeps_the_other() -> None:
    pair = both("18.00") | {"presentment_money": {"amount": "?", "currency_code": "USD"}}

    message = read(order(total_price_set=pair))

    assert message.total.shop.amount_minor == 1800
    assert not message.total.HasField("presentment")
    assert ("$.total_price_set.presentment_money.amount", "money_unreadable") in flags(message)


def test_a_phone_is_read_by_its_address_before_the_shop() -> None:
    british = address(country_code="GB", phone="07400 123456")

    message = read(order(billing_address=british), ShopContext("example", "DE", "EUR"))

    assert message.billing_address.phone.e164 == "+447400123456"


def test_an_unreadable_phone_is_kept_as_it_was_given() -> None:
    message = read(order(phone="call me"))

    assert (message.phone.e164, message.phone.raw) == ("", "call me")


def test_refund_numbers_without_quotes_are_exact_and_failed_ones_do_not_count() -> None:
    found = read(order()).refunds[0]

    assert found.lines[0].subtotal.shop.amount_minor == 950
    assert found.total.shop.amount_minor == 950


@pytest.mark.parametrize(
    ("status", "paid"),
    [
        ("pending", False),
        ("authorized", False),
        ("partially_paid", False),
        ("paid", True),
        ("partially_refunded", True),
        ("refunded", False),
        ("voided", False),
        (None, False),
    ],
)
def test_only_money_that_was_kept_pays_an_order(status: str | None, paid: bool) -> None:  # noqa: FBT001  # a column of the table
    assert read(order(financial_status=status)).paid is paid


def test_the_lifecycle_ranks_as_shopify_tells_the_story() -> None:
    told: list[dict[str, Any]] = [
        {"financial_status": status}
        for status in (
            *("pending", "authorized", "partially_paid", "paid"),
            *("partially_refunded", "refunded"),
        )
    ]
    told.append({"financial_status": "pending", "cancelled_at": "2026-09-01T12:00:00Z"})

    ranks = [normalized("orders/updated", order(**each)).version.lifecycle_rank for each in told]

    assert ranks == sorted(set(ranks))

"""What may be seen of a webhook's body: its shape, and no person."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.delivery.domain.masking import DEPTH_MAX, MASK, masked_body

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = ROOT / "tests" / "golden" / "normalize" / "order_with_every_field" / "input.json"

PERSONAL = (
    "jo.o'neil@example.com",
    "Jo Smith <jo@example.com>",
    "Jo O'Neil",
    "+1 202-555-0143",
    "(202) 555 0143",
    "203.0.113.7",
    "2001:db8::7",
    "1 Main Street",
    "E.C.P.abcdef",
    "https://shop.example/account?token=0123",
)
KEYS = (
    *("id", "name", "status", "total_price", "currency", "created_at", "quantity", "note"),
    *("order_id", "admin_graphql_api_id", "customer", "note_attributes", "line_items", "email"),
)


def order() -> dict[str, Any]:
    body: dict[str, Any] = json.loads(GOLDEN.read_text())["body"]
    return body


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, key)
    else:
        yield key, value


def shape(value: Any) -> Any:
    """Lists by their length and objects by how much they hold."""
    if isinstance(value, dict):
        return [shape(inner) for inner in value.values()]
    return [shape(inner) for inner in value] if isinstance(value, list) else None


def test_nothing_of_a_person_is_left_of_an_order_with_every_field() -> None:
    about = {
        *("email", "contact_email", "phone", "browser_ip", "user_agent", "first_name"),
        *("last_name", "address1", "city", "zip", "landing_site", "order_status_url", "value"),
    }
    personal = {text for key, text in leaves(order()) if key in about and text}

    shown = json.dumps(masked_body(order(), "orders/paid"))

    assert len(personal) > 8
    assert [text for text in personal if text in shown] == []


def test_what_a_mapping_is_debugged_by_is_left_of_an_order() -> None:
    shown = masked_body(order(), "orders/paid")

    assert isinstance(shown, dict)
    assert shape(shown) == shape(order())
    assert shown["total_price_set"] == order()["total_price_set"]
    assert (shown["id"], shown["financial_status"], shown["test"]) == (1001, "paid", False)
    assert shown["line_items"][0]["variant_id"] == 101
    assert shown["customer"]["email"] == "***email"
    assert shown["billing_address"]["first_name"] == "***name"
    assert shown["cancelled_at"] is None


json_values = st.recursive(
    st.sampled_from(PERSONAL),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS + PERSONAL) | st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(json_values, st.sampled_from(["orders/paid", "customers/update", "", "carts/update"]))
def test_no_personal_value_or_key_is_shown_wherever_it_stands(body: Any, topic: str) -> None:
    shown = json.dumps(masked_body(body, topic), ensure_ascii=False)

    assert [text for text in PERSONAL if json.dumps(text, ensure_ascii=False)[1:-1] in shown] == []


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("email", "jo@example.com", "***email"),
        ("note", "write to jo@example.com", "***email"),
        ("phone", 12025550143, "***number"),
        ("mobile_phone", "none", "***phone"),
        ("source_identifier", "+1 202 555 0143", "***phone"),
        ("last_name", "Smith", "***name"),
        ("browser_ip", "203.0.113.7", "***ip"),
        ("financial_status", "jo@example.com", "***email"),
        ("financial_status", "Jo Smith", "***text"),
        ("total_price", "+1 202 555 0143", "***phone"),
        ("created_at", "2026-09-01T08:00:00-04:00 Jo", "***text"),
        ("id", "gid://shopify/Customer/7", "***text"),
        ("admin_graphql_api_id", "gid://shopify/Customer/7", "***text"),
        ("anything_new", "x", "***text"),
        ("latitude", 45.4, "***number"),
        ("note", "", ""),
        ("note", None, None),
        ("accepts_marketing", True, True),
        ("admin_graphql_api_id", "gid://shopify/Order/7", "gid://shopify/Order/7"),
    ],
)
def test_a_value_is_shown_only_where_its_key_and_its_looks_say_that_it_is_harmless(
    key: str, value: object, expected: object
) -> None:
    assert masked_body({key: value}, "orders/paid") == {key: expected}


@pytest.mark.parametrize("topic", ["customers/update", "customers/redact"])
def test_ids_of_a_body_that_is_a_person_are_hidden(topic: str) -> None:
    assert masked_body({"id": 7, "kind": "x"}, topic) == {"id": "***number", "kind": "***text"}


def test_what_is_nested_without_end_is_cut_off() -> None:
    body: Any = "x"
    for _ in range(3 * DEPTH_MAX):
        body = {"a": body}

    assert f"{MASK}deep" in json.dumps(masked_body(body, "orders/paid"))

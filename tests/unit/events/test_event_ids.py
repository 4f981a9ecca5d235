from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import Kind, ServiceError
from services.events.domain.event_ids import (
    DEFAULT_TEMPLATES,
    EventKind,
    cart_token,
    event_id,
    event_id_template,
)

NUMBER = st.integers(1, 2**63 - 1).map(str)
TOKEN = st.text(min_size=1, max_size=12)


def test_the_guides_form_is_a_template() -> None:
    template = "shp_{shop_id}_{order_id}"

    found = event_id(EventKind.PURCHASE, template, {"shop_id": "12345", "order_id": "98765"})

    assert found == "shp_12345_98765"


def test_checkout_id_and_time_are_a_template_as_the_guide_allows() -> None:
    values = {"checkout_id": "77", "occurred_at_s": "1700000000", "order_id": "1"}

    assert event_id(EventKind.PURCHASE, "{checkout_id}-{occurred_at_s}", values) == "77-1700000000"


@pytest.mark.parametrize(
    ("kind", "text", "named"),
    [
        (EventKind.PURCHASE, "p.{order}", "{order}"),
        (EventKind.PURCHASE, "p.{email}.{order_id}", "{email}"),
        (EventKind.PURCHASE, "p.{order_id.__class__}", "{order_id.__class__}"),
        (EventKind.PURCHASE, "p.{}", "{}"),
        (EventKind.PURCHASE, "p.{order_id:>9}", "{order_id}"),
        (EventKind.PURCHASE, "p.{order_id!r}", "{order_id}"),
        (EventKind.PURCHASE, "p.{shop_id}", "{order_id}"),
        (EventKind.PURCHASE, "{order_id}{checkout_id}", "{order_id} and {checkout_id}"),
        (EventKind.PURCHASE, "{order_id}7{checkout_id}", "{order_id} and {checkout_id}"),
        (EventKind.PURCHASE, "{cart_token}.{checkout_token}", "{cart_token} and {checkout_token}"),
        (EventKind.ADD_TO_CART, "a.{cart_token}.{variant_id}", "{quantity_after}"),
        (EventKind.INITIATE_CHECKOUT, "c.{order_id}", "{order_id}"),
    ],
)
def test_a_bad_template_is_refused_by_an_error_that_names_the_placeholder(
    kind: EventKind, text: str, named: str
) -> None:
    with pytest.raises(ServiceError) as caught:
        event_id_template(kind, text)

    assert caught.value.kind is Kind.PERMANENT
    assert caught.value.code == "event_id_template_invalid"
    assert named in caught.value.message


@pytest.mark.parametrize("text", ["", "p.{order_id", "p.order_id}", "x" * 500 + "{order_id}"])
def test_a_text_that_is_no_template_is_refused(text: str) -> None:
    with pytest.raises(ServiceError, match="event_id_template_invalid"):
        event_id_template(EventKind.PURCHASE, text)


def test_an_event_without_the_custom_templates_value_gets_the_default_id() -> None:
    values = {"checkout_token": None, "order_id": "5"}

    assert event_id(EventKind.PURCHASE, "p.{checkout_token}", values) == "purchase.5"


def test_an_event_that_no_template_can_name_is_a_permanent_error() -> None:
    with pytest.raises(ServiceError, match="event_id_incomplete"):
        event_id(EventKind.INITIATE_CHECKOUT, DEFAULT_TEMPLATES[EventKind.INITIATE_CHECKOUT], {})


def test_both_forms_of_a_cart_token_are_one() -> None:
    assert cart_token("Z2Nw?key=abc") == cart_token("Z2Nw") == "Z2Nw"
    assert cart_token("") is cart_token(None) is None


CART_LINE = st.fixed_dictionaries(
    {"cart_token": TOKEN, "variant_id": NUMBER, "quantity_after": NUMBER}
)


@given(CART_LINE, CART_LINE)
def test_two_carts_share_an_id_only_where_all_their_values_are_equal(
    one: dict[str, str], other: dict[str, str]
) -> None:
    template = DEFAULT_TEMPLATES[EventKind.ADD_TO_CART]

    ids = [event_id(EventKind.ADD_TO_CART, template, values) for values in (one, other)]

    assert (ids[0] == ids[1]) == (one == other)


DIGITS = st.text(alphabet="12", min_size=1, max_size=3)
CONFUSABLE = st.text(alphabet="1.2", min_size=1, max_size=4)


@given(st.tuples(DIGITS, CONFUSABLE, DIGITS), st.tuples(DIGITS, CONFUSABLE, DIGITS))
def test_a_token_that_looks_like_its_neighbours_still_gives_its_own_id(
    one: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    def filled(values: tuple[str, str, str]) -> str:
        names = ("order_id", "checkout_token", "shop_id")
        template = "{order_id}.{checkout_token}.{shop_id}"
        return event_id(EventKind.PURCHASE, template, dict(zip(names, values, strict=True)))

    assert (filled(one) == filled(other)) == (one == other)

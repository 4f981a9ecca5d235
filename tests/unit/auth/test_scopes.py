"""Which scopes a store has to grant."""

from __future__ import annotations

import pytest

from sandbox.oauth.apps import SHOPIFY_SCOPES
from services.auth.domain.scopes import (
    Use,
    how_to_grant,
    missing_scopes,
    scopes_to_ask,
    with_implied,
)

READS = ("read_products", "read_inventory", "read_orders", "read_customers")


@pytest.mark.parametrize("uses", [(), (Use.EVENTS,), (Use.EVENTS, Use.CATALOG)])
def test_a_store_grants_reading_whatever_it_is_used_for(uses: tuple[Use, ...]) -> None:
    assert scopes_to_ask(uses) == READS


def test_a_tiktok_shop_needs_to_write_orders_stock_and_fulfilments() -> None:
    assert scopes_to_ask({Use.TIKTOK_SHOP}) == (
        *READS,
        "write_orders",
        "write_inventory",
        "write_merchant_managed_fulfillment_orders",
        "read_fulfillments",
    )


def test_catalogs_of_other_languages_and_countries_need_what_products_do_not() -> None:
    assert scopes_to_ask({Use.CATALOG, Use.TEXTS}) == (*READS, "read_translations", "read_locales")
    assert scopes_to_ask({Use.MARKETS}) == (*READS, "read_markets")
    assert {"read_translations", "read_locales", "read_markets"} <= set(scopes_to_ask(set(Use)))


def test_the_simulated_app_has_all_that_is_asked_for() -> None:
    assert set(scopes_to_ask(set(Use))) <= set(SHOPIFY_SCOPES)


@pytest.mark.parametrize(
    ("uses", "granted", "missing"),
    [
        ((), READS, ()),
        ((), ("read_products", "read_inventory"), ("read_orders", "read_customers")),
        ((), ("write_orders", "write_products", "write_inventory", "write_customers"), ()),
        ((Use.EVENTS,), (), READS),
        ((Use.TEXTS,), (*READS, "read_locales"), ("read_translations",)),
        ((Use.TEXTS,), (*READS, "read_translations", "read_markets_home"), ()),
        ((Use.MARKETS,), (*READS, "read_markets_home"), ("read_markets",)),
        ((Use.TEXTS, Use.MARKETS), (*READS, "write_translations", "write_locales"), (
            "read_markets",
        )),
        ((Use.TIKTOK_SHOP,), (*READS, "write_orders", "write_inventory", "write_fulfillments"), (
            "write_merchant_managed_fulfillment_orders",
        )),
    ],
)  # fmt: skip
def test_what_is_needed_and_was_not_granted_is_missing(
    uses: tuple[Use, ...], granted: tuple[str, ...], missing: tuple[str, ...]
) -> None:
    assert missing_scopes(uses, granted) == missing


@pytest.mark.parametrize("whose", ["assigned", "third_party", "merchant_managed"])
def test_fulfilment_orders_of_any_owner_are_enough(whose: str) -> None:
    granted = (
        *("read_products", "write_orders", "write_inventory", "read_customers"),
        *("read_fulfillments", f"write_{whose}_fulfillment_orders"),
    )

    assert missing_scopes({Use.TIKTOK_SHOP}, granted) == ()


def test_who_may_write_may_read_and_not_the_other_way_round() -> None:
    assert with_implied([" write_orders", "read_products", ""]) == {
        "write_orders",
        "read_orders",
        "read_products",
    }


def test_a_missing_scope_is_named_with_what_stays_silent_and_the_way_to_grant_it() -> None:
    sentence = how_to_grant("read_orders", "example.myshopify.com", ["orders/paid"])

    assert sentence.startswith("read_orders is not granted")
    assert "orders/paid" in sentence
    assert "tidewire connect shopify --shop example.myshopify.com" in sentence

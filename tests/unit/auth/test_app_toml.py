"""The app's configuration for Shopify's command line."""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.auth.domain.app_toml import AppToml, shopify_app_toml
from services.auth.domain.scopes import Use
from services.auth.domain.subscriptions import COMPLIANCE_TOPICS, wanted_topics

HOOKS = "https://hooks.example/webhooks/shopify"


def told(
    uses: Collection[Use] = (), *, topics_for_all: bool = False, name: str = "Tidewire"
) -> dict[str, Any]:
    app = AppToml(
        name=name,
        client_id="client-1",
        application_url="https://app.example",
        redirect_urls=("https://app.example/one", "https://app.example/two"),
        webhook_url=HOOKS,
        api_version="2026-10",
    )
    return tomllib.loads(shopify_app_toml(app, uses, topics_for_all=topics_for_all))


def test_the_configuration_holds_addresses_scopes_and_the_version() -> None:
    found = told()

    assert found["client_id"] == "client-1"
    assert found["auth"]["redirect_urls"] == ["https://app.example/one", "https://app.example/two"]
    assert found["access_scopes"]["scopes"] == (
        "read_products,read_inventory,read_orders,read_customers"
    )
    assert found["webhooks"]["api_version"] == "2026-10"
    assert "write_orders" in told([Use.TIKTOK_SHOP])["access_scopes"]["scopes"]


def test_compliance_topics_are_in_it_and_others_only_on_demand() -> None:
    compliance = {"compliance_topics": list(COMPLIANCE_TOPICS), "uri": HOOKS}

    assert told([Use.EVENTS])["webhooks"]["subscriptions"] == [compliance]
    topics = [one.topic for one in wanted_topics([Use.EVENTS])]
    assert told([Use.EVENTS], topics_for_all=True)["webhooks"]["subscriptions"] == [
        {"topics": topics, "uri": HOOKS},
        compliance,
    ]


@pytest.mark.parametrize("name", ['"]\nuri = "x', "\x7f", "\\u0000 🛍"])
def test_a_name_stays_one_value_whatever_is_in_it(name: str) -> None:
    assert told(name=name)["name"] == name


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back_as_it_was(name: str) -> None:
    assert told(name=name)["name"] == name

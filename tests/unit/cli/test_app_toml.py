"""`tidewire shopify-app-toml`."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cli.app_toml import shopify_app_toml


def run(*arguments: str) -> Any:
    app = typer.Typer()
    app.command()(shopify_app_toml)
    return CliRunner().invoke(app, ["--client-id", "client-1", *arguments])


def test_it_prints_a_configuration_for_two_addresses() -> None:
    result = run("--url", "https://app.example/", "--webhooks-url", "https://hooks.example")

    found = tomllib.loads(result.output)
    assert result.exit_code == 0
    assert found["client_id"] == "client-1"
    assert found["application_url"] == "https://app.example/shopify/install"
    assert found["auth"]["redirect_urls"] == ["https://app.example/oauth/shopify/callback"]
    (compliance,) = found["webhooks"]["subscriptions"]
    assert compliance["uri"] == "https://hooks.example/webhooks/shopify"
    assert "write_orders" in found["access_scopes"]["scopes"]


def test_a_use_decides_scopes_and_topics() -> None:
    result = run("--url", "https://app.example", "--use", "events", "--topics-for-all")

    found = tomllib.loads(result.output)
    assert "write_orders" not in found["access_scopes"]["scopes"]
    topics, _ = found["webhooks"]["subscriptions"]
    assert "carts/update" in topics["topics"]
    assert "products/update" not in topics["topics"]


@pytest.mark.parametrize(
    "url", ["http://app.example", "app.example", "https://", "https://app.example?x=1", "https://["]
)
def test_an_address_that_shopify_would_refuse_is_refused_here(url: str) -> None:
    result = run("--url", url)

    assert result.exit_code == 2
    assert "[webhooks]" not in result.output

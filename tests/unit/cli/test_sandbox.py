"""`tidewire sandbox`: what the connections file makes of its catalogs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.sandbox import Settings, catalogs_of, grants_of
from libs.settings import load
from sandbox.tiktok.catalog.settings import CatalogSettings
from sandbox.tiktok.config import Grant

CONNECTIONS = """
connections:
  - shop: one.myshopify.com
    country: NO
    currency: NOK
    tiktok_events:
      - {access_token: both, pixel_code: C1}
    tiktok_catalog:
      - {access_token: both, business_center_id: "10", catalog_id: "20"}
      - {access_token: own, business_center_id: "10", catalog_id: "21", country: DE, currency: EUR}
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    connections, told = tmp_path / "connections.yaml", tmp_path / "catalogs.json"
    connections.write_text(CONNECTIONS)
    told.write_text(json.dumps({"20": {"review_ms": 7}, "30": {"region": "GB"}}))
    variables = {
        "TIDEWIRE_CONNECTIONS_FILE": str(connections),
        "TIDEWIRE_SANDBOX_CATALOGS_FILE": str(told),
        "TIDEWIRE_SANDBOX_CATALOG_SPACING_S": "0",
        "TIDEWIRE_SANDBOX_CATALOG_INGESTION_MS": "5",
    }
    return load(Settings, variables)


def test_a_token_may_touch_its_pixels_and_catalogs_alone(settings: Settings) -> None:
    grants = grants_of(settings.connections_file)

    assert grants == {
        "both": Grant(pixels=frozenset({"C1"}), catalogs=frozenset({"20"})),
        "own": Grant(catalogs=frozenset({"21"})),
    }


def test_catalogs_have_the_country_of_their_connection_else_of_the_shop(
    settings: Settings,
) -> None:
    catalogs = catalogs_of(settings)

    places = {name: (each.region, each.currency, each.bc_id) for name, each in catalogs.items()}
    assert places == {
        "20": ("NO", "NOK", "10"),
        "21": ("DE", "EUR", "10"),
        "30": ("GB", "USD", ""),
    }


def test_what_is_told_of_one_catalog_beats_what_holds_for_all(settings: Settings) -> None:
    catalogs = catalogs_of(settings)

    expected = CatalogSettings(
        bc_id="10",
        region="NO",
        currency="NOK",
        submit_spacing_s=0,
        ingestion_ms=5,
        review_ms=7,
    )
    assert catalogs["20"] == expected

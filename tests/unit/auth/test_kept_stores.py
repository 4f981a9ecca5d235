"""What a store is used for, by the connections beside it."""

from __future__ import annotations

from typing import Any

import pytest

from services.auth.domain.scopes import Use
from services.auth.kept_stores import uses_of
from tidewire.connections.v1 import connection_pb2
from tidewire.connections.v1.connection_pb2 import CatalogSettings, Connection

STORE = Connection(kind=connection_pb2.CONNECTION_KIND_SHOPIFY, country="US")
PIXEL = Connection(kind=connection_pb2.CONNECTION_KIND_TIKTOK_EVENTS)


def catalog(**settings: Any) -> Connection:
    return Connection(
        kind=connection_pb2.CONNECTION_KIND_TIKTOK_CATALOG,
        tiktok_catalog=CatalogSettings(**settings),
    )


def uses(*connections: Connection, country: str = "US") -> set[Use]:
    return set(uses_of((STORE, *connections), country))


def test_a_store_is_used_for_the_kinds_of_connection_beside_it() -> None:
    assert uses() == set()
    assert uses(PIXEL) == {Use.EVENTS}
    assert uses(PIXEL, catalog()) == {Use.EVENTS, Use.CATALOG}


@pytest.mark.parametrize("settings", [{}, {"language": "en", "country": "US"}, {"country": "US"}])
def test_a_plain_catalog_needs_no_more_than_products(settings: dict[str, Any]) -> None:
    assert uses(catalog(**settings)) == {Use.CATALOG}


@pytest.mark.parametrize("settings", [{"language": "fr"}, {"fallback_languages": ["de"]}])
def test_a_catalog_in_another_language_needs_translations(settings: dict[str, Any]) -> None:
    assert uses(catalog(), catalog(**settings)) == {Use.CATALOG, Use.TEXTS}


def test_a_catalog_of_another_country_needs_prices_of_its_market() -> None:
    assert uses(catalog(country="FR")) == {Use.CATALOG, Use.MARKETS}


def test_nobody_is_told_of_markets_while_the_country_of_the_store_is_not_known() -> None:
    assert uses(catalog(country="FR"), country="") == {Use.CATALOG}

"""Connections that come and go one at a time, and what is known of a shop in between."""

from __future__ import annotations

import pytest

from libs.connections.checks import faults
from libs.connections.index import ConnectionIndex
from libs.connections.names import catalog_id, events_id, shopify_id, tiktok_shop_id
from libs.connections.ports import WebhookSecret
from tidewire.connections.v1.connection_pb2 import (
    CONNECTION_KIND_SHOPIFY,
    CONNECTION_KIND_TIKTOK_EVENTS,
    EVENTS_DIALECT_PIXEL_TRACK,
    LIMITED_DATA_USE_REGIONS,
    CatalogSettings,
    Connection,
    EventsSettings,
    ShopifySettings,
)


def _store(shop: str = "example", country: str = "US") -> Connection:
    connection = Connection(
        connection_id=shopify_id(shop),
        shop=shop,
        kind=CONNECTION_KIND_SHOPIFY,
        country=country,
        currency="USD",
    )
    connection.active_since.seconds = 1_790_000_000
    return connection


def _pixel(code: str = "C1", shop: str = "example") -> Connection:
    return Connection(
        connection_id=events_id(shop, code),
        shop=shop,
        kind=CONNECTION_KIND_TIKTOK_EVENTS,
        tiktok_events=EventsSettings(pixel_code=code),
    )


def _ids(index: ConnectionIndex, shop: str = "example") -> list[str]:
    found = index.connections(shop, CONNECTION_KIND_TIKTOK_EVENTS)
    return [one.connection_id for one in found]


def test_a_shop_is_known_from_its_own_connection_until_that_goes() -> None:
    index = ConnectionIndex()
    index.put(_pixel())
    before = index.shop("example"), list(index.shops())
    index.put(_store())
    view = index.shop("example")
    index.remove("example.shopify")

    assert before == (None, [])
    assert view is not None
    assert (view.handle, view.domain) == ("example", "example.myshopify.com")
    assert view.active_since.timestamp() == 1_790_000_000
    assert index.shop("example") is None
    assert _ids(index) == ["example.events.C1"]


def test_connections_and_sinks_are_in_order_of_their_ids() -> None:
    index = ConnectionIndex()
    for code in ("C2", "C3", "C1"):
        index.put(_pixel(code))
    index.put(_pixel("C9", shop="another"))
    index.put(_store())

    assert _ids(index) == [f"example.events.C{number}" for number in (1, 2, 3)]
    assert list(index.sinks("example")) == ["events.C1", "events.C2", "events.C3"]
    assert index.ids_of("another") == {"another.events.C9"}
    assert (index.sinks("nobody"), index.ids_of("nobody")) == ((), frozenset())


def test_only_what_differs_is_a_change() -> None:
    index = ConnectionIndex()

    told = [index.put(_store()), index.put(_store()), index.put(_store(country="GB"))]
    gone = [index.remove("example.shopify"), index.remove("example.shopify")]

    assert (told, gone) == ([True, False, True], [True, False])


def test_a_change_of_a_store_is_seen_in_its_view() -> None:
    index = ConnectionIndex()
    index.put(_store())
    index.put(_store(country="GB"))

    view = index.shop("example")
    assert view is not None
    assert view.country == "GB"


def test_a_removed_pixel_is_no_sink_any_more() -> None:
    index = ConnectionIndex()
    index.put(_pixel())
    index.remove("example.events.C1")

    assert (_ids(index), index.sinks("example"), dict(index.by_id)) == ([], (), {})


def test_subscribers_are_told_until_they_no_longer_listen() -> None:
    index, told = ConnectionIndex(), []
    leave = index.subscribe(lambda: told.append("first"))
    index.subscribe(lambda: told.append("second"))

    index.tell()
    leave()
    leave()
    index.tell()

    assert told == ["first", "second", "second"]


def test_a_known_shops_webhook_is_tried_with_its_own_secrets_alone() -> None:
    index = ConnectionIndex()
    index.put(_store())
    index.put(_store("another"))
    own, others = WebhookSecret("example.0", b"1"), WebhookSecret("another.0", b"2")
    index.put_secrets("example", [own])

    assert list(index.webhook_secrets("example")) == [own]
    assert list(index.webhook_secrets("another")) == []
    index.put_secrets("another", [others])
    assert list(index.webhook_secrets("another")) == [others]


def test_a_strangers_webhook_is_tried_with_every_secret_once_those_of_apps_first() -> None:
    index = ConnectionIndex()
    index.put_secrets("a", [WebhookSecret("a.0", b"own"), WebhookSecret("_app.0", b"app")])
    index.put_secrets("b", [WebhookSecret("_app.0", b"app")])

    for handle in (None, "nobody"):
        assert [one.key for one in index.webhook_secrets(handle)] == [b"app", b"own"]

    index.put_secrets("a", [])
    assert [one.key for one in index.webhook_secrets(None)] == [b"app"]
    index.put_secrets("c", [WebhookSecret("c.0", b"new")])
    assert [one.key for one in index.webhook_secrets(None)] == [b"app", b"new"]
    index.keep_secrets_of({"c"})
    assert [one.key for one in index.webhook_secrets(None)] == [b"new"]


def test_no_secret_is_printed() -> None:
    assert "hush" not in repr(WebhookSecret("example.0", b"hush"))


def test_ids_tell_kinds_and_ciphers_apart_and_show_no_cipher() -> None:
    ids = {
        shopify_id("a"),
        events_id("a", "1"),
        catalog_id("a", "1"),
        tiktok_shop_id("a", "cipher-1"),
        tiktok_shop_id("a", "cipher-2"),
    }

    assert len(ids) == 5
    assert all(one.startswith("a.") and "cipher" not in one for one in ids)


@pytest.mark.parametrize(
    ("connection", "path"),
    [
        (Connection(country="XX"), "country"),
        (Connection(currency="dollar"), "currency"),
        (Connection(shopify=ShopifySettings(api_version="newest")), "shopify.api_version"),
        (_pixel("C.1"), "tiktok_events.pixel_code"),
        (_pixel(""), "tiktok_events.pixel_code"),
        (_pixel("x" * 65), "tiktok_events.pixel_code"),
        (
            Connection(tiktok_events=EventsSettings(pixel_code="C", purchase_event="Buy it")),
            "tiktok_events.purchase_event",
        ),
        (
            Connection(tiktok_events=EventsSettings(pixel_code="C", test_event_code="a b")),
            "tiktok_events.test_event_code",
        ),
        (
            Connection(
                tiktok_events=EventsSettings(pixel_code="C", event_id_templates={"refund": "x"})
            ),
            "tiktok_events.event_id_templates",
        ),
        (
            Connection(
                tiktok_events=EventsSettings(pixel_code="C", event_id_templates={"purchase": ""})
            ),
            "tiktok_events.event_id_templates",
        ),
        (
            Connection(
                tiktok_events=EventsSettings(
                    pixel_code="C",
                    limited_data_use=LIMITED_DATA_USE_REGIONS,
                    limited_data_use_regions=["Utopia"],
                )
            ),
            "tiktok_events.limited_data_use_regions",
        ),
        (
            Connection(
                tiktok_events=EventsSettings(pixel_code="C", limited_data_use_regions=["US"])
            ),
            "tiktok_events.limited_data_use_regions",
        ),
        (
            Connection(
                tiktok_events=EventsSettings(
                    pixel_code="C", dialect=EVENTS_DIALECT_PIXEL_TRACK, offline_event_set_id="1"
                )
            ),
            "tiktok_events.offline_event_set_id",
        ),
        (
            Connection(tiktok_events=EventsSettings(pixel_code="C", offline_event_set_id="a b")),
            "tiktok_events.offline_event_set_id",
        ),
        (
            Connection(tiktok_events=EventsSettings(pixel_code="C", guide_lists=True)),
            "tiktok_events.guide_lists",
        ),
        (
            Connection(tiktok_catalog=CatalogSettings(business_center_id="1", catalog_id="a.b")),
            "tiktok_catalog.catalog_id",
        ),
        (
            Connection(tiktok_catalog=CatalogSettings(business_center_id="", catalog_id="1")),
            "tiktok_catalog.business_center_id",
        ),
        (
            Connection(
                tiktok_catalog=CatalogSettings(business_center_id="1", catalog_id="1", country="XX")
            ),
            "tiktok_catalog.country",
        ),
        (
            Connection(
                tiktok_catalog=CatalogSettings(
                    business_center_id="1", catalog_id="1", currency="dollar"
                )
            ),
            "tiktok_catalog.currency",
        ),
    ],
)
def test_each_fault_is_named_by_its_path(connection: Connection, path: str) -> None:
    assert [fault.path for fault in faults(connection)] == [path]


def test_what_is_good_has_no_faults() -> None:
    pixel = _pixel()
    pixel.tiktok_events.event_id_templates["purchase"] = "purchase.{order_id}"
    pixel.tiktok_events.limited_data_use = LIMITED_DATA_USE_REGIONS
    pixel.tiktok_events.limited_data_use_regions.append("US-CA")

    assert faults(_store()) == faults(pixel) == []


@pytest.mark.parametrize("version", ["unstable", "2026-99", "2026-00", "2026-1", "2026-10 "])
def test_a_store_is_never_called_in_a_version_that_changes(version: str) -> None:
    connection = Connection(shopify=ShopifySettings(api_version=version))

    assert [fault.path for fault in faults(connection)] == ["shopify.api_version"]
    for good in ("", "2026-01", "2026-12"):
        assert not faults(Connection(shopify=ShopifySettings(api_version=good)))


def test_a_time_beyond_all_years_is_a_fault() -> None:
    connection = _store()
    connection.active_since.seconds = 1 << 60

    assert [fault.path for fault in faults(connection)] == ["active_since"]

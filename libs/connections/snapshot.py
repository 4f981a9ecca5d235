"""Entries turned into what is looked up: each question is one access to a dict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from libs.connections.entries import ShopEntry
from libs.connections.names import catalog_id, events_id, events_sink, shopify_id, tiktok_shop_id
from libs.connections.ports import ShopView, WebhookSecret
from libs.settings import Secret
from tidewire.connections.v1.connection_pb2 import (
    CONNECTION_KIND_SHOPIFY,
    CONNECTION_KIND_TIKTOK_CATALOG,
    CONNECTION_KIND_TIKTOK_EVENTS,
    CONNECTION_KIND_TIKTOK_SHOP,
    CONNECTION_STATE_ACTIVE,
    Connection,
    ConnectionKind,
    ShopifySettings,
    TikTokShopSettings,
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One state of all connections; replaced as a whole, so no reader sees half of a change."""

    entries: Mapping[str, ShopEntry]
    shops: Mapping[str, ShopView]
    connections: Mapping[tuple[str, ConnectionKind.ValueType], tuple[Connection, ...]]
    sinks: Mapping[str, tuple[str, ...]]
    secrets: Mapping[str | None, tuple[WebhookSecret, ...]]
    all_secrets: tuple[WebhookSecret, ...]
    tokens: Mapping[str, Secret | None]


def snapshot_of(entries: Sequence[ShopEntry]) -> Snapshot:
    """What is looked up, of `entries` that are known to be good."""
    made = [pair for entry in entries for pair in connections_of(entry)]
    grouped: dict[tuple[str, ConnectionKind.ValueType], tuple[Connection, ...]] = {}
    for connection, _ in made:
        key = (connection.shop, connection.kind)
        grouped[key] = (*grouped.get(key, ()), connection)
    secrets = _webhook_secrets(entries)
    distinct = {secret.key: secret for own in secrets.values() for secret in own}
    return Snapshot(
        entries={entry.view.handle: entry for entry in entries},
        shops={entry.view.handle: entry.view for entry in entries},
        connections=grouped,
        sinks={entry.view.handle: tuple(_sinks(entry)) for entry in entries},
        secrets=secrets,
        # Those that apps share come first: they are the likeliest to have signed for a stranger.
        all_secrets=tuple(
            sorted(distinct.values(), key=lambda secret: not secret.secret_id.startswith("_app."))
        ),
        tokens={connection.connection_id: token for connection, token in made},
    )


def _sinks(entry: ShopEntry) -> Iterable[str]:
    return (events_sink(one.settings.pixel_code) for one in entry.tiktok_events)


def _webhook_secrets(
    entries: Iterable[ShopEntry],
) -> dict[str | None, tuple[WebhookSecret, ...]]:
    held = Counter(s.reveal() for entry in entries for s in entry.shopify.webhook_secrets)
    shared = {
        text: WebhookSecret(f"_app.{place}", text.encode())
        for place, text in enumerate(text for text, count in held.items() if count > 1)
    }
    return {
        entry.view.handle: tuple(
            shared.get(secret.reveal())
            or WebhookSecret(f"{entry.view.handle}.{place}", secret.reveal().encode())
            for place, secret in enumerate(entry.shopify.webhook_secrets)
        )
        for entry in entries
    }


def connections_of(entry: ShopEntry) -> Iterable[tuple[Connection, Secret | None]]:
    """Each connection of the shop with its token."""
    shop = entry.view.handle
    yield (
        _connection(
            entry,
            shopify_id(shop),
            CONNECTION_KIND_SHOPIFY,
            shopify=ShopifySettings(api_version=entry.shopify.api_version),
        ),
        entry.shopify.access_token,
    )
    for one in entry.tiktok_events:
        name = events_id(shop, one.settings.pixel_code)
        kind = CONNECTION_KIND_TIKTOK_EVENTS
        yield _connection(entry, name, kind, tiktok_events=one.settings), one.access_token
    for catalog in entry.tiktok_catalog:
        name = catalog_id(shop, catalog.settings.catalog_id)
        kind = CONNECTION_KIND_TIKTOK_CATALOG
        settings = catalog.settings
        yield _connection(entry, name, kind, tiktok_catalog=settings), catalog.access_token
    for seller in entry.tiktok_shop:
        cipher = seller.shop_cipher.reveal() if seller.shop_cipher else ""
        name = tiktok_shop_id(shop, cipher)
        kind = CONNECTION_KIND_TIKTOK_SHOP
        policies = TikTokShopSettings(
            stock_conflict=entry.policies.stock_conflict, stock_buffer=entry.policies.stock_buffer
        )
        yield _connection(entry, name, kind, tiktok_shop=policies), seller.access_token


def _connection(
    entry: ShopEntry, connection_id: str, kind: ConnectionKind.ValueType, **settings: Any
) -> Connection:
    connection = Connection(
        connection_id=connection_id,
        shop=entry.view.handle,
        kind=kind,
        state=CONNECTION_STATE_ACTIVE,
        country=entry.view.country,
        currency=entry.view.currency,
        **settings,
    )
    connection.active_since.FromDatetime(entry.view.active_since)
    return connection

"""Shops, their connections and their credentials: two ports, and the file that implements both."""

from __future__ import annotations

from libs.connections.catalogs import CatalogEntry
from libs.connections.entries import (
    EventsEntry,
    Policies,
    ShopEntry,
    ShopifyEntry,
    TikTokShopEntry,
)
from libs.connections.file import FileConnections
from libs.connections.ports import (
    DOMAIN_SUFFIX,
    Connections,
    Credentials,
    ShopView,
    WebhookSecret,
    shop_handle,
)
from libs.connections.tree import ConnectionsError

__all__ = [
    "DOMAIN_SUFFIX",
    "CatalogEntry",
    "Connections",
    "ConnectionsError",
    "Credentials",
    "EventsEntry",
    "FileConnections",
    "Policies",
    "ShopEntry",
    "ShopView",
    "ShopifyEntry",
    "TikTokShopEntry",
    "WebhookSecret",
    "shop_handle",
]

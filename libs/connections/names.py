"""What connections and their sinks are called."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from hashlib import sha256

from libs.connections.ports import DOMAIN_SUFFIX, ShopView
from tidewire.connections.v1.connection_pb2 import (
    CONNECTION_KIND_TIKTOK_EVENTS,
    Connection,
)


def shopify_id(shop: str) -> str:
    """The id of a shop's own connection."""
    return f"{shop}.shopify"


def events_sink(pixel_code: str) -> str:
    """The sink that a pixel is, as it stands in the subjects of OUTCOMES."""
    return f"events.{pixel_code}"


def events_id(shop: str, pixel_code: str) -> str:
    """The id of a pixel's connection."""
    return f"{shop}.{events_sink(pixel_code)}"


def catalog_id(shop: str, catalog: str) -> str:
    """The id of a catalog's connection."""
    return f"{shop}.catalog.{catalog}"


def tiktok_shop_id(shop: str, cipher: str) -> str:
    """The id of a TikTok Shop's connection.

    The cipher is what tells two TikTok Shops apart, and is itself not for showing.
    """
    return f"{shop}.tiktok_shop.{sha256(cipher.encode()).hexdigest()[:8]}"


def sinks_of(connection: Connection) -> Sequence[str]:
    """Names of what a shop's deliveries go to because of a connection."""
    if connection.kind == CONNECTION_KIND_TIKTOK_EVENTS:
        return (events_sink(connection.tiktok_events.pixel_code),)
    return ()


def view_of(connection: Connection) -> ShopView:
    """The shop that a connection is of."""
    return ShopView(
        handle=connection.shop,
        domain=connection.shop + DOMAIN_SUFFIX,
        country=connection.country,
        currency=connection.currency,
        active_since=connection.active_since.ToDatetime(tzinfo=UTC),
    )

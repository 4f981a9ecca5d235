"""`tidewire preview`: what a webhook would become, as JSON. Pure: no network, no state."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final, TextIO

import msgspec
from google.protobuf import any_pb2, json_format
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from libs.connections import FileConnections, ShopView
from libs.errors import ServiceError, permanent
from services.catalog.adapters.connections import catalog_settings
from services.catalog.domain.dialects import dialect_of as catalog_dialect
from services.catalog.domain.ids import assign_ids
from services.catalog.domain.mapping import map_product
from services.catalog.domain.model import Product
from services.catalog.domain.settings import CatalogSettings
from services.catalog.domain.settings import DialectName as CatalogDialect
from services.catalog.domain.settings import ShopContext as CatalogShop
from services.catalog.states import product_of
from services.events import facts
from services.events.adapters.connections import event_settings
from services.events.domain.conversions import decide_cart, decide_checkout, decide_purchase
from services.events.domain.dialects import dialect_of
from services.events.domain.model import Conversion, Ignored
from services.events.domain.settings import DialectName, EventSettings
from services.ingest.normalize import (
    DeliveryMeta,
    Normalized,
    ShopContext,
    TopicNotUsed,
    apply,
    normalize,
)
from tidewire.commerce.v1 import fact_pb2, product_pb2
from tidewire.connections.v1 import connection_pb2

_SHOP: Final = ShopView(
    handle="example",
    domain="example.myshopify.com",
    country="US",
    currency="USD",
    active_since=datetime.fromtimestamp(0, UTC),
)
_PIXEL: Final = "PREVIEW"
"""Stands for a pixel, a Business Center and a catalog alike."""

_BASE_URL: Final = "https://business-api.tiktok.com"


def preview_normalize(topic: str, body: bytes, settings: Path | None) -> int:
    """Prints the protobuf messages that a delivery becomes, as canonical JSON; the exit code.

    2 where it cannot be normalised: then the JSON path and the reason are printed.
    """
    try:
        said, found = _understood(topic, body, _shop(settings))
    except ServiceError as error:
        _print({"error": {"path": error.path or "$", "reason": error.code}})
        return 2
    if isinstance(said, TopicNotUsed):
        _print([])
        return 0
    messages = [said.message] if said.message is not None else []
    _print([_canonical(message) for message in [*messages, *found]])
    return 0


def preview_event(topic: str, body: bytes, settings: Path | None, dialect: str | None) -> int:
    """Prints the requests that a delivery would cause at TikTok, or why there are none."""
    try:
        chosen = _event_settings(settings, dialect)
        said, found = _understood(topic, body, _shop(settings))
        if isinstance(said, TopicNotUsed):
            _print({"ignored": said.reason})
            return 0
        conversions, reasons = _decided(found, chosen)
    except ServiceError as error:
        _print({"error": {"path": error.path or "$", "reason": error.code}})
        return 2
    if not conversions:
        _print({"ignored": reasons[0] if reasons else "no_conversion"})
        return 0
    _print(
        [
            _request("POST", request.path, request.body)
            for request in dialect_of(chosen.dialect).encode(conversions, chosen)
        ]
    )
    return 0


def preview_catalog(topic: str, body: bytes, settings: Path | None, dialect: str | None) -> int:
    """Prints the requests that a product's webhook would cause at TikTok, or why there are none.

    Variants that are refused are told on standard error as `{"refused": [...], "notes": [...]}`;
    where all are, `refused` stands beside `ignored`.
    """
    try:
        shop = _shop(settings)
        catalog = _catalog_settings(shop, settings, dialect)
        said, _ = _understood(topic, body, shop)
    except ServiceError as error:
        _print({"error": {"path": error.path or "$", "reason": error.code}})
        return 2
    if isinstance(said, TopicNotUsed):
        _print({"ignored": said.reason})
        return 0
    if not isinstance(said.message, product_pb2.Product):
        # What else changes items (a deletion, stock) is told of products that are known already.
        _print({"ignored": "product_not_known"})
        return 0
    _print_catalog(product_of(said.message, None), shop, catalog)
    return 0


def _print_catalog(product: Product, shop: ShopView, catalog: CatalogSettings) -> None:
    context = CatalogShop(
        handle=shop.handle, domain=shop.domain, currency=shop.currency, country=shop.country
    )
    ids, named = assign_ids(product, catalog, {}, lambda _: None)
    # Without rates nothing is converted, so the day does not matter.
    mapped = map_product(product, context, catalog, ids, None, date.min)
    told = {"refused": mapped.refusals, "notes": (*named, *mapped.notes)}
    if not mapped.items:
        reason = mapped.excluded or next((one.code for one in mapped.refusals), "no_items")
        _print({"ignored": reason, **({"refused": mapped.refusals} if mapped.refusals else {})})
        return
    if any(told.values()):
        _print(told, sys.stderr)
    chosen = catalog_dialect(catalog.dialect)
    bodies = [chosen.encode(item) for item in mapped.items]
    _print(
        [
            _request(request.method, request.path, request.body)
            for start in range(0, len(bodies), chosen.uploads_max)
            for request in [chosen.upload(catalog, bodies[start : start + chosen.uploads_max])]
        ]
    )


def _request(method: str, path: str, body: bytes) -> dict[str, Any]:
    return {
        "method": method,
        "url": f"{_BASE_URL}{path}",
        "headers": {"Access-Token": "***", "Content-Type": "application/json"},
        "body": msgspec.Raw(body),
    }


def _understood(
    topic: str, body: bytes, shop: ShopView
) -> tuple[Normalized | TopicNotUsed, Sequence[fact_pb2.Fact]]:
    received = Timestamp()
    received.GetCurrentTime()
    meta = DeliveryMeta(
        body_hash=int.from_bytes(hashlib.sha256(body).digest()[:8], "big"), received_at=received
    )
    context = ShopContext(shop=shop.handle, country=shop.country, currency=shop.currency)
    said = normalize(topic, body, context, meta)
    if isinstance(said, TopicNotUsed):
        return said, ()
    return said, [fact.fact for fact in apply(None, said).facts]


def _decided(
    found: Sequence[fact_pb2.Fact], settings: EventSettings
) -> tuple[list[Conversion], list[str]]:
    decided: list[Conversion | Ignored] = []
    for fact in found:
        match fact.WhichOneof("happened"):
            case "order_paid":
                decided.append(decide_purchase(facts.paid_order(fact.order_paid), settings, 0))
            case "checkout_started":
                started = facts.started_checkout(fact.checkout_started)
                decided.append(decide_checkout(started, settings, 0))
            case "cart_lines_added":
                added = decide_cart(facts.cart_lines_added(fact.cart_lines_added), settings, 0)
                decided += [added] if isinstance(added, Ignored) else added
            case _:
                continue
    return (
        [one for one in decided if isinstance(one, Conversion)],
        [one.reason.value for one in decided if isinstance(one, Ignored)],
    )


def _shop(settings: Path | None) -> ShopView:
    if settings is None:
        return _SHOP
    shop = next(iter(FileConnections(settings).shops()), None)
    if shop is None:
        raise permanent("settings_empty", "the file holds no shop", path="connections")
    return shop


def _event_settings(settings: Path | None, dialect: str | None) -> EventSettings:
    shop = _shop(settings)
    if settings is None:
        chosen = EventSettings(
            pixel_code=_PIXEL,
            storefront_url=f"https://{shop.domain}",
            dialect=_dialect(dialect) or DialectName.EVENT_TRACK,
            country=shop.country,
            max_event_age_s=None,
        )
    else:
        kind = connection_pb2.CONNECTION_KIND_TIKTOK_EVENTS
        known = FileConnections(settings).connections(shop.handle, kind)
        if not known:
            raise permanent("settings_without_pixel", "add tiktok_events", path="tiktok_events")
        chosen = event_settings(known[0], shop, api_version="v1.3")
        # A preview is about shapes: when something happened is no reason not to show it.
        chosen = replace(chosen, max_event_age_s=None, active_since_s=None)
        if named := _dialect(dialect):
            chosen = replace(chosen, dialect=named)
    return chosen


def _catalog_settings(
    shop: ShopView, settings: Path | None, dialect: str | None
) -> CatalogSettings:
    if dialect and dialect not in set(CatalogDialect):
        raise permanent("dialect_unknown", f"one of {', '.join(CatalogDialect)}", path="dialect")
    if settings is None:
        chosen = CatalogSettings(
            connection_id=f"{shop.handle}.catalog.{_PIXEL}",
            shop=shop.handle,
            catalog_id=_PIXEL,
            business_center_id=_PIXEL,
            country=shop.country,
            currency=shop.currency,
        )
    else:
        kind = connection_pb2.CONNECTION_KIND_TIKTOK_CATALOG
        known = FileConnections(settings).connections(shop.handle, kind)
        if not known:
            raise permanent("settings_without_catalog", "add tiktok_catalog", path="tiktok_catalog")
        chosen = catalog_settings(known[0], shop, api_version="v1.3")
    return replace(chosen, dialect=CatalogDialect(dialect)) if dialect else chosen


def _dialect(name: str | None) -> DialectName | None:
    if name and name not in set(DialectName):
        raise permanent("dialect_unknown", f"one of {', '.join(DialectName)}", path="dialect")
    return DialectName(name) if name else None


def _canonical(message: Message) -> dict[str, Any]:
    packed = any_pb2.Any()
    packed.Pack(message)
    found: dict[str, Any] = json_format.MessageToDict(packed)
    return found


def _print(value: object, out: TextIO | None = None) -> None:
    encoded = msgspec.json.format(msgspec.json.encode(value), indent=2)
    (out or sys.stdout).write(encoded.decode() + "\n")

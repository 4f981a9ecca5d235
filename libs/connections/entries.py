"""The connections file as data: what each field means is in docs/connections.md."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from libs.connections.catalogs import CATALOG_FIELDS, CatalogEntry, catalog_entry
from libs.connections.checks import (
    COUNTRIES,
    COUNTRY_HINT,
    CURRENCY_HINT,
    VERSION,
    VERSION_HINT,
    contradictions,
)
from libs.connections.ports import DOMAIN_SUFFIX, ShopView, shop_handle
from libs.connections.tree import ConnectionsError, Reading, Section, parse_yaml
from libs.money import is_currency
from libs.settings import Secret
from tidewire.connections.v1.connection_pb2 import (
    EVENTS_DIALECT_EVENT_TRACK,
    EVENTS_DIALECT_PIXEL_TRACK,
    LIMITED_DATA_USE_ALWAYS,
    LIMITED_DATA_USE_REGIONS,
    LIMITED_DATA_USE_UNSPECIFIED,
    EventsSettings,
)

_INSTANT: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_REGION: Final = r"[A-Z]{2}(-[A-Z0-9]{1,3})?"
_AGE_S_MAX: Final = 28 * 86_400

_DIALECTS: Final = {
    "event_track": EVENTS_DIALECT_EVENT_TRACK,
    "pixel_track": EVENTS_DIALECT_PIXEL_TRACK,
}
_LIMITED_DATA_USE: Final = {
    "never": LIMITED_DATA_USE_UNSPECIFIED,
    "always": LIMITED_DATA_USE_ALWAYS,
    "regions": LIMITED_DATA_USE_REGIONS,
}
_EVENT_IDS: Final = ("purchase", "initiate_checkout", "add_to_cart")

_SHOP_FIELDS: Final = (
    "shop", "country", "currency", "active_since",
    "shopify", "tiktok_events", "tiktok_catalog", "tiktok_shop", "policies",
)  # fmt: skip
_SHOPIFY_FIELDS: Final = (
    "webhook_secrets", "webhook_secrets_file", "access_token", "access_token_file", "api_version",
)  # fmt: skip
_EVENTS_FIELDS: Final = (
    "access_token", "access_token_file", "pixel_code", "dialect", "purchase_event",
    "test_event_code", "shadow", "guide_lists", "content_id", "event_ids", "limited_data_use",
    "limited_data_use_regions", "offline_event_set_id", "shop_money", "max_event_age_s",
)  # fmt: skip
_TIKTOK_SHOP_FIELDS: Final = (
    "app_key", "app_secret", "app_secret_file", "access_token", "access_token_file",
    "refresh_token", "refresh_token_file", "shop_cipher", "shop_cipher_file",
)  # fmt: skip
_POLICY_FIELDS: Final = ("consent_unknown", "stock_conflict", "stock_buffer")

_INSTANT_HINT: Final = "give an instant with its zone, such as 2026-11-22T00:00:00Z"
_TOKEN_HINT: Final = "give it, or access_token_file with the path of a file that holds it"  # noqa: S105


@dataclass(frozen=True, slots=True)
class ShopifyEntry:
    webhook_secrets: tuple[Secret, ...] = ()
    access_token: Secret | None = None
    api_version: str = ""


@dataclass(frozen=True, slots=True)
class EventsEntry:
    settings: EventsSettings
    access_token: Secret | None = None


@dataclass(frozen=True, slots=True)
class TikTokShopEntry:
    app_key: str
    app_secret: Secret | None = None
    access_token: Secret | None = None
    refresh_token: Secret | None = None
    shop_cipher: Secret | None = None


@dataclass(frozen=True, slots=True)
class Policies:
    consent_unknown: str = "send"
    stock_conflict: str = "cancel"
    stock_buffer: int = 0


@dataclass(frozen=True, slots=True)
class ShopEntry:
    """All that the file says of one shop."""

    view: ShopView
    shopify: ShopifyEntry = field(default_factory=ShopifyEntry)
    tiktok_events: tuple[EventsEntry, ...] = ()
    tiktok_catalog: tuple[CatalogEntry, ...] = ()
    tiktok_shop: tuple[TikTokShopEntry, ...] = ()
    policies: Policies = field(default_factory=Policies)


def load_entries(path: Path) -> tuple[tuple[ShopEntry, ...], tuple[Path, ...]]:
    """The shops of the file at `path`, and the files with secrets that it names.

    Raises:
        ConnectionsError: names every fault of the file and of those that it names.
    """
    reading = Reading(path.parent)
    entries: tuple[ShopEntry, ...] = ()
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        reading.fault("the file", f"cannot be read ({error.strerror}); check the path")
    except ValueError:
        reading.fault("the file", "is not UTF-8 text")
    else:
        tree, reading.faults = parse_yaml(text)
        if tree is not None or not reading.faults:
            entries = _shops(reading, tree)
    if reading.faults:
        raise ConnectionsError(path, tuple(reading.faults))
    return entries, tuple(reading.files)


def _shops(reading: Reading, tree: object) -> tuple[ShopEntry, ...]:
    if not isinstance(tree, dict) or not isinstance(tree.get("connections"), list):
        reading.fault("the file", "should hold one list named `connections:`")
        return ()
    if len(tree) > 1:
        reading.fault("the file", "holds more than `connections:`; remove the rest")
    entries = []
    places: dict[str, str] = {}
    for place, item in enumerate(tree["connections"]):
        section = Section(reading, f"connections[{place}]", item, _SHOP_FIELDS)
        entry = _shop(section)
        entries.append(entry)
        _refuse_repeated(section, "shop", entry.view.handle, places)
    return tuple(entries)


def _refuse_repeated(section: Section, name: str, key: str, places: dict[str, str]) -> None:
    first = places.setdefault(key, section.place)
    if key and first != section.place:
        section.fault(name, f"is the same as in {first}; merge the two or remove one")


def _shop(section: Section) -> ShopEntry:
    view = _view(section)
    shopify = section.section("shopify", _SHOPIFY_FIELDS)
    section.require("shopify", "give webhook_secrets: without them no webhook can be verified")
    policies = _policies(section.section("policies", _POLICY_FIELDS))
    return ShopEntry(
        view=view,
        shopify=ShopifyEntry() if shopify is None else _shopify(shopify),
        tiktok_events=_all_events(section, policies),
        tiktok_catalog=_all_catalogs(section, view),
        tiktok_shop=_all_tiktok_shops(section),
        policies=policies,
    )


def _view(section: Section) -> ShopView:
    section.require("shop", "give the shop's myshopify domain")
    section.require("country", COUNTRY_HINT)
    section.require("currency", CURRENCY_HINT)
    section.require("active_since", f"{_INSTANT_HINT}: nothing older is reported")
    shop = section.checked(
        "shop",
        "give its myshopify domain, such as example.myshopify.com, without https://",
        lambda text: shop_handle(text, bare=True) is not None,
    )
    handle = shop_handle(shop, bare=True) or ""
    return ShopView(
        handle=handle,
        domain=handle + DOMAIN_SUFFIX,
        country=section.checked("country", COUNTRY_HINT, COUNTRIES.__contains__),
        currency=section.checked("currency", CURRENCY_HINT, is_currency),
        active_since=_instant(section, "active_since"),
    )


def _instant(section: Section, name: str) -> datetime:
    text = section.checked(name, _INSTANT_HINT, lambda text: _instant_of(text) is not None)
    return _instant_of(text) or datetime.fromtimestamp(0, UTC)


def _instant_of(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text) if _INSTANT.fullmatch(text) else None
        # Before the epoch there are no webhooks, and protobuf's range ends where Python's does.
        return found.astimezone(UTC) if found and found.timestamp() >= 0 else None
    except (ValueError, OverflowError):
        return None


def _shopify(section: Section) -> ShopifyEntry:
    secrets = section.secrets("webhook_secrets")
    if not section.has("webhook_secrets_file"):
        section.require("webhook_secrets", "list the app's client secret or the shop's own")
    return ShopifyEntry(
        webhook_secrets=secrets,
        access_token=section.secret("access_token"),
        api_version=section.text("api_version", VERSION_HINT, VERSION),
    )


def _all_events(shop: Section, policies: Policies) -> tuple[EventsEntry, ...]:
    places: dict[str, str] = {}
    found = []
    for section in shop.sections("tiktok_events", _EVENTS_FIELDS):
        section.require("pixel_code", "copy it from TikTok Events Manager")
        _require_secret(section, "access_token")
        settings = _events_settings(section, policies)
        _refuse_contradictions(section, settings)
        _refuse_repeated(section, "pixel_code", settings.pixel_code, places)
        found.append(EventsEntry(settings, section.secret("access_token")))
    return tuple(found)


def _events_settings(section: Section, policies: Policies) -> EventsSettings:
    content_ids = {name: name for name in ("sku", "variant_id", "product_id")}
    pixel_hint = "copy it from TikTok Events Manager: letters and digits only"
    return EventsSettings(
        pixel_code=section.text("pixel_code", pixel_hint, r"[A-Za-z0-9_-]{1,64}"),
        dialect=section.choice("dialect", _DIALECTS, default=EVENTS_DIALECT_EVENT_TRACK),
        purchase_event=section.text(
            "purchase_event", "give an event's name such as Purchase", r"[A-Za-z]{1,50}"
        ),
        test_event_code=section.text(
            "test_event_code", "copy it from Test Events, or write null", r"[!-~]{1,64}"
        ),
        shadow=section.flag("shadow"),
        guide_lists=section.flag("guide_lists"),
        content_id=section.choice("content_id", content_ids, default=""),
        event_id_templates=_event_ids(section),
        limited_data_use=section.choice(
            "limited_data_use", _LIMITED_DATA_USE, default=LIMITED_DATA_USE_UNSPECIFIED
        ),
        limited_data_use_regions=section.texts(
            "limited_data_use_regions", "give countries or their parts, such as US-CA", _REGION
        ),
        offline_event_set_id=section.text(
            "offline_event_set_id", "copy it from TikTok Events Manager", r"[A-Za-z0-9_-]{1,64}"
        ),
        shop_money=section.flag("shop_money"),
        max_event_age_s=section.whole("max_event_age_s", most=_AGE_S_MAX),
        consent_unknown=policies.consent_unknown,
    )


def _refuse_contradictions(section: Section, settings: EventsSettings) -> None:
    for fault in contradictions(settings):
        section.fault(fault.path, fault.why)


def _event_ids(section: Section) -> Mapping[str, str]:
    templates = section.section("event_ids", _EVENT_IDS)
    if templates is None:
        return {}
    hint = "give a template such as purchase.{order_id}, of at most 200 characters"
    return {
        name: text for name in _EVENT_IDS if (text := templates.text(name, hint, r"[ -~]{1,200}"))
    }


def _all_catalogs(shop: Section, view: ShopView) -> tuple[CatalogEntry, ...]:
    places: dict[str, str] = {}
    found = []
    for section in shop.sections("tiktok_catalog", CATALOG_FIELDS):
        for name in ("business_center_id", "catalog_id"):
            section.require(name, "copy it from TikTok Business Center")
        _require_secret(section, "access_token")
        entry = catalog_entry(section, view)
        _refuse_repeated(section, "catalog_id", entry.settings.catalog_id, places)
        found.append(entry)
    return tuple(found)


def _all_tiktok_shops(shop: Section) -> tuple[TikTokShopEntry, ...]:
    found: list[TikTokShopEntry] = []
    for section in shop.sections("tiktok_shop", _TIKTOK_SHOP_FIELDS):
        section.require("app_key", "copy it from TikTok Shop Partner Center")
        for name in ("app_secret", "access_token", "shop_cipher"):
            _require_secret(section, name)
        entry = TikTokShopEntry(
            app_key=section.text("app_key", "copy it from Partner Center", r"[!-~]{1,64}"),
            app_secret=section.secret("app_secret"),
            access_token=section.secret("access_token"),
            refresh_token=section.secret("refresh_token"),
            shop_cipher=section.secret("shop_cipher"),
        )
        if entry.shop_cipher and any(entry.shop_cipher == one.shop_cipher for one in found):
            section.fault("shop_cipher", "is the same as in an earlier entry; remove one")
        found.append(entry)
    return tuple(found)


def _policies(section: Section | None) -> Policies:
    if section is None:
        return Policies()
    consents = {name: name for name in ("send", "strip", "drop")}
    return Policies(
        consent_unknown=section.choice("consent_unknown", consents, default="send"),
        stock_conflict=section.text("stock_conflict", "give a policy such as cancel", "[a-z_]+")
        or "cancel",
        stock_buffer=section.whole("stock_buffer", most=1_000_000),
    )


def _require_secret(section: Section, name: str) -> None:
    if not section.has(f"{name}_file"):
        section.require(name, _TOKEN_HINT.replace("access_token", name))

"""What may be said of a connection, beyond what its schema says: the same for file and calls."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC
from typing import Final, NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp
from phonenumbers import SUPPORTED_REGIONS

from libs.money import is_currency
from tidewire.connections.v1.connection_pb2 import (
    EVENTS_DIALECT_PIXEL_TRACK,
    LIMITED_DATA_USE_REGIONS,
    CatalogSettings,
    Connection,
    EventsSettings,
)

# ISO 3166-1 countries without telephone numbers of their own.
COUNTRIES: Final = frozenset(SUPPORTED_REGIONS) | {"AQ", "BV", "GS", "HM", "PN", "TF", "UM"}
COUNTRY_HINT: Final = "give an ISO 3166-1 code in capitals, such as US or GB"
CURRENCY_HINT: Final = "give an ISO 4217 code in capitals, such as USD"

CATALOG_TARGETS: Final = (
    "custom_label_0", "custom_label_1", "custom_label_2", "custom_label_3", "custom_label_4",
    "color", "size", "material", "pattern", "gender", "age_group", "google_product_category",
    "product_category", "brand", "manufacturer_part_number",
)  # fmt: skip
"""Fields of a catalog's items that a rule may fill."""
SOURCE: Final = (
    r"metafield:[A-Za-z0-9_$-]+\.[A-Za-z0-9_-]+|option:.{1,255}|tag:.{1,255}|text:.{1,100}"
    r"|vendor|product_type|category|barcode"
)
SOURCE_HINT: Final = (
    "give metafield:<namespace>.<key>, option:<name>, tag:<prefix>, text:<words>, vendor,"
    " product_type, category or barcode"
)
STOREFRONT: Final = r"https://[A-Za-z0-9.-]+(:[0-9]+)?(/[!-~]*)?"
STOREFRONT_HINT: Final = "give an address such as https://example.com, without ? and #"
VERSION: Final = r"[0-9]{4}-(0[1-9]|1[0-2])"
"""A version of Shopify's that stays as it is: `unstable` changes without notice."""
VERSION_HINT: Final = "give a dated version such as 2026-10"

_PIXEL: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CATALOG: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_VERSION: Final = re.compile(rf"({VERSION})?")
_EVENT: Final = re.compile(r"[A-Za-z]{0,50}")
_TEST_CODE: Final = re.compile(r"[!-~]{0,64}")
_SET_ID: Final = re.compile(r"[A-Za-z0-9_-]{0,64}")
_REGION: Final = re.compile(r"[A-Z]{2}(-[A-Z0-9]{1,3})?")
_TEMPLATE: Final = re.compile(r"[ -~]{1,200}")
_EVENT_IDS: Final = ("purchase", "initiate_checkout", "add_to_cart")


class Fault(NamedTuple):
    """What is wrong with one field, and what to do about it."""

    path: str
    why: str


def faults(connection: Connection) -> list[Fault]:
    """Everything that is wrong with the settings of a connection; empty: nothing."""
    return list(_faults(connection))


def _faults(connection: Connection) -> Iterator[Fault]:
    if connection.country and connection.country not in COUNTRIES:
        yield Fault("country", COUNTRY_HINT)
    if connection.currency and not is_currency(connection.currency):
        yield Fault("currency", CURRENCY_HINT)
    if not _is_instant(connection.active_since):
        yield Fault("active_since", "give an instant such as 2026-11-01T00:00:00Z")
    match connection.WhichOneof("settings"):
        case "shopify":
            if not _VERSION.fullmatch(connection.shopify.api_version):
                yield Fault("shopify.api_version", VERSION_HINT)
        case "tiktok_events":
            for fault in _events(connection.tiktok_events):
                yield Fault(f"tiktok_events.{fault.path}", fault.why)
        case "tiktok_catalog":
            for fault in _catalog(connection.tiktok_catalog):
                yield Fault(f"tiktok_catalog.{fault.path}", fault.why)


def _catalog(settings: CatalogSettings) -> Iterator[Fault]:
    if settings.country and settings.country not in COUNTRIES:
        yield Fault("country", COUNTRY_HINT)
    if settings.currency and not is_currency(settings.currency):
        yield Fault("currency", CURRENCY_HINT)
    for name in ("business_center_id", "catalog_id"):
        if not _CATALOG.fullmatch(getattr(settings, name)):
            yield Fault(name, "copy it from TikTok Business Center")
    if settings.storefront_url and not re.fullmatch(STOREFRONT, settings.storefront_url):
        yield Fault("storefront_url", STOREFRONT_HINT)
    for place, rule in enumerate(settings.field_rules):
        if rule.target not in CATALOG_TARGETS:
            yield Fault(f"field_rules[{place}].target", f"use one of {', '.join(CATALOG_TARGETS)}")
        if not re.fullmatch(SOURCE, rule.source):
            yield Fault(f"field_rules[{place}].source", SOURCE_HINT)
    yield from catalog_contradictions(settings)


def catalog_contradictions(settings: CatalogSettings) -> Iterator[Fault]:
    """Settings of a catalog that do not go together, or that nothing can be made of."""
    if "?" in settings.storefront_url or "#" in settings.storefront_url:
        yield Fault("storefront_url", STOREFRONT_HINT)
    languages = [settings.language or "en", *settings.fallback_languages]
    if len({one.lower() for one in languages}) < len(languages):
        yield Fault("fallback_languages", "names a language twice, or the catalog's own; remove it")
    rules = Counter((rule.target, rule.source) for rule in settings.field_rules)
    for target in [target for (target, _), times in rules.items() if times > 1]:
        yield Fault("field_rules", f"gives {target} the same source twice; keep one")
    if settings.market_prices_only:
        for name, is_set in (
            ("rounding", settings.rounding not in {"", "nearest"}),
            ("round_to_minor", settings.round_to_minor > 1),
        ):
            if is_set:
                yield Fault(name, "rounds what market_prices_only does not convert; remove one")


def _is_instant(stamp: Timestamp) -> bool:
    """Whether it is a time that Python knows: any number of seconds may have been sent."""
    try:
        stamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        return False
    return True


def _events(settings: EventsSettings) -> Iterator[Fault]:
    texts = (
        ("pixel_code", settings.pixel_code, _PIXEL, "copy it from TikTok Events Manager"),
        ("purchase_event", settings.purchase_event, _EVENT, "give a name such as Purchase"),
        ("test_event_code", settings.test_event_code, _TEST_CODE, "copy it from Test Events"),
        ("offline_event_set_id", settings.offline_event_set_id, _SET_ID, "copy it from TikTok"),
    )
    for name, text, pattern, hint in texts:
        if not pattern.fullmatch(text):
            yield Fault(name, hint)
    for event, template in settings.event_id_templates.items():
        if event not in _EVENT_IDS or not _TEMPLATE.fullmatch(template):
            yield Fault("event_id_templates", f"give templates of {', '.join(_EVENT_IDS)}")
    for region in settings.limited_data_use_regions:
        if not _REGION.fullmatch(region):
            yield Fault("limited_data_use_regions", "give countries or parts, such as US-CA")
    yield from contradictions(settings)


def contradictions(settings: EventsSettings) -> Iterator[Fault]:
    """Settings of a pixel that do not go together."""
    older = settings.dialect == EVENTS_DIALECT_PIXEL_TRACK
    if settings.guide_lists and not older:
        yield Fault("guide_lists", "needs the dialect pixel_track; set that or remove this")
    if settings.offline_event_set_id and older:
        yield Fault("offline_event_set_id", "needs the dialect event_track; remove one")
    by_region = settings.limited_data_use == LIMITED_DATA_USE_REGIONS
    if settings.limited_data_use_regions and not by_region:
        yield Fault("limited_data_use_regions", "needs limited_data_use: regions; add that")

"""The catalogs of the connections file: what each field means is in docs/connections.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from libs.connections.checks import (
    CATALOG_TARGETS,
    COUNTRIES,
    COUNTRY_HINT,
    CURRENCY_HINT,
    SOURCE,
    SOURCE_HINT,
    STOREFRONT,
    STOREFRONT_HINT,
    catalog_contradictions,
)
from libs.connections.ports import ShopView
from libs.connections.tree import Section
from libs.money import is_currency
from libs.settings import Secret
from tidewire.connections.v1.connection_pb2 import CatalogFieldRule, CatalogSettings

CATALOG_FIELDS: Final = (
    "access_token", "access_token_file", "business_center_id", "catalog_id", "dialect", "country",
    "currency", "language", "fallback_languages", "item_id", "brand", "condition",
    "storefront_url", "online_location_ids", "preorder_tag", "field_rules", "rounding",
    "round_to_minor", "market_prices_only", "check_images", "feed_id", "submit_spacing_s",
)  # fmt: skip

_ID: Final = r"[A-Za-z0-9_-]{1,64}"
_ID_HINT: Final = "give the number that TikTok Business Center shows"
_LANGUAGE: Final = r"[a-z]{2,3}(-[A-Za-z]{2,4})?"
_LANGUAGE_HINT: Final = "give an ISO 639 code such as en"
_LANGUAGES_MAX: Final = 5
_LOCATIONS_MAX: Final = 200
_RULES_MAX: Final = 20
_STEP_MAX: Final = 1_000_000
_SPACING_S_MAX: Final = 3_600


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    settings: CatalogSettings
    access_token: Secret | None = None


def catalog_entry(section: Section, view: ShopView) -> CatalogEntry:
    """What the section of one catalog says, with the shop's place where it says nothing."""
    settings = CatalogSettings(
        business_center_id=section.text("business_center_id", _ID_HINT, _ID),
        catalog_id=section.text("catalog_id", _ID_HINT, _ID),
        dialect=_one_of(section, "dialect", "product_upload", "item_batch") or "product_upload",
        country=section.checked("country", COUNTRY_HINT, COUNTRIES.__contains__) or view.country,
        currency=section.checked("currency", CURRENCY_HINT, is_currency) or view.currency,
        language=section.text("language", _LANGUAGE_HINT, _LANGUAGE) or "en",
        fallback_languages=_at_most(
            section, "fallback_languages", _LANGUAGE_HINT, _LANGUAGE, _LANGUAGES_MAX
        ),
        item_id=_one_of(section, "item_id", "sku", "variant_id"),
        brand=section.text("brand", "give at most 150 characters", ".{1,150}"),
        condition=_one_of(section, "condition", "new", "refurbished", "used"),
        storefront_url=section.text("storefront_url", STOREFRONT_HINT, STOREFRONT),
        online_location_ids=_at_most(
            section,
            "online_location_ids",
            "give the number that ends a location's address in Shopify's admin",
            "[0-9]+",
            _LOCATIONS_MAX,
        ),
        preorder_tag=section.text("preorder_tag", "give one tag of products", ".{1,255}"),
        field_rules=_rules(section),
        rounding=_one_of(section, "rounding", "nearest", "up", "down"),
        round_to_minor=section.whole("round_to_minor", most=_STEP_MAX),
        market_prices_only=section.flag("market_prices_only"),
        check_images=section.flag("check_images"),
        feed_id=section.text("feed_id", "copy it from TikTok's catalog manager", "[!-~]{1,64}"),
    )
    if section.has("submit_spacing_s"):
        settings.submit_spacing_s = section.whole("submit_spacing_s", most=_SPACING_S_MAX)
    for fault in catalog_contradictions(settings):
        section.fault(fault.path, fault.why)
    return CatalogEntry(settings, section.secret("access_token"))


def _one_of(section: Section, name: str, *known: str) -> str:
    """The text of `name`; "" where it is absent, which means the first."""
    return section.choice(name, {text: text for text in known}, default="")


def _at_most(section: Section, name: str, hint: str, pattern: str, most: int) -> list[str]:
    found = section.texts(name, hint, pattern)
    if len(found) > most:
        section.fault(name, f"holds more than {most}; leave some out")
    return found


def _rules(section: Section) -> list[CatalogFieldRule]:
    rules = section.section("field_rules", CATALOG_TARGETS)
    if rules is None:
        return []
    found = [
        CatalogFieldRule(target=target, source=source)
        for target in CATALOG_TARGETS
        for source in rules.one_or_more(target, SOURCE_HINT, SOURCE)
    ]
    if len(found) > _RULES_MAX:
        section.fault("field_rules", f"holds more than {_RULES_MAX}; leave some out")
    return found

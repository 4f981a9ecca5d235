"""A catalog's connection as the domain's settings, and what catalogs want of their shop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from libs.connections import ShopView
from services.catalog.domain.settings import (
    SPACING_S,
    CatalogSettings,
    DialectName,
    FieldRule,
    Rounding,
)
from services.catalog.ports import Wanted
from tidewire.connections.v1 import connection_pb2

_LANGUAGE: Final = "en"
_METAFIELD: Final = "metafield:"
_COUNTRY_CHARS: Final = 2


def catalog_settings(
    connection: connection_pb2.Connection, shop: ShopView, *, api_version: str
) -> CatalogSettings:
    """Settings of the catalog that `connection` is, with the shop's own where it says nothing.

    Whoever took the connection in has checked it: `libs.connections.checks`.
    """
    chosen = connection.tiktok_catalog
    spacing_s = chosen.submit_spacing_s if chosen.HasField("submit_spacing_s") else SPACING_S
    return CatalogSettings(
        connection_id=connection.connection_id,
        shop=connection.shop,
        catalog_id=chosen.catalog_id,
        business_center_id=chosen.business_center_id,
        dialect=DialectName(chosen.dialect or DialectName.PRODUCT_UPLOAD),
        api_version=api_version,
        country=chosen.country or shop.country,
        currency=chosen.currency or shop.currency,
        language=_as_shopify_spells(chosen.language or _LANGUAGE),
        fallback_languages=tuple(map(_as_shopify_spells, chosen.fallback_languages)),
        item_id=chosen.item_id or "sku",
        brand=chosen.brand,
        condition=(chosen.condition or "new").upper(),
        storefront_url=chosen.storefront_url.rstrip("/"),
        online_locations=frozenset(chosen.online_location_ids),
        preorder_tag=chosen.preorder_tag,
        rules=tuple(FieldRule(one.target, one.source) for one in chosen.field_rules),
        rounding=Rounding(chosen.rounding or Rounding.NEAREST),
        round_to_minor=chosen.round_to_minor or 1,
        convert_prices=not chosen.market_prices_only,
        check_images=chosen.check_images,
        feed_id=chosen.feed_id,
        spacing_s=float(spacing_s),
    )


def wanted_of(catalogs: Iterable[CatalogSettings], shop_language: str = "") -> Wanted:
    """What `catalogs` of one shop need of its products beyond what webhooks tell.

    `shop_language` is that of the merchant's own words, which are no translation; empty: not known.
    """
    languages: set[str] = set()
    countries: set[str] = set()
    metafields: set[str] = set()
    for one in catalogs:
        languages.update((one.language, *one.fallback_languages))
        countries.add(one.country)
        metafields.update(
            rule.source.removeprefix(_METAFIELD)
            for rule in one.rules
            if rule.source.startswith(_METAFIELD)
        )
    return Wanted(
        languages=tuple(sorted(languages - {shop_language})),
        countries=tuple(sorted(countries - {""})),
        metafields=tuple(sorted(metafields)),
    )


def _as_shopify_spells(language: str) -> str:
    """`pt-br` as `pt-BR` and `zh-hant` as `zh-Hant`: the translations go by these names."""
    name, dash, place = language.partition("-")
    return name + dash + (place.title() if len(place) > _COUNTRY_CHARS else place.upper())

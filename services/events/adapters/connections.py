"""A pixel's connection as the domain's settings."""

from __future__ import annotations

from typing import Final

from libs.connections import ShopView
from services.events.domain.event_ids import DEFAULT_TEMPLATES, EventKind
from services.events.domain.settings import (
    ConsentPolicy,
    ContentIdSource,
    DialectName,
    EventSettings,
    LimitedDataUse,
    MoneyChoice,
)
from tidewire.connections.v1 import connection_pb2

_DIALECTS: Final = {
    connection_pb2.EVENTS_DIALECT_UNSPECIFIED: DialectName.EVENT_TRACK,
    connection_pb2.EVENTS_DIALECT_EVENT_TRACK: DialectName.EVENT_TRACK,
    connection_pb2.EVENTS_DIALECT_PIXEL_TRACK: DialectName.PIXEL_TRACK,
}
_LIMITED: Final = {
    connection_pb2.LIMITED_DATA_USE_UNSPECIFIED: LimitedDataUse.OFF,
    connection_pb2.LIMITED_DATA_USE_ALWAYS: LimitedDataUse.ALWAYS,
    connection_pb2.LIMITED_DATA_USE_REGIONS: LimitedDataUse.REGIONS,
}
_DEFAULT_AGE_S: Final = 7 * 86_400


def event_settings(
    connection: connection_pb2.Connection, shop: ShopView, *, api_version: str
) -> EventSettings:
    """Settings of the pixel that `connection` is.

    Raises:
        ServiceError: PERMANENT, naming the setting that does not fit.
    """
    chosen = connection.tiktok_events
    templates = {kind: chosen.event_id_templates.get(kind.value, "") for kind in EventKind}
    return EventSettings(
        pixel_code=chosen.pixel_code,
        storefront_url=f"https://{shop.domain}",
        dialect=_DIALECTS[chosen.dialect],
        api_version=api_version,
        purchase_event=chosen.purchase_event or None,
        country=shop.country or None,
        content_id=ContentIdSource(chosen.content_id or ContentIdSource.SKU),
        purchase_id_template=_template(templates, EventKind.PURCHASE),
        checkout_id_template=_template(templates, EventKind.INITIATE_CHECKOUT),
        cart_id_template=_template(templates, EventKind.ADD_TO_CART),
        test_event_code=chosen.test_event_code or None,
        money=MoneyChoice.SHOP if chosen.shop_money else MoneyChoice.PRESENTMENT,
        guide_lists=chosen.guide_lists,
        consent_unknown=ConsentPolicy(chosen.consent_unknown or ConsentPolicy.SEND),
        limited_data_use=_LIMITED[chosen.limited_data_use],
        limited_data_use_regions=frozenset(chosen.limited_data_use_regions),
        offline_event_set_id=chosen.offline_event_set_id or None,
        active_since_s=connection.active_since.seconds or None,
        max_event_age_s=chosen.max_event_age_s or _DEFAULT_AGE_S,
        shadow=chosen.shadow,
    )


def _template(templates: dict[EventKind, str], kind: EventKind) -> str:
    return templates[kind] or DEFAULT_TEMPLATES[kind]

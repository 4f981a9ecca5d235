"""Events API 2.0: web and offline events in one envelope at `/event/track/`.

The structs below are the wire shape. Their None fields are not sent, and a zero is.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from services.events.domain.dialect import (
    CONTENT_TYPE,
    ENCODER,
    HttpRequest,
    batches,
    personal_parts,
)
from services.events.domain.model import Conversion, MatchKeys, Page, Source
from services.events.domain.settings import DialectName, EventSettings


class WireUser(msgspec.Struct, omit_defaults=True, gc=False):
    email: str | tuple[str, ...] | None = None
    phone: str | tuple[str, ...] | None = None
    external_id: str | tuple[str, ...] | None = None
    ttclid: str | None = None
    ttp: str | None = None
    ip: str | None = None
    user_agent: str | None = None
    locale: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    zip_code: str | None = None
    city: str | None = None
    state: str | None = None
    country: str | None = None


class WireContent(msgspec.Struct, omit_defaults=True, gc=False):
    content_id: str
    content_name: str | None = None
    content_category: str | None = None
    brand: str | None = None
    quantity: int | None = None
    price: Decimal | None = None


class WireProperties(msgspec.Struct, omit_defaults=True, gc=False):
    contents: list[WireContent] | None = None
    content_type: str | None = None
    currency: str | None = None
    value: Decimal | None = None
    num_items: int | None = None
    order_id: str | None = None


class WirePage(msgspec.Struct, omit_defaults=True, gc=False):
    url: str
    referrer: str | None = None


class WireEvent(msgspec.Struct, omit_defaults=True, gc=False):
    event: str
    event_time: int
    event_id: str
    user: WireUser | None = None
    page: WirePage | None = None
    properties: WireProperties | None = None
    limited_data_use: bool | None = None


class WireEnvelope(msgspec.Struct, omit_defaults=True, gc=False):
    event_source: str
    event_source_id: str
    data: list[WireEvent]
    test_event_code: str | None = None


_NO_USER = WireUser()
_NO_PROPERTIES = WireProperties()


class EventTrack:
    """The current dialect. `content_ids` is not sent: `contents` says the same and more."""

    name = DialectName.EVENT_TRACK
    cap = 1_000

    def encode(
        self, conversions: Sequence[Conversion], settings: EventSettings
    ) -> list[HttpRequest]:
        """Requests of at most 1,000 events, one source and one test code each."""
        path = f"/open_api/{settings.api_version}/event/track/"
        return [
            HttpRequest(path, ENCODER.encode(_envelope(batch, settings)), batch)
            for batch in batches(conversions, self.cap)
        ]


def _envelope(batch: tuple[Conversion, ...], settings: EventSettings) -> WireEnvelope:
    offline = batch[0].source is Source.OFFLINE
    source_id = settings.offline_event_set_id if offline else settings.pixel_code
    return WireEnvelope(
        event_source=batch[0].source.value,
        event_source_id=source_id or settings.pixel_code,
        data=[_event(conversion) for conversion in batch],
        test_event_code=batch[0].test_event_code,
    )


def _event(conversion: Conversion) -> WireEvent:
    # TikTok wants the shopper's address beside the flag and knows it for web and app events only.
    can_limit = conversion.match.ip is not None and conversion.source is Source.WEB
    keys, page, limited = personal_parts(conversion, can_limit=can_limit)
    return WireEvent(
        event=conversion.name,
        event_time=conversion.occurred_at_s,
        event_id=conversion.event_id,
        user=_user(keys),
        page=_page(page) if page else None,
        properties=_properties(conversion),
        limited_data_use=True if limited else None,
    )


def _user(keys: MatchKeys) -> WireUser | None:
    user = WireUser(
        email=_one_or_many(keys.emails),
        phone=_one_or_many(keys.phones),
        external_id=_one_or_many(keys.external_ids),
        ttclid=keys.ttclid,
        ttp=keys.ttp,
        ip=keys.ip,
        user_agent=keys.user_agent,
        locale=keys.locale,
        first_name=keys.first_name,
        last_name=keys.last_name,
        zip_code=keys.zip_code,
        city=keys.city,
        state=keys.state,
        country=keys.country,
    )
    return None if user == _NO_USER else user


def _one_or_many(values: tuple[str, ...]) -> str | tuple[str, ...] | None:
    if not values:
        return None
    return values[0] if len(values) == 1 else values


def _page(page: Page) -> WirePage:
    return WirePage(url=page.url, referrer=page.referrer)


def _properties(conversion: Conversion) -> WireProperties | None:
    contents = [
        WireContent(
            content_id=content.content_id,
            content_name=content.name,
            content_category=content.category,
            brand=content.brand,
            quantity=content.quantity,
            price=content.price,
        )
        for content in conversion.contents
    ]
    properties = WireProperties(
        contents=contents or None,
        content_type=CONTENT_TYPE if contents else None,
        currency=conversion.currency,
        value=conversion.value,
        num_items=conversion.items or None,
        order_id=conversion.order_id,
    )
    return None if properties == _NO_PROPERTIES else properties

"""Events API 1.0: one web event at `/pixel/track/`, up to 50 at `/pixel/batch/`.

Every leaf under `user` is one string here. Under `guide_lists` the integration guide's shape is
sent instead: `emails[]` and `phone_numbers[]`, and `content_type` once beside the contents. The
structs below are the wire shape, in the guide's order; their None fields are not sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

import msgspec

from services.events.domain.dialect import (
    CONTENT_TYPE,
    ENCODER,
    HttpRequest,
    batches,
    personal_parts,
)
from services.events.domain.model import Content, Conversion, MatchKeys, Page
from services.events.domain.settings import DialectName, EventSettings


class WireAd(msgspec.Struct, omit_defaults=True, gc=False):
    callback: str


class WireUser(msgspec.Struct, omit_defaults=True, gc=False):
    external_id: str | None = None
    email: str | None = None
    phone_number: str | None = None
    emails: tuple[str, ...] = ()
    phone_numbers: tuple[str, ...] = ()
    ttp: str | None = None


class WirePage(msgspec.Struct, omit_defaults=True, gc=False):
    url: str
    referrer: str | None = None


class WireContext(msgspec.Struct, omit_defaults=True, gc=False):
    ad: WireAd | None = None
    user: WireUser | None = None
    page: WirePage | None = None
    ip: str | None = None
    user_agent: str | None = None


class WireContent(msgspec.Struct, omit_defaults=True, gc=False):
    content_id: str
    content_type: str | None = None
    content_name: str | None = None
    content_category: str | None = None
    quantity: int | None = None
    price: Decimal | None = None


class WireProperties(msgspec.Struct, omit_defaults=True, gc=False):
    content_type: str | None = None
    contents: list[WireContent] | None = None
    currency: str | None = None
    value: Decimal | None = None


class WireEvent(msgspec.Struct, omit_defaults=True, gc=False):
    pixel_code: str = ""
    type: str = ""
    event: str = ""
    event_id: str = ""
    timestamp: str = ""
    context: WireContext | None = None
    properties: WireProperties | None = None
    test_event_code: str | None = None


class WireBatch(msgspec.Struct, omit_defaults=True, gc=False):
    pixel_code: str
    batch: list[WireEvent]
    test_event_code: str | None = None


_NO_USER = WireUser()
_NO_CONTEXT = WireContext()
_NO_PROPERTIES = WireProperties()


class PixelTrack:
    """The guide's dialect. It has no `limited_data_use`, order id or number of items."""

    name = DialectName.PIXEL_TRACK
    cap = 50

    def encode(
        self, conversions: Sequence[Conversion], settings: EventSettings
    ) -> list[HttpRequest]:
        """A lone event to `/pixel/track/`, several to `/pixel/batch/`, one test code each."""
        return [_request(batch, settings) for batch in batches(conversions, self.cap)]


def _request(batch: tuple[Conversion, ...], settings: EventSettings) -> HttpRequest:
    root = f"/open_api/{settings.api_version}/pixel"
    events = [_event(conversion, settings) for conversion in batch]
    test_code = batch[0].test_event_code
    if len(events) == 1:
        events[0].pixel_code = settings.pixel_code
        events[0].test_event_code = test_code
        return HttpRequest(f"{root}/track/", ENCODER.encode(events[0]), batch)
    for event in events:
        event.type = "track"
    body = WireBatch(pixel_code=settings.pixel_code, batch=events, test_event_code=test_code)
    return HttpRequest(f"{root}/batch/", ENCODER.encode(body), batch)


def _event(conversion: Conversion, settings: EventSettings) -> WireEvent:
    keys, page, _ = personal_parts(conversion, can_limit=False)
    return WireEvent(
        event=conversion.name,
        event_id=conversion.event_id,
        timestamp=_iso(conversion.occurred_at_s),
        context=_context(keys, page, guide_lists=settings.guide_lists),
        properties=_properties(conversion, guide_lists=settings.guide_lists),
    )


def _iso(instant_s: int) -> str:
    return datetime.fromtimestamp(instant_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _context(keys: MatchKeys, page: Page | None, *, guide_lists: bool) -> WireContext | None:
    user = _listed_user(keys) if guide_lists else _single_user(keys)
    context = WireContext(
        ad=WireAd(callback=keys.ttclid) if keys.ttclid else None,
        user=None if user == _NO_USER else user,
        page=WirePage(url=page.url, referrer=page.referrer) if page else None,
        ip=keys.ip,
        user_agent=keys.user_agent,
    )
    return None if context == _NO_CONTEXT else context


def _single_user(keys: MatchKeys) -> WireUser:
    return WireUser(
        external_id=_first(keys.external_ids),
        email=_first(keys.emails),
        phone_number=_first(keys.phones),
        ttp=keys.ttp,
    )


def _listed_user(keys: MatchKeys) -> WireUser:
    return WireUser(
        external_id=_first(keys.external_ids),
        emails=keys.emails,
        phone_numbers=keys.phones,
        ttp=keys.ttp,
    )


def _first(values: tuple[str, ...]) -> str | None:
    return values[0] if values else None


def _properties(conversion: Conversion, *, guide_lists: bool) -> WireProperties | None:
    inside = None if guide_lists else CONTENT_TYPE
    contents = [_content(content, inside) for content in conversion.contents]
    properties = WireProperties(
        content_type=CONTENT_TYPE if guide_lists and contents else None,
        contents=contents or None,
        currency=conversion.currency,
        value=conversion.value,
    )
    return None if properties == _NO_PROPERTIES else properties


def _content(content: Content, content_type: str | None) -> WireContent:
    return WireContent(
        content_id=content.content_id,
        content_type=content_type,
        content_name=content.name,
        content_category=content.category,
        quantity=content.quantity,
        price=content.price,
    )

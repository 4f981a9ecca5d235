"""Events that other services hand in: they chose name and id, we add identity, amounts and gate."""

from __future__ import annotations

from dataclasses import dataclass

from services.events.domain.admission import limits_data_use, must_strip, refusal
from services.events.domain.contents import basket
from services.events.domain.event_ids import EventKind
from services.events.domain.identity import match_keys
from services.events.domain.model import (
    NO_MATCH_KEYS,
    Conversion,
    Identity,
    Ignored,
    Line,
    Money,
    Note,
    Page,
    Price,
)
from services.events.domain.settings import EventSettings

_NO_MONEY = Money(0, "XXX")
"""ISO 4217's code for "no currency": outside TikTok's list, so neither it nor a value is sent."""

_KINDS = {"AddToCart": EventKind.ADD_TO_CART, "InitiateCheckout": EventKind.INITIATE_CHECKOUT}


@dataclass(frozen=True, slots=True)
class TrackedEvent:
    """An event as another service knows it. `page_url` is absolute."""

    name: str
    event_id: str
    occurred_at_s: int
    identity: Identity
    page_url: str
    referrer: str | None
    lines: tuple[Line, ...]
    value: Money | None
    order_id: str | None


def decide_tracked(
    event: TrackedEvent, settings: EventSettings, now_s: float
) -> Conversion | Ignored:
    """The event as a conversion, or why it is not sent."""
    reason = refusal(event.identity, event.occurred_at_s, settings, now_s)
    if reason is not None:
        return Ignored(reason)
    found = basket(event.lines, Price(event.value or _NO_MONEY), settings)
    keys, dropped = match_keys(event.identity, settings.country)
    stripped = must_strip(event.identity, settings)
    page = Page(event.page_url, event.referrer)
    return Conversion(
        kind=_KINDS.get(event.name, EventKind.PURCHASE),
        name=event.name,
        event_id=event.event_id,
        occurred_at_s=event.occurred_at_s,
        contents=found.contents,
        items=found.items,
        match=NO_MATCH_KEYS if stripped else keys,
        page=page.bare() if stripped else page,
        currency=found.currency,
        value=found.value,
        order_id=event.order_id,
        limited_data_use=limits_data_use(event.identity, settings),
        test_event_code=settings.test_event_code,
        notes=(*found.notes, *((Note.CONSENT_STRIPPED,) if stripped else dropped)),
    )

"""Lines and totals as TikTok's contents, items and value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from services.events.domain.currencies import SUPPORTED_CURRENCIES, amount, unit_minor
from services.events.domain.model import Content, Line, Money, Note, Price
from services.events.domain.settings import ContentIdSource, EventSettings, MoneyChoice

# What comes after the chosen source, for lines that lack it (deleted products, no SKU).
_FALLBACKS = {
    ContentIdSource.SKU: ("sku", "variant_id", "product_id"),
    ContentIdSource.VARIANT_ID: ("variant_id", "sku", "product_id"),
    ContentIdSource.PRODUCT_ID: ("product_id", "variant_id", "sku"),
}


@dataclass(frozen=True, slots=True)
class Basket:
    """What was bought or is about to be, and what could not be told."""

    contents: tuple[Content, ...]
    items: int
    currency: str | None
    value: Decimal | None
    notes: tuple[Note, ...]


def basket(lines: Sequence[Line], total: Price, settings: EventSettings) -> Basket:
    """`lines` and `total` as TikTok counts them.

    Outside its 62 currencies no amount is told at all: a number without its currency would be
    read in another one. A line without any id (a tip) is left out of the contents, not of the
    value.
    """
    paid = money_of(total, settings)
    priced = paid.currency in SUPPORTED_CURRENCIES
    bought = [line for line in lines if line.quantity > 0]
    found = [content_of(line, settings) for line in bought]
    notes = [Note.LINE_WITHOUT_ID] * found.count(None)
    if not priced:
        notes.append(Note.CURRENCY_UNSUPPORTED)
    return Basket(
        contents=tuple(content for content in found if content is not None),
        items=sum(line.quantity for line in bought),
        currency=paid.currency if priced else None,
        value=amount(paid.minor, paid.currency) if priced else None,
        notes=tuple(notes),
    )


def content_of(line: Line, settings: EventSettings) -> Content | None:
    """`line` with the price of one unit, or None where nothing identifies it."""
    content_id = _content_id(line, settings.content_id)
    if content_id is None:
        return None
    total = money_of(line.total, settings)
    return Content(
        content_id=content_id,
        quantity=line.quantity,
        name=_stated(line.title),
        category=_stated(line.category),
        brand=_stated(line.brand),
        price=_unit_price(total, line.quantity),
    )


def money_of(price: Price, settings: EventSettings) -> Money:
    """The amount in the currency that the settings choose."""
    if settings.money is MoneyChoice.PRESENTMENT and price.presentment is not None:
        return price.presentment
    return price.shop


def _unit_price(total: Money, quantity: int) -> Decimal | None:
    if total.currency not in SUPPORTED_CURRENCIES:
        return None
    return amount(unit_minor(total.minor, quantity), total.currency)


def _content_id(line: Line, source: ContentIdSource) -> str | None:
    for name in _FALLBACKS[source]:
        found = _stated(getattr(line, name))
        if found:
            return found
    return None


def _stated(raw: str | None) -> str | None:
    return (raw or "").strip() or None

"""What happened, decided: the conversions to send, or the reason for sending none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from services.events.domain.admission import limits_data_use, must_strip, refusal
from services.events.domain.contents import Basket, basket
from services.events.domain.event_ids import EventKind, cart_token, event_id
from services.events.domain.identity import match_keys
from services.events.domain.model import (
    NO_MATCH_KEYS,
    CartLine,
    CartLinesAdded,
    Conversion,
    Identity,
    Ignored,
    Line,
    Money,
    Note,
    Page,
    PaidOrder,
    Price,
    Reason,
    Source,
    StartedCheckout,
)
from services.events.domain.pages import absolute_url, page_url
from services.events.domain.settings import EventSettings

_POINT_OF_SALE = "pos"
_DRAFT = "shopify_draft_order"


class _Occasion(NamedTuple):
    """What sets one conversion apart from another of the same person and basket."""

    kind: EventKind
    name: str
    event_id: str
    occurred_at_s: int
    order_id: str | None = None
    source: Source = Source.WEB


def decide_purchase(
    order: PaidOrder, settings: EventSettings, now_s: float
) -> Conversion | Ignored:
    """The purchase that `order` is, or why it is none (design: one that is not sent has a reason).

    Raises:
        ServiceError: PERMANENT, `event_id_incomplete`.
    """
    reason = _not_a_purchase(order, settings) or refusal(
        order.identity, order.paid_at_s, settings, now_s
    )
    if reason is not None:
        return Ignored(reason)
    values = {
        "order_id": order.order_id,
        "checkout_id": order.checkout_id,
        "checkout_token": order.checkout_token,
        "cart_token": cart_token(order.cart_token),
        "occurred_at_s": str(order.paid_at_s),
        "shop_id": settings.shop_id,
    }
    occasion = _Occasion(
        kind=EventKind.PURCHASE,
        name=settings.purchase_name,
        event_id=event_id(EventKind.PURCHASE, settings.purchase_id_template, values),
        occurred_at_s=order.paid_at_s,
        order_id=order.order_id,
        source=Source.OFFLINE if order.source_name == _POINT_OF_SALE else Source.WEB,
    )
    return _conversion(
        occasion, basket(order.lines, order.total, settings), order.identity, settings
    )


def decide_checkout(
    checkout: StartedCheckout, settings: EventSettings, now_s: float
) -> Conversion | Ignored:
    """The started checkout as InitiateCheckout, or why it is not sent.

    Raises:
        ServiceError: PERMANENT, `event_id_incomplete`.
    """
    reason = refusal(checkout.identity, checkout.started_at_s, settings, now_s)
    if reason is not None:
        return Ignored(reason)
    values = {
        "checkout_token": checkout.checkout_token,
        "checkout_id": checkout.checkout_id,
        "cart_token": cart_token(checkout.cart_token),
        "occurred_at_s": str(checkout.started_at_s),
        "shop_id": settings.shop_id,
    }
    occasion = _Occasion(
        kind=EventKind.INITIATE_CHECKOUT,
        name="InitiateCheckout",
        event_id=event_id(EventKind.INITIATE_CHECKOUT, settings.checkout_id_template, values),
        occurred_at_s=checkout.started_at_s,
    )
    found = basket(checkout.lines, checkout.total, settings)
    return _conversion(occasion, found, checkout.identity, settings)


def decide_cart(
    cart: CartLinesAdded, settings: EventSettings, now_s: float
) -> tuple[Conversion, ...] | Ignored:
    """One AddToCart for each variant of which the cart now holds more; for the added units only.

    Raises:
        ServiceError: PERMANENT, `event_id_incomplete`.
    """
    reason = refusal(cart.identity, cart.changed_at_s, settings, now_s)
    if reason is not None:
        return Ignored(reason)
    grown = [line for line in _by_variant(cart.lines) if line.line.quantity > line.quantity_before]
    if not grown:
        return Ignored(Reason.NO_LINE_GREW)
    return tuple(_added(cart, line, settings) for line in grown)


def _not_a_purchase(order: PaidOrder, settings: EventSettings) -> Reason | None:
    own = settings.own_orders
    if order.test:
        return Reason.TEST_ORDER
    if (
        order.source_name in own.source_names
        or order.app_id in own.app_ids
        or not order.tags.isdisjoint(own.tags)
    ):
        return Reason.OWN_ECHO
    if order.source_name == _DRAFT:
        return Reason.DRAFT_ORDER
    if order.source_name == _POINT_OF_SALE and settings.offline_event_set_id is None:
        return Reason.POINT_OF_SALE
    return None


def _added(cart: CartLinesAdded, grown: CartLine, settings: EventSettings) -> Conversion:
    values: Mapping[str, str | None] = {
        "cart_token": cart_token(cart.cart_token),
        "variant_id": _variant(grown.line),
        "quantity_after": str(grown.line.quantity),
        "shop_id": settings.shop_id,
    }
    added = _part_of(grown.line, grown.line.quantity - grown.quantity_before)
    occasion = _Occasion(
        kind=EventKind.ADD_TO_CART,
        name="AddToCart",
        event_id=event_id(EventKind.ADD_TO_CART, settings.cart_id_template, values),
        occurred_at_s=cart.changed_at_s,
    )
    return _conversion(occasion, basket([added], added.total, settings), cart.identity, settings)


def _conversion(
    occasion: _Occasion, found: Basket, identity: Identity, settings: EventSettings
) -> Conversion:
    """The occasion with what all kinds have in common: amounts, the person and the page."""
    stripped = must_strip(identity, settings)
    keys, dropped = match_keys(identity, settings.country)
    page = _page(identity, settings) if occasion.source is Source.WEB else None
    return Conversion(
        kind=occasion.kind,
        name=occasion.name,
        event_id=occasion.event_id,
        occurred_at_s=occasion.occurred_at_s,
        contents=found.contents,
        items=found.items,
        match=NO_MATCH_KEYS if stripped else keys,
        page=page.bare() if page and stripped else page,
        currency=found.currency,
        value=found.value,
        order_id=occasion.order_id,
        source=occasion.source,
        limited_data_use=limits_data_use(identity, settings),
        test_event_code=settings.test_event_code,
        notes=(*found.notes, *((Note.CONSENT_STRIPPED,) if stripped else dropped)),
    )


def _page(identity: Identity, settings: EventSettings) -> Page:
    url = page_url(
        identity.page_url,
        identity.order_status_url,
        identity.landing_site,
        settings.storefront_url,
    )
    return Page(url, absolute_url(identity.referrer))


def _by_variant(lines: Iterable[CartLine]) -> list[CartLine]:
    """Lines of one variant as one: the event id knows variants, not lines."""
    merged: dict[str, CartLine] = {}
    for cart_line in lines:
        key = _variant(cart_line.line)
        merged[key] = _sum_of(merged[key], cart_line) if key in merged else cart_line
    return list(merged.values())


def _variant(line: Line) -> str:
    return line.variant_id or line.product_id or "0"


def _sum_of(one: CartLine, other: CartLine) -> CartLine:
    line = replace(
        one.line,
        quantity=one.line.quantity + other.line.quantity,
        total=_price_sum(one.line.total, other.line.total),
    )
    return CartLine(line, one.quantity_before + other.quantity_before)


def _price_sum(one: Price, other: Price) -> Price:
    presentment = None
    if one.presentment is not None and other.presentment is not None:
        presentment = _money_sum(one.presentment, other.presentment)
    return Price(_money_sum(one.shop, other.shop), presentment)


def _money_sum(one: Money, other: Money) -> Money:
    return Money(one.minor + other.minor, one.currency)


def _part_of(line: Line, quantity: int) -> Line:
    """`quantity` units of `line` at their share of its total."""
    shop = _share(line.total.shop, quantity, line.quantity)
    presentment = line.total.presentment
    shown = _share(presentment, quantity, line.quantity) if presentment else None
    return replace(line, quantity=quantity, total=Price(shop, shown))


def _share(money: Money, part: int, whole: int) -> Money:
    """`part` of `whole` units' worth, to the nearest minor unit, a half upwards."""
    return Money((2 * money.minor * part + whole) // (2 * whole), money.currency)

"""Things that happened in an invented shop, for the tests beside this file."""

from __future__ import annotations

from services.events.domain.model import (
    CartLine,
    CartLinesAdded,
    Consent,
    Conversion,
    Identity,
    Ignored,
    Line,
    Money,
    PaidOrder,
    Price,
    StartedCheckout,
)
from services.events.domain.settings import EventSettings

CHECKOUT = "c0ffee"
CART = "ca47"
AT_S = 1_763_800_000
NOW_S = AT_S + 60
SETTINGS = EventSettings(pixel_code="C123", storefront_url="https://shop.example/", country="US")
SOMEBODY = Identity(emails=("alice@example.com",), ip="84.17.33.9", consent=Consent.GRANTED)


def usd(minor: int) -> Price:
    return Price(Money(minor, "USD"))


def shoe(quantity: int = 1, total_minor: int = 5_000, variant_id: str | None = "401") -> Line:
    return Line(quantity, usd(total_minor), variant_id=variant_id, sku="SHOE", title="Shoe")


def paid_order(
    *,
    identity: Identity = SOMEBODY,
    order_id: str = "98765",
    paid_at_s: int = AT_S,
    lines: tuple[Line, ...] | None = None,
    total: Price | None = None,
    checkout_token: str | None = CHECKOUT,
    test: bool = False,
    source_name: str | None = "web",
    app_id: str | None = None,
    tags: frozenset[str] = frozenset(),
) -> PaidOrder:
    return PaidOrder(
        order_id=order_id,
        paid_at_s=paid_at_s,
        total=total or usd(5_000),
        lines=lines if lines is not None else (shoe(),),
        identity=identity,
        checkout_token=checkout_token,
        cart_token=CART,
        test=test,
        source_name=source_name,
        app_id=app_id,
        tags=tags,
    )


def started_checkout(token: str = CHECKOUT, at_s: int = AT_S) -> StartedCheckout:
    return StartedCheckout(token, at_s, usd(5_000), (shoe(),), SOMEBODY)


def changed_cart(*lines: CartLine, token: str = CART) -> CartLinesAdded:
    return CartLinesAdded(token, AT_S, lines, SOMEBODY)


def sent(decided: Conversion | Ignored) -> Conversion:
    assert isinstance(decided, Conversion)
    return decided

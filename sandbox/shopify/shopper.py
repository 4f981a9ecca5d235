"""What one shopper does, and the chain of deliveries that Shopify makes of it, in true order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random

from sandbox.shopify.fiction import COUNTRIES, Country, cart_token, make_person
from sandbox.shopify.model import Ids, JsonObject, Line, Product, Shop
from sandbox.shopify.money import Terms
from sandbox.shopify.payloads import OrderMoment, Sale, cart_body, checkout_body, order_body
from sandbox.shopify.shelf import edit_body, fulfillment_body, refund_body
from sandbox.shopify.wire import Told, random_uuid

# How shoppers fare, by weight. Every journey ends in one of these words.
JOURNEYS = {
    "browsing": 22,
    "abandoned": 10,
    "card": 26,
    "pending": 4,
    "authorized": 2,
    "late_payment": 6,
    "fulfilled": 9,
    "partially_fulfilled": 4,
    "cancelled_unpaid": 3,
    "cancelled_refunded": 4,
    "partly_refunded": 4,
    "edited": 3,
    "deleted": 2,
}
_PRESENTMENT = {"GBP": "0.79", "EUR": "0.92", "UYU": "39.5", "JPY": "151", "BHD": "0.377"}


@dataclass(frozen=True)
class Wares:
    """One shop with what it sells, and where its numbers come from."""

    shop: Shop
    products: tuple[Product, ...]
    ids: Ids


def make_sale(
    rng: Random, wares: Wares, created_at: datetime, marks: tuple[tuple[str, object], ...] = ()
) -> Sale:
    """A purchase not yet begun: shopper, lines, currencies, tokens."""
    country = _home(rng, wares.shop)
    number = wares.ids.take()
    person = make_person(rng, country, number)
    return Sale(
        shop=wares.shop,
        person=person,
        terms=_terms(rng, wares.shop.currency),
        lines=_lines(rng, wares),
        order_id=wares.ids.take(),
        customer_id=wares.ids.take(),
        cart_token=cart_token(rng),
        checkout_token=f"{rng.getrandbits(128):032x}",
        created_at=created_at,
        landing_site=_landing_site(rng, wares.shop, person.ttclid),
        offset_minutes=COUNTRIES[wares.shop.country].utc_offset_minutes,
        shipping_minor=rng.choice((0, 500, 990)),
        marks=marks,
    )


def journey(rng: Random, wares: Wares, sale: Sale, ends_in: str) -> Iterator[Told]:
    """Every delivery of one shopper's journey that ends in `ends_in`, a key of `JOURNEYS`."""
    clock = _Clock(rng, sale.created_at)
    yield from _carts(rng, sale, clock)
    if ends_in == "browsing":
        return
    yield from _checkouts(rng, sale, clock)
    if ends_in != "abandoned":
        yield from ordering(rng, wares, _begun(sale, clock.now), ends_in)


def ordering(rng: Random, wares: Wares, sale: Sale, ends_in: str) -> Iterator[Told]:
    """The order's part of a journey, for a sale whose `created_at` is when it was placed."""
    story = _OrderStory(rng, sale, wares.ids, ends_in)
    yield from story.placed()
    if ends_in not in {"pending", "authorized", "cancelled_unpaid", "deleted"}:
        yield from story.paid()
    yield from story.after()


class _Clock:
    """The shopper's time: each step is a little later than the last."""

    def __init__(self, rng: Random, start: datetime) -> None:
        self._rng = rng
        self.now = start

    def step(self, at_most_s: float) -> datetime:
        self.now += timedelta(seconds=self._rng.uniform(0.001, at_most_s))
        return self.now


class _OrderStory:
    """Tells an order version by version. Tied versions share a second, in rising trigger time."""

    def __init__(self, rng: Random, sale: Sale, ids: Ids, ends_in: str) -> None:
        self._rng = rng
        self._sale = sale
        self._ids = ids
        self._kind = f"order.{ends_in}"
        self._ends_in = ends_in
        self._clock = _Clock(rng, sale.created_at)
        self._moment = OrderMoment(updated_at=sale.created_at)
        self._action = random_uuid(rng)

    def placed(self) -> Iterator[Told]:
        if self._ends_in == "authorized":
            self._moment = replace(self._moment, financial_status="authorized")
        yield self._order("orders/create")
        if self._rng.random() < 0.5:
            yield self._order("orders/updated")

    def paid(self) -> Iterator[Told]:
        """Payment: within the second of placing for cards, hours later for `late_payment`."""
        if self._ends_in == "late_payment":
            self._later(hours=self._rng.randrange(1, 5))
        elif self._rng.random() < 0.4:
            self._later(seconds=self._rng.randrange(1, 4))
        self._moment = replace(self._moment, financial_status="paid")
        yield self._order("orders/paid")
        if self._rng.random() < 0.6:
            yield self._order("orders/updated")

    def after(self) -> Iterator[Told]:
        """What becomes of the order once placed."""
        match self._ends_in:
            case "fulfilled" | "partially_fulfilled":
                yield from self._fulfilled()
            case "cancelled_unpaid" | "cancelled_refunded":
                yield from self._cancelled()
            case "partly_refunded":
                yield from self._refunded(self._sale.lines[:1], "partially_refunded")
            case "edited":
                yield from self._edited()
            case "deleted":
                self._later(minutes=5)
                yield self._told("orders/delete", {"id": self._sale.order_id})

    def _fulfilled(self) -> Iterator[Told]:
        partly = self._ends_in == "partially_fulfilled"
        lines = self._sale.lines[:1] if partly else self._sale.lines
        status = "partial" if partly else "fulfilled"
        self._later(minutes=20)
        number = self._ids.take()
        parcel = fulfillment_body(self._sale, number, lines, self._clock.now, "success")
        self._moment = replace(self._moment, fulfillment_status=status, fulfillments=(parcel,))
        yield self._told("fulfillments/create", parcel)
        yield self._order("orders/partially_fulfilled" if partly else "orders/fulfilled")
        self._later(minutes=3)
        moved = fulfillment_body(self._sale, number, lines, self._clock.now, "success")
        yield self._told("fulfillments/update", {**moved, "shipment_status": "in_transit"})

    def _cancelled(self) -> Iterator[Told]:
        if self._ends_in == "cancelled_refunded":
            yield from self._refunded(self._sale.lines, "refunded")
            status = "refunded"
        else:
            status = "voided"
        self._later(seconds=40)
        self._moment = replace(
            self._moment, financial_status=status, cancelled_at=self._moment.updated_at
        )
        yield self._order("orders/cancelled")
        yield self._order("orders/updated")

    def _refunded(self, lines: tuple[Line, ...], status: str) -> Iterator[Told]:
        self._later(minutes=30)
        refund = refund_body(self._sale, self._ids.take(), lines, self._clock.now)
        self._moment = replace(self._moment, financial_status=status, refunds=(refund,))
        yield self._told("refunds/create", refund)
        yield self._order("orders/updated")

    def _edited(self) -> Iterator[Told]:
        self._later(minutes=10)
        yield self._told("orders/edited", edit_body(self._sale, self._ids.take(), self._clock.now))
        self._moment = replace(self._moment, note="Left out one piece")
        yield self._order("orders/updated")

    def _later(self, *, hours: int = 0, minutes: int = 0, seconds: int = 0) -> None:
        """A new merchant action, at least so much later, in another second."""
        self._clock.now += timedelta(hours=hours, minutes=minutes, seconds=seconds)
        self._moment = replace(self._moment, updated_at=self._clock.now)
        self._action = random_uuid(self._rng)

    def _order(self, topic: str) -> Told:
        return self._told(topic, order_body(self._sale, self._moment))

    def _told(self, topic: str, body: JsonObject) -> Told:
        return Told(topic, body, self._clock.step(0.05), self._action, self._kind)


def _carts(rng: Random, sale: Sale, clock: _Clock) -> Iterator[Told]:
    """The cart fills, and sometimes empties a little; its last version is what is bought."""
    steps = _cart_steps(rng, sale.lines)
    for place, lines in enumerate(steps):
        topic = "carts/update" if place else "carts/create"
        now = clock.step(60) if place else clock.now
        yield Told(topic, cart_body(sale, lines, now), clock.step(0.2), random_uuid(rng), "cart")


def _cart_steps(rng: Random, bought: tuple[Line, ...]) -> list[tuple[Line, ...]]:
    """Versions of the cart, the last being `bought`; each variant stands in a cart once."""
    steps: list[tuple[Line, ...]] = [
        (*bought[:place], replace(line, quantity=1)) for place, line in enumerate(bought)
    ]
    if rng.random() < 0.4:
        steps.append((*bought[:-1], replace(bought[-1], quantity=bought[-1].quantity + 2)))
    if len(bought) > 1 and rng.random() < 0.3:
        steps.append(bought[:-1])
    return [*steps, bought]


def _checkouts(rng: Random, sale: Sale, clock: _Clock) -> Iterator[Told]:
    for place in range(rng.randrange(1, 4)):
        now = clock.step(60)
        body = checkout_body(sale, now, contact_known=place > 0)
        topic = "checkouts/update" if place else "checkouts/create"
        yield Told(topic, body, clock.step(0.2), random_uuid(rng), "checkout")


def _begun(sale: Sale, at: datetime) -> Sale:
    """The sale with its order placed at `at`, early in a second so that ties fit into it."""
    return replace(sale, created_at=at.replace(microsecond=0) + timedelta(seconds=1))


def _home(rng: Random, shop: Shop) -> Country:
    abroad = rng.random() < 0.25
    return COUNTRIES[rng.choice(tuple(COUNTRIES)) if abroad else shop.country]


def _terms(rng: Random, currency: str) -> Terms:
    """Mostly the shop's own currency; a share of USD shops' sales shows another to the shopper."""
    if currency != "USD" or rng.random() < 0.7:
        return Terms(currency, currency)
    seen = rng.choice(tuple(_PRESENTMENT))
    return Terms(currency, seen, Decimal(_PRESENTMENT[seen]))


def _lines(rng: Random, wares: Wares) -> tuple[Line, ...]:
    chosen = rng.sample(wares.products, rng.choice((1, 1, 2, 2, 3)))
    return tuple(_line(rng, wares.ids, product) for product in chosen)


def _line(rng: Random, ids: Ids, product: Product) -> Line:
    variant = rng.choice(product.variants)
    discount_minor = variant.price_minor // 5 if rng.random() < 0.2 else 0
    return Line(ids.take(), product, variant, rng.choice((1, 1, 1, 2, 3)), discount_minor)


def _landing_site(rng: Random, shop: Shop, ttclid: str | None) -> str:
    page = rng.choice(("/", "/collections/all", "/products/lantern"))
    if ttclid and rng.random() < 0.7:
        return f"{page}?utm_source=tiktok&ttclid={ttclid}"
    if rng.random() < 0.2:
        return f"https://{re.sub(r'^[^.]*', 'www', shop.domain)}{page}"
    return page

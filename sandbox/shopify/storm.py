"""A storm: thousands of deliveries, shuffled, repeated and spoiled, and its verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random

from sandbox.shopify import mischief, shelf
from sandbox.shopify.corpus import corpus_deliveries
from sandbox.shopify.model import Delivery, Ids, JsonObject, Product, Shop
from sandbox.shopify.oracle import Expected, Oracle
from sandbox.shopify.payloads import OrderMoment, Sale, order_body
from sandbox.shopify.shopper import JOURNEYS, Wares, journey, make_sale, ordering
from sandbox.shopify.wire import CHUNKED, Dispatcher, Parcel, Told, random_uuid, serialised

__all__ = ["Storm", "corpus_deliveries", "default_shops", "make_storm", "storm_waves"]

# Fewer would not hold one of each kind beside enough ordinary shopping.
DELIVERIES_MIN = 400
_PRODUCTS_EACH = 12
_FRESH_SHARE = 0.86
_SECOND_SUBSCRIPTION_SHARE = 0.03
_FORGED_SHARE = 0.01
_CATALOG_SHARE = 0.3
# A journey takes at most six hours, so nothing of it is told before it happens.
_JOURNEY_LONGEST = timedelta(hours=6)
_UNKNOWN_TOPICS = ("collections/update", "themes/publish", "customers/update", "locations/create")


@dataclass(frozen=True)
class Storm:
    """Deliveries in the order to send them, and what must come of them."""

    deliveries: list[Delivery]
    expected: Expected

    @property
    def kinds(self) -> Counter[str]:
        """How many deliveries there are of each kind, repetitions included."""
        return Counter(delivery.kind for delivery in self.deliveries)


def default_shops(now: datetime) -> tuple[Shop, ...]:
    """Six shops: six currencies, one unknown to TikTok; two activated only two days ago."""
    long_ago, lately = now - timedelta(days=30), now - timedelta(days=2)
    return (
        Shop("aurora-goods.myshopify.com", ("shpss_aurora", "old_aurora"), "US", "USD", long_ago),
        Shop("nordlicht-laden.myshopify.com", ("shpss_nordlicht",), "DE", "EUR", lately),
        Shop("quiet-candles.myshopify.com", ("shpss_quiet", "old_quiet"), "GB", "GBP", lately),
        Shop("kumo-store.myshopify.com", ("shpss_kumo",), "JP", "JPY", long_ago),
        Shop("pearl-souq.myshopify.com", ("shpss_pearl",), "BH", "BHD", long_ago),
        Shop("rio-tienda.myshopify.com", ("shpss_rio",), "UY", "UYU", long_ago),
    )


def make_storm(
    seed: int, deliveries: int, shops: tuple[Shop, ...], now: datetime, *, wave: int = 0
) -> Storm:
    """Exactly `deliveries` deliveries; equal arguments give equal bytes.

    Waves of one seed tell of different resources, so they can be sent one after another and their
    verdicts merged.

    Raises:
        ValueError: fewer than `DELIVERIES_MIN` are asked for, or no shop is given.
    """
    if deliveries < DELIVERIES_MIN or not shops:
        raise ValueError(f"a storm has at least {DELIVERIES_MIN} deliveries and one shop")
    rng = Random(f"{seed}/{wave}")
    brewing = _Brewing(rng, Ids(rng, _first_id(seed, wave)), shops, now)
    brewing.specials(rounds=max(1, deliveries // 2500))
    brewing.ordinary(until=int(deliveries * _FRESH_SHARE))
    brewing.second_subscriptions(int(deliveries * _SECOND_SUBSCRIPTION_SHARE))
    brewing.forgeries(max(6, int(deliveries * _FORGED_SHARE)))
    return brewing.finished(deliveries)


def storm_waves(
    seed: int, deliveries: int, shops: tuple[Shop, ...], now: datetime, wave_size: int = 5000
) -> Iterator[Storm]:
    """`deliveries` in storms of `wave_size`, made one at a time: memory holds one wave.

    A last wave that would be too small to hold one of each kind joins the one before it.
    """
    left, wave = deliveries, 0
    while left:
        size = wave_size if left - wave_size >= DELIVERIES_MIN else left
        yield make_storm(seed, size, shops, now, wave=wave)
        left, wave = left - size, wave + 1


def _first_id(seed: int, wave: int) -> int:
    """Below 2^53, and a thousand million numbers apart for each wave of a seed."""
    return 10**12 * (1 + seed % 1000) + 10**9 * wave


class _Brewing:
    """A storm in the making. Everything told goes to the oracle and to the pile at once."""

    def __init__(self, rng: Random, ids: Ids, shops: tuple[Shop, ...], now: datetime) -> None:
        self._rng = rng
        self._ids = ids
        self._now = now
        self._oracle = Oracle(now)
        self._dispatcher = Dispatcher(rng)
        self._pile: list[Delivery] = []
        self._readable: list[tuple[Shop, Delivery]] = []
        self._wares = [Wares(shop, self._products(shop), ids) for shop in shops]

    def specials(self, rounds: int) -> None:
        """One of every rare thing a round, for each shop where it can happen."""
        for _ in range(rounds):
            for wares in self._wares:
                self._silent_orders(wares)
                self._remarkable_orders(wares)
                self._shop_news(wares)
            wares = self._rng.choice(self._wares)
            self._unreadable(wares)
            self._strangers(wares)
            self._gzipped(wares)
        self._oversized(self._wares[0])

    def ordinary(self, until: int) -> None:
        """Shopping and stock-keeping, until the pile holds at least `until` deliveries."""
        while len(self._pile) < until:
            wares = self._rng.choice(self._wares)
            if self._rng.random() < _CATALOG_SHARE:
                self._tell(wares.shop, self._stockkeeping(wares))
                continue
            ends_in = self._rng.choices(tuple(JOURNEYS), tuple(JOURNEYS.values()))[0]
            sale = make_sale(self._rng, wares, self._recently())
            self._tell(wares.shop, journey(self._rng, wares, sale, ends_in))

    def second_subscriptions(self, count: int) -> None:
        """Deliveries told to a second subscription: other webhook id, same event id and bytes."""
        for shop, first in self._rng.sample(self._readable, min(count, len(self._readable))):
            fresh = random_uuid(self._rng)
            headers = tuple(
                (name, fresh if name.lower().endswith("webhook-id") else value)
                for name, value in first.headers
            )
            second = replace(first, headers=headers)
            self._readable.append((shop, second))
            self._pile.append(second)

    def forgeries(self, count: int) -> None:
        """Badly signed copies; every sixth has no signature at all."""
        for place in range(count):
            _, genuine = self._rng.choice(self._readable)
            spoiled = mischief.unsigned(genuine) if place % 6 == 0 else None
            self._pile.append(spoiled or mischief.forged(self._rng, genuine))

    def finished(self, size: int) -> Storm:
        """The pile, filled up with retries to `size`, shuffled, with its verdict."""
        genuine = [delivery for delivery in self._pile if delivery.expected_status == 200]
        while len(self._pile) < size:
            self._pile.append(self._rng.choice(genuine))
        self._rng.shuffle(self._pile)
        for delivery in self._pile:
            self._oracle.answered(delivery)
        return Storm(self._pile, self._oracle.expected())

    def _tell(self, shop: Shop, told: Iterator[Told]) -> None:
        for each in told:
            delivery = self._dispatcher.deliver(shop, each)
            self._oracle.told(shop, each.topic, each.body, each.at)
            self._pile.append(delivery)
            self._readable.append((shop, delivery))

    def _recently(self) -> datetime:
        spread_s = self._rng.uniform(60, 3 * 3600)
        return self._now - _JOURNEY_LONGEST - timedelta(seconds=spread_s)

    def _products(self, shop: Shop) -> tuple[Product, ...]:
        return tuple(shelf.make_product(self._rng, self._ids, shop) for _ in range(_PRODUCTS_EACH))

    def _silent_orders(self, wares: Wares) -> None:
        """Paid orders of which no purchase may be made."""
        marks: dict[str, tuple[tuple[str, object], ...]] = {
            "test_order": (("test", True),),
            "point_of_sale": (("source_name", "pos"), ("client_details", None)),
            "draft_order": (("source_name", "shopify_draft_order"), ("cart_token", None)),
            # As the suite marks the orders that it brings in from TikTok Shop.
            "own_echo": (
                ("source_name", "channel:tiktok-shop"),
                ("tags", "tidewire-tiktok-shop"),
                ("browser_ip", None),
            ),
        }
        for kind, marked in marks.items():
            self._special(wares, kind, self._recently(), marked)
        age = self._now - wares.shop.active_since
        if age > timedelta(days=25):
            self._special(wares, "too_old", self._now - timedelta(days=9))
            self._history(wares)
        elif age < timedelta(days=6):
            self._special(wares, "before_activation", wares.shop.active_since - timedelta(hours=9))

    def _remarkable_orders(self, wares: Wares) -> None:
        """Paid orders that look strange and must be reported like any other."""
        for _ in range(3):
            self._special(wares, "odd_fields", self._recently(), mischief.odd_marks(self._rng))
        sale = make_sale(self._rng, wares, self._recently())
        # Above 2^53: a reader that goes through floating point reports another order.
        large = replace(sale, order_id=9_100_000_000_000_000_001 + 2 * self._ids.take())
        self._order(wares, large, "big_id")
        self._chunked(wares)

    def _special(
        self,
        wares: Wares,
        kind: str,
        at: datetime,
        marks: tuple[tuple[str, object], ...] = (),
    ) -> None:
        placed = at.replace(microsecond=0)
        self._order(wares, make_sale(self._rng, wares, placed, marks), kind)

    def _order(self, wares: Wares, sale: Sale, kind: str) -> None:
        ends_in = self._rng.choice(("card", "fulfilled", "partly_refunded"))
        story = ordering(self._rng, wares, sale, ends_in)
        self._tell(wares.shop, (replace(told, kind=f"order.{kind}") for told in story))

    def _history(self, wares: Wares) -> None:
        """Last month's paid order, first heard of because somebody touched it today."""
        sale = make_sale(self._rng, wares, self._now - timedelta(days=20))
        touched = self._now - timedelta(hours=1)
        body = order_body(sale, OrderMoment(touched, financial_status="paid", note="called"))
        told = Told("orders/updated", body, touched, random_uuid(self._rng), "order.history")
        self._tell(wares.shop, iter((told,)))

    def _shop_news(self, wares: Wares) -> None:
        """What the shop tells of itself, and topics that nobody here uses."""
        shop, number = wares.shop, self._ids.take()
        bodies: dict[str, JsonObject] = {
            "shop/update": shelf.shop_body(shop, self._now),
            "app/scopes_update": shelf.scopes_body(self._now),
            "bulk_operations/finish": shelf.bulk_body(number, self._now),
            "customers/redact": shelf.redaction_body(shop, number, (self._ids.take(),)),
            "customers/data_request": shelf.data_request_body(shop, number, (self._ids.take(),)),
            **{topic: {"id": self._ids.take()} for topic in _UNKNOWN_TOPICS},
        }
        self._tell(shop, (self._news(topic, body) for topic, body in bodies.items()))
        removal = shelf.checkout_removal_body(self._ids, shop.currency)
        self._undecided(self._dispatcher.deliver(shop, self._news("checkouts/delete", removal)))

    def _news(self, topic: str, body: JsonObject) -> Told:
        kind = "unknown_topic" if topic in _UNKNOWN_TOPICS else "news"
        return Told(topic, body, self._recently(), random_uuid(self._rng), kind)

    def _unreadable(self, wares: Wares) -> None:
        """Signed bodies that cannot be understood under their topic."""
        sale = make_sale(self._rng, wares, self._recently())
        order = order_body(sale, OrderMoment(sale.created_at, financial_status="paid"))
        product = shelf.product_body(wares.shop, wares.products[0], sale.created_at)
        level = shelf.level_body(self._ids.take(), 1, 3, sale.created_at)
        for bad in mischief.unreadable_bodies(order, product, level):
            parcel = Parcel(bad.topic, bad.body, sale.created_at, bad.kind)
            delivery = self._dispatcher.post(wares.shop, parcel)
            self._oracle.is_dead(delivery, bad.kind)
            self._pile.append(delivery)

    def _strangers(self, wares: Wares) -> None:
        """Good orders of a shop that nobody knows, signed with a secret that is known."""
        stranger = replace(wares.shop, domain="stranger-in-town.myshopify.com")
        sale = make_sale(self._rng, replace(wares, shop=stranger), self._recently())
        for told in ordering(self._rng, wares, sale, "card"):
            delivery = self._dispatcher.deliver(stranger, replace(told, kind="unknown_shop"))
            self._pile.append(delivery)

    def _gzipped(self, wares: Wares) -> None:
        product = shelf.make_product(self._rng, self._ids, wares.shop)
        body = shelf.product_body(wares.shop, product, self._recently())
        told = Told("products/update", body, self._now, random_uuid(self._rng), "gzip")
        self._undecided(self._dispatcher.deliver_gzipped(wares.shop, told))

    def _chunked(self, wares: Wares) -> None:
        """An order whose body comes in chunks, without a content length."""
        sale = make_sale(self._rng, wares, self._recently())
        for told in ordering(self._rng, wares, sale, "card"):
            body = serialised(told.body, self._rng)
            parcel = Parcel(told.topic, body, told.at, "order.chunked", told.event_id, (CHUNKED,))
            self._oracle.told(wares.shop, told.topic, told.body, told.at)
            self._pile.append(self._dispatcher.post(wares.shop, parcel))

    def _undecided(self, delivery: Delivery) -> None:
        self._oracle.is_either(delivery)
        self._pile.append(delivery)

    def _oversized(self, wares: Wares) -> None:
        body = b'{"note":"' + b"x" * mischief.OVERSIZED_BYTES + b'"}'
        parcel = Parcel("orders/updated", body, self._now, "oversized", expected_status=413)
        self._pile.append(self._dispatcher.post(wares.shop, parcel))

    def _stockkeeping(self, wares: Wares) -> Iterator[Told]:
        """A product's life or a burst of stock changes."""
        tell: Callable[[Wares], Iterator[Told]] = self._rng.choice(
            (self._product_life, self._stock_burst, self._item_life)
        )
        return tell(wares)

    def _product_life(self, wares: Wares) -> Iterator[Told]:
        """Created, changed twice within one second, sometimes deleted."""
        product = shelf.make_product(self._rng, self._ids, wares.shop)
        at = self._recently().replace(microsecond=0)
        yield self._catalog("products/create", shelf.product_body(wares.shop, product, at), at)
        for step in range(1, 3):
            later = at + timedelta(seconds=90, milliseconds=100 * step)
            renamed = replace(product, title=f"{product.title} No. {step}")
            body = shelf.product_body(wares.shop, renamed, later)
            yield self._catalog("products/update", body, later)
        if self._rng.random() < 0.3:
            gone = at + timedelta(hours=1)
            yield self._catalog("products/delete", {"id": product.product_id}, gone)

    def _stock_burst(self, _wares: Wares) -> Iterator[Told]:
        """Stock falling several times within one second, sometimes below zero or to untracked."""
        item, location = self._ids.take(), 24826418
        at = self._recently().replace(microsecond=0)
        left = self._rng.randrange(0, 20)
        connected = shelf.level_body(item, location, left, at - timedelta(minutes=1))
        yield self._catalog("inventory_levels/connect", connected, at - timedelta(minutes=1))
        for step in range(self._rng.randrange(2, 7)):
            now = at + timedelta(milliseconds=10 * step)
            available = None if self._rng.random() < 0.05 else left - step
            body = shelf.level_body(item, location, available, now)
            yield self._catalog("inventory_levels/update", body, now)

    def _item_life(self, wares: Wares) -> Iterator[Told]:
        """An inventory item created, changed and deleted, and a level that is disconnected."""
        variant = shelf.make_product(self._rng, self._ids, wares.shop).variants[0]
        at = self._recently()
        yield self._catalog("inventory_items/create", shelf.item_body(variant, at, None), at)
        later = at + timedelta(minutes=2)
        body = shelf.item_body(variant, later, "4.20")
        yield self._catalog("inventory_items/update", body, later)
        if self._rng.random() < 0.3:
            gone = at + timedelta(minutes=9)
            ended: JsonObject = {"id": variant.inventory_item_id}
            yield self._catalog("inventory_items/delete", ended, gone)
            left: JsonObject = {"inventory_item_id": self._ids.take(), "location_id": 24826418}
            yield self._catalog("inventory_levels/disconnect", left, gone)

    def _catalog(self, topic: str, body: JsonObject, at: datetime) -> Told:
        return Told(topic, body, at, random_uuid(self._rng), "catalog")

"""What must come of a storm, judged from what was told and from the rules alone.

The rules are restated here, on purpose, in other words than the suite's own: a purchase is due for
every order that any delivery shows as paid, unless a reason to stay silent holds; versions are
ordered by their instant and then by when they were triggered; paid and cancelled never revert.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import cast

from sandbox.shopify.model import Delivery, JsonObject, Shop

MAX_EVENT_AGE = timedelta(days=7)

# What a body must fit for each of these; all others are told by bodies of their own shape.
_ORDER_TOPICS = frozenset(
    f"orders/{verb}"
    for verb in ("create", "paid", "updated", "cancelled", "fulfilled", "partially_fulfilled")
)
_WAS_PAID = frozenset({"paid", "partially_refunded", "refunded"})
_SILENT_SOURCES = {
    "pos": "point_of_sale",
    "shopify_draft_order": "draft_order",
    "channel:tiktok-shop": "own_echo",
}


@dataclass(frozen=True)
class OrderState:
    """Where an order must stand when all is told. `updated_at` is None if only its end was told."""

    paid: bool = False
    cancelled: bool = False
    deleted: bool = False
    updated_at: datetime | None = None


@dataclass(frozen=True)
class CartAdditions:
    """The AddToCart events that are allowed for one variant in one cart.

    How many there are depends on the order of arrival; each must name a quantity that some version
    of the cart had. `required` says that at least one must come, the variant being in the cart's
    last version.
    """

    quantities: frozenset[int]
    required: bool

    def merged(self, other: CartAdditions) -> CartAdditions:
        return CartAdditions(self.quantities | other.quantities, self.required or other.required)


@dataclass
class Expected:
    """The verdict on a storm. Order and cart ids are strings; sets and maps are keyed by shop.

    `dead` and `either` hold webhook ids: `dead` must be dead-lettered; `either` may be
    dead-lettered or understood, since no rule decides. Everything else signed must not be dead.
    `totals` holds, for each purchase, the amounts that may be reported, as (currency, amount).
    """

    answers: Counter[int] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)
    purchases: dict[str, set[str]] = field(default_factory=dict)
    totals: dict[str, frozenset[tuple[str, str]]] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    checkouts: dict[str, set[str]] = field(default_factory=dict)
    additions: dict[str, dict[tuple[str, str], CartAdditions]] = field(default_factory=dict)
    orders: dict[str, dict[str, OrderState]] = field(default_factory=dict)
    stock: dict[str, dict[tuple[str, str], int | None]] = field(default_factory=dict)
    products_deleted: dict[str, set[str]] = field(default_factory=dict)
    dead: dict[str, str] = field(default_factory=dict)
    either: set[str] = field(default_factory=set)
    parked: Counter[str] = field(default_factory=Counter)

    def merge(self, other: Expected) -> None:
        """Takes in the verdict on another storm of the same shops, told of other resources."""
        for name in ("answers", "received", "parked", "either", "totals", "ignored", "dead"):
            getattr(self, name).update(getattr(other, name))
        for name in ("purchases", "checkouts", "additions", "orders", "stock", "products_deleted"):
            mine, theirs = getattr(self, name), getattr(other, name)
            for shop, found in theirs.items():
                mine.setdefault(shop, type(found)()).update(found)

    @property
    def purchase_count(self) -> int:
        """How many different purchases must arrive, over all shops."""
        return sum(len(found) for found in self.purchases.values())

    @property
    def checkout_count(self) -> int:
        return sum(len(found) for found in self.checkouts.values())


class Oracle:
    """Listens to everything that is told and answers what must come of it.

    Bodies are not kept, so that it can listen to any number of deliveries.
    """

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._seen: set[str] = set()
        self._orders: dict[tuple[str, str], _OrderRecord] = {}
        self._carts: dict[tuple[str, str], _CartRecord] = {}
        self._levels: dict[tuple[str, str, str], _Level] = {}
        self._expected = Expected()

    def answered(self, delivery: Delivery) -> None:
        """Counts one request, a repetition too."""
        self._expected.answers[delivery.expected_status] += 1
        if delivery.expected_status != 200 or delivery.webhook_id in self._seen:
            return
        self._seen.add(delivery.webhook_id)
        if delivery.kind == "unknown_shop":
            self._expected.parked[delivery.shop] += 1
        else:
            self._expected.received[delivery.shop] += 1

    def is_dead(self, delivery: Delivery, why: str) -> None:
        """This delivery must be stored and then dead-lettered."""
        self._expected.dead[delivery.webhook_id] = why

    def is_either(self, delivery: Delivery) -> None:
        """No rule says whether this delivery can be understood."""
        self._expected.either.add(delivery.webhook_id)

    def told(self, shop: Shop, topic: str, body: JsonObject, at: datetime) -> None:
        """Learns of a well-formed delivery."""
        domain = shop.domain
        if topic in _ORDER_TOPICS:
            self._order(domain, body).learn(body, shop, self._now)
        elif topic == "orders/delete":
            self._order(domain, body).deleted = True
        elif topic in {"checkouts/create", "checkouts/update"}:
            token = str(body["token"])
            self._expected.checkouts.setdefault(domain, set()).add(f"checkout.{token}")
        elif topic in {"carts/create", "carts/update"}:
            self._carts.setdefault((domain, str(body["token"])), _CartRecord()).learn(body)
        elif topic == "inventory_levels/update":
            self._level(domain, body, at)
        elif topic == "products/delete":
            self._expected.products_deleted.setdefault(domain, set()).add(str(body["id"]))

    def expected(self) -> Expected:
        """The verdict on all that was told so far."""
        found = self._expected
        for (domain, order_id), record in self._orders.items():
            _judge_order(found, domain, order_id, record)
        for (domain, token), cart in self._carts.items():
            found.additions.setdefault(domain, {}).update(cart.additions(token))
        for (domain, item, location), level in self._levels.items():
            found.stock.setdefault(domain, {})[item, location] = level.available
        return found

    def _order(self, domain: str, body: JsonObject) -> _OrderRecord:
        return self._orders.setdefault((domain, str(body["id"])), _OrderRecord())

    def _level(self, domain: str, body: JsonObject, at: datetime) -> None:
        key = (domain, str(body["inventory_item_id"]), str(body["location_id"]))
        version = (_instant(body["updated_at"]), at)
        available = cast("int | None", body["available"])
        kept = self._levels.get(key)
        if kept is None or version >= kept.version:
            self._levels[key] = _Level(version, available)


@dataclass(frozen=True)
class _Level:
    version: tuple[datetime, datetime]
    available: int | None


@dataclass
class _OrderRecord:
    """All that any delivery said of one order; the order of telling makes no difference."""

    shown_paid: bool = False
    was_paid: bool = False
    cancelled: bool = False
    deleted: bool = False
    updated_at: datetime | None = None
    silence: str | None = None
    totals: frozenset[tuple[str, str]] = frozenset()

    def learn(self, body: JsonObject, shop: Shop, now: datetime) -> None:
        at = _instant(body["updated_at"])
        self.updated_at = max(at, self.updated_at or at)
        self.shown_paid |= body["financial_status"] == "paid"
        self.was_paid |= body["financial_status"] in _WAS_PAID
        self.cancelled |= body["cancelled_at"] is not None
        self.silence = _reason_for_silence(body, shop, now)
        self.totals = _totals(body)


@dataclass
class _CartRecord:
    quantities: dict[str, set[int]] = field(default_factory=dict)
    newest: tuple[datetime, frozenset[str]] | None = None

    def learn(self, body: JsonObject) -> None:
        lines = cast("list[JsonObject]", body["line_items"])
        for line in lines:
            self.quantities.setdefault(str(line["variant_id"]), set()).add(_count(line))
        version = (_instant(body["updated_at"]), frozenset(str(x["variant_id"]) for x in lines))
        if self.newest is None or version[0] > self.newest[0]:
            self.newest = version

    def additions(self, token: str) -> dict[tuple[str, str], CartAdditions]:
        last = self.newest[1] if self.newest else frozenset()
        return {
            (token, variant): CartAdditions(frozenset(found), variant in last)
            for variant, found in self.quantities.items()
        }


def _judge_order(found: Expected, domain: str, order_id: str, record: _OrderRecord) -> None:
    found.orders.setdefault(domain, {})[order_id] = OrderState(
        record.was_paid, record.cancelled, record.deleted, record.updated_at
    )
    if record.shown_paid and record.silence:
        found.ignored[order_id] = record.silence
    elif record.shown_paid:
        event_id = f"purchase.{order_id}"
        found.purchases.setdefault(domain, set()).add(event_id)
        found.totals[event_id] = record.totals


def _reason_for_silence(body: JsonObject, shop: Shop, now: datetime) -> str | None:
    """Why a payment of this order is not reported; None if it is."""
    placed = _instant(body["processed_at"])
    if body["test"] is True:
        return "test_order"
    if source := _SILENT_SOURCES.get(str(body["source_name"])):
        return source
    if placed < shop.active_since:
        return "before_activation"
    return "too_old" if now - placed > MAX_EVENT_AGE else None


def _totals(body: JsonObject) -> frozenset[tuple[str, str]]:
    both = cast("dict[str, dict[str, str]]", body["total_price_set"])
    return frozenset((money["currency_code"], money["amount"]) for money in both.values())


def _count(line: JsonObject) -> int:
    quantity = line["quantity"]
    if not isinstance(quantity, int):
        raise TypeError(f"a cart line counts in whole pieces, not in {type(quantity).__name__}")
    return quantity


def _instant(value: object) -> datetime:
    return datetime.fromisoformat(str(value))

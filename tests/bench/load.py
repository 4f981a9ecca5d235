"""The load as data: what a generator process is asked to send, and what it found."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final

import msgspec
import phonenumbers

from sandbox.shopify import shelf
from sandbox.shopify.fiction import Person
from sandbox.shopify.model import Delivery, Ids, JsonObject, Shop
from sandbox.shopify.payloads import OrderMoment, Sale, checkout_body, order_body
from sandbox.shopify.shopper import Wares, make_sale, ordering
from sandbox.shopify.storm import default_shops, storm_waves
from sandbox.shopify.wire import Dispatcher, Parcel, random_uuid
from tests.bench.shops import bench_shop

_SEED: Final = 23
_BODIES: Final = 64
_PRODUCTS_EACH: Final = 12
_CHECKOUT_BYTES_MAX: Final = 6_000


class Job(msgspec.Struct, frozen=True):
    """One burst. `mix`: `same` (bodies of `body_bytes`), `storm`, `orders`, or `paid`.

    `paid` is an order a delivery, all of `shop`, a handle of `shops.bench_shop`.
    `watched` are groups of processes whose share of the processor is read while it lasts.
    """

    url: str
    mix: str
    count: int
    now_s: float
    connections: int = 64
    body_bytes: int = 4096
    round_number: int = 0
    shop: str = ""
    watched: dict[str, list[int]] = {}


class Burst(msgspec.Struct, frozen=True):
    """What came of one burst. `cores` has the generator's own share as `generator`."""

    seconds: float
    answered: int
    refused: int
    broken: int
    p50_ms: float
    p99_ms: float
    cores: dict[str, float]

    @property
    def per_s(self) -> float:
        """What was answered with 200: a refusal is quick, and is no throughput."""
        return (self.answered - self.refused) / self.seconds if self.seconds else 0.0


def deliveries_of(job: Job) -> Iterator[Delivery]:
    """The deliveries of a job; equal jobs give equal bytes.

    Raises:
        ValueError: the mix is unknown.
    """
    now = datetime.fromtimestamp(job.now_s, UTC)
    shops = default_shops(now)
    match job.mix:
        case "same":
            return _same(job, shops[0], now)
        case "storm":
            return _storm(job, shops, now)
        case "orders":
            return itertools.islice(_orders(shops, now), job.count)
        case "paid":
            return _paid(job, now)
        case _:
            raise ValueError(f"there is no mix {job.mix!r}")


def paid_orders(count: int, now: datetime, bytes_about: int = 8_192) -> Iterator[bytes]:
    """Raw orders/paid bodies of as many people; two lines where one makes them too small."""
    rng = Random(_SEED)
    wares = _wares(rng, default_shops(now)[0])
    areas = _fictional_areas()
    for number in range(count):
        drawn = make_sale(rng, wares, now - timedelta(minutes=5))
        sale = replace(drawn, person=_with_own_phone(drawn.person, number, areas))
        body = b""
        for lines in range(1, len(sale.lines) + 1):
            told = replace(sale, lines=sale.lines[:lines])
            smaller, body = body, _compact(_paid_order(told, now))
            if len(body) >= bytes_about:
                nearer = abs(len(smaller) - bytes_about) < abs(len(body) - bytes_about)
                body = smaller if nearer else body
                break
        yield body


def _fictional_areas() -> list[int]:
    """Area codes of the +1 countries; in each the numbers 555-0100 to 555-0199 are nobody's."""
    return [
        area
        for area in range(201, 990)
        if phonenumbers.is_valid_number(phonenumbers.parse(f"+1{area}5550100"))
    ]


def _with_own_phone(person: Person, number: int, areas: Sequence[int]) -> Person:
    """Everybody has a phone that nobody else has, so that no cache can know it already."""
    line, area = divmod(number, len(areas))
    local = f"{areas[area]}-555-{100 + line % 100:04d}"
    is_bare = person.country.code == "US" and number % 2
    return replace(person, phone=local if is_bare else f"+1 {local}")


def one_paid_order(rng: Random, shop: Shop, now: datetime, order_id: int) -> Delivery:
    """The first and only delivery of an order that was paid just now."""
    wares = _wares(rng, shop)
    sale = replace(make_sale(rng, wares, now), order_id=order_id)
    parcel = Parcel("orders/paid", _compact(_paid_order(sale, now)), now, "order.card")
    return Dispatcher(rng).post(shop, parcel)


def _same(job: Job, shop: Shop, now: datetime) -> Iterator[Delivery]:
    """Real-looking bodies of exactly one size, each delivery with a webhook id of its own."""
    rng = Random(f"{_SEED}/{job.round_number}")
    wares = _wares(rng, shop)
    small = job.body_bytes < _CHECKOUT_BYTES_MAX
    topic = "checkouts/update" if small else "orders/updated"
    dispatcher = Dispatcher(rng)
    pool: list[Delivery] = []
    while len(pool) < _BODIES:
        body = _sized(rng, wares, now, job.body_bytes)
        delivery = dispatcher.post(shop, Parcel(topic, body, now, "same"))
        # The bare handlers know one name of the signature's header, so all have that.
        if any(name == "X-Shopify-Hmac-Sha256" for name, _ in delivery.headers):
            pool.append(delivery)
    for number in range(job.count):
        first = pool[number % _BODIES]
        fresh = random_uuid(rng)
        headers = tuple(
            (name, fresh if name.lower().endswith("webhook-id") else value)
            for name, value in first.headers
        )
        yield replace(first, headers=headers)


def _sized(rng: Random, wares: Wares, now: datetime, size_bytes: int) -> bytes:
    """A checkout or an order with a note that makes it `size_bytes` long.

    Raises:
        ValueError: nothing that small is to be had.
    """
    for _ in range(1000):
        drawn = make_sale(rng, wares, now - timedelta(minutes=5))
        sale = replace(drawn, lines=drawn.lines[:1])
        body = (
            checkout_body(sale, now, contact_known=True)
            if size_bytes < _CHECKOUT_BYTES_MAX
            else _paid_order(sale, now)
        )
        missing = size_bytes - len(_compact({**body, "note": ""}))
        if missing >= 0:
            note = rng.randbytes(missing // 2 + 1).hex()[:missing]
            return _compact({**body, "note": note})
    raise ValueError(f"no body fits into {size_bytes} bytes")


def _storm(job: Job, shops: tuple[Shop, ...], now: datetime) -> Iterator[Delivery]:
    """A storm without what is refused at the door: forgeries and the oversized."""
    # A little more than asked for is brewed, because some of it is left out.
    waves = storm_waves(_SEED, job.count + job.count // 20 + 100, shops, now)
    good = (
        delivery
        for wave in waves
        for delivery in wave.deliveries
        if delivery.expected_status == 200
    )
    return itertools.islice(good, job.count)


def _orders(shops: tuple[Shop, ...], now: datetime) -> Iterator[Delivery]:
    """The deliveries of card orders, of one shop after another, without end."""
    rng = Random(_SEED)
    dispatcher = Dispatcher(rng)
    for wares in itertools.cycle([_wares(rng, shop, place) for place, shop in enumerate(shops)]):
        sale = make_sale(rng, wares, now - timedelta(hours=1))
        for told in ordering(rng, wares, sale, "card"):
            yield dispatcher.deliver(wares.shop, told)


def _paid(job: Job, now: datetime) -> Iterator[Delivery]:
    """The one delivery of each of as many orders of one shop, all paid just now."""
    shop = bench_shop(job.shop, now)
    dispatcher = Dispatcher(Random(_SEED))
    for body in paid_orders(job.count, now):
        yield dispatcher.post(shop, Parcel("orders/paid", body, now, "order.card"))


def _wares(rng: Random, shop: Shop, place: int = 0) -> Wares:
    ids = Ids(rng, 10**12 + place * 10**10)
    products = tuple(shelf.make_product(rng, ids, shop) for _ in range(_PRODUCTS_EACH))
    return Wares(shop, products, ids)


def _paid_order(sale: Sale, now: datetime) -> JsonObject:
    return order_body(sale, OrderMoment(now, financial_status="paid"))


def _compact(body: JsonObject) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()

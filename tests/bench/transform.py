"""Raw orders to the bytes of TikTok requests, in one process on one core, step by step."""

from __future__ import annotations

import gc
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from libs import phones
from libs.foundation import spare_collector
from libs.keys import MemoryKeySource
from libs.sealing import DataKey, seal, unseal
from services.events import facts
from services.events.domain import hashing
from services.events.domain.conversions import decide_purchase
from services.events.domain.dialects import dialect_of
from services.events.domain.model import Conversion, PaidOrder
from services.events.domain.settings import EventSettings
from services.ingest.normalize import (
    DeliveryMeta,
    Normalized,
    ShopContext,
    apply,
    normalize,
    parse_body,
)
from tests.bench.figures import Bound, Goal, number, spread, spread_text
from tests.bench.load import paid_orders
from tests.bench.options import Options
from tests.bench.report import Section, Table
from tidewire.commerce.v1 import fact_pb2

Say = Callable[[str], None]

ORDERS: Final = 6_000
ORDERS_QUICK: Final = 600
_BATCH: Final = 500
_GOAL_PER_S: Final = 2_000.0
_SHOP: Final = ShopContext(shop="aurora-goods", country="US", currency="USD")
_SETTINGS: Final = EventSettings(
    pixel_code="CBENCH", storefront_url="https://aurora-goods.myshopify.com", country="US"
)

STEPS: Final = (
    "parse",
    "build",
    "apply",
    "serialise",
    "seal and unseal",
    "adapter",
    "decide",
    "encode",
)
_MEANING: Final = (
    f"In batches of {_BATCH}. Steps: parse JSON; build the normalised order (with phone numbers to"
    " E.164); apply it to what is stored (nothing); serialise the fact; seal it (zstd, AES-GCM) and"
    " unseal it; adapter from protobuf to the domain; decide (admission, hashing, phones); encode"
    " the request. Building is normalising less parsing, which is timed alone."
)


@dataclass(slots=True)
class _Pass:
    """One pass over all orders: seconds by step, and of the whole, by clock and by processor."""

    steps_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STEPS, 0.0))
    wall_s: float = 0.0
    cpu_s: float = 0.0
    requests_bytes: int = 0


async def transform(options: Options, say: Say) -> list[Section]:
    """Cold and warm phone caches in turn."""
    count = ORDERS_QUICK if options.quick else ORDERS
    bodies = list(paid_orders(count, options.now))
    key = await MemoryKeySource().current(_SHOP.shop)
    now_s = options.now.timestamp()
    _pass(bodies[:_BATCH], key, now_s)
    passes: dict[str, list[_Pass]] = {"cold": [], "warm": []}
    for round_number in range(1, options.rounds + 1):
        for name, found in passes.items():
            if name == "cold":
                _forget_phones()
            found.append(_pass(bodies, key, now_s))
            rate = number(count / found[-1].wall_s)
            say(f"round {round_number}: {name} phone caches: {rate} orders/s")
    return [_section(passes, bodies)]


def _forget_phones() -> None:
    phones._e164.cache_clear()
    hashing._phone_hash.cache_clear()


def _pass(bodies: Sequence[bytes], key: DataKey, now_s: float) -> _Pass:
    found = _Pass()
    gc.collect()
    # As every service does when it is set up.
    spare_collector()
    for start in range(0, len(bodies), _BATCH):
        batch = bodies[start : start + _BATCH]
        _parse_alone(batch, found)
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        _one_batch(batch, key, now_s, found)
        found.wall_s += time.perf_counter() - wall_s
        found.cpu_s += time.process_time() - cpu_s
    return found


def _parse_alone(batch: Sequence[bytes], found: _Pass) -> None:
    """Times what `normalize` does first; outside the whole, which has it already."""
    began_s = time.process_time()
    for body in batch:
        parse_body(body)
    seconds = time.process_time() - began_s
    found.steps_s["parse"] += seconds
    found.steps_s["build"] -= seconds


def _one_batch(batch: Sequence[bytes], key: DataKey, now_s: float, found: _Pass) -> None:
    """The whole way of a batch, a step after the other. A step is timed once a batch."""
    lap = _Laps(found.steps_s)
    read = [_normalized(body, now_s) for body in batch]
    lap.ends("build")
    happened = [_paid_fact(one) for one in read]
    lap.ends("apply")
    written = [fact.SerializeToString() for fact in happened]
    lap.ends("serialise")
    sealed = [seal(one, key, associated=_SHOP.shop.encode()) for one in written]
    opened = [unseal(one, lambda _: key, associated=_SHOP.shop.encode()) for one in sealed]
    lap.ends("seal and unseal")
    orders = [_paid_order(one) for one in opened]
    lap.ends("adapter")
    decided = [decide_purchase(order, _SETTINGS, now_s) for order in orders]
    lap.ends("decide")
    conversions = [one for one in decided if isinstance(one, Conversion)]
    requests = dialect_of(_SETTINGS.dialect).encode(conversions, _SETTINGS)
    lap.ends("encode")
    assert len(conversions) == len(batch), "each of these orders is a purchase"
    found.requests_bytes += sum(len(request.body) for request in requests)


class _Laps:
    """Adds the processor time since the last call to a step."""

    def __init__(self, steps_s: dict[str, float]) -> None:
        self._steps_s = steps_s
        self._last_s = time.process_time()

    def ends(self, step: str) -> None:
        now_s = time.process_time()
        self._steps_s[step] += now_s - self._last_s
        self._last_s = now_s


def _normalized(body: bytes, now_s: float) -> Normalized:
    received = Timestamp()
    received.FromNanoseconds(int(now_s * 1e9))
    body_hash = int.from_bytes(hashlib.sha256(body).digest()[:8], "big")
    said = normalize("orders/paid", body, _SHOP, DeliveryMeta(body_hash, received, received))
    assert isinstance(said, Normalized)
    return said


def _paid_fact(said: Normalized) -> fact_pb2.Fact:
    found = apply(None, said).facts
    return next(one.fact for one in found if one.kind == "order_paid")


def _paid_order(opened: bytes) -> PaidOrder:
    return facts.paid_order(fact_pb2.Fact.FromString(opened).order_paid)


def _section(passes: dict[str, list[_Pass]], bodies: Sequence[bytes]) -> Section:
    count = len(bodies)
    goals = tuple(
        Goal(
            f"orders/s on one core, {name} phone caches",
            Bound.AT_LEAST,
            _GOAL_PER_S,
            spread([count / one.wall_s for one in found]),
        )
        for name, found in passes.items()
    )
    mean_bytes = sum(map(len, bodies)) / count
    what = (
        f"{count:,} orders of {mean_bytes:,.0f} bytes, each of a person with a phone of their own."
    )
    return Section(
        name="transform",
        title="Transform: raw order to TikTok request",
        goals=goals,
        tables=(_rates(passes, count), _shares(passes, count)),
        notes=(
            what,
            _MEANING,
        ),
        raw={
            name: [{"wall_s": one.wall_s, "cpu_s": one.cpu_s, **one.steps_s} for one in found]
            for name, found in passes.items()
        },
    )


def _rates(passes: dict[str, list[_Pass]], count: int) -> Table:
    rows = tuple(
        (
            name,
            spread_text(spread([count / one.wall_s for one in found])),
            spread_text(spread([count / one.cpu_s for one in found])),
        )
        for name, found in passes.items()
    )
    columns = ("phone caches", "orders/s by the clock", "orders/s of processor time")
    return Table("Whole way", columns, rows)


def _shares(passes: dict[str, list[_Pass]], count: int) -> Table:
    rows = tuple(
        (
            step,
            *(cell for found in passes.values() for cell in _share_cells(found, step, count)),
        )
        for step in STEPS
    )
    columns = ("step", "cold us", "cold share", "warm us", "warm share")
    return Table("Processor time of one order", columns, rows)


def _share_cells(found: Sequence[_Pass], step: str, count: int) -> tuple[str, str]:
    each_us = spread([one.steps_s[step] / count * 1e6 for one in found])
    share = spread([one.steps_s[step] / sum(one.steps_s.values()) for one in found])
    return spread_text(each_us), f"{share.median:.0%}"

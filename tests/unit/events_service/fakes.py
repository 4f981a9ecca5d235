"""The events service's surroundings, with behaviour of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from nats.aio.client import Client

from libs.bus import subjects
from libs.bus.burial import BurialPolicy, BurialWatch
from libs.bus.commit_log import MemoryLog
from libs.bus.consumer import Unit
from libs.clock import FakeClock
from libs.errors import Kind, ServiceError, permanent
from libs.gates import GateBook
from libs.limits import Limiter, Priority, Unlimited
from libs.telemetry import SpanRef, Telemetry
from services.events.domain.answers import Answered, Meaning, RefusedError
from services.events.domain.dialect import HttpRequest
from services.events.domain.event_ids import EventKind
from services.events.domain.model import Conversion
from services.events.domain.settings import DialectName, EventSettings
from services.events.gatekeeper import Gatekeeper
from services.events.ports import Pixel
from services.events.sender import Sender
from tidewire.commerce.v1 import (
    cart_pb2,
    checkout_pb2,
    fact_pb2,
    order_pb2,
    record_pb2,
    tracked_event_pb2,
)
from tidewire.common.v1 import money_pb2, sealed_pb2
from tidewire.delivery.v1 import gate_pb2, outcome_pb2

SHOP: Final = "example"
AT_S: Final = 1_790_000_000
THROTTLED: Final = ServiceError(Kind.THROTTLED, "upstream_40100", retry_after_s=5.0)
PIXEL_THROTTLED: Final = RefusedError(Kind.THROTTLED, 40132, "R0", None, "")
REVOKED: Final = ServiceError(Kind.AUTH, "upstream_40105")
TIMEOUT: Final = ServiceError(Kind.RETRYABLE, "upstream_timeout")
UNREACHABLE: Final = ServiceError(Kind.RETRYABLE, "upstream_unreachable")
DOWN: Final = ServiceError(Kind.RETRYABLE, "upstream_status_503")
NO_TOKEN: Final = ServiceError(Kind.AUTH, "access_token_missing")
AUTH_AWAY: Final = ServiceError(Kind.RETRYABLE, "rpc_unavailable")


def pixel(
    code: str = "C1",
    *,
    dialect: DialectName = DialectName.EVENT_TRACK,
    shadow: bool = False,
    active_since_s: int | None = None,
    offline_event_set_id: str | None = None,
    max_event_age_s: int | None = None,
) -> Pixel:
    settings = EventSettings(
        pixel_code=code,
        storefront_url="https://shop.example/",
        country="US",
        dialect=dialect,
        shadow=shadow,
        active_since_s=active_since_s,
        offline_event_set_id=offline_event_set_id,
        max_event_age_s=max_event_age_s or 7 * 86_400,
    )
    return Pixel(f"{SHOP}.events.{code}", f"events.{code}", settings)


def conversion(event_id: str, **changes: object) -> Conversion:
    made = Conversion(
        kind=EventKind.PURCHASE,
        name="Purchase",
        event_id=event_id,
        occurred_at_s=AT_S,
        contents=(),
        items=0,
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # a test names fields that exist


def refusal(code: int = 40002, at: int | None = None) -> RefusedError:
    return RefusedError(Kind.PERMANENT, code, "R0", at, "")


@dataclass
class FakeTikTok:
    """Refuses a request for the first bad event in it, as TikTok does; else says yes.

    `named` says whether the refusal tells which. `troubles` are met first, one a request.
    """

    bad: frozenset[str] = frozenset()
    named: bool = False
    troubles: list[ServiceError | None] = field(default_factory=list)
    down: dict[str, ServiceError] = field(default_factory=dict)
    """Connections whose every request fails so."""
    delivered: dict[str, list[str]] = field(default_factory=dict)
    """Event ids that were accepted, by connection."""
    requests: list[HttpRequest] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    meaning: Meaning = Meaning.DELIVERED
    sickening: frozenset[str] = frozenset()
    """Events that make TikTok fail, now and always."""
    wait: asyncio.Event | None = None
    """No answer before this is set."""
    clock: FakeClock | None = None
    takes_s: float = 0.0
    """How long an answer takes by `clock`."""

    async def send(
        self, request: HttpRequest, connection_id: str, headers: Mapping[str, str]
    ) -> Answered:
        self.requests.append(request)
        self.headers.append(headers)
        if self.clock is not None:
            self.clock.advance(self.takes_s)
        await (self.wait.wait() if self.wait else asyncio.sleep(0))
        trouble = self.troubles.pop(0) if self.troubles else None
        if trouble := trouble or self.down.get(connection_id):
            raise trouble
        ids = [one.event_id for one in request.conversions]
        if self.sickening.intersection(ids):
            raise RefusedError(Kind.RETRYABLE, 50000, "R0", None, "")
        first = next((place for place, one in enumerate(ids) if one in self.bad), None)
        if first is not None:
            raise refusal(at=first if self.named else None)
        self.delivered.setdefault(connection_id, []).extend(ids)
        return Answered(self.meaning, 0, f"R{len(self.requests)}")


@dataclass
class ClearOpener:
    """Payloads in clear; those that begin with `sealed` cannot be opened."""

    trouble: ServiceError | None = None

    async def open_bytes(self, payload: sealed_pb2.Payload, shop: str) -> bytes:
        if self.trouble is not None:
            raise self.trouble
        if payload.data.startswith(b"sealed"):
            raise permanent("unsealing_failed", "it was sealed for another shop")
        return payload.data


@dataclass
class FixedPixels:
    pixels: Sequence[Pixel]
    unusable: frozenset[str] = frozenset()
    """Sinks whose connection is there, with settings that do not fit."""

    def is_connected(self, shop: str, sink: str) -> bool:
        return sink in self.unusable or sink in {one.sink for one in self.of_shop(shop)}

    def of_shop(self, shop: str) -> Sequence[Pixel]:
        return self.pixels if shop == SHOP else ()


@dataclass
class ListedDeadLetters:
    """Keeps letters in `log`, or fails with `trouble`."""

    log: list[str] = field(default_factory=list)
    letters: list[outcome_pb2.DeadLetter] = field(default_factory=list)
    trouble: ServiceError | None = None

    async def store(self, letter: outcome_pb2.DeadLetter) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.letters.append(letter)
        self.log.append(f"letter {letter.sink} {letter.unit}")


@dataclass
class ListedParking:
    """Keeps references in `units`, or fails with `trouble`; `busy` have something waiting."""

    log: list[str] = field(default_factory=list)
    units: list[gate_pb2.ParkedUnit] = field(default_factory=list)
    busy: set[str] = field(default_factory=set)
    trouble: ServiceError | None = None

    def is_behind(self, connection_id: str) -> bool:
        return connection_id in self.busy

    async def park(self, units: Sequence[gate_pb2.ParkedUnit]) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.units += units
        self.log += [f"parked {one.sink} {one.unit}" for one in units]


@dataclass
class FixedMarks:
    marks: dict[str, str] = field(default_factory=dict)

    async def mark(self, connection_id: str) -> str:
        return self.marks.get(connection_id, "m1")


@dataclass
class RecordingLimiter(Unlimited):
    """Says no with `trouble`; keeps what it was asked and told."""

    trouble: ServiceError | None = None
    troubles: list[ServiceError] = field(default_factory=list)
    """Met first, one a call."""
    asked: list[tuple[Priority, str, tuple[str, ...]]] = field(default_factory=list)
    reported: list[tuple[tuple[str, ...], float | None, str]] = field(default_factory=list)

    async def turn(
        self,
        limits: Sequence[str],
        *,
        weight: int = 1,
        priority: Priority = Priority.LIVE,
        shop: str = "",
        max_wait_s: float = 1.0,
    ) -> None:
        self.asked.append((priority, shop, tuple(limits)))
        trouble = self.troubles.pop() if self.troubles else self.trouble
        if trouble is not None:
            raise trouble

    async def report(
        self, limits: Sequence[str], *, retry_after_s: float | None, code: str
    ) -> None:
        self.reported.append((tuple(limits), retry_after_s, code))


def gates_of(clock: FakeClock) -> GateBook:
    """Gates that nobody else writes; they never follow, so they need no server."""
    return GateBook(Client(), MemoryLog(), clock, Telemetry.null().metrics)


def burials_of(clock: FakeClock, *, units_max: int = 0) -> BurialWatch:
    """A watch of one shop; by default one that stops nothing."""
    return BurialWatch(clock, BurialPolicy(units_max=units_max), shops_known=lambda: 1)


def sender_of(
    tiktok: FakeTikTok,
    telemetry: Telemetry,
    *,
    limiter: Limiter | None = None,
    gatekeeper: Gatekeeper | None = None,
    clock: FakeClock | None = None,
) -> Sender:
    clock = clock or FakeClock()
    if gatekeeper is None:
        gatekeeper = Gatekeeper(gates_of(clock), FixedMarks(), clock)
    return Sender(
        tiktok, limiter or Unlimited(), gatekeeper, telemetry.tracer, telemetry.metrics, clock
    )


# -- facts ---------------------------------------------------------------------------------------


def order_paid(
    order_id: str = "98765", *, paid_at_s: int = AT_S, **changes: object
) -> fact_pb2.Fact:
    order = order_pb2.Order(
        order_id=order_id,
        total=usd(5_000),
        checkout_token="c0ffee",
        source_name="web",
        email="alice@example.com",
        line_items=[item()],
        **changes,  # type: ignore[arg-type]
    )
    return fact_pb2.Fact(
        order_paid=fact_pb2.OrderPaid(order=order, paid_at=Timestamp(seconds=paid_at_s))
    )


def cart_grew(*variants: str) -> fact_pb2.Fact:
    """A cart to which one unit of each variant was added."""
    lines = [item(variant) for variant in variants]
    cart = cart_pb2.Cart(cart_token="ca47", line_items=lines, updated_at=Timestamp(seconds=AT_S))
    added = [fact_pb2.AddedLine(line=line, quantity_before=0) for line in lines]
    return fact_pb2.Fact(cart_lines_added=fact_pb2.CartLinesAdded(cart=cart, lines=added))


def checkout_started() -> fact_pb2.Fact:
    checkout = checkout_pb2.Checkout(
        checkout_token="c0ffee",
        total=usd(5_000),
        line_items=[item()],
        created_at=Timestamp(seconds=AT_S),
    )
    return fact_pb2.Fact(checkout_started=fact_pb2.CheckoutStarted(checkout=checkout))


def tracked(*events: tracked_event_pb2.TrackedEvent, pixel_code: str = "") -> fact_pb2.Fact:
    return fact_pb2.Fact(
        events_tracked=fact_pb2.EventsTracked(events=events, pixel_code=pixel_code)
    )


def event(event_id: str, at_s: int = AT_S) -> tracked_event_pb2.TrackedEvent:
    return tracked_event_pb2.TrackedEvent(
        event="Subscribe",
        event_id=event_id,
        occurred_at=Timestamp(seconds=at_s),
        page_url="https://shop.example/club",
    )


def item(variant_id: str = "401") -> order_pb2.LineItem:
    return order_pb2.LineItem(
        line_id=f"L{variant_id}",
        variant_id=variant_id,
        sku="SHOE",
        quantity=1,
        unit_price=usd(5_000),
    )


def usd(minor: int) -> money_pb2.MoneyPair:
    return money_pb2.MoneyPair(shop=money_pb2.Money(amount_minor=minor, currency="USD"))


def unit(
    fact: fact_pb2.Fact | bytes,
    fact_id: str = "98765",
    *,
    shop: str = SHOP,
    attempts: int = 0,
    redelivered: bool = False,
    trace: SpanRef | None = None,
    sinks: Sequence[str] = (),
    replay_of: str = "",
    only_event_ids: Sequence[str] = (),
) -> Unit:
    """A fact, or bytes that are none, as it comes from the bus."""
    data = fact if isinstance(fact, bytes) else fact.SerializeToString()
    kind = "order_paid" if isinstance(fact, bytes) else str(fact.WhichOneof("happened"))
    record = record_pb2.FactRecord(
        fact_id=fact_id,
        shop=shop,
        kind=kind,
        delivery_id=f"w-{fact_id}",
        traceparent=trace.traceparent() if trace else "",
        payload=sealed_pb2.Payload(data=data),
        received_at=Timestamp(seconds=AT_S),
        sinks=sinks,
        replay_of=replay_of,
        only_event_ids=only_event_ids,
    )
    subject = subjects.fact(kind, shop, fact_id)
    return Unit(subject, 1, record.SerializeToString(), attempts, redelivered)

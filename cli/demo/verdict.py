"""The verdict: what the suite says of itself against what the simulators saw. Pure.

Each check compares sides that were counted by different code: the suite's streams, the sandbox's
ledger, and the oracle of the storm, which knows only what was told and the rules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, NamedTuple

from cli.demo.scenery import PixelPlan
from cli.demo.shelves import KIND
from libs.connections import shop_handle
from libs.ledger import Ledger
from sandbox.shopify.model import Delivery
from sandbox.shopify.oracle import Expected, OrderState
from sandbox.shopify.sender import Sent
from tidewire.commerce.v1 import record_pb2
from tidewire.delivery.v1 import outcome_pb2

DIFFERENCES_SHOWN: Final = 10

_MAYBE_DELIVERED: Final = (
    outcome_pb2.OUTCOME_KIND_DELIVERED,
    outcome_pb2.OUTCOME_KIND_DELIVERED_UNCERTAIN,
)

_TOLD_BY_ITSELF: Final = "00000000-0000-4000-8000-"
"""How ids of deliveries begin that the simulator makes on its own, because an export has ended."""


class DeliveryKey(NamedTuple):
    """A delivery, as both sides know it."""

    shop: str
    """The shop's handle, or what came in its place."""
    delivery_id: str


class EventKey(NamedTuple):
    """An event, as TikTok tells it from others."""

    pixel: str
    event: str
    event_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that the verdict is made of."""

    ledger: Ledger
    seen: Sequence[record_pb2.SeenRecord]
    outcomes: Sequence[outcome_pb2.Outcome]
    parked: AbstractSet[DeliveryKey]
    buried: AbstractSet[DeliveryKey]
    """Deliveries that ingest has set aside in the dead letters."""

    orders: Mapping[tuple[str, str], OrderState]
    """Where each order stands, by shop's handle and order id."""

    stock: Mapping[tuple[str, str, str], int | None]
    """What is available, by shop's handle, inventory item and location."""

    products_deleted: AbstractSet[tuple[str, str]]
    """By shop's handle and product id."""

    sandbox: Mapping[str, Any]
    """TikTok's own ledger, in full."""

    sent: Sequence[Sent]
    expected: Expected
    """Of the storm; nobody foretells what becomes of recorded payloads."""

    pixels: Sequence[PixelPlan]
    """Those of the storm's shops."""

    unit_sinks: Mapping[str, int]
    """How many sinks each shop has, by handle, of all connected shops."""

    played: AbstractSet[str] = frozenset()
    """What TikTok was made to answer, as its ledger labels it: no refusal of its own."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold. `differences` is empty where it does."""

    name: str
    numbers: str
    differences: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.differences

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; at most `DIFFERENCES_SHOWN` differences."""
        return {
            "name": self.name,
            "passed": self.passed,
            "numbers": self.numbers,
            "differences": list(self.differences[:DIFFERENCES_SHOWN]),
            "differences_total": len(self.differences),
        }


def judge(evidence: Evidence) -> list[Check]:
    """Every check, in the order in which a person wants to know."""
    return [check(evidence) for check in CHECKS]


# -- the suite's own books -----------------------------------------------------------------------


def ledger_balances(evidence: Evidence) -> Check:
    """Units received = delivered + uncertain + ignored + dead, and nothing is on its way."""
    found = evidence.ledger
    in_flight = found.in_flight.total()
    wrong = []
    if not found.balanced:
        wrong.append(f"{found.received} received, {found.ended} ended, {in_flight} in flight")
    if in_flight:
        wrong.append(f"{in_flight} units are still in flight")
    if found.unaccounted:
        wrong.append(f"{found.unaccounted} units have no outcome and are found nowhere")
    numbers = (
        f"{found.received:,} units = {found.delivered:,} delivered"
        f" + {found.delivered_uncertain:,} uncertain + {found.ignored.total():,} ignored"
        f" + {found.dead.total():,} dead + {in_flight:,} in flight"
    )
    return Check("the ledger balances", numbers, tuple(wrong))


def units_are_complete(evidence: Evidence) -> Check:
    """One unit for each distinct delivery of a connected shop and each pixel of that shop."""
    answered = _answered_200(evidence)
    wanted = sum(evidence.unit_sinks.get(key.shop, 0) for key in answered)
    found = evidence.ledger.received
    wrong = (
        () if found == wanted else (f"{found:,} units in the ledger, {wanted:,} by the answers",)
    )
    return Check("the ledger holds a unit for each delivery and pixel", f"{found:,}", wrong)


def nothing_vanished(evidence: Evidence) -> Check:
    """Whatever was answered 200 was decided or parked, and nothing else was."""
    known = {DeliveryKey(one.shop, one.delivery_id) for one in evidence.seen} | evidence.parked
    return _equal(
        "every delivery answered 200 is accounted for",
        {"/".join(key) for key in known if not key.delivery_id.startswith(_TOLD_BY_ITSELF)},
        {"/".join(key) for key in _answered_200(evidence)},
    )


# -- the answers ---------------------------------------------------------------------------------


def answers_are_right(evidence: Evidence) -> Check:
    """200 for what is signed, 401 for what is not, 413 for what is too large."""
    wrong = [
        f"{sent.delivery.kind} {sent.delivery.topic} {sent.delivery.webhook_id}:"
        f" answered {sent.status}, should be {sent.delivery.expected_status}"
        for sent in evidence.sent
        if sent.status != sent.delivery.expected_status
    ]
    of_storm = Counter(one.status for one in evidence.sent if _is_foretold(one.delivery))
    if of_storm.total() != evidence.expected.answers.total():
        wrong.append(
            f"{of_storm.total():,} deliveries of {evidence.expected.answers.total():,} ended"
        )
    counts = Counter(str(one.status) for one in evidence.sent)
    numbers = ", ".join(f"{count:,} of {status}" for status, count in sorted(counts.items()))
    return Check("every request got the right answer", numbers, tuple(wrong))


def _is_foretold(delivery: Delivery) -> bool:
    """Whether it is the storm's, of which the oracle knows how many there are."""
    return delivery.kind.partition(":")[0] not in {"corpus", KIND}


# -- against TikTok's ledger ---------------------------------------------------------------------


def delivered_is_what_arrived(evidence: Evidence) -> Check:
    """Delivered by our outcomes = accepted by TikTok, event by event, both ways."""
    arrived = _arrived(evidence)
    sure = _delivered(evidence, (outcome_pb2.OUTCOME_KIND_DELIVERED,))
    maybe = _delivered(evidence, _MAYBE_DELIVERED)
    wrong = [
        f"delivered by our outcomes, unknown to TikTok: {_named(k)}" for k in sorted(sure - arrived)
    ]
    wrong += [f"at TikTok, not in our outcomes: {_named(k)}" for k in sorted(arrived - maybe)]
    name = "what we call delivered is what TikTok received"
    return Check(name, f"{len(sure):,} here, {len(arrived):,} there", tuple(wrong))


def nothing_was_refused(evidence: Evidence) -> Check:
    """TikTok took every event at once."""
    found = evidence.sandbox
    wrong = [
        f"request {one['request']}: {one['label']} at {one['field'] or 'the request'},"
        f" {one['events']} events"
        for one in found.get("refusals", ())
        if one["label"] not in evidence.played
    ]
    if found["events_dropped"] and not evidence.played:
        wrong.append(f"{found['events_dropped']} events were dropped")
    if found["events_refused"] and not found.get("refusals"):
        wrong.append(f"{found['events_refused']} events were refused")
    return Check("TikTok refused nothing", f"{found['requests']:,} requests", tuple(wrong))


# -- against the oracle --------------------------------------------------------------------------


def purchases_are_exact(evidence: Evidence) -> Check:
    """At each pixel the purchases of its shop, all of them and no other."""
    expected = evidence.expected.purchases
    wanted = {
        EventKey(pixel.code, pixel.purchase_event, event_id)
        for pixel in evidence.pixels
        for event_id in expected.get(pixel.shop, ())
    }
    names = {pixel.purchase_event for pixel in evidence.pixels}
    return _equal_events("purchases are the oracle's", evidence, names, wanted)


def amounts_are_right(evidence: Evidence) -> Check:
    """Each purchase carries the order's total, in the shop's or the shopper's currency."""
    codes = {pixel.code for pixel in evidence.pixels}
    wrong, judged = [], 0
    for event in evidence.sandbox["events"]:
        key = EventKey(*event["key"])
        allowed = evidence.expected.totals.get(key.event_id)
        if key.pixel not in codes or allowed is None or event["value"] is None:
            continue
        judged += 1
        amounts = {(currency, Decimal(amount)) for currency, amount in allowed}
        if (event["currency"], Decimal(str(event["value"]))) not in amounts:
            shown = " or ".join(f"{amount} {currency}" for currency, amount in sorted(allowed))
            wrong.append(f"{_named(key)}: {event['value']} {event['currency']}, should be {shown}")
    return Check("amounts of purchases are the orders' totals", f"{judged:,}", tuple(wrong))


def checkouts_are_exact(evidence: Evidence) -> Check:
    """At each pixel the started checkouts of its shop, all of them and no other."""
    expected = evidence.expected.checkouts
    wanted = {
        EventKey(pixel.code, "InitiateCheckout", event_id)
        for pixel in evidence.pixels
        for event_id in expected.get(pixel.shop, ())
    }
    return _equal_events("checkouts are the oracle's", evidence, {"InitiateCheckout"}, wanted)


def additions_are_allowed(evidence: Evidence) -> Check:
    """Each AddToCart names a quantity that the cart had; what a last cart holds was reported."""
    found = _of_storm(evidence, {"AddToCart"})
    wrong: list[str] = []
    for pixel in evidence.pixels:
        wrong += _additions_at(
            pixel, evidence.expected, {k for k in found if k.pixel == pixel.code}
        )
    required = sum(
        addition.required
        for pixel in evidence.pixels
        for addition in evidence.expected.additions.get(pixel.shop, {}).values()
    )
    numbers = f"{len(found):,} events, at least {required:,} needed"
    return Check("additions to carts are within the oracle's bounds", numbers, tuple(wrong))


def _additions_at(
    pixel: PixelPlan, expected: Expected, found: AbstractSet[EventKey]
) -> Iterator[str]:
    allowed = expected.additions.get(pixel.shop, {})
    reported = set()
    for key in sorted(found):
        cart, variant, quantity = _addition(key.event_id)
        addition = allowed.get((cart, variant))
        if addition is None or quantity not in addition.quantities:
            yield f"no version of the cart had it: {_named(key)}"
        reported.add((cart, variant))
    for (cart, variant), addition in sorted(allowed.items()):
        if addition.required and (cart, variant) not in reported:
            yield f"missing: {pixel.code} atc.{cart}.{variant}.*"


def silence_has_its_reason(evidence: Evidence) -> Check:
    """Paid orders that are not reported, each with the oracle's reason, at each pixel."""
    codes = {f"events.{pixel.code}": pixel for pixel in evidence.pixels}
    found = {
        f"{codes[one.sink].code} order {one.unit.removeprefix('order_paid.')}: {one.reason}"
        for one in evidence.outcomes
        if one.sink in codes
        and one.unit.startswith("order_paid.")
        and one.kind == outcome_pb2.OUTCOME_KIND_IGNORED
    }
    expected = evidence.expected
    wanted = {
        f"{pixel.code} order {order_id}: {expected.ignored[order_id]}"
        for pixel in evidence.pixels
        for order_id in expected.orders.get(pixel.shop, {}).keys() & expected.ignored.keys()
    }
    return _equal("paid orders that are not reported have the oracle's reason", found, wanted)


def dead_are_the_unreadable(evidence: Evidence) -> Check:
    """Dead are those that nobody can read, and no others; on some the rules leave a choice."""
    handles = {_handle(pixel.shop) for pixel in evidence.pixels}
    dead = {
        one.delivery_id: one.reason
        for one in evidence.seen
        if one.result == record_pb2.SEEN_RESULT_DEAD and one.shop in handles
    }
    expected = evidence.expected
    wrong = [
        f"is dead ({reason}) and should not be: {delivery_id}"
        for delivery_id, reason in sorted(dead.items())
        if delivery_id not in expected.dead and delivery_id not in expected.either
    ]
    wrong += [
        f"should be dead ({why}) and is not: {delivery_id}"
        for delivery_id, why in sorted(expected.dead.items())
        if delivery_id not in dead
    ]
    numbers = (
        f"{len(dead):,}, of which {len(expected.dead):,} must be"
        f" and {len(dead.keys() & expected.either):,} may be"
    )
    return Check("dead are the oracle's unreadable deliveries", numbers, tuple(wrong))


def dead_are_kept(evidence: Evidence) -> Check:
    """What is dead can be looked at: it is in the dead letters, and nothing else of ingest is."""
    dead = {
        f"{one.shop}/{one.delivery_id}"
        for one in evidence.seen
        if one.result == record_pb2.SEEN_RESULT_DEAD
    }
    kept = {"/".join(key) for key in evidence.buried}
    return _equal("every dead delivery is in the dead letters", kept, dead)


def parked_are_the_strangers(evidence: Evidence) -> Check:
    """Parked are the deliveries of shops that nobody has connected."""
    found = Counter(key.shop for key in evidence.parked)
    wanted = Counter({_handle(d): n for d, n in evidence.expected.parked.items()})
    wrong = [
        f"{shop}: {found[shop]} parked, should be {wanted[shop]}"
        for shop in sorted(found.keys() | wanted.keys())
        if found[shop] != wanted[shop]
    ]
    name = "parked are the deliveries of unknown shops"
    return Check(name, f"{found.total():,} of {wanted.total():,}", tuple(wrong))


def orders_have_converged(evidence: Evidence) -> Check:
    """Whatever the order of arrival, each order stands where its newest version and its end say."""
    wanted = {
        (_handle(domain), order_id): state
        for domain, orders in evidence.expected.orders.items()
        for order_id, state in orders.items()
    }
    handles = {shop for shop, _ in wanted}
    wrong = [
        f"{shop} order {order_id}: {shown}"
        for (shop, order_id), state in sorted(wanted.items())
        if (shown := _order_differs(evidence.orders.get((shop, order_id)), state))
    ]
    wrong += [
        f"{shop} order {order_id}: nobody told of it"
        for shop, order_id in sorted(evidence.orders.keys() - wanted.keys())
        if shop in handles
    ]
    return Check("orders stand where the oracle says", f"{len(wanted):,} orders", tuple(wrong))


def _order_differs(found: OrderState | None, wanted: OrderState) -> str:
    """What differs; "" for nothing. A deleted order has the time of its end, told by no body."""
    if found is None:
        return "is missing"
    names = ("paid", "cancelled", "deleted", *(() if wanted.deleted else ("updated_at",)))
    return ", ".join(
        f"{name} is {getattr(found, name)}, should be {getattr(wanted, name)}"
        for name in names
        if getattr(found, name) != getattr(wanted, name)
    )


def stock_has_converged(evidence: Evidence) -> Check:
    """Each level holds what its newest version says, and deleted products stay deleted."""
    wanted = {
        (_handle(domain), *place): available
        for domain, levels in evidence.expected.stock.items()
        for place, available in levels.items()
    }
    wrong = [
        f"{'/'.join(key)}: {evidence.stock.get(key, 'missing')}, should be {available}"
        for key, available in sorted(wanted.items())
        if evidence.stock.get(key, "missing") != available
    ]
    gone = {
        (_handle(domain), product_id)
        for domain, products in evidence.expected.products_deleted.items()
        for product_id in products
    }
    wrong += [
        f"{'/'.join(key)}: a deleted product lives"
        for key in sorted(gone - evidence.products_deleted)
    ]
    numbers = f"{len(wanted):,} levels, {len(gone):,} deleted products"
    return Check("stock and products stand where the oracle says", numbers, tuple(wrong))


CHECKS: Final[Sequence[Callable[[Evidence], Check]]] = (
    ledger_balances,
    units_are_complete,
    answers_are_right,
    nothing_vanished,
    delivered_is_what_arrived,
    nothing_was_refused,
    purchases_are_exact,
    amounts_are_right,
    checkouts_are_exact,
    additions_are_allowed,
    silence_has_its_reason,
    dead_are_the_unreadable,
    dead_are_kept,
    parked_are_the_strangers,
    orders_have_converged,
    stock_has_converged,
)
"""Each with a test that sees it fail."""


# -- shared --------------------------------------------------------------------------------------


def _equal(name: str, found: AbstractSet[str], wanted: AbstractSet[str]) -> Check:
    wrong = [f"missing: {one}" for one in sorted(wanted - found)]
    wrong += [f"not expected: {one}" for one in sorted(found - wanted)]
    return Check(name, f"{len(found & wanted):,} of {len(wanted):,}", tuple(wrong))


def _equal_events(
    name: str, evidence: Evidence, events: AbstractSet[str], wanted: AbstractSet[EventKey]
) -> Check:
    found = _of_storm(evidence, events)
    return _equal(name, {_named(key) for key in found}, {_named(key) for key in wanted})


def _of_storm(evidence: Evidence, events: AbstractSet[str]) -> set[EventKey]:
    codes = {pixel.code for pixel in evidence.pixels}
    return {k for k in _arrived(evidence) if k.pixel in codes and k.event in events}


def _arrived(evidence: Evidence) -> set[EventKey]:
    return {EventKey(*event["key"]) for event in evidence.sandbox["events"]}


def _delivered(
    evidence: Evidence, kinds: Sequence[outcome_pb2.OutcomeKind.ValueType]
) -> set[EventKey]:
    return {
        EventKey(outcome.sink.removeprefix("events."), event.event, event.event_id)
        for outcome in evidence.outcomes
        for event in outcome.events
        if event.kind in kinds
    }


def _answered_200(evidence: Evidence) -> set[DeliveryKey]:
    return {
        DeliveryKey(_handle(sent.delivery.shop), sent.delivery.webhook_id)
        for sent in evidence.sent
        if sent.status == 200
    }


def _handle(domain: str) -> str:
    return shop_handle(domain) or domain


def _named(key: EventKey) -> str:
    return " ".join(key)


def _addition(event_id: str) -> tuple[str, str, int]:
    """Cart, variant and quantity of `atc.<cart>.<variant>.<quantity>`; -1 where it has none."""
    head, _, quantity = event_id.rpartition(".")
    head, _, variant = head.rpartition(".")
    cart = head.removeprefix("atc.")
    return cart, variant, int(quantity) if quantity.isdigit() else -1

"""What a fault has cost: the simulator's ledger against the oracle and against our outcomes. Pure.

An event counts as arrived only where the simulator's ledger has it. Our own outcomes are read for
one question alone: whether we called done what never arrived.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Final

from cli.demo.scenery import PixelPlan
from cli.demo.verdict import EventKey
from sandbox.shopify.oracle import CartAdditions, Expected
from tidewire.delivery.v1 import outcome_pb2

SERVICE_WITHIN_S: Final = 30.0
"""From the end of a fault until everything works again, with no restart and no human."""

DEDUP_WINDOW_S: Final = 48 * 3600.0

_ENDED: Final = (
    outcome_pb2.OUTCOME_KIND_DELIVERED_UNCERTAIN,
    outcome_pb2.OUTCOME_KIND_DEAD,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """Both sides, when all has come to rest or its time is over."""

    arrived: Sequence[Mapping[str, Any]]
    """Events that the simulator has accepted, in order, as its ledger shows them."""

    outcomes: Sequence[outcome_pb2.Outcome]
    due: Expected
    """What must have come of all that was sent under this fault."""

    known: Expected
    """What may have come of all that was ever sent to this simulator."""

    pixels: Sequence[PixelPlan]
    refused: AbstractSet[EventKey] = frozenset()
    """Events that the simulator refuses for good: they must end, and not as delivered."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Each entry names one event. Nothing of it may be."""

    lost: tuple[str, ...] = ()
    falsely_done: tuple[str, ...] = ()
    duplicates: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.lost or self.falsely_done or self.duplicates)


def judge(books: Books) -> Costs:
    """All that the fault has cost."""
    arrived = keys_of(books.arrived)
    return Costs(
        lost=tuple(_lost(books, arrived)),
        falsely_done=tuple(_falsely_done(books, arrived)),
        duplicates=tuple(_duplicates(books, arrived)),
    )


def keys_of(events: Iterable[Mapping[str, Any]]) -> set[EventKey]:
    """What TikTok tells events apart by."""
    return {EventKey(*event["key"]) for event in events}


def missing(due: Expected, pixels: Sequence[PixelPlan], arrived: AbstractSet[EventKey]) -> set[str]:
    """What is due at the pixels and has not arrived, in words."""
    wanted = {
        key
        for pixel in pixels
        for key in (
            *_keys(pixel, pixel.purchase_event, due.purchases),
            *_keys(pixel, "InitiateCheckout", due.checkouts),
        )
    }
    return {named(key) for key in wanted - arrived} | set(_missing_additions(due, pixels, arrived))


def named(key: EventKey) -> str:
    """An event in words."""
    return " ".join(key)


def _lost(books: Books, arrived: AbstractSet[EventKey]) -> Iterator[str]:
    refused = {named(key) for key in books.refused}
    yield from sorted(missing(books.due, books.pixels, arrived) - refused)
    ended = _recorded(books.outcomes, _ENDED)
    for key in sorted(books.refused - arrived - ended):
        yield f"{named(key)} (refused by TikTok, and nothing is recorded of it)"


def _falsely_done(books: Books, arrived: AbstractSet[EventKey]) -> Iterator[str]:
    done = _recorded(books.outcomes, (outcome_pb2.OUTCOME_KIND_DELIVERED,))
    yield from sorted(map(named, done - arrived))


def _duplicates(books: Books, arrived: AbstractSet[EventKey]) -> Iterator[str]:
    """What TikTok counts twice: its key and its 48 hours let it through, or it never happened."""
    counted = Counter(_counted(books.arrived))
    yield from sorted(f"{named(key)} (counted {n} times)" for key, n in counted.items() if n > 1)
    names = defaultdict(set)
    for key in arrived:
        names[key.pixel, key.event_id].add(key.event)
    for (pixel, event_id), under in sorted(names.items()):
        if len(under) > 1:
            yield f"{pixel} {event_id} (under {' and '.join(sorted(under))})"
    codes = {pixel.code: pixel for pixel in books.pixels}
    for key in sorted(arrived):
        if key.pixel in codes and not _is_explained(key, codes[key.pixel], books.known):
            yield f"{named(key)} (nothing called for it)"


def _counted(events: Iterable[Mapping[str, Any]]) -> Iterator[EventKey]:
    """Each conversion that TikTok counts, worked out here and not taken from the simulator."""
    first_s: dict[EventKey, float] = {}
    for event in sorted(events, key=lambda one: float(one["received_at"])):
        key, received_s = EventKey(*event["key"]), float(event["received_at"])
        if key not in first_s or received_s - first_s[key] >= DEDUP_WINDOW_S:
            first_s[key] = received_s
            yield key


def _is_explained(key: EventKey, pixel: PixelPlan, known: Expected) -> bool:
    if key.event == "AddToCart":
        cart, variant, quantity = _addition(key.event_id)
        allowed = known.additions.get(pixel.shop, {}).get((cart, variant))
        return allowed is not None and quantity in allowed.quantities
    due = known.checkouts if key.event == "InitiateCheckout" else known.purchases
    named_right = key.event in {"InitiateCheckout", pixel.purchase_event}
    return named_right and key.event_id in due.get(pixel.shop, ())


def _keys(pixel: PixelPlan, event: str, due: Mapping[str, AbstractSet[str]]) -> Iterator[EventKey]:
    return (EventKey(pixel.code, event, event_id) for event_id in due.get(pixel.shop, ()))


def _missing_additions(
    due: Expected, pixels: Sequence[PixelPlan], arrived: AbstractSet[EventKey]
) -> Iterator[str]:
    reported = {
        (key.pixel, *_addition(key.event_id)[:2]) for key in arrived if key.event == "AddToCart"
    }
    for pixel in pixels:
        additions: Mapping[tuple[str, str], CartAdditions] = due.additions.get(pixel.shop, {})
        for (cart, variant), addition in additions.items():
            if addition.required and (pixel.code, cart, variant) not in reported:
                yield f"{pixel.code} AddToCart atc.{cart}.{variant}.*"


def _recorded(
    outcomes: Iterable[outcome_pb2.Outcome], kinds: Sequence[outcome_pb2.OutcomeKind.ValueType]
) -> set[EventKey]:
    return {
        EventKey(outcome.sink.removeprefix("events."), event.event, event.event_id)
        for outcome in outcomes
        for event in outcome.events
        if event.kind in kinds
    }


def _addition(event_id: str) -> tuple[str, str, int]:
    """Cart, variant and quantity of `atc.<cart>.<variant>.<quantity>`; -1 where it has none."""
    head, _, quantity = event_id.rpartition(".")
    head, _, variant = head.rpartition(".")
    return head.removeprefix("atc."), variant, int(quantity) if quantity.isdigit() else -1

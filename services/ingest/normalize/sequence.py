"""Which delivery is newer, and what one does to the state: the same whatever order they come in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import cast

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from services.ingest.normalize.facts import deletion_facts, facts
from services.ingest.normalize.model import Applied, NewFact, Normalized, Part, StateView
from tidewire.commerce.v1 import order_pb2, record_pb2, shop_pb2

Key = tuple[int, int, bool, int, int, int, int]

_ORDER = record_pb2.RESOURCE_KIND_ORDER
_SHOP = record_pb2.RESOURCE_KIND_SHOP
_TYING = frozenset({record_pb2.RESOURCE_KIND_PRODUCT, record_pb2.RESOURCE_KIND_INVENTORY_LEVEL})
DETAILS = ("client", "contact_email", "checkout_token", "cart_token")
"""Fields of an order that the Admin API lacks in whole or in part, or in its older versions."""

_APPLIED = record_pb2.SEEN_RESULT_APPLIED
_STALE = record_pb2.SEEN_RESULT_STALE
_UNCHANGED = record_pb2.SEEN_RESULT_UNCHANGED


def compare(a: record_pb2.Version, b: record_pb2.Version) -> int:
    """Negative, zero or positive, as `a` is older than, the same as, or newer than `b`.

    By `updated_at` as an instant; then by `triggered_at` where both have it; where neither has, by
    lifecycle rank; then by body hash. Where only one has it, that one is newer: comparing such a
    pair by rank would let three deliveries beat each other in a circle, and the state would depend
    on the order of arrival. It is also the richer one, since only what we read back ourselves
    comes without.
    """
    one, other = _key(a), _key(b)
    return (one > other) - (one < other)


def _key(version: record_pb2.Version) -> Key:
    updated, triggered = version.updated_at, version.triggered_at
    return (
        updated.seconds,
        updated.nanos,
        version.HasField("triggered_at"),
        triggered.seconds,
        triggered.nanos,
        version.lifecycle_rank,
        version.body_hash,
    )


def apply(stored: StateView | None, incoming: Normalized) -> Applied:
    """What `incoming` does to `stored`: the new state if it changes, and the facts it makes true.

    The state that a set of deliveries leads to depends on the set alone, and so do the facts that
    an order was paid and that it was cancelled. Two exceptions, both without effect on money: a
    shop's scopes carry no time of their own once merged, and what a cart gained depends on which
    of its versions were seen.

    - The newest delivery gives the content. Paid, cancelled and closed only go forward: `paid` is
      the or, the two times are the earliest of all deliveries, older ones included.
    - What the Admin API does not tell of an order is kept apart: it comes from the newest delivery
      that could tell it, so that an order that is read back never takes the browser away.
    - A deletion is final, whatever its time: Shopify reuses neither ids nor tokens.
    - A redacted state is never written again.
    """
    if stored is None:
        return _first(incoming)
    if stored.redacted:
        return Applied(None, (), _STALE)
    if incoming.deleted:
        return _deleted(stored, incoming)
    if stored.deleted:
        return _after_deletion(stored, incoming)
    if incoming.kind == _SHOP:
        return _shop_merged(stored, incoming)
    return _merged(stored, incoming)


def _first(incoming: Normalized) -> Applied:
    state = StateView(
        kind=incoming.kind,
        resource_id=incoming.resource_id,
        version=incoming.version,
        deleted=incoming.deleted,
        redacted=False,
        message=incoming.message,
        told=record_pb2.Version() if incoming.read_back else None,
    )
    if incoming.deleted:
        state = replace(state, message=_stub(incoming, None))
        return Applied(state, deletion_facts(incoming), _APPLIED)
    return Applied(state, facts(None, incoming, newer=True), _APPLIED)


def _merged(stored: StateView, incoming: Normalized) -> Applied:
    newness = compare(incoming.version, stored.version)
    told = stored.version if stored.told is None else stored.told
    incoming = _completed(incoming, stored.message, told)
    newest = incoming if newness > 0 else stored
    message = newest.message
    if not incoming.read_back and compare(incoming.version, told) > 0:
        told = incoming.version
        if newness < 0 and incoming.kind == _ORDER:
            message = _with_details(message, incoming.message)
    state = replace(
        stored,
        version=newest.version,
        message=_forward(message, stored.message, incoming.message),
        tied=_tied(stored, incoming),
        told=None if told == newest.version else told,
    )
    happened = facts(stored.message, incoming, newer=newness > 0)
    return _outcome(stored, state, happened, newness)


def _completed(incoming: Normalized, known: Message | None, told: record_pb2.Version) -> Normalized:
    """An order that was read back with the details that are known, so that its facts have them."""
    is_bare = incoming.read_back and incoming.kind == _ORDER
    if not is_bare or not told.HasField("updated_at"):
        return incoming
    return replace(incoming, message=_with_details(incoming.message, known))


def _with_details(order: Message | None, source: Message | None) -> Message:
    """`order` with what the Admin API lacks from `source`, all of it or none."""
    told = cast("order_pb2.Order", source)
    merged = order_pb2.Order()
    merged.CopyFrom(cast("order_pb2.Order", order))
    merged.ClearField("client")
    if told.HasField("client"):
        merged.client.CopyFrom(told.client)
    merged.contact_email = told.contact_email
    merged.checkout_token = told.checkout_token
    merged.cart_token = told.cart_token
    return merged


def _outcome(
    stored: StateView, state: StateView, happened: tuple[NewFact, ...], newness: int
) -> Applied:
    kept = state.message is stored.message and state.told == stored.told
    if newness > 0 or state.tied != stored.tied or not kept:
        return Applied(state, happened, _APPLIED)
    return Applied(None, happened, _UNCHANGED if newness == 0 else _STALE)


def _tied(stored: StateView, incoming: Normalized) -> bool:
    """True where two bodies of the newest second differ, so that which is true is a guess.

    What was read back is no guess: it settles the second against all that was triggered before.
    """
    if incoming.kind not in _TYING:
        return False
    ours, theirs = stored.version, incoming.version
    newness = compare(theirs, ours)
    settled = incoming.read_back if newness > 0 else stored.told is not None
    if settled:
        return newness < 0 and stored.tied
    if theirs.updated_at == ours.updated_at:
        return stored.tied or theirs.body_hash != ours.body_hash
    return stored.tied and newness < 0


def _forward(newest: Message | None, one: Message | None, other: Message | None) -> Message | None:
    """`newest`, with what only goes forward taken from both; the same object where nothing is."""
    if not isinstance(newest, order_pb2.Order):
        return newest
    pair = (cast("order_pb2.Order", one), cast("order_pb2.Order", other))
    marks = _marks(*pair)
    if _marks(newest) == marks:
        return newest
    merged = order_pb2.Order()
    merged.CopyFrom(newest)
    _mark(merged, marks)
    return merged


Marks = tuple[bool, Timestamp | None, Timestamp | None]


def _marks(*orders: order_pb2.Order) -> Marks:
    """Whether any is paid, and the earliest time at which one was cancelled, and closed."""
    return (
        any(order.paid for order in orders),
        _earliest(order.cancelled_at for order in orders if order.HasField("cancelled_at")),
        _earliest(order.closed_at for order in orders if order.HasField("closed_at")),
    )


def _earliest(times: Iterable[Timestamp]) -> Timestamp | None:
    return min(times, key=lambda at: (at.seconds, at.nanos), default=None)


def _mark(order: order_pb2.Order, marks: Marks) -> None:
    order.paid, cancelled_at, closed_at = marks
    if cancelled_at is not None:
        order.cancelled_at.CopyFrom(cancelled_at)
    if closed_at is not None:
        order.closed_at.CopyFrom(closed_at)


def _stub(incoming: Normalized, before: Message | None) -> Message | None:
    """What the tombstone of an order keeps; None for every other kind."""
    if incoming.kind != _ORDER:
        return None
    stub = order_pb2.Order(order_id=incoming.resource_id)
    if isinstance(before, order_pb2.Order):
        _mark(stub, _marks(before))
    return stub


def _deleted(stored: StateView, incoming: Normalized) -> Applied:
    """The tombstone. Its version is that of the newest deletion, never of what it deletes."""
    newness = compare(incoming.version, stored.version)
    if stored.deleted and newness <= 0:
        return Applied(None, (), _STALE if newness else _UNCHANGED)
    message = stored.message if stored.deleted else _stub(incoming, stored.message)
    state = replace(stored, version=incoming.version, deleted=True, message=message, tied=False)
    return Applied(state, () if stored.deleted else deletion_facts(incoming), _APPLIED)


def _after_deletion(stored: StateView, incoming: Normalized) -> Applied:
    """Nothing, but that a deleted order was paid or cancelled is still learned, once."""
    message = _forward(stored.message, stored.message, incoming.message)
    if message is stored.message:
        return Applied(None, (), _STALE)
    happened = facts(stored.message, incoming, newer=False)
    return Applied(replace(stored, message=message), happened, _APPLIED)


def _shop_merged(stored: StateView, incoming: Normalized) -> Applied:
    """Each delivery brings its part: newer ones replace it, older ones fill what is missing."""
    newness = compare(incoming.version, stored.version)
    before = cast("shop_pb2.Shop", stored.message)
    told = cast("shop_pb2.Shop", incoming.message)
    after = shop_pb2.Shop()
    after.CopyFrom(before)
    if incoming.part is Part.SCOPES:
        if newness > 0 or not before.granted_scopes:
            after.granted_scopes[:] = told.granted_scopes
    elif newness > 0 or not before.shop_id:
        after.CopyFrom(told)
        after.granted_scopes[:] = before.granted_scopes
    version = incoming.version if newness > 0 else stored.version
    message = before if after == before else after
    known = replace(incoming, message=message)
    happened = () if message is before else facts(before, known, newer=True)
    return _outcome(stored, replace(stored, version=version, message=message), happened, newness)

"""What has happened, told from what was stored and what a delivery says now.

A fact's id is the same whenever the same transition is told again, so that the stream, which takes
each id once, keeps one. What happens once in a life has the resource's id; what can happen again
adds the delivery's version.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import cast

from google.protobuf.message import Message

from services.ingest.normalize.model import NewFact, Normalized
from tidewire.commerce.v1 import (
    cart_pb2,
    checkout_pb2,
    fact_pb2,
    fulfillment_pb2,
    inventory_pb2,
    order_pb2,
    product_pb2,
    record_pb2,
    refund_pb2,
    shop_pb2,
)

Facts = tuple[NewFact, ...]


def facts(before: Message | None, incoming: Normalized, *, newer: bool) -> Facts:
    """The facts that `incoming` makes true where `before` was stored (None: nothing was).

    `newer` says whether its content replaces what was stored. Only an order's payment and
    cancellation are believed from a delivery that comes late.
    """
    tell = _TELLERS.get(incoming.kind)
    return () if tell is None else tell(before, incoming, newer)


def deletion_facts(incoming: Normalized) -> Facts:
    """The facts that a deletion makes true."""
    deleted_id = incoming.resource_id
    if incoming.kind == record_pb2.RESOURCE_KIND_PRODUCT:
        gone = fact_pb2.ProductDeleted(product_id=deleted_id)
        return (NewFact("product_deleted", deleted_id, fact_pb2.Fact(product_deleted=gone)),)
    if incoming.kind == record_pb2.RESOURCE_KIND_INVENTORY_ITEM:
        changed = fact_pb2.InventoryItemChanged(
            item=inventory_pb2.InventoryItem(inventory_item_id=deleted_id), deleted=True
        )
        fact = fact_pb2.Fact(inventory_item_changed=changed)
        return (NewFact("inventory_item_changed", f"{deleted_id}-deleted", fact),)
    return ()


def versioned_id(incoming: Normalized) -> str:
    """The id of a fact that can happen again: the resource and the delivery's whole version.

    `triggered_at` is part of it: stock that goes 5, 4, 5 within a second has two equal bodies.
    """
    version = incoming.version
    updated, triggered = version.updated_at, version.triggered_at
    return (
        f"{incoming.resource_id}-{updated.seconds}_{updated.nanos}"
        f"-{triggered.seconds}_{triggered.nanos}-{version.body_hash:016x}"
    )


def _order(before: Message | None, incoming: Normalized, newer: bool) -> Facts:  # noqa: FBT001  # one signature for the table
    was = cast("order_pb2.Order | None", before)
    now = cast("order_pb2.Order", incoming.message)
    found = []
    if now.paid and not (was and was.paid):
        found.append(_paid(now))
    if now.HasField("cancelled_at") and not (was and was.HasField("cancelled_at")):
        fact = fact_pb2.Fact(order_cancelled=fact_pb2.OrderCancelled(order=now))
        found.append(NewFact("order_cancelled", now.order_id, fact))
    if newer and was and was.paid and _bought(was) != _bought(now):
        fact = fact_pb2.Fact(order_edited=fact_pb2.OrderEdited(order=now))
        found.append(NewFact("order_edited", versioned_id(incoming), fact))
    return tuple(found)


def _paid(now: order_pb2.Order) -> NewFact:
    paid_at = now.processed_at if now.HasField("processed_at") else now.updated_at
    paid = fact_pb2.OrderPaid(order=now, paid_at=paid_at)
    return NewFact("order_paid", now.order_id, fact_pb2.Fact(order_paid=paid))


def _bought(order: order_pb2.Order) -> list[tuple[str, str, int, int]]:
    """What an edit can change. A refund that takes units back changes it too."""
    return sorted(
        (line.line_id, line.variant_id, line.quantity, line.current_quantity)
        for line in order.line_items
    )


def _checkout(before: Message | None, incoming: Normalized, _newer: bool) -> Facts:  # noqa: FBT001  # as above
    """Told at first sight, also of a checkout that is complete by then: it did start."""
    if before is not None:
        return ()
    checkout = cast("checkout_pb2.Checkout", incoming.message)
    started = fact_pb2.CheckoutStarted(checkout=checkout)
    fact = fact_pb2.Fact(checkout_started=started)
    return (NewFact("checkout_started", incoming.resource_id, fact),)


def _cart(before: Message | None, incoming: Normalized, newer: bool) -> Facts:  # noqa: FBT001  # as above
    now = cast("cart_pb2.Cart", incoming.message)
    was = _quantities(cast("cart_pb2.Cart | None", before))
    lines: dict[str, order_pb2.LineItem] = {}
    for line in now.line_items:
        lines.setdefault(_ware(line), line)
    grown = [
        fact_pb2.AddedLine(line=lines[ware], quantity_before=was[ware], quantity_after=quantity)
        for ware, quantity in _quantities(now).items()
        if quantity > was[ware]
    ]
    if not newer or not grown:
        return ()
    fact = fact_pb2.Fact(cart_lines_added=fact_pb2.CartLinesAdded(cart=now, lines=grown))
    return (NewFact("cart_lines_added", versioned_id(incoming), fact),)


def _quantities(cart: cart_pb2.Cart | None) -> defaultdict[str, int]:
    """Units of each variant. One variant engraved in two ways is two lines with the same id."""
    units: defaultdict[str, int] = defaultdict(int)
    for line in cart.line_items if cart else ():
        units[_ware(line)] += line.quantity
    return units


def _ware(line: order_pb2.LineItem) -> str:
    return line.variant_id or f"line-{line.line_id}"


def _level(before: Message | None, incoming: Normalized, newer: bool) -> Facts:  # noqa: FBT001  # as above
    was = cast("inventory_pb2.InventoryLevel | None", before)
    now = cast("inventory_pb2.InventoryLevel", incoming.message)
    if not newer or (was and _stock(was) == _stock(now)):
        return ()
    available_before = was.available if was and was.HasField("available") else None
    changed = fact_pb2.StockChanged(level=now, available_before=available_before)
    fact = fact_pb2.Fact(stock_changed=changed)
    return (NewFact("stock_changed", versioned_id(incoming), fact),)


def _stock(level: inventory_pb2.InventoryLevel) -> tuple[bool, bool, int]:
    return level.connected, level.HasField("available"), level.available


def _product(before: Message | None, incoming: Normalized, newer: bool) -> Facts:  # noqa: FBT001  # as above
    if not newer or before == incoming.message:
        return ()
    now = cast("product_pb2.Product", incoming.message)
    changed = fact_pb2.ProductChanged(product_id=now.product_id, updated_at=now.updated_at)
    fact = fact_pb2.Fact(product_changed=changed)
    return (NewFact("product_changed", versioned_id(incoming), fact),)


def _item(before: Message | None, incoming: Normalized, newer: bool) -> Facts:  # noqa: FBT001  # as above
    if not newer or before == incoming.message:
        return ()
    now = cast("inventory_pb2.InventoryItem", incoming.message)
    fact = fact_pb2.Fact(inventory_item_changed=fact_pb2.InventoryItemChanged(item=now))
    return (NewFact("inventory_item_changed", versioned_id(incoming), fact),)


def _fulfillment(before: Message | None, incoming: Normalized, newer: bool) -> Facts:  # noqa: FBT001  # as above
    if not newer or before == incoming.message:
        return ()
    now = cast("fulfillment_pb2.Fulfillment", incoming.message)
    changed = fact_pb2.FulfillmentChanged(fulfillment=now)
    fact = fact_pb2.Fact(fulfillment_changed=changed)
    return (NewFact("fulfillment_changed", versioned_id(incoming), fact),)


def _shop(before: Message | None, incoming: Normalized, newer: bool) -> Facts:  # noqa: FBT001  # as above
    if not newer or before == incoming.message:
        return ()
    now = cast("shop_pb2.Shop", incoming.message)
    fact = fact_pb2.Fact(shop_changed=fact_pb2.ShopChanged(shop=now))
    return (NewFact("shop_changed", versioned_id(incoming), fact),)


def _refund(before: Message | None, incoming: Normalized, _newer: bool) -> Facts:  # noqa: FBT001  # as above
    created = fact_pb2.RefundCreated(refund=cast("refund_pb2.Refund", incoming.message))
    return _once("refund_created", before, incoming, fact_pb2.Fact(refund_created=created))


def _bulk_operation(before: Message | None, incoming: Normalized, _newer: bool) -> Facts:  # noqa: FBT001  # as above
    operation = cast("shop_pb2.BulkOperation", incoming.message)
    finished = fact_pb2.BulkOperationFinished(operation=operation)
    fact = fact_pb2.Fact(bulk_operation_finished=finished)
    return _once("bulk_operation_finished", before, incoming, fact)


def _redaction(before: Message | None, incoming: Normalized, _newer: bool) -> Facts:  # noqa: FBT001  # as above
    redaction = cast("shop_pb2.Redaction", incoming.message)
    requested = fact_pb2.RedactionRequested(redaction=redaction)
    fact = fact_pb2.Fact(redaction_requested=requested)
    return _once("redaction_requested", before, incoming, fact)


def _once(kind: str, before: Message | None, incoming: Normalized, fact: fact_pb2.Fact) -> Facts:
    return () if before is not None else (NewFact(kind, incoming.resource_id, fact),)


_TELLERS: dict[int, Callable[[Message | None, Normalized, bool], Facts]] = {
    record_pb2.RESOURCE_KIND_ORDER: _order,
    record_pb2.RESOURCE_KIND_CHECKOUT: _checkout,
    record_pb2.RESOURCE_KIND_CART: _cart,
    record_pb2.RESOURCE_KIND_PRODUCT: _product,
    record_pb2.RESOURCE_KIND_INVENTORY_LEVEL: _level,
    record_pb2.RESOURCE_KIND_INVENTORY_ITEM: _item,
    record_pb2.RESOURCE_KIND_REFUND: _refund,
    record_pb2.RESOURCE_KIND_FULFILLMENT: _fulfillment,
    record_pb2.RESOURCE_KIND_SHOP: _shop,
    record_pb2.RESOURCE_KIND_BULK_OPERATION: _bulk_operation,
    record_pb2.RESOURCE_KIND_REDACTION: _redaction,
}

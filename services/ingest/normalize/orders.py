"""Orders and refunds."""

from __future__ import annotations

from services.ingest.normalize.amounts import currency, pair, total
from services.ingest.normalize.lines import lines
from services.ingest.normalize.model import Fields
from services.ingest.normalize.node import Node, same
from services.ingest.normalize.people import address, attributes, client, country, customer, phone
from tidewire.commerce.v1 import order_pb2, refund_pb2

STATUS_PREFIX = "FINANCIAL_STATUS_"
_STATUSES = {
    name.removeprefix(STATUS_PREFIX).lower(): number
    for name, number in order_pb2.FinancialStatus.items()
    if number
}
_TEXTS = same(
    *("name", "fulfillment_status", "source_name", "source_identifier"),
    *("checkout_token", "cart_token", "email", "contact_email", "order_status_url"),
)
CANCELLED_RANK = 9
"""Above every payment status: a cancelled order stays cancelled."""
_PAID = frozenset(
    {
        order_pb2.FINANCIAL_STATUS_PAID,
        order_pb2.FINANCIAL_STATUS_PARTIALLY_REFUNDED,
    }
)


def order(node: Node, order_id: str, updated_at: Fields) -> order_pb2.Order:
    """The Order that a body tells. Only the id must be there; see `Node` for all that is odd.

    `paid` is true for `paid` and `partially_refunded`. `refunded` alone does not set it: a sale
    that was never seen before its money went back is no purchase to report, and if the delivery
    that says `paid` comes late, it sets `paid` then. So every order of arrival ends the same.
    """
    own = currency(node, "currency", node.scope.shop.currency)
    status = _status(node)
    fields = _lifecycle(node, updated_at)
    fields.update(_amounts(node, own))
    fields.update(_contacts(node))
    fields.update(_channel(node))
    node.fill(fields, _TEXTS)
    told: Fields = {
        "order_id": order_id,
        "currency": own,
        "presentment_currency": currency(node, "presentment_currency", own),
        "financial_status": status,
        "paid": status in _PAID,
        "line_items": lines(node, own),
        "refunds": [_nested_refund(each, own) for each in node.children("refunds")],
        "flags": node.scope.flags,
        **fields,
    }
    return order_pb2.Order(**told)


def rank(read: order_pb2.Order) -> int:
    """How far an order's life has come: its payment status, or cancelled."""
    return CANCELLED_RANK if read.HasField("cancelled_at") else read.financial_status


def rank_of(status: str, *, is_cancelled: bool) -> int:
    """The same of an order of which no more is known than its payment status."""
    return CANCELLED_RANK if is_cancelled else _STATUSES.get(status.lower(), 0)


def _lifecycle(node: Node, updated_at: Fields) -> Fields:
    return {
        "created_at": node.instant("created_at"),
        "updated_at": updated_at,
        "processed_at": node.instant("processed_at"),
        "cancelled_at": node.instant("cancelled_at"),
        "closed_at": node.instant("closed_at"),
        "test": node.boolean("test"),
    }


def _amounts(node: Node, own: str) -> Fields:
    return {
        "total": pair(node, "total_price", "total_price_set", own),
        "subtotal": pair(node, "total_line_items_price", "total_line_items_price_set", own),
        "total_tax": pair(node, "total_tax", "total_tax_set", own),
        "total_shipping": pair(node, "total_shipping_price", "total_shipping_price_set", own),
        "total_discounts": pair(node, "total_discounts", "total_discounts_set", own),
    }


def _contacts(node: Node) -> Fields:
    billing, shipping = node.child("billing_address"), node.child("shipping_address")
    return {
        "phone": phone(node, "phone", country(shipping) or country(billing)),
        "customer": customer(node.child("customer")),
        "billing_address": address(billing),
        "shipping_address": address(shipping),
    }


def _channel(node: Node) -> Fields:
    return {
        "app_id": node.identifier("app_id"),
        "tags": node.texts("tags"),
        "client": client(node),
        "note_attributes": attributes(node, "note_attributes"),
        "discount_codes": [
            code for each in node.children("discount_codes") if (code := each.text("code"))
        ],
    }


def _status(node: Node) -> order_pb2.FinancialStatus.ValueType:
    value = node.text("financial_status")
    if not value:
        return order_pb2.FINANCIAL_STATUS_UNSPECIFIED
    known = _STATUSES.get(value.lower())
    if known is None:
        node.flag("financial_status", "status_unknown")
        return order_pb2.FINANCIAL_STATUS_UNSPECIFIED
    return known


def refund(node: Node, refund_id: str) -> refund_pb2.Refund:
    """The Refund that a body tells; plain amounts are in the shop's currency."""
    return refund_pb2.Refund(**_refund(node, refund_id, node.scope.shop.currency))


def _nested_refund(node: Node, own: str) -> Fields:
    return _refund(node, node.identifier("id"), own)


def _refund(node: Node, refund_id: str | None, own: str) -> Fields:
    paid_back = [_transaction(each, own) for each in node.children("transactions")]
    return {
        "refund_id": refund_id,
        "order_id": node.identifier("order_id"),
        "created_at": node.instant("created_at"),
        "lines": [_refund_line(each, own) for each in node.children("refund_line_items")],
        "total": total([each for each in paid_back if each is not None]),
        "note": node.text("note"),
    }


def _refund_line(node: Node, own: str) -> Fields:
    return {
        "line_id": node.identifier("line_item_id"),
        "quantity": node.count("quantity"),
        "subtotal": pair(node, "subtotal", "subtotal_set", own),
        "total_tax": pair(node, "total_tax", "total_tax_set", own),
    }


def _transaction(node: Node, own: str) -> Fields | None:
    """What a transaction gave back; None for one that failed or was no refund.

    Its plain amount is in its own currency, which is the buyer's.
    """
    if node.text("kind") != "refund" or node.text("status") != "success":
        return None
    spoken = currency(node, "currency", own)
    read = pair(node, "amount", "amount_set", spoken)
    if read is not None and "presentment" not in read and spoken != own:
        return {"presentment": read["shop"]}
    return read

"""Lines of orders, checkouts, carts and fulfilments, which Shopify writes in four ways."""

from __future__ import annotations

from services.ingest.normalize.amounts import pair, total
from services.ingest.normalize.model import Fields
from services.ingest.normalize.node import Node, same
from services.ingest.normalize.people import attributes

_TEXTS = same("sku", "title", "variant_title", "vendor")


def lines(node: Node, currency: str) -> list[Fields]:
    """The LineItems under `line_items`; plain amounts are in `currency`."""
    return [_line(each, currency) for each in node.children("line_items")]


def _line(node: Node, currency: str) -> Fields:
    identifier = node.identifier
    quantity = node.count("quantity")
    left = node.count("current_quantity")
    told: Fields = {
        "line_id": identifier("id"),
        "variant_id": identifier("variant_id"),
        "product_id": identifier("product_id"),
        "quantity": quantity,
        "unit_price": pair(node, "price", "price_set", currency),
        "total_discount": _discount(node, currency),
        "gift_card": node.boolean("gift_card"),
        "properties": attributes(node, "properties"),
        "current_quantity": quantity if left is None else left,
    }
    node.fill(told, _TEXTS)
    return told


def _discount(node: Node, currency: str) -> Fields | None:
    """All discounts on a line, for all its units.

    The allocations where there are any: `total_discount` leaves out what a discount code takes off
    the whole order, which is most of what discount codes do.
    """
    if node.raw.get("discount_allocations"):
        read = [
            pair(each, "amount", "amount_set", currency)
            for each in node.children("discount_allocations")
        ]
        summed = total([each for each in read if each is not None])
        if summed is not None:
            return summed
    return pair(node, "total_discount", "total_discount_set", currency)

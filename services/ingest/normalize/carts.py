"""Carts and checkouts: what a buyer has gathered before there is an order."""

from __future__ import annotations

from services.ingest.normalize.amounts import currency, pair
from services.ingest.normalize.lines import lines
from services.ingest.normalize.model import Fields
from services.ingest.normalize.node import Node
from services.ingest.normalize.people import address, attributes, client, country, customer, phone
from tidewire.commerce.v1 import cart_pb2, checkout_pb2


def cart(node: Node, token: str, updated_at: Fields) -> cart_pb2.Cart:
    """The Cart that a body tells. Carts name no currency: the first priced line's, else the shop's.

    Attributes come under `attributes` or, from some storefronts, `note_attributes`.
    """
    own = node.scope.shop.currency
    read = lines(node, own)
    named = [line["unit_price"]["shop"]["currency"] for line in read if line["unit_price"]]
    key = "attributes" if "attributes" in node.raw else "note_attributes"
    told: Fields = {
        "cart_token": token,
        "created_at": node.instant("created_at"),
        "updated_at": updated_at,
        "currency": named[0] if named else own,
        "line_items": read,
        "attributes": attributes(node, key),
        "flags": node.scope.flags,
    }
    return cart_pb2.Cart(**told)


def checkout(node: Node, token: str, updated_at: Fields) -> checkout_pb2.Checkout:
    """The Checkout that a body tells; its contact fields are empty until the buyer fills them."""
    own = currency(node, "currency", node.scope.shop.currency)
    billing, shipping = node.child("billing_address"), node.child("shipping_address")
    told: Fields = {
        "checkout_token": token,
        "cart_token": node.text("cart_token"),
        "created_at": node.instant("created_at"),
        "updated_at": updated_at,
        "completed_at": node.instant("completed_at"),
        "currency": own,
        "presentment_currency": currency(node, "presentment_currency", own),
        "total": pair(node, "total_price", "total_price_set", own),
        "line_items": lines(node, own),
        "email": node.text("email"),
        "phone": phone(node, "phone", country(shipping) or country(billing)),
        "customer": customer(node.child("customer")),
        "billing_address": address(billing),
        "shipping_address": address(shipping),
        "client": client(node),
        "note_attributes": attributes(node, "note_attributes"),
        "recovery_url": node.text("abandoned_checkout_url"),
        "source_name": node.text("source_name"),
        "flags": node.scope.flags,
    }
    return checkout_pb2.Checkout(**told)

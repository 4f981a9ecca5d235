"""Kinds of resource: their name in subjects, their message, and how long their state lives."""

from __future__ import annotations

from typing import Final, TypeAlias

from google.protobuf.message import Message

from tidewire.commerce.v1 import (
    cart_pb2,
    checkout_pb2,
    customer_pb2,
    fulfillment_pb2,
    inventory_pb2,
    order_pb2,
    product_pb2,
    record_pb2,
    refund_pb2,
    shop_pb2,
)

Kind: TypeAlias = record_pb2.ResourceKind.ValueType

_DAY_S: Final = 86_400

MESSAGES: Final[dict[Kind, type[Message]]] = {
    record_pb2.RESOURCE_KIND_ORDER: order_pb2.Order,
    record_pb2.RESOURCE_KIND_CHECKOUT: checkout_pb2.Checkout,
    record_pb2.RESOURCE_KIND_CART: cart_pb2.Cart,
    record_pb2.RESOURCE_KIND_PRODUCT: product_pb2.Product,
    record_pb2.RESOURCE_KIND_INVENTORY_LEVEL: inventory_pb2.InventoryLevel,
    record_pb2.RESOURCE_KIND_INVENTORY_ITEM: inventory_pb2.InventoryItem,
    record_pb2.RESOURCE_KIND_REFUND: refund_pb2.Refund,
    record_pb2.RESOURCE_KIND_FULFILLMENT: fulfillment_pb2.Fulfillment,
    record_pb2.RESOURCE_KIND_SHOP: shop_pb2.Shop,
    record_pb2.RESOURCE_KIND_BULK_OPERATION: shop_pb2.BulkOperation,
    record_pb2.RESOURCE_KIND_REDACTION: shop_pb2.Redaction,
    record_pb2.RESOURCE_KIND_CUSTOMER: customer_pb2.Customer,
}

NAMES: Final[dict[Kind, str]] = {
    kind: record_pb2.ResourceKind.Name(kind).removeprefix("RESOURCE_KIND_").lower()
    for kind in MESSAGES
}
"""Second token of `commerce.state.<kind>.…`."""

STATE_TTL_S: Final[dict[Kind, int]] = {
    record_pb2.RESOURCE_KIND_CART: 30 * _DAY_S,
    record_pb2.RESOURCE_KIND_CHECKOUT: 30 * _DAY_S,
}
"""What nobody comes back to after a month. All else stays: a subject costs memory, so what can
expire does."""

FACT_TTL_S: Final = 30 * _DAY_S
SEEN_TTL_S: Final = 72 * 3_600
"""Shopify retries a delivery for 4 hours, and up to a day late in incidents."""

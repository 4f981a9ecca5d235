"""From a topic and a body to one resource. The topic picks the readers, the body must fit them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from google.protobuf.message import Message

from services.ingest.normalize import carts, goods, graphql, orders, shops
from services.ingest.normalize.bodies import parse_body
from services.ingest.normalize.model import (
    DeliveryMeta,
    Fields,
    Normalized,
    Part,
    ShopContext,
    TopicNotUsed,
)
from services.ingest.normalize.node import Node, Scope
from tidewire.commerce.v1 import order_pb2, record_pb2


@dataclass(frozen=True, slots=True)
class Shape:
    """By which keys a body is known. They must be there; what they hold may be odd."""

    needs: tuple[str, ...]
    """All of these."""
    one_of: tuple[str, ...] = ()
    """At least one of these."""
    never: tuple[str, ...] = ()
    """None of these: they tell another resource."""


@dataclass(frozen=True, slots=True)
class Family:
    """Topics whose bodies are read alike."""

    kind: record_pb2.ResourceKind.ValueType
    shape: Shape
    read: Callable[[Reading], Normalized | TopicNotUsed]


class Reading:
    """One delivery while it is read."""

    __slots__ = ("family", "meta", "node", "topic")

    def __init__(self, topic: str, family: Family, node: Node, meta: DeliveryMeta) -> None:
        self.topic = topic
        self.family = family
        self.node = node
        self.meta = meta

    def result(
        self,
        resource_id: str,
        message: Message | None,
        updated_at: Fields,
        *,
        rank: int = 0,
        part: Part = Part.WHOLE,
    ) -> Normalized:
        """The delivery, understood; no message means that it deletes the resource."""
        version: Fields = {
            "updated_at": updated_at,
            "triggered_at": self.meta.triggered_at,
            "lifecycle_rank": rank,
            "body_hash": self.meta.body_hash,
        }
        return Normalized(
            kind=self.family.kind,
            resource_id=resource_id,
            version=record_pb2.Version(**version),
            message=message,
            deleted=message is None,
            flags=tuple(order_pb2.Flag(**flag) for flag in self.node.scope.flags),
            part=part,
            read_back=self.topic in graphql.TOPICS,
        )

    def updated_at(self, *others: str) -> Fields:
        """`updated_at` of the body; flagged and else the first of `others`, else `sent_at`."""
        found = self.node.instant("updated_at")
        if found is not None:
            return found
        self.node.flag("updated_at", "updated_at_missing")
        return self.first(*others)

    def first(self, *keys: str) -> Fields:
        """The first instant that can be read under `keys`, else `sent_at`."""
        for key in keys:
            found = self.node.instant(key)
            if found is not None:
                return found
        return self.sent_at

    @property
    def sent_at(self) -> Fields:
        """When Shopify triggered the delivery, else when it was received."""
        told = self.meta.triggered_at
        at = self.meta.received_at if told is None else told
        return {"seconds": at.seconds, "nanos": at.nanos}


def normalize(
    topic: str, body: bytes, context: ShopContext, meta: DeliveryMeta
) -> Normalized | TopicNotUsed:
    """The resource that `body` tells of, with its version; or that the topic is not used.

    The topic is an unsigned header, so it only picks the readers: a body that does not fit them is
    refused, one field that is odd is left out and flagged. A deletion needs both, a topic that
    deletes and a body that has nothing but the id. Bodies of `reconcile/…` are nodes of the Admin
    API, which are read as the webhook of the same version.

    Raises:
        ServiceError: PERMANENT with a JSON path: `wrong_shape`, `wrong_shop`, or as `parse_body`.
    """
    family = _FAMILIES.get(topic)
    if family is None:
        return TopicNotUsed(topic)
    raw = parse_body(body)
    if topic in graphql.TOPICS:
        raw = graphql.as_webhook(topic, raw)
    node = Node(raw, Scope(context), None, "$")
    reading = Reading(topic, family, node, meta)
    if topic in _DELETING and not any(key in node.raw for key in _ALIVE):
        return _deletion(reading)
    _require(node, family.shape)
    return family.read(reading)


def _require(node: Node, shape: Shape) -> None:
    """Nothing, if the body has the keys of `shape`; else raises `wrong_shape` with the path."""
    raw = node.raw
    for key in shape.needs:
        if key not in raw:
            raise node.wrong_shape(key, "the body lacks what every body of this topic has")
    for key in shape.never:
        if key in raw:
            raise node.wrong_shape(key, "the body is of another topic")
    if shape.one_of and not any(key in raw for key in shape.one_of):
        raise node.wrong_shape(shape.one_of[0], "the body is not of this topic")


def _deletion(reading: Reading) -> Normalized | TopicNotUsed:
    """A deletion.

    Checkouts are known by token, and what Shopify sends when it deletes one lacks the token: then
    nothing stored can be found by it, and the state expires by itself.
    """
    node = reading.node
    if reading.family.kind == record_pb2.RESOURCE_KIND_CHECKOUT:
        token = node.text("token")
        if not token:
            node.required_id("id")
            return TopicNotUsed(reading.topic, "delete_without_token")
        return reading.result(token, None, reading.sent_at)
    _require(node, Shape(needs=("id",), never=("order_id", "product_id", "inventory_item_id")))
    return reading.result(node.required_id("id"), None, reading.sent_at)


def _order(reading: Reading) -> Normalized:
    node = reading.node
    order_id = node.required_id("id")
    updated_at = reading.updated_at("created_at")
    message = orders.order(node, order_id, updated_at)
    return reading.result(order_id, message, updated_at, rank=orders.rank(message))


def _edited(reading: Reading) -> Normalized | TopicNotUsed:
    """An order where the body has one; the usual body lists only what the edit added and removed.

    The order itself follows in `orders/updated`, and that is where the edit is seen.
    """
    edit = reading.node.raw.get("order_edit")
    if edit is None:
        _require(reading.node, _ORDER)
        return _order(reading)
    inner = reading.node.child("order_edit")
    if inner is None:
        raise reading.node.wrong_shape("order_edit", "an object is needed here")
    inner.required_id("order_id")
    return TopicNotUsed(reading.topic, "order_comes_with_orders_updated")


def _refund(reading: Reading) -> Normalized:
    refund_id = reading.node.required_id("id")
    message = orders.refund(reading.node, refund_id)
    return reading.result(refund_id, message, reading.first("created_at", "processed_at"))


def _checkout(reading: Reading) -> Normalized:
    token = _token(reading.node)
    updated_at = reading.updated_at("created_at")
    message = carts.checkout(reading.node, token, updated_at)
    return reading.result(token, message, updated_at, rank=int(message.HasField("completed_at")))


def _cart(reading: Reading) -> Normalized:
    token = _token(reading.node)
    updated_at = reading.updated_at("created_at")
    return reading.result(token, carts.cart(reading.node, token, updated_at), updated_at)


def _token(node: Node) -> str:
    token = node.text("token")
    if not token:
        raise node.wrong_shape("token", "a token is needed here")
    return token


def _product(reading: Reading) -> Normalized:
    product_id = reading.node.required_id("id")
    updated_at = reading.updated_at("created_at")
    message = goods.product(reading.node, product_id, updated_at)
    return reading.result(product_id, message, updated_at)


def _level(reading: Reading) -> Normalized:
    node = reading.node
    item_id, location_id = node.required_id("inventory_item_id"), node.required_id("location_id")
    told = "updated_at" in node.raw
    updated_at = reading.updated_at() if told else reading.sent_at
    message = goods.level(node, item_id, location_id, updated_at)
    return reading.result(f"{item_id}-{location_id}", message, updated_at)


def _item(reading: Reading) -> Normalized:
    item_id = reading.node.required_id("id")
    updated_at = reading.updated_at("created_at")
    message = goods.item(reading.node, item_id, updated_at)
    return reading.result(item_id, message, updated_at)


def _fulfillment(reading: Reading) -> Normalized:
    fulfillment_id = reading.node.required_id("id")
    updated_at = reading.updated_at("created_at")
    message = goods.fulfillment(reading.node, fulfillment_id, updated_at)
    done = _FULFILLMENT_RANKS.get(message.status, 0)
    return reading.result(fulfillment_id, message, updated_at, rank=done)


def _shop(reading: Reading) -> Normalized:
    """A shop. Bodies of `shop/update` and `app/uninstalled` are alike: here the topic must decide.

    `created_at` is no substitute for a missing `updated_at`: shops live for decades.
    """
    updated_at = reading.updated_at()
    if reading.topic != "app/uninstalled":
        return reading.result(shops.SHOP_ID, shops.shop(reading.node, updated_at, None), updated_at)
    message = shops.shop(reading.node, updated_at, reading.sent_at)
    return reading.result(shops.SHOP_ID, message, reading.sent_at, rank=1, part=Part.UNINSTALLED)


def _scopes(reading: Reading) -> Normalized:
    updated_at = reading.updated_at()
    message = shops.scopes(reading.node)
    return reading.result(shops.SHOP_ID, message, updated_at, part=Part.SCOPES)


def _bulk_operation(reading: Reading) -> Normalized:
    operation_id, message = shops.bulk_operation(reading.node)
    return reading.result(operation_id, message, reading.first("completed_at", "created_at"))


def _redaction(reading: Reading) -> Normalized:
    resource_id, message = shops.redaction(reading.node)
    return reading.result(resource_id, message, reading.sent_at)


_FULFILLMENT_RANKS = {"open": 1, "success": 2, "cancelled": 3, "error": 3, "failure": 3}
_ALIVE = ("created_at", "updated_at", "line_items", "variants")
_ORDER_ONLY = ("financial_status", "order_number")
_ORDER = Shape(needs=("id", "line_items"), one_of=_ORDER_ONLY, never=("order_id",))
_ORDERS = Family(record_pb2.RESOURCE_KIND_ORDER, _ORDER, _order)
_EDITS = Family(record_pb2.RESOURCE_KIND_ORDER, Shape(needs=()), _edited)
_REFUNDS = Family(
    record_pb2.RESOURCE_KIND_REFUND,
    Shape(needs=("id", "order_id"), one_of=("refund_line_items", "order_adjustments")),
    _refund,
)
_CHECKOUTS = Family(
    record_pb2.RESOURCE_KIND_CHECKOUT,
    Shape(needs=("token",), one_of=("abandoned_checkout_url", "completed_at"), never=_ORDER_ONLY),
    _checkout,
)
_CARTS = Family(
    record_pb2.RESOURCE_KIND_CART,
    Shape(needs=("token", "line_items"), never=(*_ORDER_ONLY, "abandoned_checkout_url")),
    _cart,
)
_PRODUCTS = Family(
    record_pb2.RESOURCE_KIND_PRODUCT,
    Shape(needs=("id",), one_of=("variants", "product_type"), never=("product_id", "line_items")),
    _product,
)
_LEVELS = Family(
    record_pb2.RESOURCE_KIND_INVENTORY_LEVEL,
    Shape(needs=("inventory_item_id", "location_id")),
    _level,
)
_ITEMS = Family(
    record_pb2.RESOURCE_KIND_INVENTORY_ITEM,
    Shape(needs=("id",), one_of=("tracked", "country_code_of_origin"), never=("product_id",)),
    _item,
)
_FULFILLMENTS = Family(
    record_pb2.RESOURCE_KIND_FULFILLMENT,
    Shape(needs=("id", "order_id"), one_of=("tracking_company", "tracking_numbers")),
    _fulfillment,
)
_SHOPS = Family(
    record_pb2.RESOURCE_KIND_SHOP,
    Shape(needs=("id",), one_of=("plan_name", "shop_owner"), never=("line_items",)),
    _shop,
)
_SCOPES = Family(record_pb2.RESOURCE_KIND_SHOP, Shape(needs=("current", "previous")), _scopes)
_BULK_OPERATIONS = Family(
    record_pb2.RESOURCE_KIND_BULK_OPERATION,
    Shape(needs=("admin_graphql_api_id", "status"), one_of=("completed_at",), never=("id",)),
    _bulk_operation,
)
_REQUESTS = Family(
    record_pb2.RESOURCE_KIND_REDACTION,
    Shape(needs=("shop_id", "customer"), one_of=("orders_requested", "data_request")),
    _redaction,
)
_REDACTS = Family(
    record_pb2.RESOURCE_KIND_REDACTION,
    Shape(needs=("shop_id", "customer", "orders_to_redact")),
    _redaction,
)
_SHOP_REDACTS = Family(
    record_pb2.RESOURCE_KIND_REDACTION,
    Shape(needs=("shop_id", "shop_domain"), never=("customer", "orders_to_redact", "id")),
    _redaction,
)
_ORDER_VERBS = (
    *("create", "paid", "updated", "cancelled", "fulfilled", "partially_fulfilled"),
    "delete",
)
_FAMILIES: dict[str, Family] = {
    **{f"orders/{verb}": _ORDERS for verb in _ORDER_VERBS},
    "orders/edited": _EDITS,
    "refunds/create": _REFUNDS,
    **{f"checkouts/{verb}": _CHECKOUTS for verb in ("create", "update", "delete")},
    **{f"carts/{verb}": _CARTS for verb in ("create", "update")},
    **{f"products/{verb}": _PRODUCTS for verb in ("create", "update", "delete")},
    **{f"inventory_levels/{verb}": _LEVELS for verb in ("update", "connect", "disconnect")},
    **{f"inventory_items/{verb}": _ITEMS for verb in ("create", "update", "delete")},
    **{f"fulfillments/{verb}": _FULFILLMENTS for verb in ("create", "update")},
    **dict.fromkeys(("shop/update", "app/uninstalled"), _SHOPS),
    "app/scopes_update": _SCOPES,
    "bulk_operations/finish": _BULK_OPERATIONS,
    "customers/data_request": _REQUESTS,
    "customers/redact": _REDACTS,
    "shop/redact": _SHOP_REDACTS,
    **dict(zip(graphql.TOPICS, (_ORDERS, _PRODUCTS), strict=True)),
}
_DELETING = frozenset({"orders/delete", "checkouts/delete", "products/delete"}) | {
    "inventory_items/delete"
}
TOPICS = frozenset(_FAMILIES)
"""Every topic that is read; all others are stored and not used."""

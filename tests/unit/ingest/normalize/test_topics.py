from __future__ import annotations

import pytest

from libs.errors import ServiceError
from services.ingest.normalize import TOPICS, Part, TopicNotUsed
from tests.unit.ingest.normalize.bodies_of import (
    RECEIVED_S,
    Body,
    cart,
    checkout,
    level,
    normalized,
    order,
    outcome,
    product,
    refund,
    shop,
)
from tidewire.commerce.v1 import (
    cart_pb2,
    checkout_pb2,
    inventory_pb2,
    product_pb2,
    record_pb2,
    shop_pb2,
)

ITEM: Body = {"id": 301, "sku": "CUP-1", "tracked": True, "cost": "4.50", "updated_at": None}
FULFILLMENT: Body = {
    "id": 61,
    "order_id": 1001,
    "status": "success",
    "tracking_company": "UPS",
    "tracking_number": "1Z",
    "updated_at": "2026-09-01T12:00:00Z",
}
BULK: Body = {
    "admin_graphql_api_id": "gid://shopify/BulkOperation/147595010",
    "completed_at": "2026-09-01T12:00:00Z",
    "status": "completed",
    "type": "query",
}
REDACT: Body = {
    "shop_id": 9,
    "shop_domain": "example.myshopify.com",
    "customer": {"id": 77, "email": "ada@example.com", "phone": None},
    "orders_to_redact": [1001, 1002],
}
REQUEST: Body = {
    "shop_id": 9,
    "shop_domain": "example.myshopify.com",
    "customer": {"id": 77},
    "orders_requested": [1001],
    "data_request": {"id": 9999},
}
SHOP_REDACT: Body = {"shop_id": 9, "shop_domain": "example.myshopify.com"}
SCOPES: Body = {
    "id": 1,
    "previous": [],
    "current": ["write_products", "read_products"],
    "updated_at": "2026-09-01T12:00:00Z",
}
GOOD: dict[str, tuple[Body, record_pb2.ResourceKind.ValueType, str]] = {
    "orders/create": (order(), record_pb2.RESOURCE_KIND_ORDER, "1001"),
    "refunds/create": (refund(), record_pb2.RESOURCE_KIND_REFUND, "31"),
    "checkouts/create": (checkout(), record_pb2.RESOURCE_KIND_CHECKOUT, "c0ffee"),
    "carts/update": (cart(), record_pb2.RESOURCE_KIND_CART, "cafe"),
    "products/update": (product(), record_pb2.RESOURCE_KIND_PRODUCT, "201"),
    "inventory_levels/update": (level(), record_pb2.RESOURCE_KIND_INVENTORY_LEVEL, "301-401"),
    "inventory_items/create": (ITEM, record_pb2.RESOURCE_KIND_INVENTORY_ITEM, "301"),
    "fulfillments/create": (FULFILLMENT, record_pb2.RESOURCE_KIND_FULFILLMENT, "61"),
    "shop/update": (shop(), record_pb2.RESOURCE_KIND_SHOP, "shop"),
    "app/scopes_update": (SCOPES, record_pb2.RESOURCE_KIND_SHOP, "shop"),
    "bulk_operations/finish": (BULK, record_pb2.RESOURCE_KIND_BULK_OPERATION, "147595010"),
    "customers/data_request": (REQUEST, record_pb2.RESOURCE_KIND_REDACTION, "9999"),
    "customers/redact": (REDACT, record_pb2.RESOURCE_KIND_REDACTION, ""),
    "shop/redact": (SHOP_REDACT, record_pb2.RESOURCE_KIND_REDACTION, ""),
}
MISFITS = [
    (topic, other)
    for topic in sorted(TOPICS)
    for other in GOOD
    if GOOD[other][1] != record_pb2.RESOURCE_KIND_REDACTION or "redact" not in topic
    if topic.partition("/")[0] != other.partition("/")[0]
    if {topic, other} != {"shop/update", "app/uninstalled"}
]


@pytest.mark.parametrize("topic", sorted(GOOD))
def test_a_body_of_the_topic_becomes_its_resource(topic: str) -> None:
    body, kind, resource_id = GOOD[topic]

    found = normalized(topic, body)

    assert (found.kind, found.deleted) == (kind, False)
    assert resource_id in {found.resource_id, ""}
    assert found.message is not None
    assert found.message.SerializeToString()


@pytest.mark.parametrize(("topic", "other"), MISFITS)
def test_a_body_of_another_topic_is_refused_with_its_path(topic: str, other: str) -> None:
    with pytest.raises(ServiceError, match="wrong_shape") as refused:
        outcome(topic, GOOD[other][0])

    assert (refused.value.path or "").startswith("$.")


@pytest.mark.parametrize("topic", ["customers/create", "locations/update", "", "orders"])
def test_a_topic_that_is_not_read_is_told_and_its_body_not_even_parsed(topic: str) -> None:
    assert outcome(topic, b"not json") == TopicNotUsed(topic)


@pytest.mark.parametrize(
    ("topic", "body", "path"),
    [
        ("orders/paid", order(id=None), "$.id"),
        ("orders/paid", order(id="x"), "$.id"),
        ("orders/paid", order(id=-5), "$.id"),
        ("orders/paid", order(id=True), "$.id"),
        ("orders/paid", {"id": 5}, "$.line_items"),
        ("carts/update", cart(token=""), "$.token"),
        ("inventory_levels/update", {}, "$.inventory_item_id"),
        ("inventory_levels/update", level(location_id=None), "$.location_id"),
        ("orders/delete", {"id": None}, "$.id"),
        ("customers/redact", REDACT | {"customer": None, "orders_to_redact": []}, "$.customer"),
    ],
)
def test_a_body_without_its_id_is_refused_at_the_ids_path(
    topic: str, body: Body, path: str
) -> None:
    with pytest.raises(ServiceError, match="wrong_shape") as refused:
        outcome(topic, body)

    assert refused.value.path == path


@pytest.mark.parametrize(
    ("topic", "kind"),
    [
        ("orders/delete", record_pb2.RESOURCE_KIND_ORDER),
        ("products/delete", record_pb2.RESOURCE_KIND_PRODUCT),
        ("inventory_items/delete", record_pb2.RESOURCE_KIND_INVENTORY_ITEM),
    ],
)
def test_a_deletion_has_the_id_and_the_time_it_was_sent(
    topic: str, kind: record_pb2.ResourceKind.ValueType
) -> None:
    received = normalized(topic, {"id": 5})
    triggered = normalized(topic, {"id": 5}, triggered_s=7)

    assert (received.kind, received.resource_id, received.deleted) == (kind, "5", True)
    assert received.version.updated_at.seconds == RECEIVED_S
    assert triggered.version.updated_at.seconds == 7


def test_a_whole_order_under_the_delete_topic_deletes_nothing() -> None:
    assert not normalized("orders/delete", order()).deleted


def test_a_deleted_checkout_is_found_only_by_its_token() -> None:
    assert normalized("checkouts/delete", {"id": 1, "token": "c0ffee"}).resource_id == "c0ffee"
    assert outcome("checkouts/delete", {"id": 1, "cart_token": "cafe"}) == TopicNotUsed(
        "checkouts/delete", "delete_without_token"
    )


def test_an_edit_that_lists_only_changes_waits_for_the_order() -> None:
    edit = {"order_edit": {"id": 1, "order_id": 1001, "line_items": {"additions": []}}}

    assert isinstance(outcome("orders/edited", edit), TopicNotUsed)
    assert normalized("orders/edited", order()).resource_id == "1001"
    with pytest.raises(ServiceError, match="wrong_shape"):
        outcome("orders/edited", {"order_edit": None} | product())


def test_a_disconnect_is_known_by_its_body_whatever_the_topic() -> None:
    bare = {"inventory_item_id": 301, "location_id": 401}

    for topic in ("inventory_levels/disconnect", "inventory_levels/update"):
        for body, connected in ((bare, False), (level(available=None), True)):
            found = normalized(topic, body).message
            assert isinstance(found, inventory_pb2.InventoryLevel)
            assert found.connected is connected
            assert not found.HasField("available")


def test_a_cart_takes_the_currency_of_its_lines_before_the_shops() -> None:
    priced = cart()
    priced["line_items"][0]["price_set"] = {
        side: {"amount": "19.99", "currency_code": "CAD"}
        for side in ("shop_money", "presentment_money")
    }
    plain = cart()
    plain["line_items"][0]["price_set"] = None

    found = [normalized("carts/update", each).message for each in (priced, plain)]

    assert [each.currency for each in found if isinstance(each, cart_pb2.Cart)] == ["CAD", "USD"]


def test_a_checkout_survives_an_address_that_is_a_list() -> None:
    found = normalized("checkouts/update", checkout()).message

    assert isinstance(found, checkout_pb2.Checkout)
    assert not found.HasField("shipping_address")
    assert [(f.path, f.reason) for f in found.flags] == [("$.shipping_address", "not_an_object")]


def test_a_product_says_when_it_has_more_variants_than_came() -> None:
    gids = [{"admin_graphql_api_id": f"gid://shopify/ProductVariant/{n}"} for n in range(101)]

    found = normalized("products/update", product(variant_gids=gids)).message

    assert isinstance(found, product_pb2.Product)
    assert found.variants_truncated
    assert found.images[0].url == "https://cdn.example.com/cup.jpg"


def test_an_uninstall_keeps_the_shop_and_says_when() -> None:
    found = normalized("app/uninstalled", shop(updated_at=None), triggered_s=7)

    assert isinstance(found.message, shop_pb2.Shop)
    assert found.message.uninstalled_at.seconds == 7
    assert found.part is Part.UNINSTALLED
    assert found.version.updated_at.seconds == 7


@pytest.mark.parametrize(
    ("topic", "body", "path"),
    [
        ("shop/redact", SHOP_REDACT | {"shop_domain": "other.myshopify.com"}, "$.shop_domain"),
        ("customers/redact", REDACT | {"shop_domain": "other.myshopify.com"}, "$.shop_domain"),
        ("app/uninstalled", shop(myshopify_domain="other.example"), "$.myshopify_domain"),
    ],
)
def test_what_ends_a_shop_is_believed_only_of_that_shop(topic: str, body: Body, path: str) -> None:
    with pytest.raises(ServiceError, match="wrong_shop") as refused:
        outcome(topic, body)

    assert refused.value.path == path


def test_the_same_privacy_request_is_the_same_resource_and_another_is_not() -> None:
    once, again = normalized("customers/redact", REDACT), normalized("customers/redact", REDACT)
    other = normalized("customers/redact", REDACT | {"orders_to_redact": [1003]})

    assert once.resource_id == again.resource_id != other.resource_id
    assert isinstance(once.message, shop_pb2.Redaction)
    assert list(once.message.order_ids) == ["1001", "1002"]

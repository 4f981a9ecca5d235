"""The Admin API's form of a resource normalises as its webhook's; what differs is in one table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from libs.errors import ServiceError
from sandbox.shopify.model import Shop
from sandbox.shopify.shopper import JOURNEYS
from sandbox.shopify.storm import default_shops, make_storm
from sandbox.shopify_admin.cost import Bucket
from sandbox.shopify_admin.engine import answer
from sandbox.shopify_admin.schema import schema_of
from sandbox.shopify_admin.store import Store
from services.ingest.adapters.shopify import ORDERS, PRODUCTS, Kind, operations
from services.ingest.normalize import DETAILS, ShopContext, apply
from services.ingest.normalize.graphql import LACKED, TOPICS
from tests.unit.ingest.normalize.bodies_of import normalized, order, product
from tests.unit.ingest.normalize.pairs import PAIRS_DIR, differences, lacked, outcome_of
from tidewire.commerce.v1 import order_pb2, product_pb2

PAIRS = sorted(file.parent for file in PAIRS_DIR.glob("*/input.json"))
KINDS = {ORDERS.topic: ORDERS, PRODUCTS.topic: PRODUCTS}


def read_back(kind: Kind, body: dict[str, Any], *, api_version: str = "2026-10") -> dict[str, Any]:
    """The node that our own operation gets of a resource, as the simulator has it."""
    store = Store("example.myshopify.com")
    store.put(kind.type, [body])
    _, reading = operations(kind, api_version)
    ids = [f"gid://shopify/{kind.type}/{body['id']}"]
    answered = answer(
        json.dumps({"query": reading.document, "variables": {"ids": ids}}).encode(),
        schema=schema_of(api_version, None),
        store=store,
        bucket=Bucket(2000, 100),
        now_s=0.0,
        effect=None,
    )
    assert answered.outcome == "ok", answered.body
    (node,) = answered.body["data"]["nodes"]
    assert isinstance(node, dict)
    return node


@pytest.mark.parametrize("folder", PAIRS, ids=lambda folder: folder.name)
def test_both_forms_of_a_golden_pair_become_what_was_agreed(folder: Path) -> None:
    case = json.loads((folder / "input.json").read_text())
    expected = json.loads((folder / "expected.json").read_text())

    found = outcome_of(case)

    assert case["why"]
    assert found == expected
    assert found["resource_id"][0] == found["resource_id"][1]
    assert found["rank"][0] == found["rank"][1]
    kind = KINDS[case["node_topic"]].name
    assert [path for path in found["differs"] if not lacked(kind, path)] == []


def test_there_are_golden_pairs() -> None:
    assert len(PAIRS) >= 8


def orders_of_a_storm() -> Iterator[tuple[Shop, str, dict[str, Any]]]:
    now = datetime(2026, 11, 20, tzinfo=UTC)
    shops = default_shops(now)
    known = {shop.domain: shop for shop in shops}
    for delivery in make_storm(5, 1200, shops, now).deliveries:
        # Those of other kinds have odd fields on purpose, which no schema would let through.
        if delivery.kind.removeprefix("order.") not in JOURNEYS:
            continue
        body = json.loads(delivery.body)
        if delivery.topic.startswith("orders/") and "line_items" in body:
            yield known[delivery.shop], delivery.topic, body


def test_every_order_of_a_storm_normalises_alike_in_both_forms() -> None:
    compared = 0
    for shop, topic, body in orders_of_a_storm():
        context = ShopContext(shop.domain.split(".", maxsplit=1)[0], shop.country, shop.currency)

        webhook = normalized(topic, body, shop=context)
        node = normalized(ORDERS.topic, read_back(ORDERS, body), shop=context)

        found = differences(webhook, node)
        assert [path for path in found if not lacked("order", path)] == []
        assert webhook.version.updated_at == node.version.updated_at
        assert webhook.version.lifecycle_rank == node.version.lifecycle_rank
        compared += 1

    assert compared > 100


def test_an_older_version_of_the_api_lacks_the_tokens_and_nothing_else() -> None:
    new = normalized(ORDERS.topic, read_back(ORDERS, order()))
    old = normalized(ORDERS.topic, read_back(ORDERS, order(), api_version="2026-04"))

    assert set(differences(new, old)) == {"cart_token", "checkout_token"}


def test_what_is_read_back_is_marked_so() -> None:
    assert normalized(ORDERS.topic, read_back(ORDERS, order())).read_back
    assert normalized(PRODUCTS.topic, read_back(PRODUCTS, product())).read_back
    assert not normalized("orders/paid", order()).read_back


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize(
    "body", [order(), product(), {"id": 7}, {"__typename": "Customer", "id": "gid://shopify/X/1"}]
)
def test_a_body_that_is_no_node_is_refused_under_the_topics_of_nodes(
    topic: str, body: dict[str, Any]
) -> None:
    with pytest.raises(ServiceError) as refused:
        normalized(topic, body)

    assert (refused.value.code, refused.value.path) == ("wrong_shape", "$.__typename")


@pytest.mark.parametrize("topic", TOPICS)
def test_a_node_of_which_every_field_is_odd_still_becomes_a_resource(topic: str) -> None:
    kind = KINDS[topic]
    node = read_back(kind, order() if kind is ORDERS else product())
    odd = {key: [7, {"x": None}, "y"] for key in node if key not in {"id", "__typename"}}

    found = normalized(topic, {**node, **odd})

    assert found.resource_id in {"1001", "201"}
    assert found.flags


def test_the_table_of_what_is_lacked_names_fields_that_there_are() -> None:
    messages = {"order": order_pb2.Order(), "product": product_pb2.Product()}
    for kind, table in LACKED.items():
        for path in table:
            descriptor = messages[kind].DESCRIPTOR
            for step in path.split("."):
                assert step in descriptor.fields_by_name, f"{kind}.{path}"
                descriptor = descriptor.fields_by_name[step].message_type or descriptor


def test_what_an_order_keeps_of_its_webhooks_is_in_the_table_of_what_is_lacked() -> None:
    lacking = {path.split(".", maxsplit=1)[0] for path in LACKED["order"]}

    assert set(DETAILS) <= lacking


def test_a_medium_that_is_no_image_or_is_still_being_made_is_left_out() -> None:
    node = read_back(PRODUCTS, product())
    node["media"]["nodes"] += [{"id": "gid://shopify/Video/9"}, {"id": "x", "image": None}]

    found = normalized(PRODUCTS.topic, node).message

    assert isinstance(found, product_pb2.Product)
    assert [image.url for image in found.images] == ["https://cdn.example.com/cup.jpg"]


def test_a_read_order_has_the_same_facts_as_its_webhook() -> None:
    webhook = apply(None, normalized("orders/paid", order()))
    node = apply(None, normalized(ORDERS.topic, read_back(ORDERS, order())))

    assert [(f.kind, f.fact_id) for f in webhook.facts] == [(f.kind, f.fact_id) for f in node.facts]

"""IngestService and CommerceService over real gRPC and NATS."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from libs.bus import subjects
from libs.bus.publisher import publish
from libs.errors import ServiceError
from libs.rpc.client import call, stream
from tests.integration.rpc.rig import WITHIN_S, Rig, eventually, new_id, order_body, product_body
from tidewire.commerce.v1 import commerce_service_pb2 as commerce
from tidewire.commerce.v1 import record_pb2
from tidewire.ingest.v1 import delivery_pb2
from tidewire.ingest.v1 import ingest_service_pb2 as pb

ORDER = record_pb2.RESOURCE_KIND_ORDER
PRODUCT = record_pb2.RESOURCE_KIND_PRODUCT
CART = record_pb2.RESOURCE_KIND_CART
SEPTEMBER_S = 1_788_220_800  # 2026-09-01T00:00:00Z


async def inject(
    rig: Rig, topic: str, body: bytes, request_id: str | None = None
) -> pb.InjectResponse:
    asked = pb.InjectRequest(
        request_id=request_id or new_id(), shop=rig.shop, topic=topic, body=body
    )
    answer: pb.InjectResponse = await call(rig.ingest.Inject, asked, timeout_s=10)
    return answer


async def delivery(rig: Rig, delivery_id: str, *, body: bool = False) -> pb.GetDeliveryResponse:
    asked = pb.GetDeliveryRequest(shop=rig.shop, delivery_id=delivery_id, include_body=body)
    return await eventually(
        lambda: call(rig.ingest.GetDelivery, asked, timeout_s=10), lambda _: True
    )


async def product(rig: Rig, product_id: int, updated_at: str) -> None:
    """Injects a product and returns when it is committed."""
    stored = await inject(rig, "products/update", product_body(product_id, updated_at))
    await delivery(rig, stored.delivery_id)


async def get(rig: Rig, kind: record_pb2.ResourceKind.ValueType, one: str) -> commerce.Resource:
    asked = commerce.GetRequest(kind=kind, shop=rig.shop, resource_id=one)
    answer: commerce.GetResponse = await call(rig.commerce.Get, asked, timeout_s=10)
    return answer.resource


async def pages(rig: Rig, **changes: Any) -> list[list[str]]:
    """The ids of each page of products."""
    found, token = [], ""
    while True:
        asked = commerce.ListRequest(kind=PRODUCT, shop=rig.shop, page_token=token, **changes)
        answer = await call(rig.commerce.List, asked, timeout_s=10)
        found.append([one.resource_id for one in answer.resources])
        token = answer.next_page_token
        if not token:
            return found


async def failure(method: Any, message: object) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(ServiceError) as caught:
        await call(method, message, timeout_s=10)
    assert isinstance(caught.value.__cause__, grpc.aio.AioRpcError)
    return caught.value.__cause__.code(), caught.value.code


async def test_what_is_injected_is_normalised_and_reaches_tiktok(rig: Rig) -> None:
    body = order_body(7001)

    stored = await inject(rig, "orders/paid", body)
    found = await delivery(rig, stored.delivery_id, body=True)
    resource = await get(rig, ORDER, "7001")
    sent = await eventually(rig.accepted, lambda ids: len(ids) == 2)

    assert found.delivery.status == pb.DELIVERY_STATUS_COMMITTED
    assert found.delivery.trace_id == stored.trace_id
    assert found.body == body
    assert (resource.order.order_id, resource.order.total.shop.amount_minor) == ("7001", 1800)
    assert len(set(sent)) == 1


async def test_the_same_injection_again_is_one_delivery(rig: Rig) -> None:
    request_id = new_id()

    first = await inject(rig, "orders/paid", order_body(7002), request_id)
    again = await inject(rig, "orders/paid", order_body(7002), request_id)
    await delivery(rig, first.delivery_id)
    listed = await call(
        rig.ingest.ListDeliveries, pb.ListDeliveriesRequest(shop=rig.shop), timeout_s=10
    )

    assert first.delivery_id == again.delivery_id
    assert [one.delivery_id for one in listed.deliveries] == [first.delivery_id]


async def test_what_cannot_be_normalised_is_dead_and_says_why(rig: Rig) -> None:
    stored = await inject(rig, "orders/paid", b"not json")

    found = await delivery(rig, stored.delivery_id)

    assert found.delivery.status == pb.DELIVERY_STATUS_DEAD
    assert found.delivery.seen.reason


@pytest.mark.parametrize(
    ("service", "name", "asked", "status", "code"),
    [
        ("commerce", "Get", commerce.GetRequest(kind=ORDER, resource_id="1"),
         grpc.StatusCode.NOT_FOUND, "resource_not_found"),
        ("ingest", "GetDelivery", pb.GetDeliveryRequest(delivery_id="1"),
         grpc.StatusCode.NOT_FOUND, "delivery_not_found"),
        ("commerce", "List", commerce.ListRequest(kind=ORDER, page_token="²"),
         grpc.StatusCode.INVALID_ARGUMENT, "page_token_invalid"),
        ("commerce", "List", commerce.ListRequest(kind=ORDER, page_token="9" * 30),
         grpc.StatusCode.INVALID_ARGUMENT, "page_token_invalid"),
        ("ingest", "ListDeliveries", pb.ListDeliveriesRequest(page_token="-1"),
         grpc.StatusCode.INVALID_ARGUMENT, "page_token_invalid"),
        ("commerce", "Get", commerce.GetRequest(kind=CART, resource_id="1"),
         grpc.StatusCode.INVALID_ARGUMENT, "request_invalid"),
        ("ingest", "Inject", pb.InjectRequest(request_id="1", topic="orders", body=b"{}"),
         grpc.StatusCode.INVALID_ARGUMENT, "request_invalid"),
    ],
)  # fmt: skip
async def test_a_call_that_cannot_be_served_says_what_is_wrong(
    rig: Rig, service: str, name: str, asked: Any, status: grpc.StatusCode, code: str
) -> None:
    asked.shop = rig.shop

    assert await failure(getattr(getattr(rig, service), name), asked) == (status, code)


async def test_injecting_for_a_shop_that_nobody_connected_is_refused(rig: Rig) -> None:
    asked = pb.InjectRequest(request_id="1", shop="nobody", topic="orders/paid", body=b"{}")

    found = await failure(rig.ingest.Inject, asked)

    assert found == (grpc.StatusCode.INVALID_ARGUMENT, "shop_unknown")


async def test_several_resources_come_in_the_order_asked_without_those_that_are_not(
    rig: Rig,
) -> None:
    for number in (1, 2, 3):
        await product(rig, number, "2026-09-01T00:00:00Z")

    asked = commerce.BatchGetRequest(kind=PRODUCT, shop=rig.shop, resource_ids=["3", "404", "1"])
    found = await call(rig.commerce.BatchGet, asked, timeout_s=10)

    assert [one.product.product_id for one in found.resources] == ["3", "1"]


async def test_resources_are_listed_in_pages_from_an_instant_on(rig: Rig) -> None:
    for number in range(1, 6):
        await product(rig, number, f"2026-09-0{number}T00:00:00Z")
    third = Timestamp(seconds=SEPTEMBER_S + 2 * 86_400)

    every = await pages(rig, page_size=2)
    recent = await pages(rig, updated_since=third)

    assert every == [["1", "2"], ["3", "4"], ["5"]]
    assert recent == [["3", "4", "5"]]


async def test_a_deleted_resource_is_a_tombstone_without_a_body(rig: Rig) -> None:
    await product(rig, 9, "2026-09-01T00:00:00Z")
    stored = await inject(rig, "products/delete", json.dumps({"id": 9}).encode())
    await delivery(rig, stored.delivery_id)

    resource = await get(rig, PRODUCT, "9")

    assert resource.deleted
    assert resource.WhichOneof("body") is None


async def test_a_watch_shows_changes_as_they_are_committed_and_resumes(rig: Rig) -> None:
    await product(rig, 1, "2026-09-01T00:00:00Z")
    await product(rig, 2, "2026-09-02T00:00:00Z")
    first = (await get(rig, PRODUCT, "1")).sequence

    async with asyncio.timeout(WITHIN_S):
        asked = commerce.WatchRequest(kind=PRODUCT, shop=rig.shop, after_sequence=first)
        watch = stream(rig.commerce.Watch, asked, timeout_s=WITHIN_S)
        missed = (await anext(watch)).resource
        await inject(rig, "orders/paid", order_body(7003))
        await product(rig, 1, "2026-09-03T00:00:00Z")
        live = (await anext(watch)).resource

    assert (missed.resource_id, missed.product.title) == ("2", "Cup")
    assert live.resource_id == "1"
    assert live.sequence > missed.sequence > first


async def test_a_watch_without_a_sequence_begins_now(rig: Rig) -> None:
    await product(rig, 1, "2026-09-01T00:00:00Z")
    asked = commerce.WatchRequest(kind=PRODUCT, shop=rig.shop)

    async with asyncio.timeout(WITHIN_S):
        watch = stream(rig.commerce.Watch, asked, timeout_s=WITHIN_S)
        coming = asyncio.ensure_future(anext(watch))
        number = 1
        while not coming.done():
            number += 1
            await product(rig, number, "2026-09-02T00:00:00Z")
            await asyncio.wait({coming}, timeout=0.5)

    assert (await coming).resource.resource_id != "1"


async def test_deliveries_are_listed_in_pages_each_newest_first(rig: Rig) -> None:
    ids = []
    for number in range(5):
        topic, body = ("orders/paid", b"not json") if number == 3 else (
            "products/update", product_body(number + 1, "2026-09-01T00:00:00Z")
        )  # fmt: skip
        ids.append((await inject(rig, topic, body)).delivery_id)
        await delivery(rig, ids[-1])

    listed = await deliveries(rig, page_size=2)
    dead = await deliveries(rig, status=pb.DELIVERY_STATUS_DEAD)

    assert listed == [[ids[1], ids[0]], [ids[3], ids[2]], [ids[4]]]
    assert dead == [[ids[3]]]


async def test_parked_deliveries_of_any_shop_are_listed(rig: Rig) -> None:
    stranger = f"x{new_id()}"
    for number in range(3):
        parked = delivery_pb2.Delivery(
            delivery_id=f"p{number}", shop=stranger, topic="orders/paid", shop_unknown=True
        )
        await publish(
            rig.foundation.nats,
            subjects.parked("ingest", stranger),
            parked.SerializeToString(),
            message_id=new_id(),
        )

    own = await deliveries(rig, shop=stranger, status=pb.DELIVERY_STATUS_PARKED, page_size=2)
    every = await deliveries(rig, shop="", status=pb.DELIVERY_STATUS_PARKED)
    found = await failure(rig.ingest.ListDeliveries, pb.ListDeliveriesRequest())

    assert own == [["p1", "p0"], ["p2"]]
    assert {"p0", "p1", "p2"} <= {one for page in every for one in page}
    assert found == (grpc.StatusCode.INVALID_ARGUMENT, "shop_missing")


async def deliveries(rig: Rig, *, shop: str | None = None, **changes: Any) -> Sequence[list[str]]:
    found, token = [], ""
    while True:
        asked = pb.ListDeliveriesRequest(
            shop=rig.shop if shop is None else shop, page_token=token, **changes
        )
        answer = await call(rig.ingest.ListDeliveries, asked, timeout_s=10)
        found.append([one.delivery_id for one in answer.deliveries])
        token = answer.next_page_token
        if not token:
            return found

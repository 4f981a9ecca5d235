"""EventsService over real gRPC, NATS and the TikTok sandbox."""

from __future__ import annotations

import asyncio
import base64
import random
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # stubs without py.typed
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from libs.rpc.client import call, stream
from tests.integration.rpc.rig import WITHIN_S, Rig, eventually, new_id, tracked
from tidewire.delivery.v1 import outcome_pb2
from tidewire.events.v1 import events_service_pb2 as pb
from tidewire.ingest.v1 import ingest_service_pb2 as ingest

INCOMPRESSIBLE = base64.b64encode(random.Random(1).randbytes(4_600_000)).decode()
DELIVERED = outcome_pb2.OUTCOME_KIND_DELIVERED


def request(rig: Rig, *event_ids: str, pixel_code: str = "C1") -> pb.TrackEventsRequest:
    return pb.TrackEventsRequest(
        request_id=new_id(),
        shop=rig.shop,
        pixel_code=pixel_code,
        events=[tracked(event_id) for event_id in event_ids],
    )


async def outcomes_of(rig: Rig, event_id: str, count: int = 1) -> list[outcome_pb2.Outcome]:
    asked = pb.GetEventRequest(shop=rig.shop, event_id=event_id)
    found = await eventually(
        lambda: call(rig.events.GetEvent, asked, timeout_s=10),
        lambda answer: len(answer.outcomes) == count,
    )
    return list(found.outcomes)


async def refused(method: object, message: object) -> tuple[grpc.StatusCode, list[str]]:
    """The status of a call that fails, and the fields that it blames."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await method(message, timeout=10)  # type: ignore[operator]
    status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]  # knows the sync one
    bad = error_details_pb2.BadRequest()
    found = [one for one in (status.details if status else ()) if one.Unpack(bad)]
    assert len(found) <= 1
    return caught.value.code(), [one.field for one in bad.field_violations]


async def test_an_event_goes_to_tiktok_and_its_outcome_can_be_asked_for(rig: Rig) -> None:
    event_id = new_id()

    stored = await call(rig.events.TrackEvents, request(rig, event_id), timeout_s=10)
    [outcome] = await outcomes_of(rig, event_id)

    assert stored.stored == 1
    assert (outcome.kind, outcome.sink, outcome.shop) == (DELIVERED, "events.C1", rig.shop)
    assert [(one.event_id, one.event) for one in outcome.events] == [(event_id, "Subscribe")]
    assert outcome.events[0].upstream_request_id
    assert rig.ids_at_tiktok() == [event_id]


async def test_without_a_pixel_an_event_goes_to_all_of_the_shop(rig: Rig) -> None:
    event_id = new_id()

    await call(rig.events.TrackEvents, request(rig, event_id, pixel_code=""), timeout_s=10)
    outcomes = await outcomes_of(rig, event_id, 2)

    assert {one.sink for one in outcomes} == {"events.C1", "events.C2"}


async def test_the_same_request_again_sends_nothing_again_and_says_the_same(rig: Rig) -> None:
    asked = request(rig, new_id(), new_id())

    answers = [(await call(rig.events.TrackEvents, asked, timeout_s=10)).stored for _ in range(3)]
    for event in asked.events:
        await outcomes_of(rig, event.event_id)
    last = request(rig, new_id())
    await call(rig.events.TrackEvents, last, timeout_s=10)
    await outcomes_of(rig, last.events[0].event_id)

    # One shop's facts go in order: had it been stored twice, it would have come before the last.
    assert answers == [2, 2, 2]
    sent = [event.event_id for event in (*asked.events, *last.events)]
    assert sorted(rig.ids_at_tiktok()) == sorted(sent)


async def test_what_was_handed_in_is_listed_among_the_deliveries_and_found_by_its_id(
    rig: Rig,
) -> None:
    asked = request(rig, new_id())
    await call(rig.events.TrackEvents, asked, timeout_s=10)
    [outcome] = await outcomes_of(rig, asked.events[0].event_id)

    listed = await call(
        rig.ingest.ListDeliveries, ingest.ListDeliveriesRequest(shop=rig.shop), timeout_s=10
    )
    wanted = ingest.GetDeliveryRequest(shop=rig.shop, delivery_id=outcome.delivery_id)
    found = await call(rig.ingest.GetDelivery, wanted, timeout_s=10)

    assert [one.delivery_id for one in listed.deliveries] == [outcome.delivery_id]
    assert found.delivery.topic == "grpc/track_events"
    assert [share.sink for share in found.delivery.seen.shares] == ["events.C1"]


async def test_a_thousand_events_end_each_with_an_outcome_of_its_own(rig: Rig) -> None:
    ids = [f"{new_id()}-{number}" for number in range(1000)]

    await call(rig.events.TrackEvents, request(rig, *ids), timeout_s=30)

    for event_id in (ids[0], ids[499], ids[999]):
        [outcome] = await outcomes_of(rig, event_id)
        assert len(outcome.events) == 1000
    assert rig.ids_at_tiktok() == ids


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"shop": "nobody"}, ["shop"]),
        ({"pixel_code": "C9"}, ["pixel_code"]),
        ({"request_id": ""}, ["request_id"]),
        ({"request_id": "x" * 201}, ["request_id"]),
        ({"shop": ""}, ["shop"]),
        ({"events": []}, ["events"]),
        ({"events": [tracked("")]}, ["events[0].event_id"]),
        ({"events": [tracked("a"), tracked("b", page_url="ftp://x")]}, ["events[1].page_url"]),
        ({"events": [tracked("e", referrer=INCOMPRESSIBLE)]}, ["events"]),
    ],
)
async def test_a_request_that_cannot_be_used_is_refused_by_the_field_at_fault(
    rig: Rig, changes: dict[str, object], fields: list[str]
) -> None:
    asked = {"request_id": "r", "shop": rig.shop, "pixel_code": "C1", "events": [tracked("e")]}

    found = await refused(rig.events.TrackEvents, pb.TrackEventsRequest(**{**asked, **changes}))  # type: ignore[arg-type]

    assert found == (grpc.StatusCode.INVALID_ARGUMENT, fields)


async def test_an_event_of_which_nothing_is_known_is_not_found(rig: Rig) -> None:
    asked = pb.GetEventRequest(shop=rig.shop, event_id="never")

    assert await refused(rig.events.GetEvent, asked) == (grpc.StatusCode.NOT_FOUND, ["event_id"])


async def test_outcomes_are_streamed_as_they_are_recorded_and_only_of_the_shop_asked_for(
    rig: Rig,
) -> None:
    before, after = request(rig, new_id()), request(rig, new_id())
    await call(rig.events.TrackEvents, before, timeout_s=10)
    await outcomes_of(rig, before.events[0].event_id)

    async with asyncio.timeout(WITHIN_S):
        asked = pb.TailEventsRequest(shop=rig.shop, since_s=600)
        tail = stream(rig.events.TailEvents, asked, timeout_s=WITHIN_S)
        elsewhere = stream(
            rig.events.TailEvents, pb.TailEventsRequest(shop="other"), timeout_s=WITHIN_S
        )
        silent = asyncio.ensure_future(anext(elsewhere))
        first = await anext(tail)
        await call(rig.events.TrackEvents, after, timeout_s=10)
        second = await anext(tail)

    assert [one.outcome.events[0].event_id for one in (first, second)] == [
        before.events[0].event_id,
        after.events[0].event_id,
    ]
    assert not silent.done()
    silent.cancel()


@pytest.mark.parametrize(
    ("which", "services"),
    [
        ("events_channel", {"tidewire.events.v1.EventsService"}),
        (
            "ingest_channel",
            {"tidewire.ingest.v1.IngestService", "tidewire.commerce.v1.CommerceService"},
        ),
    ],
)
async def test_health_and_reflection_know_every_service(
    rig: Rig, which: str, services: set[str]
) -> None:
    opened = getattr(rig, which)
    health: Any = health_pb2_grpc.HealthStub(opened)
    reflection: Any = reflection_pb2_grpc.ServerReflectionStub(opened)

    states = {
        name: (await health.Check(health_pb2.HealthCheckRequest(service=name))).status
        for name in services
    }
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    answers = [one async for one in reflection.ServerReflectionInfo(iter([asked]))]

    listed = {one.name for one in answers[0].list_services_response.service}
    assert set(states.values()) == {health_pb2.HealthCheckResponse.SERVING}
    assert services <= listed

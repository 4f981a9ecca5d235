"""What TikTok refused and a person had tried again, through the services as they are wired."""

from __future__ import annotations

import json
from collections import Counter

from libs.rpc.client import call
from tests.integration.rpc.rig import Rig, eventually, new_id, tracked
from tidewire.delivery.v1 import dead_letter_service_pb2 as pb
from tidewire.delivery.v1 import outcome_pb2
from tidewire.events.v1 import events_service_pb2

_REFUSED = {"match": {"event_id": "bad-*"}, "effect": {"kind": "code", "code": 40002}}


async def letters_of(rig: Rig) -> pb.DeadLetterServiceListResponse:
    request = pb.DeadLetterServiceListRequest(filter=pb.DeadLetterFilter(shop=rig.shop))
    answer: pb.DeadLetterServiceListResponse = await call(
        rig.dead_letters.List, request, timeout_s=10
    )
    return answer


async def test_what_tiktok_refused_arrives_once_when_it_is_replayed_after_the_cause_is_gone(
    rig: Rig,
) -> None:
    event_id = f"bad-{new_id()}"
    rig.tiktok.faults.post(json.dumps([_REFUSED]).encode(), 0.0)
    request = events_service_pb2.TrackEventsRequest(
        request_id=new_id(), shop=rig.shop, pixel_code="C1", events=[tracked(event_id)]
    )
    await call(rig.events.TrackEvents, request, timeout_s=10)
    found = await eventually(lambda: letters_of(rig), lambda answer: len(answer.letters) == 1)
    letter = found.letters[0].letter
    before = rig.ids_at_tiktok()
    selection = pb.DeadLetterSelection(ids=pb.DeadLetterIds(ids=[letter.dead_letter_id]))

    rig.tiktok.faults.clear()
    for _ in range(3):
        await call(rig.dead_letters.Replay, pb.ReplayRequest(selection=selection), timeout_s=10)
    outcomes = await eventually(
        lambda: call(
            rig.events.GetEvent,
            events_service_pb2.GetEventRequest(shop=rig.shop, event_id=event_id),
            timeout_s=10,
        ),
        lambda answer: any(
            one.kind == outcome_pb2.OUTCOME_KIND_DELIVERED for one in answer.outcomes
        ),
    )

    assert (letter.reason_class, letter.upstream_code, before) == ("permanent", 40002, [])
    assert Counter(rig.ids_at_tiktok()) == {event_id: 1}
    assert f"events_tracked.replay.{letter.dead_letter_id}" in {
        one.unit for one in outcomes.outcomes
    }
    assert (await letters_of(rig)).letters == []

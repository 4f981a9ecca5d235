"""Streams and buckets that take nothing while something has to be put into them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from libs.bus import subjects
from libs.bus.api import js_api
from tests.faults.scene import Scene
from tests.faults.trial import Fault

Inflict = Callable[[Scene], Awaitable[None]]

_ROOM_BYTES: Final = 2000
"""Of PARKED: for a few references, each of which is smaller than `_MESSAGE_BYTES`."""
_MESSAGE_BYTES: Final = 600

_FULL_S: Final = 8.0
_IN_HAND_S: Final = 2.0
"""Turns that are reserved reach no further ahead, and a request that has left ends by then."""
_TOLD_WITHIN_S: Final = 30.0
_LOOK_S: Final = 0.2


@asynccontextmanager
async def filled(scene: Scene, stream: str, room_bytes: int) -> AsyncIterator[None]:
    """A stream with room for so much more, for as long as this lasts."""
    before = await scene.leave_room(stream, room_bytes)
    try:
        yield
    finally:
        await scene.bound(stream, before)


async def parked(scene: Scene) -> None:
    """What a dead token holds back cannot be set aside either."""
    pixel = scene.site.pixels_of(scene.site.struck)[0].code
    dead = {"match": {"pixel": pixel}, "effect": {"kind": "expired_token"}}
    async with scene.scripted(dead):
        async with filled(scene, subjects.PARKED, _ROOM_BYTES):
            await scene.reaches(1.0)
            await asyncio.sleep(_FULL_S)
            state = await _state(scene, subjects.PARKED)
            if state["bytes"] + _MESSAGE_BYTES < state["max_bytes"]:
                scene.complaints.append("PARKED never was full: nothing was tried")
        await asyncio.sleep(_IN_HAND_S)


async def dead_letters(scene: Scene) -> None:
    """TikTok refuses an event for good, and there is no room to say so."""
    struck = scene.site.struck
    event_id = min(scene.due.purchases[struck.domain])
    pixel = scene.site.pixels_of(struck)[0].code
    scene.refuses(event_id, pixel)
    match = {"pixel": pixel, "event_id": event_id}
    before = await _letters(scene)
    async with scene.scripted({"match": match, "effect": {"kind": "refuse_event", "named": True}}):
        async with filled(scene, subjects.DEAD_LETTERS, 0):
            await scene.reaches(1.0)
            await asyncio.sleep(_FULL_S)
            if await _letters(scene) != before:
                scene.complaints.append("DEAD_LETTERS never was full: nothing was tried")
        scene.over()
        await _lettered(scene, before + 1)


async def limits(scene: Scene) -> None:
    """Nobody can reserve a turn, so nobody may call."""
    bucket = subjects.bucket_stream(subjects.LIMITS)
    await scene.reaches(0.2)
    # A bound on its bytes would let records be replaced by shorter ones.
    async with _changed(scene, bucket, max_msg_size=1):
        written = await _written(scene, bucket)
        await asyncio.sleep(_IN_HAND_S)
        await scene.site.look()
        before = len(scene.site.accepted.events)
        await asyncio.sleep(_FULL_S)
        await scene.site.look()
        if more := len(scene.site.accepted.events) - before:
            scene.complaints.append(f"{more} events came to TikTok without a turn")
        if passed := await _written(scene, bucket) - written:
            scene.complaints.append(f"the bucket took {passed} writes: nothing was tried")


@asynccontextmanager
async def _changed(scene: Scene, stream: str, **changes: int) -> AsyncIterator[None]:
    info = await js_api(scene.site.nats, f"STREAM.INFO.{stream}")
    await js_api(scene.site.nats, f"STREAM.UPDATE.{stream}", {**info["config"], **changes})
    try:
        yield
    finally:
        await js_api(scene.site.nats, f"STREAM.UPDATE.{stream}", info["config"])


async def _written(scene: Scene, stream: str) -> int:
    return int((await _state(scene, stream))["last_seq"])


async def _lettered(scene: Scene, count: int) -> None:
    """Returns once TikTok's refusals have so many letters; complains if that takes too long."""
    try:
        async with asyncio.timeout(_TOLD_WITHIN_S):
            while True:
                if await _letters(scene) >= count:
                    return
                await asyncio.sleep(_LOOK_S)
    except TimeoutError:
        scene.complaints.append("what TikTok refused has no dead letter")


async def _letters(scene: Scene) -> int:
    """Dead letters of the service that talks to TikTok; the storm has bad deliveries as well."""
    request = {"subjects_filter": subjects.dead_letters(service="events")}
    info = await js_api(scene.site.nats, f"STREAM.INFO.{subjects.DEAD_LETTERS}", request)
    return sum((info["state"].get("subjects") or {}).values())


async def _state(scene: Scene, stream: str) -> dict[str, Any]:
    info = await js_api(scene.site.nats, f"STREAM.INFO.{stream}")
    return {**info["state"], "max_bytes": info["config"]["max_bytes"]}


FULL: Final = (
    Fault(
        name="nats.parked-full",
        what="the stream PARKED is full beside a token that TikTok refuses, then given room",
        inflict=parked,
        only_struck=True,
        spread_s=6.0,
    ),
    Fault(
        name="nats.dead-letters-full",
        what="the stream DEAD_LETTERS is full beside an event that TikTok refuses for good",
        expected="its dead letter is stored once there is room; its neighbours are delivered",
        inflict=dead_letters,
    ),
    Fault(
        name="nats.limits-take-nothing",
        what=f"the bucket `limits` takes no write for {_IN_HAND_S + _FULL_S:.0f} s",
        expected="nothing goes to TikTok meanwhile: nobody limits on their own",
        inflict=limits,
        spread_s=6.0,
    ),
)

"""Faults of TikTok, of its answers, and of one connection among healthy ones."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import yaml

from sandbox.shopify.model import Shop
from tests.fakes.answering import off_a_socket
from tests.faults.scene import Scene
from tests.faults.trial import Fault
from tests.unit.events_service.answer_shapes import SHAPES, Shape

Inflict = Callable[[Scene], Awaitable[None]]

_SECONDS: Final = 8.0
_FOLLOWED_EVERY_S: Final = 5.0
"""How often the services look whether the connections file has changed."""

_UNHURT_WITHIN_S: Final = 10.0
_BACKLOG: Final = 6000
_AT_ONCE: Final = 10_000

_REPEATED_WITHIN_S: Final = 20.0
_LOOK_S: Final = 0.1
_WITH_CHECKOUTS: Final = 1200
"""Deliveries of a storm that is large enough to have checkouts of every shop."""

_NOT_BURNT: Final = "nothing is dead-lettered: an outage burns no attempts"
_DIVIDED: Final = "only that event ends in the dead letters, its neighbours are delivered"
_OTHERS: Final = (
    f"new orders of every other shop, one of the same lane too, arrive within"
    f" {_UNHURT_WITHIN_S:.0f} s"
)


def answers(effect: dict[str, Any], seconds: float = _SECONDS, **more: Any) -> Inflict:
    """Every request is answered so, for a while."""

    async def inflict(scene: Scene) -> None:
        await scene.reaches(0.2)
        async with scene.scripted({"effect": effect, **more}):
            await asyncio.sleep(seconds)

    return inflict


async def slow(scene: Scene) -> None:
    await scene.reaches(0.2)
    async with scene.scripted({"latency_ms": 2000}):
        await asyncio.sleep(10)


async def gone(scene: Scene) -> None:
    await scene.reaches(0.3)
    await scene.site.tiktok.shut()
    await asyncio.sleep(40)
    await scene.site.tiktok.open()


async def silent_wire(scene: Scene) -> None:
    """Connections that are open and dead: nobody says so."""
    await scene.reaches(0.3)
    for _ in range(4):
        await scene.site.tiktok.cut()
        await asyncio.sleep(0.5)


async def repetitions_refused(scene: Scene) -> None:
    """Of new orders, once all is quiet: only then does each repetition come alone, and as one.

    So few answers are lost that they shut no gate, which would put the repetitions off.
    """
    await scene.reaches(1.0)
    await scene.comes_to_rest()
    before = await _repetitions_refused(scene)
    lost_answers = {"effect": {"kind": "accept_then_reset"}, "times": 3}
    async with scene.scripted(lost_answers, {"effect": {"kind": "refuse_repeats"}}):
        for shop in scene.site.shops[:3]:
            await scene.fresh(shop)
        deadline_s = time.monotonic() + _REPEATED_WITHIN_S
        while await _repetitions_refused(scene) == before:
            if time.monotonic() > deadline_s:
                scene.complaints.append("no repetition was refused: nothing was tried")
                return
            await asyncio.sleep(_LOOK_S)


async def _repetitions_refused(scene: Scene) -> int:
    return int((await scene.site.simulator())["refused"].get("40050", 0))


def one_event_refused(*, named: bool) -> Inflict:
    """TikTok refuses the batch because of one event, for good."""

    async def inflict(scene: Scene) -> None:
        struck = scene.site.struck
        event_id = min(scene.due.purchases[struck.domain])
        pixel = _pixel(scene, struck)
        scene.refuses(event_id, pixel)
        match = {"pixel": pixel, "event_id": event_id}
        effect = {"kind": "refuse_event", "named": named}
        async with scene.scripted({"match": match, "effect": effect, "latency_ms": 50}):
            await scene.reaches(1.0)
            await asyncio.sleep(4)

    return inflict


def half_accepted(*, listed: bool) -> Inflict:
    """TikTok takes the purchases of a batch and refuses its checkouts."""

    async def inflict(scene: Scene) -> None:
        pixel = _pixel(scene, scene.site.struck)
        scene.refuses("checkout.*", pixel)
        match = {"pixel": pixel, "event_id": "checkout.*"}
        effect = {"kind": "partial", "listed": listed}
        async with scene.scripted({"match": match, "effect": effect, "latency_ms": 50}):
            await scene.reaches(1.0)
            await asyncio.sleep(4)

    return inflict


async def token_expired(scene: Scene) -> None:
    """The token is good again without anybody having changed it."""
    match = {"pixel": _pixel(scene, scene.site.struck)}
    async with scene.scripted({"match": match, "effect": {"kind": "expired_token"}}):
        await scene.reaches(1.0)
        await scene.unhurt(*scene.site.others, within_s=_UNHURT_WITHIN_S)
        await asyncio.sleep(6)


async def dead_token(scene: Scene) -> None:
    async with _token_dead(scene):
        await scene.reaches(1.0)
        await scene.unhurt(*scene.site.others, within_s=_UNHURT_WITHIN_S)
        await asyncio.sleep(6)


async def hung_pixel(scene: Scene) -> None:
    match = {"pixel": _pixel(scene, scene.site.struck)}
    async with scene.scripted({"match": match, "effect": {"kind": "hang"}}):
        await scene.reaches(1.0)
        for _ in range(3):
            await scene.unhurt(*scene.site.others, within_s=_UNHURT_WITHIN_S)
            await asyncio.sleep(4)


async def ten_thousand(scene: Scene) -> None:
    sending = asyncio.create_task(scene.reaches(1.0))
    while not sending.done():
        await scene.unhurt(*scene.site.others, within_s=_UNHURT_WITHIN_S)
        await asyncio.sleep(1)


def read_right(shapes: Sequence[Shape]) -> Inflict:
    """Each shape comes off a socket of its own, and is read by the adapter that the service has."""

    async def inflict(scene: Scene) -> None:
        for shape in shapes:
            if await off_a_socket(shape) != shape.verdict:
                scene.complaints.append(f"misread: {shape.name}")

    return inflict


@asynccontextmanager
async def _token_dead(scene: Scene) -> AsyncIterator[None]:
    """The struck shop's token is one that TikTok does not know, until its file is mended."""
    file = scene.stack.connections_file
    good = file.read_text("utf-8")
    document = yaml.safe_load(good)
    for entry in document["connections"]:
        if entry["shop"] == scene.site.struck.domain:
            entry["tiktok_events"][0]["access_token"] = "revoked-long-ago"
    file.write_text(yaml.safe_dump(document), "utf-8")
    try:
        await asyncio.sleep(_FOLLOWED_EVERY_S + 1)
        yield
    finally:
        file.write_text(good, "utf-8")


def _pixel(scene: Scene, shop: Shop) -> str:
    return scene.site.pixels_of(shop)[0].code


def _status(status: int, **more: Any) -> dict[str, Any]:
    return {"kind": "http_status", "status": status, **more}


def _code(code: int, **more: Any) -> dict[str, Any]:
    return {"kind": "code", "code": code, **more}


TIKTOK: Final = (
    Fault(
        name="tiktok.hang",
        what="no request is answered for 15 s; nothing is done",
        expected=_NOT_BURNT,
        inflict=answers({"kind": "hang"}, 15.0),
    ),
    Fault(
        name="tiktok.slow",
        what="every answer takes 2 s, for 10 s",
        inflict=slow,
    ),
    Fault(
        name="tiktok.refused-40s",
        what="nobody listens for 40 s",
        expected=_NOT_BURNT,
        inflict=gone,
    ),
    Fault(
        name="tiktok.connections-cut",
        what="every connection reset, with whatever was under way, four times",
        inflict=silent_wire,
    ),
    Fault(
        name="tiktok.429",
        what="HTTP 429 without Retry-After for 8 s",
        expected=_NOT_BURNT,
        inflict=answers(_status(429)),
    ),
    Fault(
        name="tiktok.429-retry-after",
        what="HTTP 429 with Retry-After: 3 for 8 s",
        expected=_NOT_BURNT,
        inflict=answers(_status(429, retry_after_s=3)),
    ),
    Fault(
        name="tiktok.500",
        what="HTTP 500 with a page of HTML for 8 s",
        expected=_NOT_BURNT,
        inflict=answers(_status(500)),
    ),
    Fault(
        name="tiktok.503",
        what="HTTP 503 for 8 s",
        expected=_NOT_BURNT,
        inflict=answers(_status(503)),
    ),
    Fault(
        name="tiktok.throttled",
        what="code 40100 under HTTP 200 for 8 s",
        expected=_NOT_BURNT,
        inflict=answers(_code(40100)),
    ),
    Fault(
        name="tiktok.system-error",
        what="code 50000 under HTTP 200 for 8 s",
        expected=_NOT_BURNT,
        inflict=answers(_code(50000)),
    ),
    Fault(
        name="tiktok.system-error-late",
        what="code 50000 under HTTP 200 for 8 s, given after the events were taken",
        expected=_NOT_BURNT,
        inflict=answers(_code(50000, accepted=True)),
    ),
    Fault(
        name="tiktok.one-event-refused",
        what="code 40002 for a batch because of one event, whose index is named",
        expected=_DIVIDED,
        inflict=one_event_refused(named=True),
    ),
    Fault(
        name="tiktok.one-event-refused-unnamed",
        what="code 40002 for a batch because of one event, which is not named",
        expected=_DIVIDED,
        inflict=one_event_refused(named=False),
    ),
    Fault(
        name="tiktok.partial",
        what="code 20001: the purchases of a batch are taken, its checkouts listed as refused",
        expected="what was refused is not called delivered",
        inflict=half_accepted(listed=True),
        size=_WITH_CHECKOUTS,
    ),
    Fault(
        name="tiktok.partial-unlisted",
        what="code 20001 that does not say which events were refused",
        expected="what was refused is not called delivered",
        inflict=half_accepted(listed=False),
        size=_WITH_CHECKOUTS,
    ),
    Fault(
        name="tiktok.truncated",
        what="events are taken and the answer is cut in half, for 8 s",
        inflict=answers({"kind": "truncate"}),
    ),
    Fault(
        name="tiktok.reset",
        what="connections are reset before anything is done, for 8 s",
        expected=_NOT_BURNT,
        inflict=answers({"kind": "reset"}),
    ),
    Fault(
        name="tiktok.accepted-then-reset",
        what="events are taken and the connection is reset, for 8 s",
        inflict=answers({"kind": "accept_then_reset"}),
    ),
    Fault(
        name="tiktok.accepted-then-timeout",
        what="events are taken and no answer comes, for 12 s",
        inflict=answers({"kind": "accept_then_timeout"}, 12.0),
    ),
    Fault(
        name="tiktok.repetitions-refused",
        what="events are taken and the answer lost; the repetition is refused with 40050",
        inflict=repetitions_refused,
    ),
    Fault(
        name="tiktok.not-json",
        what="HTTP 200 with half an object for 8 s, nothing is done",
        expected=_NOT_BURNT,
        inflict=answers({"kind": "malformed", "form": "not_json"}),
    ),
    Fault(
        name="tiktok.html",
        what="HTTP 200 with a page of HTML for 8 s, nothing is done",
        expected=_NOT_BURNT,
        inflict=answers({"kind": "malformed", "form": "html"}),
    ),
    Fault(
        name="tiktok.code-as-text",
        what='HTTP 200 with `"code": "0"` for 8 s, nothing is done',
        expected=_NOT_BURNT,
        inflict=answers({"kind": "malformed", "form": "code_as_string"}),
    ),
    Fault(
        name="tiktok.empty",
        what="HTTP 200 without a body for 8 s, nothing is done",
        expected=_NOT_BURNT,
        inflict=answers({"kind": "empty_body"}),
    ),
    Fault(
        name="tiktok.answer-shapes",
        what=f"{len(SHAPES)} shapes of an answer, each sent to the adapter over a socket",
        expected="0 are taken for anything but what they are",
        inflict=read_right(SHAPES),
    ),
    Fault(
        name="tiktok.token-expired",
        what="code 40102 for one pixel for 10 s, then the same token is good again",
        expected=_OTHERS,
        inflict=token_expired,
    ),
    Fault(
        name="tiktok.token-dead",
        what="one pixel's token is unknown to TikTok (40105) until the connections file is mended",
        expected=_OTHERS,
        inflict=dead_token,
        spread_s=9.0,
    ),
    Fault(
        name="fair.dead-token",
        what=f"as above with {_BACKLOG:,} deliveries of that shop behind it",
        expected=_OTHERS,
        inflict=dead_token,
        size=_BACKLOG,
        only_struck=True,
        spread_s=9.0,
    ),
    Fault(
        name="fair.hung-pixel",
        what=f"TikTok hangs for one pixel, with {_BACKLOG:,} deliveries of its shop behind it",
        expected=_OTHERS,
        inflict=hung_pixel,
        size=_BACKLOG,
        only_struck=True,
    ),
    Fault(
        name="fair.ten-thousand-at-once",
        what=f"one shop sends {_AT_ONCE:,} deliveries as fast as they are taken",
        expected=_OTHERS,
        inflict=ten_thousand,
        size=_AT_ONCE,
        only_struck=True,
        spread_s=0.0,
    ),
)

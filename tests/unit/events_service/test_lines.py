"""Who may have how many requests under way at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from libs.clock import FakeClock
from libs.errors import Kind, ServiceError
from libs.limits import Priority, Unlimited
from libs.telemetry import SpanRef, Telemetry
from services.events.domain.answers import Answered
from services.events.lines import CALLS_AT_ONCE, CALLS_OF_A_PIXEL, REPLAYS_AT_ONCE
from services.events.sender import Errand, Outgoing, Sender
from services.events.shares import Sent
from tests.unit.events_service.fakes import (
    SHOP,
    FakeTikTok,
    RecordingLimiter,
    conversion,
    pixel,
    sender_of,
)

PLAIN = SpanRef(9, 10, sampled=False)
TOO_MANY = 10


class SlowLimiter(Unlimited):
    """Gives turns to nobody with one of `slow` in a limit's name or priority, until it may."""

    def __init__(self, *slow: str) -> None:
        self.slow = slow
        self.asked: Counter[str] = Counter()
        self.may = asyncio.Event()

    async def turn(
        self,
        limits: Sequence[str],
        *,
        weight: int = 1,
        priority: Priority = Priority.LIVE,
        shop: str = "",
        max_wait_s: float = 1.0,
    ) -> None:
        names = {priority.name, limits[-1].rpartition(".")[2]}
        self.asked.update(names)
        if names & set(self.slow):
            await self.may.wait()


def start(
    sender: Sender, codes: Sequence[str], priority: Priority = Priority.LIVE
) -> list[asyncio.Task[list[Sent]]]:
    """One request for each of the pixels."""
    errands = [Errand(pixel(code), SHOP, priority) for code in codes]
    return [
        asyncio.create_task(sender.send(errand, [Outgoing(conversion("e"), PLAIN)]))
        for errand in errands
    ]


async def settle() -> None:
    """Until nothing moves any more that does not wait."""
    for _ in range(200):
        await asyncio.sleep(0)


async def test_requests_beyond_the_bound_wait_for_each_other_before_they_take_a_turn() -> None:
    tiktok, limiter = FakeTikTok(wait=asyncio.Event()), SlowLimiter()
    sender = sender_of(tiktok, Telemetry.null(), limiter=limiter)

    sending = start(sender, [f"C{n}" for n in range(CALLS_AT_ONCE + TOO_MANY)])
    await settle()
    turns, requests = limiter.asked["LIVE"], len(tiktok.requests)
    assert tiktok.wait is not None
    tiktok.wait.set()
    results = await asyncio.gather(*sending)

    assert (turns, requests) == (CALLS_AT_ONCE, CALLS_AT_ONCE)
    assert all(isinstance(one, Answered) for found in results for one in found)


async def test_replays_that_wait_for_their_turn_hold_up_nothing_live() -> None:
    tiktok, limiter = FakeTikTok(), SlowLimiter("REPLAY")
    sender = sender_of(tiktok, Telemetry.null(), limiter=limiter)
    shops = [f"C{n}" for n in range(CALLS_AT_ONCE + TOO_MANY)]

    replays = start(sender, shops, Priority.REPLAY)
    await settle()
    live = start(sender, shops)
    await settle()

    assert limiter.asked["REPLAY"] == REPLAYS_AT_ONCE
    assert all(one.done() for one in live)
    limiter.may.set()
    await asyncio.gather(*replays)
    assert len(tiktok.requests) == 2 * len(shops)


async def test_a_pixel_that_waits_for_its_own_limit_holds_up_no_other() -> None:
    tiktok, limiter = FakeTikTok(), SlowLimiter("C0")
    sender = sender_of(tiktok, Telemetry.null(), limiter=limiter)

    slow = start(sender, ["C0"] * (CALLS_AT_ONCE + TOO_MANY))
    await settle()
    others = start(sender, ["C1", "C2"])
    await settle()

    assert limiter.asked["C0"] == CALLS_OF_A_PIXEL
    assert all(one.done() for one in others)
    limiter.may.set()
    await asyncio.gather(*slow)
    assert len(tiktok.requests) == len(slow) + len(others)


async def test_replays_of_a_pixel_leave_it_lines_for_what_is_live() -> None:
    tiktok, limiter = FakeTikTok(), SlowLimiter("REPLAY")
    sender = sender_of(tiktok, Telemetry.null(), limiter=limiter)

    replays = start(sender, ["C0"] * (CALLS_OF_A_PIXEL + TOO_MANY), Priority.REPLAY)
    await settle()
    live = start(sender, ["C0"])
    await settle()

    assert all(one.done() for one in live)
    limiter.may.set()
    await asyncio.gather(*replays)


async def test_a_turn_that_passed_while_a_try_was_noted_is_not_used() -> None:
    tiktok, limiter, clock = FakeTikTok(), RecordingLimiter(), FakeClock()
    sender = sender_of(tiktok, Telemetry.null(), limiter=limiter, clock=clock)
    notes = [3.0, 0.0]

    async def leaving() -> None:
        clock.advance(notes.pop(0))

    (sent,) = await sender.send(
        Errand(pixel(), SHOP), [Outgoing(conversion("e"), PLAIN)], leaving=leaving
    )

    assert isinstance(sent, Answered)
    assert (len(limiter.asked), len(tiktok.requests), notes) == (2, 1, [])


async def test_a_store_that_stays_too_slow_sends_nothing_at_a_wrong_time() -> None:
    tiktok, limiter, clock = FakeTikTok(), RecordingLimiter(), FakeClock()
    sender = sender_of(tiktok, Telemetry.null(), limiter=limiter, clock=clock)

    async def leaving() -> None:
        clock.advance(0.2)

    (sent,) = await sender.send(
        Errand(pixel(), SHOP), [Outgoing(conversion("e"), PLAIN)], leaving=leaving
    )

    assert isinstance(sent, ServiceError)
    assert (sent.kind, sent.code, tiktok.requests) == (Kind.THROTTLED, "turns_missed", [])


async def test_where_the_store_is_slow_all_the_time_a_request_takes_one_turn_and_not_two() -> None:
    tiktok, limiter, clock = FakeTikTok(), RecordingLimiter(), FakeClock()
    sender = sender_of(tiktok, Telemetry.null(), limiter=limiter, clock=clock)
    turns = []

    for number in range(10):
        left = [0.2]

        async def leaving(left: list[float] = left) -> None:
            clock.advance(left.pop() if left else 0.0)

        before = len(limiter.asked)
        (sent,) = await sender.send(
            Errand(pixel(), SHOP), [Outgoing(conversion(f"e{number}"), PLAIN)], leaving=leaving
        )
        assert isinstance(sent, Answered)
        turns.append(len(limiter.asked) - before)

    assert (turns[0], turns[-1]) == (2, 1)

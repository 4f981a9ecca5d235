from __future__ import annotations

import pytest

from libs.clock import FakeClock
from libs.errors import Kind, ServiceError
from libs.limits import BucketSeen, Priority
from tests.fakes.own_limiter import OwnLimiter

LIMIT = "shopify.example.graphql"


async def seen(available: float) -> tuple[FakeClock, OwnLimiter]:
    clock = FakeClock()
    limiter = OwnLimiter(clock)
    await limiter.observe(LIMIT, BucketSeen(2000, available, 100))
    return clock, limiter


async def waited_s(available: float, weight: int, priority: Priority) -> float:
    clock, limiter = await seen(available)
    await limiter.turn([LIMIT], weight=weight, priority=priority, max_wait_s=60)
    return clock.now_s - clock.start_s


@pytest.mark.parametrize(
    ("available", "weight", "priority", "wait_s"),
    [
        (2000, 100, Priority.LIVE, 0.0),
        (50, 100, Priority.LIVE, 0.5),
        (1100, 100, Priority.BACKFILL, 0.0),
        (1000, 100, Priority.BACKFILL, 1.0),
        (500, 100, Priority.BACKFILL, 6.0),
        (1600, 100, Priority.REPLAY, 1.0),
    ],
)
async def test_a_turn_waits_until_the_bucket_holds_what_it_costs_and_what_is_left_for_others(
    available: float, weight: int, priority: Priority, wait_s: float
) -> None:
    assert await waited_s(available, weight, priority) == pytest.approx(wait_s, abs=0.01)


async def test_what_is_heavier_than_its_share_of_the_bucket_waits_for_a_full_one() -> None:
    assert await waited_s(1000, 1500, Priority.BACKFILL) == pytest.approx(10.0, abs=0.01)


async def test_a_turn_that_would_take_too_long_is_refused_with_the_wait() -> None:
    _, limiter = await seen(0)

    with pytest.raises(ServiceError) as refused:
        await limiter.turn([LIMIT], weight=500, max_wait_s=1.0)

    assert refused.value.kind is Kind.THROTTLED
    assert refused.value.retry_after_s == pytest.approx(5.0, abs=0.01)


async def test_turns_add_up() -> None:
    clock, limiter = await seen(300)

    for _ in range(4):
        await limiter.turn([LIMIT], weight=100, max_wait_s=5.0)

    assert clock.now_s - clock.start_s == pytest.approx(1.0, abs=0.01)


async def test_a_throttle_that_is_reported_stops_everybody_for_as_long_as_it_says() -> None:
    clock, limiter = await seen(2000)
    await limiter.report([LIMIT], retry_after_s=3.0, code="throttled")

    await limiter.turn([LIMIT], weight=1, max_wait_s=10.0)

    assert clock.now_s - clock.start_s == pytest.approx(3.0, abs=0.01)


async def test_a_limit_of_which_nothing_was_seen_lets_everything_pass() -> None:
    clock = FakeClock()

    await OwnLimiter(clock).turn([LIMIT], weight=10_000)

    assert clock.slept_s == []

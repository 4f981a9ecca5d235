"""One suite for the port `Limiter`: in memory, where every course repeats, and on a real NATS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from libs.errors import Kind, ServiceError
from libs.limits import BucketSeen, LimitedError, Limiter, LimitSeen, Priority, SharedLimiter
from tests.contract.limiter_bed import Bed, MemoryBed, names, nats_bed
from tests.fakes.nats_server import NatsServer

JITTER_S = 0.2
"""What a busy machine may add to a time; no claim below is as narrow."""


@pytest.fixture(params=["memory", "nats"])
async def bed(request: pytest.FixtureRequest, nats_server: NatsServer) -> AsyncIterator[Bed]:
    if request.param == "memory":
        made = MemoryBed()
        yield made
        for one in made.replicas:
            await one.close()
        return
    async with nats_bed(nats_server) as on_nats:
        yield on_nats


async def _seen(limiter: SharedLimiter, name: str) -> LimitSeen:
    [found] = await limiter.describe(name)
    return found


async def _turn(
    limiter: Limiter,
    limits: Sequence[str],
    *,
    weight: int = 1,
    priority: Priority = Priority.LIVE,
    shop: str = "",
    max_wait_s: float = 5.0,
) -> None:
    """A turn, as callers have it that come back: a busy machine may be too slow at first."""
    while True:
        try:
            await limiter.turn(
                limits, weight=weight, priority=priority, shop=shop, max_wait_s=max_wait_s
            )
        except LimitedError as error:
            if error.code != "limits_unreachable":
                raise
            await asyncio.sleep(error.retry_after_s or 0.0)
        else:
            return


async def _waited(limiter: Limiter, limits: Sequence[str], max_wait_s: float) -> float | None:
    """None where it had its turn, else how long it is to stay away."""
    try:
        await _turn(limiter, limits, max_wait_s=max_wait_s)
    except LimitedError as error:
        return error.retry_after_s
    return None


async def test_replicas_share_one_limit_and_use_all_of_it(bed: Bed) -> None:
    [limit] = names("fifty")
    await bed.used_long_ago(limit)
    at: list[float] = []

    async def caller(limiter: SharedLimiter) -> None:
        for _ in range(7):
            await _turn(limiter, [limit])
            at.append(bed.clock.monotonic_s())

    async def storm() -> None:
        await asyncio.gather(*(caller(one) for one in bed.replicas for _ in range(5)))

    await bed.do(storm())

    assert len(at) == 105
    assert at[-1] - at[0] > 104 / 50 - 0.05
    assert at[-1] - at[0] < 104 / (50 * 0.8) + JITTER_S
    assert max(sum(one <= other < one + 1.0 for other in at) for one in at) <= 51
    assert (await _seen(bed.replicas[0], limit)).granted >= 105


async def test_a_limit_that_nobody_knows_stands_still_for_a_while_and_then_works(bed: Bed) -> None:
    [limit] = names("fifty")

    with pytest.raises(ServiceError) as refused:
        await bed.do(_turn(bed.replicas[0], [limit], max_wait_s=0.3))
    first = refused.value.retry_after_s
    other = await bed.do(_waited(bed.replicas[1], [limit], 5.0))

    assert refused.value.kind is Kind.THROTTLED
    assert first is not None
    assert 0.3 < first <= 1.1
    assert other is None


async def test_a_lost_record_admits_no_second_helping(bed: Bed) -> None:
    [limit] = names("ten")
    await bed.used_long_ago(limit)
    await bed.do(_turn(bed.replicas[0], [limit]))
    await bed.lose(limit)

    answers = [await bed.do(_waited(one, [limit], 0.3)) for one in bed.replicas]

    assert all(answer is not None for answer in answers)


async def test_several_limits_are_charged_all_or_none(bed: Bed) -> None:
    wide, ten = names("wide", "ten")
    await bed.used_long_ago(wide, ten)
    await bed.do(_turn(bed.replicas[0], [wide, ten]))
    await bed.do(bed.replicas[0].report([ten], retry_after_s=30.0, code="429"))

    before = [(await _seen(bed.replicas[2], name)).granted for name in (wide, ten)]

    refused = await bed.do(_waited(bed.replicas[1], [wide, ten], 1.0))

    assert refused is not None
    assert refused > 20
    assert before[0] == before[1] > 0
    assert [(await _seen(bed.replicas[2], name)).granted for name in (wide, ten)] == before


async def test_a_throttle_stops_every_replica_at_once(bed: Bed) -> None:
    [limit] = names("fifty")
    await bed.used_long_ago(limit)
    for one in bed.replicas:
        await bed.do(_turn(one, [limit]))

    await bed.do(bed.replicas[0].report([limit], retry_after_s=10.0, code="40100"))
    waits = [await bed.do(_waited(one, [limit], 1.0)) for one in bed.replicas]

    assert all(wait is not None and 8.0 < wait <= 10.0 for wait in waits)
    seen = await _seen(bed.replicas[2], limit)
    assert seen.code == "40100"
    assert seen.throttled_ns > 0
    assert seen.pace == pytest.approx(0.7, abs=0.05)


async def test_a_throttle_takes_the_slots_that_are_in_hand(bed: Bed) -> None:
    [limit] = names("ten")
    await bed.used_long_ago(limit)
    other = bed.replicas[1]

    async def throttled_while_slots_are_in_hand() -> list[float | None]:
        waits = [asyncio.ensure_future(_waited(other, [limit], 2.0)) for _ in range(4)]
        await waits[0]
        await bed.replicas[0].report([limit], retry_after_s=20.0, code="429")
        return list(await asyncio.gather(*waits))

    first, *rest = await bed.do(throttled_while_slots_are_in_hand())

    assert first is None
    assert any(wait is not None and wait > 10 for wait in rest)


async def test_what_an_upstream_tells_of_its_bucket_holds_for_all_replicas(bed: Bed) -> None:
    [limit] = names("shop")
    await bed.used_long_ago(limit)

    await bed.do(bed.replicas[0].observe(limit, BucketSeen(2000.0, 100.0, 100.0)))
    wait = await bed.do(_waited(bed.replicas[1], [limit], 0.1))

    seen = await _seen(bed.replicas[2], limit)
    assert seen.units == 2000.0
    assert seen.used == pytest.approx(0.95, abs=0.05)
    assert wait is not None


async def test_a_heavy_call_waits_until_its_weight_has_come_back(bed: Bed) -> None:
    [limit] = names("shop")
    await bed.used_long_ago(limit)
    await bed.do(_turn(bed.replicas[0], [limit], weight=880))
    began_s = bed.clock.monotonic_s()

    await bed.do(_turn(bed.replicas[1], [limit], weight=50))

    assert bed.clock.monotonic_s() - began_s == pytest.approx(30 / 49, abs=0.5)


async def test_names_and_weights_that_can_never_have_a_turn_are_refused_for_good(bed: Bed) -> None:
    limit, free = names("ten", "free")
    one = bed.replicas[0]

    for limits, weight, code in (
        (["nobody.declared"], 1, "limit_undeclared"),
        ([limit], 11, "weight_above_limit"),
        ([limit], 0, "weight_above_limit"),
    ):
        with pytest.raises(ServiceError) as caught:
            await bed.do(_turn(one, limits, weight=weight))
        assert (caught.value.kind, caught.value.code) == (Kind.PERMANENT, code)
    await bed.do(_turn(one, [free], max_wait_s=0.0))
    await bed.do(one.report(["nobody.declared"], retry_after_s=1.0, code="429"))
    await bed.do(one.observe("nobody.declared", BucketSeen(1.0, 1.0, 1.0)))


async def test_a_quiet_shop_has_its_turn_before_the_rest_of_a_loud_one(bed: Bed) -> None:
    [limit] = names("fifty")
    await bed.used_long_ago(limit)
    order: list[str] = []

    async def caller(shop: str) -> None:
        await _turn(bed.replicas[0], [limit], shop=shop, max_wait_s=30.0)
        order.append(shop)

    async def loud_then_quiet() -> None:
        loud = [asyncio.ensure_future(caller("loud")) for _ in range(40)]
        await bed.clock.sleep(0.1)
        await asyncio.gather(caller("quiet"), *loud)

    await bed.do(loud_then_quiet())

    assert len(order) == 41
    assert order.index("quiet") < 20


async def test_the_more_urgent_of_one_process_come_first(bed: Bed) -> None:
    [limit] = names("ten")
    await bed.used_long_ago(limit)
    order: list[Priority] = []

    async def caller(priority: Priority) -> None:
        await _turn(bed.replicas[0], [limit], priority=priority, max_wait_s=30.0)
        order.append(priority)

    async def all_of_them() -> None:
        await _turn(bed.replicas[0], [limit])
        await asyncio.gather(*(caller(one) for one in reversed(Priority) for _ in range(3)))

    await bed.do(all_of_them())

    assert order == sorted(order)


async def test_a_caller_that_leaves_gives_its_slot_to_the_next(bed: Bed) -> None:
    [limit] = names("ten")
    await bed.used_long_ago(limit)
    one = bed.replicas[0]

    async def leave_and_wait() -> None:
        # Both slots are reserved by one write; then the first of the callers is gone.
        await _turn(one, [limit])
        first = asyncio.ensure_future(_turn(one, [limit]))
        second = asyncio.ensure_future(_turn(one, [limit]))
        await bed.clock.sleep(0.05)
        first.cancel()
        await second
        assert first.cancelled()

    await bed.do(leave_and_wait())

    assert (await _seen(one, limit)).granted <= 3


async def test_a_wait_that_is_longer_than_the_caller_wants_ends_when_it_wants(bed: Bed) -> None:
    [limit] = names("ten")
    await bed.used_long_ago(limit)
    one = bed.replicas[0]

    async def crowd() -> list[float | None]:
        return list(await asyncio.gather(*(_waited(one, [limit], 0.45) for _ in range(20))))

    began_s = bed.clock.monotonic_s()
    answers = await bed.do(crowd())

    assert bed.clock.monotonic_s() - began_s < 0.45 + JITTER_S
    assert 2 <= answers.count(None) <= 6
    assert all(answer is None or answer >= 0.05 for answer in answers)


async def test_the_limits_are_described_by_prefix(bed: Bed) -> None:
    ten, shop = names("ten", "shop")
    await bed.used_long_ago(ten, shop)
    await bed.do(_turn(bed.replicas[0], [ten]))

    mine = await bed.replicas[1].describe(ten.rpartition(".")[0])
    none = await bed.replicas[1].describe("nobody")

    assert [(one.name, one.units, one.window_s) for one in mine] == [
        (f"{shop}/bucket", 1000.0, 20.0),
        (f"{ten}/second", 10.0, 1.0),
    ]
    assert mine[0].granted == 0
    assert mine[1].granted > 0
    assert none == []


async def test_those_who_wait_in_every_replica_are_described(bed: Bed) -> None:
    ten, wide = names("ten", "wide")
    await bed.used_long_ago(ten, wide)
    # Stopped by the upstream, so that nobody gets a turn while they are counted.
    await bed.do(bed.replicas[0].report([ten], retry_after_s=60.0, code="429"))
    waiting = [
        asyncio.ensure_future(_turn(replica, [ten, wide], max_wait_s=600.0))
        for replica, count in zip(bed.replicas, (3, 2, 0), strict=True)
        for _ in range(count)
    ]
    await bed.do(_all_wait(bed, 5))

    seen = [
        {one.name: one.waiters for one in await bed.do(replica.describe(ten.rpartition(".")[0]))}
        for replica in bed.replicas
    ]
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)

    assert seen == [{f"{ten}/second": 5, f"{wide}/second": 5}] * 3


async def _all_wait(bed: Bed, count: int) -> None:
    while sum(sum(one.waiters().values()) for one in bed.replicas) < 2 * count:  # noqa: ASYNC110
        await asyncio.sleep(0.001)


async def test_backfill_of_one_replica_gives_way_to_live_calls_of_another(bed: Bed) -> None:
    [limit] = names("fifty")
    await bed.used_long_ago(limit)
    catching_up, live = bed.replicas[:2]
    granted = dict.fromkeys((Priority.LIVE, Priority.BACKFILL), 0)

    async def caller(limiter: SharedLimiter, priority: Priority) -> None:
        while True:
            await _turn(limiter, [limit], priority=priority, max_wait_s=60.0)
            granted[priority] += 1

    async def backfill_then_live() -> dict[Priority, int]:
        tasks = [asyncio.ensure_future(caller(catching_up, Priority.BACKFILL)) for _ in range(20)]
        await bed.clock.sleep(0.5)
        alone = granted[Priority.BACKFILL]
        tasks += [asyncio.ensure_future(caller(live, Priority.LIVE)) for _ in range(40)]
        await bed.clock.sleep(2.0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return {**granted, Priority.BACKFILL: granted[Priority.BACKFILL] - alone}

    counts = await bed.do(backfill_then_live())

    assert counts[Priority.LIVE] > 10 * counts[Priority.BACKFILL]
    assert counts[Priority.LIVE] > 40

"""What a refresher keeps to: waits, numbers, its own leftovers, and what it counts."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from libs import metric_names
from libs.errors import Kind, ServiceError, permanent
from libs.settings import Secret
from libs.telemetry.metrics import render_prometheus
from services.auth.domain.grants import App, Family, Grant
from services.auth.ports import APP_REFUSED
from services.auth.refresher import GRANT_EXPIRED
from tests.unit.auth.replicas import ID, LIFE_S, House, PlayedProvider, Replica, Upstream
from tidewire.auth.v1 import record_pb2

_DOWN = ServiceError(Kind.RETRYABLE, "nats_unavailable")


async def left_by(house: House, replica: Replica, holder: str) -> None:
    """An intent that somebody left behind just now."""
    kept = await replica.grants.fresh(ID)
    assert kept is not None
    record = record_pb2.StoredGrant()
    record.CopyFrom(kept.record)
    record.intent.holder = holder
    record.intent.begun_at.FromNanoseconds(house.clock.now_ns())
    await replica.grants.write(ID, record, expected=kept.sequence)


@pytest.mark.parametrize(
    ("trouble", "wait_s"),
    [
        (ServiceError(Kind.THROTTLED, "slow_down", retry_after_s=40.0), 40.0),
        (permanent(APP_REFUSED), 60.0),
        (ServiceError(Kind.RETRYABLE, "upstream_timeout"), 0.75),
    ],
)
async def test_the_wait_for_the_next_try_is_the_longest_that_anybody_asks_for(
    trouble: ServiceError, wait_s: float
) -> None:
    house = House(replicas=1)
    await house.connect()
    house.upstream.troubles = [trouble]

    with pytest.raises(ServiceError) as failed:
        await house.clock.drive(house.replicas[0].token())

    assert failed.value.retry_after_s == pytest.approx(wait_s)


async def test_an_own_write_whose_answer_was_lost_counts_as_a_refresh_and_not_as_a_loss() -> None:
    house = House(replicas=1)
    await house.connect()
    replica = house.replicas[0]

    async def story() -> None:
        asked = asyncio.create_task(replica.token())
        await house.upstream.rotated.wait()
        replica.log.unheard = 1
        await asked

    await house.clock.drive(story())

    counted = {
        result: replica.metrics.counter(metric_names.GRANT_REFRESHES, result=result).value
        for result in ("refreshed", "lost")
    }
    assert counted == {"refreshed": 1, "lost": 0}


async def test_the_background_takes_over_from_a_living_holder_that_is_stuck() -> None:
    house = House(replicas=2)
    await house.connect()
    await house.follow()
    first, second = house.replicas
    first.provider.pull_when_rotated = True

    async def story() -> int:
        running = asyncio.create_task(second.refresher.run(lambda: None))
        stuck = asyncio.create_task(first.token())
        await house.upstream.rotated.wait()
        await second.follower.follow()
        await house.clock.sleep(125)
        stuck.cancel()
        second.refresher.stop()
        await running
        return (await second.record()).token_revision

    assert await house.clock.drive(story()) == 2
    assert house.upstream.refreshes == 2


async def test_the_background_finishes_what_its_own_process_left_behind() -> None:
    house = House(replicas=1)
    await house.connect()
    replica = house.replicas[0]
    await left_by(house, replica, "r0")

    async def story() -> None:
        running = asyncio.create_task(replica.refresher.run(lambda: None))
        await house.clock.sleep(2)
        replica.refresher.stop()
        await running

    await house.clock.drive(story())

    assert (await replica.record()).token_revision == 2


async def test_not_more_than_thirty_two_are_refreshed_at_once_in_the_background() -> None:
    house = House(replicas=1)
    for number in range(40):
        await house.connect(connection_id=f"shop-{number}.shopify")
    house.upstream.takes_s = 5
    replica = house.replicas[0]

    async def story() -> list[int]:
        await house.clock.sleep(LIFE_S)
        running = asyncio.create_task(replica.refresher.run(lambda: None))
        seen = []
        for wait_s in (1.0, 10.0):
            await house.clock.sleep(wait_s)
            seen.append(house.upstream.refreshes)
        replica.refresher.stop()
        await running
        return seen

    assert await house.clock.drive(story()) == [32, 40]


async def test_a_provider_that_hangs_keeps_no_other_from_being_asked() -> None:
    house = House(replicas=1)
    replica = house.replicas[0]
    hanging = Upstream(house.clock, takes_s=10_000)
    replica.providers.others[Family.TIKTOK_SHOP] = PlayedProvider(hanging, replica.cable)
    for number in range(40):
        shop = f"early-{number}.tiktok_shop.1"
        await house.connect(hanging.pair(), shop, Family.TIKTOK_SHOP)
    await house.connect()

    async def story() -> int:
        await house.clock.sleep(LIFE_S)
        running = asyncio.create_task(replica.refresher.run(lambda: None))
        await house.clock.sleep(1)
        running.cancel()
        return hanging.refreshes

    assert await house.clock.drive(story()) == 32
    assert (await replica.record()).token_revision == 2


async def test_who_waits_for_room_is_not_begun_after_a_stop() -> None:
    house = House(replicas=1)
    for number in range(40):
        await house.connect(connection_id=f"shop-{number}.shopify")
    house.upstream.takes_s = 5
    replica = house.replicas[0]

    async def story() -> None:
        await house.clock.sleep(LIFE_S)
        running = asyncio.create_task(replica.refresher.run(lambda: None))
        await house.clock.sleep(1)
        replica.refresher.stop()
        await running

    await house.clock.drive(story())

    assert house.upstream.refreshes == 32


def without_expiry(house: House) -> Grant:
    """As it comes from a file."""
    return replace(house.upstream.pair(), expires_at=None)


async def test_one_whose_expiry_nobody_knows_is_refreshed_at_once() -> None:
    house = House(replicas=1)
    await house.connect(without_expiry(house), family=Family.TIKTOK_SHOP)
    replica = house.replicas[0]

    async def story() -> None:
        running = asyncio.create_task(replica.refresher.run(lambda: None))
        await house.clock.sleep(2)
        replica.refresher.stop()
        await running

    await house.clock.drive(story())

    record = await replica.record()
    assert (record.token_revision, record.HasField("expires_at")) == (2, True)


async def test_one_that_does_not_expire_is_not_refreshed() -> None:
    house = House(replicas=1)
    await house.connect(without_expiry(house), family=Family.SHOPIFY)
    replica = house.replicas[0]

    async def story() -> None:
        running = asyncio.create_task(replica.refresher.run(lambda: None))
        await house.clock.sleep(48 * 3600)
        replica.refresher.stop()
        await running

    await house.clock.drive(story())

    assert house.upstream.refreshes == 0


async def test_where_the_provider_does_not_say_either_it_is_asked_once_a_day() -> None:
    house = House(replicas=1)
    house.upstream.life_s = None
    await house.connect(family=Family.TIKTOK_SHOP)
    replica = house.replicas[0]

    async def story() -> list[int]:
        running = asyncio.create_task(replica.refresher.run(lambda: None))
        seen = []
        for _ in range(3):
            await house.clock.sleep(23 * 3600)
            seen.append(house.upstream.refreshes)
        replica.refresher.stop()
        await running
        return seen

    assert await house.clock.drive(story()) == [1, 2, 3]


async def test_what_is_condemned_twice_is_told_once() -> None:
    house = House(replicas=1)
    await house.connect()
    replica = house.replicas[0]

    for _ in range(2):
        await house.clock.drive(replica.refresher.condemn(ID, 1, GRANT_EXPIRED))

    assert replica.ended == [ID]


async def test_a_grant_that_is_over_is_not_to_be_tried_at_any_time() -> None:
    house = House(replicas=1)
    await house.connect()
    house.upstream.troubles = [_DOWN, ServiceError(Kind.AUTH, "grant_revoked")]
    replica = house.replicas[0]

    async def story() -> None:
        for _ in range(2):
            with pytest.raises(ServiceError):
                await replica.token()
            await house.clock.sleep(2)

    await house.clock.drive(story())
    record = await replica.record()

    assert (record.needs_reauthorization, record.HasField("retry_at")) == (True, False)


async def test_an_answer_whose_key_is_gone_for_good_is_an_error_and_no_endless_wait() -> None:
    house = House(replicas=1)
    await house.connect()
    replica = house.replicas[0]

    async def story() -> None:
        asked = asyncio.create_task(replica.token())
        await house.upstream.rotated.wait()
        house.keys.trouble = permanent("key_unknown")
        await asked

    with pytest.raises(ServiceError, match="key_unknown"):
        await house.clock.drive(story())


async def test_a_grant_of_an_app_of_its_own_is_refreshed_with_that_app() -> None:
    house = House(replicas=1)
    pair = house.upstream.pair()
    await house.connect(replace(pair, app=App("own", Secret("own-secret"))))
    replica = house.replicas[0]
    replica.providers.own = None

    assert await house.clock.drive(replica.token()) == "access-2"


async def test_tokens_that_have_expired_unrefreshed_are_counted() -> None:
    house = House(replicas=1)
    await house.connect()
    replica = house.replicas[0]

    def counted() -> bool:
        return f"{metric_names.GRANTS_EXPIRED} 1\n" in render_prometheus(replica.metrics)

    before = counted()
    house.clock.jump(LIFE_S + 1)

    assert (before, counted()) == (False, True)


async def test_a_stop_waits_for_the_refresh_that_a_caller_began() -> None:
    house = House(replicas=1)
    await house.connect()
    replica = house.replicas[0]

    async def story() -> bool:
        running = asyncio.create_task(replica.refresher.run(lambda: None))
        asked = asyncio.create_task(replica.token())
        await house.upstream.rotated.wait()
        replica.refresher.stop()
        await running
        busy = replica.refresher.is_busy
        await asked
        return busy

    assert not await house.clock.drive(story())


async def test_a_refresh_that_the_store_kept_from_beginning_is_tried_again_soon() -> None:
    house = House(replicas=1)
    await house.connect()
    replica = house.replicas[0]

    async def story() -> None:
        running = asyncio.create_task(replica.refresher.run(lambda: None))
        replica.log.down = True
        await house.clock.sleep(0.9 * LIFE_S)
        replica.log.down = False
        await house.clock.sleep(2)
        replica.refresher.stop()
        await running

    await house.clock.drive(story())

    assert (await replica.record()).token_revision == 2

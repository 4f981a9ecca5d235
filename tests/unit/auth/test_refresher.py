"""One refresh for a connection among all replicas, whoever is killed, paused or late."""

from __future__ import annotations

import asyncio

import pytest

from libs.errors import Kind, ServiceError, permanent
from libs.settings import Secret
from services.auth.domain.grants import Grant
from services.auth.ports import APP_REFUSED
from services.auth.refresher import GRANT_EXPIRED, NEEDS_REAUTHORIZATION, REFRESH_FAILED
from tests.unit.auth.replicas import ID, LIFE_S, House
from tidewire.auth.v1 import record_pb2

DOWN = ServiceError(Kind.RETRYABLE, "upstream_unreachable")


async def test_a_thousand_callers_on_four_replicas_cause_one_refresh() -> None:
    house = House()
    await house.connect()

    asked = [replica.token() for replica in house.replicas for _ in range(250)]
    tokens = await house.clock.drive(_all(*asked))

    assert set(tokens) == {"access-2"}
    assert house.upstream.refreshes == 1


async def test_a_holder_killed_after_the_upstream_has_rotated_costs_one_more_refresh() -> None:
    house = House()
    await house.connect()
    first, second = house.replicas[:2]
    first.provider.pull_when_rotated = True

    async def story() -> str:
        lost = asyncio.create_task(first.token())
        await house.upstream.rotated.wait()
        house.kill(first)
        token = await second.token()
        lost.cancel()
        return token

    token = await house.clock.drive(story())

    assert token == "access-3"
    assert (house.upstream.refreshes, house.upstream.dead_refreshes) == (2, 0)


async def test_with_strict_rotation_that_loss_is_found_within_five_seconds() -> None:
    house = House(strict=True)
    await house.connect()
    first, second = house.replicas[:2]
    first.provider.pull_when_rotated = True

    async def story() -> float:
        lost = asyncio.create_task(first.token())
        await house.upstream.rotated.wait()
        house.kill(first)
        killed_s = house.clock.monotonic_s()
        with pytest.raises(ServiceError, match=NEEDS_REAUTHORIZATION):
            await second.token()
        lost.cancel()
        return house.clock.monotonic_s() - killed_s

    took_s = await house.clock.drive(story())

    # Two seconds more pass in a real house until the lease of a killed process has run out.
    assert took_s < 3
    assert second.ended == [ID]
    assert (await second.record()).error_code == "grant_revoked"


async def test_a_holder_killed_long_before_the_expiry_is_missed_although_nobody_asks() -> None:
    house = House(replicas=2, strict=True)
    await house.connect()
    first, second = house.replicas
    first.provider.pull_when_rotated = True

    async def story() -> None:
        await house.follow()
        running = asyncio.create_task(second.refresher.run(lambda: None))
        lost = asyncio.create_task(first.token())
        await house.upstream.rotated.wait()
        house.kill(first)
        await second.follower.follow()
        await house.clock.sleep(3)
        lost.cancel()
        second.refresher.stop()
        await running

    await house.clock.drive(story())

    assert second.ended == [ID]


async def test_the_background_leaves_an_intent_to_its_living_holder() -> None:
    house = House(replicas=2)
    await house.connect()
    house.upstream.takes_s = 40
    first, second = house.replicas

    async def story() -> str:
        await house.follow()
        running = asyncio.create_task(second.refresher.run(lambda: None))
        holder = asyncio.create_task(first.token())
        await house.upstream.rotated.wait()
        await second.follower.follow()
        await house.clock.sleep(39)
        assert not second.refresher.is_busy
        second.refresher.stop()
        await running
        return await holder

    assert await house.clock.drive(story()) == "access-2"
    assert house.upstream.refreshes == 1


async def test_a_holder_that_was_paused_drops_its_answer_unused() -> None:
    house = House()
    await house.connect()
    first, second = house.replicas[:2]
    first.provider.pull_when_rotated = True

    async def story() -> list[str]:
        paused = asyncio.create_task(first.token())
        await house.upstream.rotated.wait()
        house.kill(first)
        token = await second.token()
        house.dead.clear()
        first.cable.plug()
        return [await paused, token]

    tokens = await house.clock.drive(story())

    # "access-2" is what the paused one was given: nobody ever sees it.
    assert tokens == ["access-3", "access-3"]
    house.upstream.use("access-3")
    assert (await house.clock.drive(second.token(newer_than=2))) == "access-4"
    assert house.upstream.dead_refreshes == 0


async def test_an_intent_of_a_living_holder_is_waited_for() -> None:
    house = House()
    await house.connect()
    house.upstream.takes_s = 20
    first, second = house.replicas[:2]

    async def story() -> list[str]:
        holder = asyncio.create_task(first.token())
        await house.upstream.rotated.wait()
        return list(await asyncio.gather(second.token(), holder))

    assert await house.clock.drive(story()) == ["access-2", "access-2"]
    assert house.upstream.refreshes == 1


async def test_an_intent_that_a_process_left_behind_itself_is_taken_up_at_once() -> None:
    house = House()
    kept = await house.connect()
    left = record_pb2.StoredGrant()
    left.CopyFrom(kept.record)
    left.intent.holder = "r0"
    await house.replicas[0].grants.write(ID, left, expected=kept.sequence)

    assert await house.clock.drive(house.replicas[0].token()) == "access-2"
    assert house.clock.monotonic_s() < 1


async def test_an_intent_that_stands_for_a_minute_is_taken_over_from_a_living_holder() -> None:
    house = House()
    await house.connect()
    first, second = house.replicas[:2]
    first.provider.pull_when_rotated = True

    async def story() -> str:
        stuck = asyncio.create_task(first.token())
        await house.upstream.rotated.wait()
        token = await second.token()
        stuck.cancel()
        return token

    assert await house.clock.drive(story()) == "access-3"
    assert 60 < house.clock.monotonic_s() < 62


async def test_a_holder_that_is_missing_for_a_moment_is_not_robbed() -> None:
    house = House()
    await house.connect()
    house.upstream.takes_s = 5
    first, second = house.replicas[:2]

    async def story() -> list[str]:
        holder = asyncio.create_task(first.token())
        await house.upstream.rotated.wait()
        other = asyncio.create_task(second.token())
        house.dead.add("r0")
        await house.clock.sleep(0.8)
        house.dead.clear()
        return list(await asyncio.gather(holder, other))

    assert await house.clock.drive(story()) == ["access-2", "access-2"]
    assert house.upstream.refreshes == 1


async def test_a_process_that_the_others_take_for_dead_calls_nobody() -> None:
    house = House()
    await house.connect()
    house.dead.add("r0")

    with pytest.raises(ServiceError, match=REFRESH_FAILED):
        await house.clock.drive(house.replicas[0].token())

    assert house.upstream.refreshes == 0


async def test_the_same_refresh_token_is_used_again_after_an_answer_was_lost() -> None:
    house = House()
    await house.connect()
    house.upstream.answers_lost = 1
    replica = house.replicas[0]

    async def story() -> str:
        with pytest.raises(ServiceError, match=REFRESH_FAILED) as failed:
            await replica.token()
        assert failed.value.retry_after_s is not None
        await house.clock.sleep(failed.value.retry_after_s)
        return await replica.token()

    token = await house.clock.drive(story())

    assert token == "access-3"
    assert house.upstream.dead_refreshes == 0


async def test_the_number_of_the_try_and_the_token_used_stay_on_record() -> None:
    house = House()
    await house.connect()
    house.upstream.troubles = [DOWN, DOWN]
    replica = house.replicas[0]

    async def story() -> None:
        for _ in range(2):
            with pytest.raises(ServiceError, match=REFRESH_FAILED):
                await replica.token()
            await house.clock.sleep(5)

    await house.clock.drive(story())
    record = await replica.record()

    assert (record.intent.attempt, record.intent.holder, record.failures) == (2, "", 2)
    assert len(record.intent.refresh_token_hash) == 32


async def test_who_asks_during_a_back_off_is_told_when_and_calls_nobody() -> None:
    house = House()
    await house.connect()
    house.upstream.troubles = [DOWN]
    replica = house.replicas[0]

    async def story() -> list[float | None]:
        waits = []
        for _ in range(3):
            with pytest.raises(ServiceError) as failed:
                await replica.token()
            waits.append(failed.value.retry_after_s)
        return waits

    waits = await house.clock.drive(story())

    assert waits == pytest.approx([0.75, 0.75, 0.75])
    assert house.upstream.refreshes == 0


async def test_a_wrong_secret_of_our_app_condemns_no_grant() -> None:
    house = House()
    await house.connect()
    house.upstream.troubles = [permanent(APP_REFUSED)]
    replica = house.replicas[0]

    with pytest.raises(ServiceError, match=REFRESH_FAILED):
        await house.clock.drive(replica.token())

    record = await replica.record()
    assert (record.needs_reauthorization, record.error_code) == (False, APP_REFUSED)
    assert replica.ended == []


async def test_a_revoked_grant_asks_the_provider_no_more() -> None:
    house = House()
    await house.connect()
    house.upstream.troubles = [ServiceError(Kind.AUTH, "grant_revoked")]
    replica = house.replicas[0]

    for _ in range(3):
        with pytest.raises(ServiceError) as ended:
            await house.clock.drive(replica.token())
        assert (ended.value.kind, ended.value.code) == (Kind.AUTH, NEEDS_REAUTHORIZATION)

    assert replica.ended == [ID]
    assert house.upstream.refreshes == 0


async def test_an_answer_of_the_store_that_got_lost_is_asked_for_again() -> None:
    house = House()
    await house.connect()
    replica = house.replicas[0]

    async def story() -> str:
        asked = asyncio.create_task(replica.token())
        await house.upstream.rotated.wait()
        replica.log.unheard = 1
        return await asked

    assert await house.clock.drive(story()) == "access-2"
    assert house.upstream.refreshes == 1


async def test_a_grant_is_not_used_before_it_is_stored() -> None:
    house = House()
    await house.connect()
    first, second = house.replicas[:2]

    async def story() -> bool:
        asked = asyncio.create_task(first.token())
        await house.upstream.rotated.wait()
        first.log.down = True
        await house.clock.sleep(30)
        early = asked.done()
        first.log.down = False
        await asked
        return early

    assert not await house.clock.drive(story())
    assert (await second.record()).token_revision == 2


async def test_an_answer_whose_key_cannot_be_had_is_kept_until_it_can_be() -> None:
    house = House(strict=True)
    await house.connect()
    replica = house.replicas[0]

    async def story() -> str:
        asked = asyncio.create_task(replica.token())
        await house.upstream.rotated.wait()
        house.keys.trouble = ServiceError(Kind.RETRYABLE, "nats_unavailable")
        await house.clock.sleep(30)
        house.keys.trouble = None
        return await asked

    assert await house.clock.drive(story()) == "access-2"
    assert house.upstream.refreshes == 1


async def test_a_caller_that_hangs_up_breaks_nothing_off() -> None:
    house = House()
    await house.connect()
    replica = house.replicas[0]

    async def story() -> None:
        asked = asyncio.create_task(replica.token())
        await house.upstream.rotated.wait()
        asked.cancel()
        await house.clock.sleep(1)

    await house.clock.drive(story())

    assert (await replica.record()).token_revision == 2


async def test_a_grant_that_cannot_be_refreshed_ends_when_it_expires() -> None:
    house = House()
    pair = house.upstream.pair()
    grant = Grant(access_token=Secret("t"), expires_at=pair.expires_at)
    await house.connect(grant)
    await house.follow()
    replica = house.replicas[0]

    async def story() -> None:
        running = asyncio.create_task(replica.refresher.run(lambda: None))
        await house.clock.sleep(LIFE_S - 1)
        assert replica.ended == []
        await house.clock.sleep(2)
        replica.refresher.stop()
        await running

    await house.clock.drive(story())

    assert replica.ended == [ID]
    assert (await replica.record()).error_code == GRANT_EXPIRED


async def test_the_background_refreshes_before_the_token_expires_for_as_long_as_it_runs() -> None:
    house = House(replicas=2)
    await house.connect()
    await house.follow()

    async def story() -> list[int]:
        revisions = []
        running = [asyncio.create_task(one.refresher.run(lambda: None)) for one in house.replicas]
        for _ in range(10):
            await house.clock.sleep(LIFE_S / 2)
            await house.follow()
            record = await house.replicas[1].record()
            left_s = record.expires_at.ToNanoseconds() / 1e9 - house.clock.now_ns() / 1e9
            assert left_s > LIFE_S / 10
            revisions.append(record.token_revision)
        for one in house.replicas:
            one.refresher.stop()
        await asyncio.gather(*running)
        return revisions

    revisions = await house.clock.drive(story())

    assert revisions[-1] == house.upstream.refreshes + 1
    # Five hours at one refresh in three quarters of an hour.
    assert 6 <= house.upstream.refreshes <= 8


async def test_a_revoked_connection_is_unknown() -> None:
    house = House()

    with pytest.raises(ServiceError, match="connection_unknown"):
        await house.clock.drive(house.replicas[0].token())


async def test_a_report_on_an_older_token_condemns_nothing() -> None:
    house = House()
    await house.connect()
    replica = house.replicas[0]
    await house.clock.drive(replica.token())

    await replica.refresher.condemn(ID, 1, "40105")

    assert not (await replica.record()).needs_reauthorization


async def _all(*asked: object) -> list[str]:
    return list(await asyncio.gather(*asked))  # type: ignore[call-overload]  # coroutines of text

"""A grant that cannot be opened is put off as any other trouble is, and its end is told."""

from __future__ import annotations

import asyncio

import pytest

from libs.errors import Kind, ServiceError, permanent
from libs.keys import connection_scope
from services.auth.refresher import NEEDS_REAUTHORIZATION, REFRESH_FAILED
from services.auth.schedule import Schedule
from services.auth.tokens import Tokens
from tests.unit.auth.replicas import ID, LIFE_S, House
from tidewire.auth.v1 import record_pb2

_SEALED = ServiceError(Kind.RETRYABLE, "kek_unavailable")


async def in_background(house: House, for_s: float, then_s: float = 0.0) -> None:
    """Lets the first replica refresh in the background; `then_s` with every key at hand."""
    replica = house.replicas[0]

    async def story() -> None:
        running = asyncio.create_task(replica.refresher.run(lambda: None))
        await house.clock.sleep(for_s)
        if then_s:
            house.keys.closed = None
            await house.clock.sleep(then_s)
        replica.refresher.stop()
        await running

    await house.clock.drive(story())


async def test_one_whose_key_is_gone_is_tried_once_and_needs_a_person() -> None:
    house = House(replicas=1)
    await house.connect()
    await house.keys.forget(connection_scope(ID))
    house.clock.jump(0.9 * LIFE_S)

    await in_background(house, 60)

    replica = house.replicas[0]
    record = await replica.record()
    assert house.keys.opens == 1
    assert (record.needs_reauthorization, record.error_code) == (True, "key_unknown")
    assert replica.ended == [ID]


@pytest.mark.parametrize(
    ("trouble", "opens_most"), [(_SEALED, 8), (permanent("key_unreadable"), 2)]
)
async def test_one_whose_key_cannot_be_had_now_is_tried_ever_more_rarely(
    trouble: ServiceError, opens_most: int
) -> None:
    house = House(replicas=1)
    await house.connect()
    house.keys.closed = trouble
    house.clock.jump(0.9 * LIFE_S)

    await in_background(house, 61)

    record = await house.replicas[0].record()
    assert 2 <= house.keys.opens <= opens_most
    assert (record.needs_reauthorization, record.error_code) == (False, trouble.code)
    assert record.failures == house.keys.opens


async def test_one_whose_key_comes_back_is_refreshed() -> None:
    house = House(replicas=1)
    await house.connect()
    house.keys.closed = _SEALED
    house.clock.jump(0.9 * LIFE_S)

    await in_background(house, 5, then_s=30)

    record = await house.replicas[0].record()
    assert (record.token_revision, record.failures) == (2, 0)


async def test_an_intent_that_was_left_behind_is_not_forgotten_for_it() -> None:
    house = House(replicas=1)
    kept = await house.connect()
    left = record_pb2.StoredGrant()
    left.CopyFrom(kept.record)
    left.intent.holder = "killed"
    await house.replicas[0].grants.write(ID, left, expected=kept.sequence)
    house.dead.add("killed")
    house.keys.closed = _SEALED

    await in_background(house, 5, then_s=30)

    assert house.keys.opens <= 6
    assert (await house.replicas[0].record()).token_revision == 2


async def test_one_that_was_left_behind_is_not_looked_at_before_it_may_be_tried() -> None:
    house = House(replicas=1)
    kept = await house.connect()
    kept.record.intent.holder = "killed"
    kept.record.retry_at.FromNanoseconds(house.clock.now_ns() + 20_000_000_000)
    schedule = Schedule(house.clock, lambda: 0.0)

    schedule.plan(kept)

    house.clock.jump(19)
    assert schedule.due() == []
    house.clock.jump(2)
    assert schedule.due() == [ID]


async def test_who_asks_for_its_token_is_told_that_it_must_be_connected_again() -> None:
    house = House(replicas=1)
    await house.connect()
    await house.keys.forget(connection_scope(ID))
    replica = house.replicas[0]
    tokens = Tokens(replica.grants, replica.refresher, replica.providers, house.clock)

    with pytest.raises(ServiceError, match="key_unknown") as refused:
        await house.clock.drive(tokens.token(ID))

    # What was meant for the connection waits for it: it is no fault of any single event.
    assert (refused.value.kind, refused.value.code) == (Kind.AUTH, NEEDS_REAUTHORIZATION)
    assert replica.ended == [ID]


@pytest.mark.parametrize(
    ("trouble", "kind"), [(_SEALED, Kind.RETRYABLE), (permanent("key_unreadable"), Kind.AUTH)]
)
async def test_a_key_that_may_come_back_ends_no_connection(
    trouble: ServiceError, kind: Kind
) -> None:
    house = House(replicas=1)
    await house.connect()
    house.keys.closed = trouble
    replica = house.replicas[0]
    tokens = Tokens(replica.grants, replica.refresher, replica.providers, house.clock)

    with pytest.raises(ServiceError, match=trouble.code) as refused:
        await house.clock.drive(tokens.token(ID))

    assert refused.value.kind is kind
    assert not (await replica.record()).needs_reauthorization


async def test_one_that_was_connected_again_meanwhile_is_not_condemned() -> None:
    house = House(replicas=1)
    old = await house.connect()
    await house.keys.forget(connection_scope(ID))
    replica = house.replicas[0]
    new = record_pb2.StoredGrant()
    new.CopyFrom(old.record)
    new.token_revision = 2
    await replica.grants.seal(ID, house.upstream.pair(), new)
    await replica.grants.write(ID, new, expected=old.sequence)

    error = await replica.refresher.unopened(old, permanent("key_unknown"))

    assert (error.kind, error.code) == (Kind.RETRYABLE, REFRESH_FAILED)
    assert not (await replica.record()).needs_reauthorization

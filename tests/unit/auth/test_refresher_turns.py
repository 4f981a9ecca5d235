"""What comes just as a refresh ends: turns of the event loop, not of the clock."""

from __future__ import annotations

import asyncio

import pytest

from libs.errors import Kind, ServiceError
from services.auth.schedule import Schedule
from tests.unit.auth.replicas import ID, LIFE_S, House


async def test_who_asks_for_a_newer_token_just_as_a_refresh_ends_gets_one() -> None:
    house = House(replicas=1)
    await house.connect()
    replica = house.replicas[0]
    asked: list[asyncio.Task[str]] = []

    def ask(connection_id: str) -> None:
        kept = replica.grants.known(connection_id)
        if kept is not None and kept.record.token_revision == 2 and not asked:
            asked.append(asyncio.create_task(replica.token(newer_than=2)))

    replica.grants.subscribe(ask)

    async def both() -> tuple[str, str]:
        return await replica.token(newer_than=1), await asked[0]

    # The newer token may come before the first asker has looked, never after the second has.
    _, second = await house.clock.drive(both())
    assert second == "access-3"


async def test_what_was_refreshed_before_its_turn_came_is_due_no_more() -> None:
    house = House(replicas=1)
    kept = await house.connect()
    schedule = Schedule(house.clock, lambda: 0.0)
    schedule.plan(kept)
    house.clock.jump(LIFE_S)
    assert schedule.due() == [ID]
    assert schedule.is_due(ID)

    replica = house.replicas[0]
    await house.clock.drive(replica.token())
    newer = replica.grants.known(ID)
    assert newer is not None
    schedule.plan(newer)

    assert not schedule.is_due(ID)


async def test_what_somebody_asked_for_and_failed_is_tried_again_by_itself() -> None:
    house = House(replicas=1)
    await house.connect()
    replica = house.replicas[0]
    house.upstream.troubles.append(ServiceError(Kind.RETRYABLE, "upstream_timeout"))

    async def story() -> None:
        running = asyncio.create_task(replica.refresher.run(lambda: None))
        with pytest.raises(ServiceError, match="tried again by itself"):
            await replica.token()
        await house.clock.sleep(2)
        replica.refresher.stop()
        await running

    await house.clock.drive(story())

    assert (await replica.record()).token_revision == 2

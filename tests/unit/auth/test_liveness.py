"""Who lives and who is taken for dead, also by those who were away themselves."""

from __future__ import annotations

import pytest
from nats.aio.client import Client

from libs.bus import subjects
from libs.bus.commit_log import MemoryLog
from libs.errors import ServiceError
from services.auth.adapters.liveness import LASTS_S, SETTLED_S, ReplicaLiveness
from tests.fakes.virtual_clock import VirtualClock
from tests.unit.auth.replicas import Cable, CabledLog

_EVERY_S = 0.6


class Two:
    """Two processes, each with a connection of its own to one log."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.log = MemoryLog()
        self.logs = [CabledLog(self.log, Cable()) for _ in range(2)]
        self.first, self.second = (
            ReplicaLiveness(Client(), log, self.clock, name)
            for name, log in zip(("one", "two"), self.logs, strict=True)
        )

    async def go_on(self, seconds: float, *renewing: ReplicaLiveness) -> None:
        """So much time, in which these renew their leases."""
        for _ in range(round(seconds / _EVERY_S)):
            for one in renewing:
                await one.renew()
            self.clock.jump(_EVERY_S)

    def run_out(self, owner: str) -> None:
        self.log.expire(subjects.in_bucket(subjects.LEASES, f"auth.{owner}"))


async def test_a_process_that_is_gone_is_taken_for_dead_by_who_was_there_all_along() -> None:
    two = Two()
    await two.go_on(6, two.first, two.second)
    both = await two.second.lives("one")

    two.run_out("one")
    await two.go_on(1.2, two.second)

    assert both
    assert not await two.second.lives("one")
    assert await two.first.lives("two")


async def test_who_was_away_itself_takes_nobody_for_dead_until_all_had_time_to_come_back() -> None:
    two = Two()
    await two.go_on(6, two.first, two.second)
    two.clock.jump(LASTS_S + 1)
    two.run_out("one")
    two.run_out("two")

    unrenewed = await two.second.lives("one")
    # The first finds its lease gone, the next takes a new one.
    held = [await two.second.renew(), await two.second.renew()]
    back = await two.second.lives("one")
    await two.go_on(SETTLED_S - _EVERY_S, two.second)
    nearly = await two.second.lives("one")
    await two.go_on(2 * _EVERY_S, two.second)

    assert (unrenewed, held, back, nearly) == (True, [False, True], True, True)
    assert not await two.second.lives("one")


async def test_an_outage_just_longer_than_a_lease_counts_as_away() -> None:
    two = Two()
    await two.go_on(6, two.first, two.second)
    two.logs[1].down = True
    await two.go_on(1.8, two.second)
    two.logs[1].down = False
    two.clock.jump(LASTS_S - 1.8)
    two.run_out("one")
    two.run_out("two")
    await two.second.renew()
    await two.second.renew()

    assert await two.second.lives("one")


async def test_one_that_has_just_started_takes_nobody_for_dead() -> None:
    two = Two()

    assert await two.second.lives("one")


async def test_a_lease_runs_out_unless_it_is_renewed() -> None:
    two = Two()
    await two.first.renew()
    two.clock.jump(LASTS_S - 0.1)
    before = two.first.is_alive
    two.clock.jump(0.2)

    assert (before, two.first.is_alive) == (True, False)


async def test_while_the_store_is_away_a_lease_is_held_only_until_it_runs_out() -> None:
    two = Two()
    await two.go_on(6, two.first)
    two.logs[0].down = True
    soon = await two.first.renew()
    with pytest.raises(ServiceError):
        await two.first.lives("two")
    two.clock.jump(LASTS_S)

    assert (soon, await two.first.renew()) == (True, False)

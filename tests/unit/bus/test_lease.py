"""One holder at a time, also where an answer of the log is not heard."""

from __future__ import annotations

from collections.abc import Sequence

from libs.bus.commit_log import Entry, MemoryLog
from libs.bus.lease import Lease
from libs.clock import FakeClock
from libs.errors import Kind, ServiceError


class Unheard(MemoryLog):
    """Takes so many writes without saying so."""

    unheard = 0

    async def commit(self, entries: Sequence[Entry]) -> int:
        sequence = await super().commit(entries)
        if self.unheard:
            self.unheard -= 1
            raise ServiceError(Kind.RETRYABLE, "nats_unavailable")
        return sequence


def lease(log: MemoryLog, clock: FakeClock, owner: str) -> Lease:
    return Lease(log, clock, "lane.1", owner)


async def test_a_renewal_that_nobody_heard_of_does_not_cost_the_lease() -> None:
    log, clock = Unheard(), FakeClock()
    mine = lease(log, clock, "a")
    assert await mine.hold()
    log.unheard = 1
    await mine.hold()

    assert await mine.hold()
    assert mine.is_held


async def test_a_lease_that_was_taken_unheard_is_held_at_the_next_asking() -> None:
    log, clock = Unheard(), FakeClock()
    mine = lease(log, clock, "a")
    log.unheard = 1
    assert not await mine.hold()

    assert await mine.hold()


async def test_what_somebody_else_holds_is_not_taken_over() -> None:
    log, clock = Unheard(), FakeClock()
    mine, other = lease(log, clock, "a"), lease(log, clock, "b")
    assert await mine.hold()

    assert not await other.hold()
    assert not other.is_held
    assert await mine.hold()

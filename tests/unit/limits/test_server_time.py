"""The servers' time, by asking."""

from __future__ import annotations

from libs.clock import FakeClock
from libs.errors import Kind, ServiceError
from libs.limits.server_time import ServerTime

AHEAD_S = 5.0


class Server:
    """A server whose clock is 5 s ahead, and whose answers take the times that are told."""

    def __init__(self, clock: FakeClock, *ways_s: tuple[float, float]) -> None:
        self.clock = clock
        self.ways_s = list(ways_s)
        self.ahead_s = AHEAD_S

    async def __call__(self) -> int:
        if not self.ways_s:
            raise ServiceError(Kind.RETRYABLE, "nats_unavailable")
        there_s, back_s = self.ways_s.pop(0)
        self.clock.advance(there_s)
        now_ns = self.clock.now_ns() + int(self.ahead_s * 1e9)
        self.clock.advance(back_s)
        return now_ns


def _error_s(time: ServerTime, clock: FakeClock) -> float:
    return abs(time.now_ns() / 1e9 - clock.now_s - AHEAD_S)


async def test_the_quickest_of_the_answers_counts() -> None:
    clock = FakeClock()
    time = ServerTime(clock, Server(clock, (0.02, 0.0), (0.001, 0.001), (0.0, 0.03)))

    await time.measure()

    assert _error_s(time, clock) < 0.0001


async def test_an_answer_that_took_longer_than_50_ms_is_refused() -> None:
    clock = FakeClock()
    time = ServerTime(clock, Server(clock, *[(0.051, 0.0)] * 3))

    await time.measure()

    assert not time.is_known


async def test_a_slow_answer_does_not_undo_a_quick_one_from_just_before() -> None:
    clock = FakeClock()
    time = ServerTime(clock, Server(clock, *[(0.0005, 0.0005)] * 3, *[(0.04, 0.0)] * 3))

    await time.measure()
    clock.advance(10.0)
    await time.measure()

    assert _error_s(time, clock) < 0.001


async def test_a_step_of_the_server_is_followed_with_the_next_measurement() -> None:
    clock = FakeClock()
    server = Server(clock, *[(0.0005, 0.0005)] * 3)
    time = ServerTime(clock, server)
    await time.measure()

    clock.advance(10.0)
    server.ahead_s = AHEAD_S + 2.0
    server.ways_s = [(0.001, 0.001)] * 3
    await time.measure()

    assert abs(time.now_ns() / 1e9 - clock.now_s - AHEAD_S - 2.0) < 0.001

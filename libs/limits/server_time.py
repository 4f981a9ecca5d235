"""The servers' clock, as each process reads it: so that replicas agree whose own clocks do not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

from nats.aio.client import Client

from libs.bus import subjects
from libs.bus.api import ApiError, js_api
from libs.clock import Clock
from libs.errors import Kind, ServiceError

Ask = Callable[[], Awaitable[int]]
"""Nanoseconds since the Unix epoch by the server's clock.

Raises:
    ServiceError: it did not answer.
"""

RTT_MAX_S: Final = 0.05
EVERY_S: Final = 10.0
_ASKED_AT_ONCE: Final = 3
_AGAIN_S: Final = 0.25
_ANSWER_WITHIN_S: Final = 0.25
_DRIFT: Final = 200e-6
"""How fast two clocks may part: ten times what quartz does."""


class ServerTime:
    """The server's time: this process's monotonic clock plus an offset that is measured.

    The wall clock, which may be wrong and may step, has no part in it. An answer says what the
    server's clock was at some moment between question and answer, so half the round trip bounds
    the error. A measurement counts if it is better than what the one before has become by drift.
    """

    def __init__(self, clock: Clock, ask: Ask) -> None:
        self._clock = clock
        self._ask = ask
        self._offset_ns = 0
        self._error_s = float("inf")
        self._measured_s = 0.0
        self._stopping = asyncio.Event()

    @property
    def is_known(self) -> bool:
        """Whether it was ever measured."""
        return self._error_s < float("inf")

    def now_ns(self) -> int:
        """The server's time; only once it is known."""
        return int(self._clock.monotonic_s() * 1e9) + self._offset_ns

    async def measure(self) -> None:
        """Asks a few times; the quickest answer counts.

        Raises:
            ServiceError: nobody answered.
        """
        for _ in range(_ASKED_AT_ONCE):
            sent_s = self._clock.monotonic_s()
            server_ns = await self._ask()
            self._take(sent_s, self._clock.monotonic_s(), server_ns)

    async def run(self, ready: Callable[[], None]) -> None:
        """Measures until `stop`."""
        while not self._stopping.is_set():
            try:
                await self.measure()
            except ServiceError:
                delay_s = _AGAIN_S
            else:
                delay_s = EVERY_S if self.is_known else _AGAIN_S
            if self.is_known:
                ready()
            try:
                await asyncio.wait_for(self._stopping.wait(), delay_s)
            except TimeoutError:
                continue

    def stop(self) -> None:
        """Ends `run`."""
        self._stopping.set()

    def _take(self, sent_s: float, received_s: float, server_ns: int) -> None:
        round_trip_s = received_s - sent_s
        aged_s = self._error_s + _DRIFT * (received_s - self._measured_s)
        if round_trip_s > RTT_MAX_S or round_trip_s / 2 > aged_s:
            return
        self._offset_ns = server_ns - int((sent_s + received_s) / 2 * 1e9)
        self._error_s = round_trip_s / 2
        self._measured_s = received_s


def asks_stream(nats: Client, bucket: str = subjects.LIMITS) -> Ask:
    """Asks the server that leads the bucket: every answer about a stream bears its `ts`."""

    async def ask() -> int:
        name = f"STREAM.INFO.{subjects.bucket_stream(bucket)}"
        try:
            answer = await js_api(nats, name, timeout_s=_ANSWER_WITHIN_S)
            instant = datetime.fromisoformat(answer["ts"])
        except (ApiError, KeyError, ValueError) as error:
            raise ServiceError(
                Kind.RETRYABLE, "server_time_unknown", f"no time in the answer to {name}"
            ) from error
        return int(instant.timestamp()) * 1_000_000_000 + instant.microsecond * 1_000

    return ask

"""The shared limiter on a connection to NATS, as one part of a process."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Final

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg

from libs.bus import subjects
from libs.bus.api import UNREACHABLE
from libs.bus.commit_log import Stored
from libs.bus.jetstream_log import JetStreamLog
from libs.bus.scan import scan
from libs.clock import Clock
from libs.ids import Ids, Random
from libs.limits.declared import DeclaredLimits
from libs.limits.server_time import ServerTime, asks_stream
from libs.limits.shared import OPERATION_TIMEOUT_S, SharedLimiter
from libs.telemetry import Metrics

_STREAM = subjects.bucket_stream(subjects.LIMITS)
_ANSWERS_S: Final = 0.1
"""Longer than a process in good order takes to answer; a person waits for the sum."""


class _Question(msgspec.Struct, array_like=True):
    by: str
    prefix: str


class LimiterPart:
    """A part for `run_parts`: keeps the servers' time, and hears of throttles.

    `limiter` answers THROTTLED, `limits_unreachable`, until the part has run for a moment.
    """

    def __init__(
        self,
        nats: Client,
        *,
        declared: DeclaredLimits,
        clock: Clock,
        ids: Ids,
        random: Random,
        metrics: Metrics,
    ) -> None:
        self._nats = nats
        self._clock = clock
        self._id = ids.new()
        self._time = ServerTime(clock, asks_stream(nats))
        self.limiter = SharedLimiter(
            JetStreamLog(nats, _STREAM, ids, timeout_s=OPERATION_TIMEOUT_S),
            self._stored,
            declared=declared,
            time=self._time,
            clock=clock,
            random=random,
            metrics=metrics,
            announce=self._announce,
            others=self._others,
        )

    async def run(self, ready: Callable[[], None]) -> None:
        """Works until `stop`."""
        heard = await self._nats.subscribe(subjects.THROTTLED, cb=self._heard)
        asked = await self._nats.subscribe(subjects.LIMIT_WAITERS, cb=self._asked)
        try:
            await self._time.run(ready)
        finally:
            await self.limiter.close()
            if self._nats.is_connected:
                await heard.unsubscribe()
                await asked.unsubscribe()

    def stop(self) -> None:
        """Ends `run`."""
        self._time.stop()

    async def _announce(self, paused_until_ns: Mapping[str, int]) -> None:
        try:
            await self._nats.publish(subjects.THROTTLED, msgspec.msgpack.encode(paused_until_ns))
        except UNREACHABLE:
            # The others learn of it with their next reservation.
            return

    async def _heard(self, message: Msg) -> None:
        try:
            paused_until_ns = msgspec.msgpack.decode(message.data, type=dict[str, int])
        except msgspec.DecodeError:
            return
        self.limiter.heard(paused_until_ns)

    async def _others(self, prefix: str) -> Mapping[str, int]:
        """How many wait in other processes; those that do not answer in time are not counted."""
        found: Counter[str] = Counter()

        async def take(message: Msg) -> None:
            with suppress(msgspec.DecodeError):
                found.update(msgspec.msgpack.decode(message.data, type=dict[str, int]))

        inbox = self._nats.new_inbox()
        question = msgspec.msgpack.encode(_Question(self._id, prefix))
        with suppress(*UNREACHABLE):
            answers = await self._nats.subscribe(inbox, cb=take)
            try:
                await self._nats.publish(subjects.LIMIT_WAITERS, question, reply=inbox)
                # Nobody knows how many there are to answer.
                await self._clock.sleep(_ANSWERS_S)
            finally:
                await answers.unsubscribe()
        return found

    async def _asked(self, message: Msg) -> None:
        try:
            question = msgspec.msgpack.decode(message.data, type=_Question)
        except msgspec.DecodeError:
            return
        waiters = self.limiter.waiters(question.prefix)
        if question.by == self._id or not waiters or not message.reply:
            return
        with suppress(*UNREACHABLE):
            await self._nats.publish(message.reply, msgspec.msgpack.encode(waiters))

    def _stored(self) -> AsyncIterator[Stored]:
        return scan(self._nats, _STREAM, subjects.in_bucket(subjects.LIMITS, ">"))

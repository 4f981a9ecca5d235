"""Following a bucket: all that is there, then each change soon after it was written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from libs.bus import subjects
from libs.bus.commit_log import MemoryLog, Stored
from libs.bus.scan import page
from libs.errors import ServiceError

_log = structlog.stdlib.get_logger()

_EVERY_S: Final = 0.5
"""How soon a change is seen whose announcement got lost."""

_LOOKS_S: Final = (0.05, 0.01)
"""Seconds until the further looks after an announcement, the last one first."""


class Feed(Protocol):
    """What was written to a log, in order."""

    async def after(self, sequence: int) -> Sequence[Stored]:
        """Some of the newest messages behind `sequence`, in order; empty: there are no more now.

        Raises:
            ServiceError: RETRYABLE, where the log did not answer.
        """


class BucketFeed:
    """`Feed` of a key-value bucket."""

    def __init__(self, nats: Client, bucket: str) -> None:
        self._nats = nats
        self._stream = subjects.bucket_stream(bucket)
        self._every = subjects.in_bucket(bucket, ">")

    async def after(self, sequence: int) -> Sequence[Stored]:
        return await page(self._nats, self._stream, self._every, after=sequence)


class MemoryFeed:
    """`Feed` of a log in memory."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    async def after(self, sequence: int) -> Sequence[Stored]:
        # Sequences start at 1 and have no gaps here.
        return self._log.history[sequence : sequence + 256]


class Follower:
    """Gives `take` each message of a feed once, in order; a part of a process.

    `nudges` names the subjects whose messages wake it: what is published to a bucket reaches every
    subscriber at once, stored or not, so it only says that it is time to look.
    """

    def __init__(
        self,
        name: str,
        feed: Feed,
        take: Callable[[Stored], None],
        *,
        nats: Client | None = None,
        nudges: str = "",
    ) -> None:
        self._name = name
        self._feed = feed
        self._take = take
        self._nats = nats
        self._nudges = nudges
        self._sequence = 0
        self._woken = asyncio.Event()
        self._stopping = False
        self._looks: list[float] = []

    async def follow(self) -> None:
        """Takes in all that was written since the last time.

        Raises:
            ServiceError: RETRYABLE, where the log does not answer.
        """
        while found := await self._feed.after(self._sequence):
            for stored in found:
                self._take(stored)
                self._sequence = stored.sequence

    async def run(self, ready: Callable[[], None]) -> None:
        """Follows until `stop`; ready once the log has been read to its end."""
        subscription = None
        if self._nats is not None and self._nudges:
            subscription = await self._nats.subscribe(self._nudges, cb=self._nudged)
        try:
            while not self._stopping:
                self._woken.clear()
                try:
                    await self.follow()
                    ready()
                except ServiceError as error:
                    _log.info("bucket_not_read", bucket=self._name, reason=error.code)
                await self._wait()
        finally:
            if subscription is not None:
                with suppress(Exception):
                    await subscription.unsubscribe()

    async def _wait(self) -> None:
        if self._looks:
            # Whoever publishes is heard before the server has stored what was published.
            await asyncio.sleep(self._looks.pop())
        else:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), _EVERY_S)
        if self._woken.is_set():
            self._looks = list(_LOOKS_S)

    async def _nudged(self, _: Msg) -> None:
        self._woken.set()

    def stop(self) -> None:
        """Ends `run`."""
        self._stopping = True
        self._woken.set()


def bucket_follower(nats: Client, bucket: str, take: Callable[[Stored], None]) -> Follower:
    """Follows a key-value bucket."""
    return Follower(
        bucket,
        BucketFeed(nats, bucket),
        take,
        nats=nats,
        nudges=subjects.in_bucket(bucket, ">"),
    )

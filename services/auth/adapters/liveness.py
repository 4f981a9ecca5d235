"""Which processes of this service live: each renews a key in `leases` that expires by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog
from nats.aio.client import Client

from libs.bus import subjects
from libs.bus.commit_log import CommitLog
from libs.bus.lease import Lease
from libs.clock import Clock

_log = structlog.stdlib.get_logger()

LASTS_S: Final = 2
"""A killed process is missed within it: a refresh that it had begun is finished by another."""
_EVERY_S: Final = 0.6


class ReplicaLiveness:
    """`Liveness` on the bucket `leases`; a part of a process."""

    def __init__(self, nats: Client, log: CommitLog, clock: Clock, owner: str) -> None:
        self._nats = nats
        self._log = log
        self.owner = owner
        self._lease = Lease(log, clock, _name(owner), owner, lasts_s=LASTS_S)
        self._stopping = asyncio.Event()
        self._busy: Callable[[], bool] = lambda: False

    def keep_while(self, busy: Callable[[], bool]) -> None:
        """Stays alive after a stop for as long as `busy` says: what was begun is finished here."""
        self._busy = busy

    @property
    def is_alive(self) -> bool:
        return self._lease.is_held

    async def lives(self, owner: str) -> bool:
        subject = subjects.in_bucket(subjects.LEASES, _name(owner))
        return bool(await self._log.read_fresh([subject]))

    async def run(self, ready: Callable[[], None]) -> None:
        """Renews the lease until `stop`."""
        # Intents name their holder by it, and nothing else tells which process that is.
        _log.info("replica_lives", owner=self.owner)
        while not self._stopping.is_set() or self._busy():
            if await self._lease.hold():
                ready()
            if self._stopping.is_set():
                await asyncio.sleep(_EVERY_S / 6)
                continue
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _EVERY_S)
        await self._lease.release(self._nats)

    def stop(self) -> None:
        """Ends `run`."""
        self._stopping.set()


def _name(owner: str) -> str:
    return f"auth.{subjects.token(owner)}"

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
SETTLED_S: Final = 3.0
"""Who was away itself takes nobody for dead for so long. When NATS comes back every lease has run
out, and whoever is connected again first would rob all the others, who hold good answers."""
_EVERY_S: Final = 0.6
_AGAIN_S: Final = 0.1


class ReplicaLiveness:
    """`Liveness` on the bucket `leases`; a part of a process."""

    def __init__(self, nats: Client, log: CommitLog, clock: Clock, owner: str) -> None:
        self._nats = nats
        self._log = log
        self._clock = clock
        self.owner = owner
        self._lease = Lease(log, clock, _name(owner), owner, lasts_s=LASTS_S)
        self._stopping = asyncio.Event()
        self._busy: Callable[[], bool] = lambda: False
        self._renewed_s: float | None = None
        self._back_since_s = 0.0

    def keep_while(self, busy: Callable[[], bool]) -> None:
        """Stays alive after a stop for as long as `busy` says: what was begun is finished here."""
        self._busy = busy

    @property
    def is_alive(self) -> bool:
        return self._lease.is_held

    async def lives(self, owner: str) -> bool:
        if not self._may_judge(self._clock.monotonic_s()):
            return True
        subject = subjects.in_bucket(subjects.LEASES, _name(owner))
        return bool(await self._log.read_fresh([subject]))

    async def renew(self) -> bool:
        """Renews the lease, or takes it anew; whether it is held."""
        if not await self._lease.hold():
            self._renewed_s = None
            return False
        now_s = self._clock.monotonic_s()
        if self._was_away(now_s):
            self._back_since_s = now_s
        self._renewed_s = now_s
        return True

    async def run(self, ready: Callable[[], None]) -> None:
        """Renews the lease until `stop`."""
        # Intents name their holder by it, and nothing else tells which process that is.
        _log.info("replica_lives", owner=self.owner)
        while not self._stopping.is_set() or self._busy():
            held = await self.renew()
            if held:
                ready()
            if self._stopping.is_set():
                await asyncio.sleep(_AGAIN_S)
                continue
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _EVERY_S if held else _AGAIN_S)
        await self._lease.release(self._nats)

    def stop(self) -> None:
        """Ends `run`."""
        self._stopping.set()

    def _was_away(self, now_s: float) -> bool:
        return self._renewed_s is None or now_s - self._renewed_s > LASTS_S

    def _may_judge(self, now_s: float) -> bool:
        return not self._was_away(now_s) and now_s - self._back_since_s >= SETTLED_S


def _name(owner: str) -> str:
    return f"auth.{subjects.token(owner)}"

"""What the bench of refreshes simulates: time, a provider, and a look at each token's end."""

from __future__ import annotations

import asyncio
import heapq
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from libs.bus.commit_log import Entry, MemoryLog
from libs.clock import Clock
from libs.errors import Kind, ServiceError
from libs.settings import Secret
from services.auth.adapters.grants import GrantStore
from services.auth.domain.grants import Answer, App, Consent, Family, Grant
from services.auth.domain.timing import margin_s
from services.auth.ports import GRANT_REVOKED, KeptGrant

LIFE_S: Final = 3600.0
_UPSTREAM_S: Final = 0.2
_STEP_S: Final = 1.0
_QUIET_TURNS: Final = 30
"""Of the loop, more than lie between two sleeps of a task: nothing else is waited for in memory."""


class SteppedClock:
    """Simulated time in steps: all who are to wake within a step wake together."""

    def __init__(self, start_ns: int) -> None:
        self._start_ns = start_ns
        self._elapsed_s = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def now_ns(self) -> int:
        return self._start_ns + int(self._elapsed_s * 1e9)

    def monotonic_s(self) -> float:
        return self._elapsed_s

    async def sleep(self, delay_s: float) -> None:
        self._count += 1
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed_s + max(delay_s, 0.0), self._count, woken))
        await woken

    async def run_until(self, end_s: float) -> None:
        """Lets time go on to `end_s` seconds after the start."""
        while self._elapsed_s < end_s:
            await self._settled()
            self._drop_cancelled()
            # Where nobody is to wake, nothing can happen.
            next_s = self._sleepers[0][0] if self._sleepers else end_s
            steps = max(1, math.ceil((next_s - self._elapsed_s) / _STEP_S))
            self._elapsed_s = min(end_s, self._elapsed_s + steps * _STEP_S)
            while self._sleepers and self._sleepers[0][0] <= self._elapsed_s:
                _, _, woken = heapq.heappop(self._sleepers)
                if not woken.done():
                    woken.set_result(None)
        await self._settled()

    async def _settled(self) -> None:
        """Returns once all who sleep have said so: as many sleepers in turn after turn."""
        quiet = 0
        while quiet < _QUIET_TURNS:
            before = self._count
            await asyncio.sleep(0)
            quiet = quiet + 1 if self._count == before else 0

    def _drop_cancelled(self) -> None:
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)


class FastClock:
    """Stands still until it is told to begin; then it is `speed` times as fast as the machine's."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._start_ns = time.time_ns()
        self._began_s: float | None = None

    def begin(self) -> None:
        """From now on time goes by."""
        self._began_s = time.monotonic()

    def now_ns(self) -> int:
        return self._start_ns + int(self.monotonic_s() * 1e9)

    def monotonic_s(self) -> float:
        if self._began_s is None:
            return 0.0
        return (time.monotonic() - self._began_s) * self._speed

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s / self._speed)


class ShortLog(MemoryLog):
    """Remembers the newest alone: a day's history would fill the memory."""

    async def commit(self, entries: Sequence[Entry]) -> int:
        sequence = await super().commit(entries)
        self.history.clear()
        return sequence


class Provider:
    """Gives an hour's token for the newest refresh token of a shop, and for no other."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._newest: dict[str, str] = {}
        self._count = 0
        self.refreshes = 0
        self.refused = 0

    def granted(self, shop: str) -> Grant:
        self._count += 1
        self._newest[shop] = f"refresh-{self._count}"
        now = datetime.fromtimestamp(self._clock.now_ns() / 1e9, UTC)
        return Grant(
            access_token=Secret(f"access-{self._count}"),
            expires_at=now + timedelta(seconds=LIFE_S),
            refresh_token=Secret(self._newest[shop]),
        )

    async def refresh(self, app: App, shop: str, grant: Grant) -> Grant:
        used = grant.refresh_token
        if used is None or used.reveal() != self._newest[shop]:
            self.refused += 1
            raise ServiceError(Kind.AUTH, GRANT_REVOKED, "invalid_grant")
        self.refreshes += 1
        new = self.granted(shop)
        await self._clock.sleep(_UPSTREAM_S)
        return new

    def consent_url(self, app: App, consent: Consent) -> str:
        raise NotImplementedError

    def code(self, app: App, consent: Consent, answer: Answer) -> str:
        raise NotImplementedError

    async def exchange(self, app: App, consent: Consent, code: str) -> Grant:
        raise NotImplementedError

    async def revoke(self, app: App, shop: str, grant: Grant) -> None:
        raise NotImplementedError


class Providers:
    """One provider for every family."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def of(self, family: Family) -> Provider:
        return self._provider

    def app(self, family: Family) -> App:
        return App("bench", Secret("bench"))

    async def is_alive(self, family: Family, shop: str, grant: Grant) -> bool:
        return True


class Alone:
    """`Liveness` of the only process there is."""

    owner = "bench"
    is_alive = True

    async def lives(self, owner: str) -> bool:
        return owner == self.owner


@dataclass(slots=True)
class Watch:
    """Looks at each token that is replaced: how long could it still have been handed out?"""

    grants: GrantStore
    clock: Clock
    late: int = 0
    least_s: float = math.inf
    _until_s: dict[str, tuple[int, float]] = field(default_factory=dict)

    def look(self, connection_id: str) -> None:
        """To be told of each change."""
        kept = self.grants.known(connection_id)
        assert kept is not None
        known = self._until_s.get(connection_id)
        if known is not None and known[0] == kept.record.token_revision:
            return
        if known is not None:
            self._judge(known[1])
        self._until_s[connection_id] = (kept.record.token_revision, _use_until_s(kept))

    def end(self) -> None:
        """Judges the tokens that nothing has replaced yet."""
        for _, until_s in self._until_s.values():
            self._judge(until_s)

    def _judge(self, until_s: float) -> None:
        left_s = until_s - self.clock.now_ns() / 1e9
        self.least_s = min(self.least_s, left_s)
        self.late += left_s <= 0


def _use_until_s(kept: KeptGrant) -> float:
    granted_s = kept.record.granted_at.ToNanoseconds() / 1e9
    expires_s = kept.record.expires_at.ToNanoseconds() / 1e9
    return expires_s - margin_s(granted_s, expires_s)

"""When each connection is next to be refreshed in the background."""

from __future__ import annotations

import asyncio
import heapq
from contextlib import suppress
from typing import Final

from libs.clock import Clock
from libs.ids import Random
from services.auth.domain.grants import Family
from services.auth.domain.timing import refresh_due_s, seconds
from services.auth.ports import KeptGrant

_AGAIN_S: Final = 0.5
"""After a try, and between looks at an intent: whoever holds it may have been killed."""
_UNKNOWN_S: Final = 24 * 3600.0


class Schedule:
    """Every connection with a time that is next; `due` gives out those whose time has come."""

    def __init__(self, clock: Clock, random: Random) -> None:
        self._clock = clock
        self._random = random
        self._due: dict[str, tuple[float, int]] = {}
        self._heap: list[tuple[float, str]] = []
        self._unknown: dict[str, int] = {}
        """By connection: the first revision that nobody knows the expiry of."""
        self._woken = asyncio.Event()

    def plan(self, kept: KeptGrant, *, again: bool = False) -> None:
        """Plans the next refresh by what is stored; `again` where one was just tried."""
        due_s = self._due_s(kept)
        known = self._due.get(kept.connection_id)
        if due_s is None:
            self._due.pop(kept.connection_id, None)
            return
        if known is not None and known[1] == kept.sequence and not again:
            return
        if again:
            due_s = max(due_s, self._clock.now_ns() / 1e9 + _AGAIN_S)
        self._due[kept.connection_id] = (due_s, kept.sequence)
        heapq.heappush(self._heap, (due_s, kept.connection_id))
        if self._heap[0][1] == kept.connection_id:
            self.wake()

    def due(self) -> list[str]:
        """Those that are due now; each is planned anew before it is due again."""
        now_s = self._clock.now_ns() / 1e9
        found = []
        while self._heap and self._heap[0][0] <= now_s:
            due_s, connection_id = heapq.heappop(self._heap)
            known = self._due.get(connection_id)
            if known is not None and known[0] == due_s:
                found.append(connection_id)
        return found

    def is_due(self, connection_id: str) -> bool:
        """Whether it is due by what is known of it now."""
        known = self._due.get(connection_id)
        return known is not None and known[0] <= self._clock.now_ns() / 1e9

    async def wait(self, stopping: asyncio.Event) -> None:
        """Returns when the next one is due, or something has changed."""
        if stopping.is_set():
            return
        self._woken.clear()
        wait_s = self._heap[0][0] - self._clock.now_ns() / 1e9 if self._heap else 60.0
        if wait_s <= 0:
            return
        sleep = asyncio.create_task(self._clock.sleep(min(wait_s, 60.0)))
        woken = asyncio.create_task(self._woken.wait())
        try:
            await asyncio.wait((sleep, woken), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sleep, woken):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    def wake(self) -> None:
        """Has `wait` return."""
        self._woken.set()

    def _due_s(self, kept: KeptGrant) -> float | None:
        record = kept.record
        if record.needs_reauthorization:
            return None
        if record.intent.holder:
            # Killed after the provider has rotated, it may have lost the grant: found out at once,
            # or as soon as it may be tried.
            again_s = seconds(self._clock.now_ns()) + _AGAIN_S
            return max(again_s, seconds(record.retry_at.ToNanoseconds()))
        if record.failures and record.can_refresh:
            # Somebody wanted it refreshed before its time, and was told that it is tried again.
            return seconds(record.retry_at.ToNanoseconds())
        if not record.HasField("expires_at"):
            # A TikTok Shop's tokens always expire; others say when, or do not.
            is_unknown = record.can_refresh and record.family == Family.TIKTOK_SHOP
            return self._unknown_due_s(kept) if is_unknown else None
        expires_s = seconds(record.expires_at.ToNanoseconds())
        if not record.can_refresh:
            return expires_s
        granted_s = seconds(record.granted_at.ToNanoseconds())
        due_s = refresh_due_s(granted_s, expires_s, draw=self._random())
        return max(due_s, seconds(record.retry_at.ToNanoseconds()))

    def _unknown_due_s(self, kept: KeptGrant) -> float:
        """When one is due that came without its expiry, such as from a file: at once.

        What is asked for it need not say either when it expires; that is asked for once a day.
        """
        record = kept.record
        first = self._unknown.setdefault(kept.connection_id, record.token_revision)
        due_s = seconds(record.granted_at.ToNanoseconds())
        if record.token_revision != first:
            due_s += _UNKNOWN_S
        return max(due_s, seconds(record.retry_at.ToNanoseconds()))

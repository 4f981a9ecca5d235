"""Limits of one process alone, which follow what the upstream itself says of its buckets.

For upstreams that tell with every answer how full the bucket is that all callers share, as Shopify
does: then even what others spend is seen, one answer late.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from libs.clock import Clock
from libs.errors import Kind, ServiceError
from libs.limits import BucketSeen, Priority

_LEFT_FOR_LIVE: Final = {Priority.LIVE: 0.0, Priority.BACKFILL: 0.5, Priority.REPLAY: 0.8}
"""The part of a bucket that is left untouched by priority, for those that are more urgent."""
_BUCKETS_MAX: Final = 10_000


@dataclass(slots=True)
class _Bucket:
    capacity: float
    available: float
    restore_per_s: float
    at_s: float
    shut_until_s: float = 0.0

    def fill(self, now_s: float) -> None:
        gained = (now_s - self.at_s) * self.restore_per_s
        self.available = min(self.capacity, self.available + gained)
        self.at_s = now_s

    def wait_s(self, weight: int, priority: Priority, now_s: float) -> float:
        """Seconds until `weight` may be taken; what is heavier than its share waits for all."""
        self.fill(now_s)
        left = self.capacity * _LEFT_FOR_LIVE[priority]
        wanted = min(weight + left, self.capacity)
        lacking = max(0.0, wanted - self.available)
        shut_s = max(0.0, self.shut_until_s - now_s)
        return max(shut_s, lacking / self.restore_per_s)


class OwnLimiter:
    """`Limiter` in memory. A limit of which nothing was seen yet lets everything pass."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    async def turn(
        self,
        limits: Sequence[str],
        *,
        weight: int = 1,
        priority: Priority = Priority.LIVE,
        shop: str = "",  # part of the port; buckets here are one shop's own
        max_wait_s: float = 1.0,
    ) -> None:
        deadline_s = self._clock.monotonic_s() + max_wait_s
        buckets = [self._buckets[name] for name in limits if name in self._buckets]
        while True:
            now_s = self._clock.monotonic_s()
            wait_s = max((b.wait_s(weight, priority, now_s) for b in buckets), default=0.0)
            if wait_s <= 0:
                break
            if now_s + wait_s > deadline_s:
                raise ServiceError(Kind.THROTTLED, "no_turn_yet", retry_after_s=wait_s)
            await self._clock.sleep(wait_s)
        for bucket in buckets:
            bucket.available -= weight

    async def report(
        self, limits: Sequence[str], *, retry_after_s: float | None, code: str
    ) -> None:
        del code
        now_s = self._clock.monotonic_s()
        for name in limits:
            if name in self._buckets:
                self._buckets[name].shut_until_s = now_s + (retry_after_s or 1.0)

    async def observe(self, limit: str, seen: BucketSeen) -> None:
        if seen.restore_per_s <= 0 or len(self._buckets) >= _BUCKETS_MAX:
            return
        now_s = self._clock.monotonic_s()
        shut_s = self._buckets[limit].shut_until_s if limit in self._buckets else 0.0
        self._buckets[limit] = _Bucket(
            seen.capacity, seen.available, seen.restore_per_s, now_s, shut_s
        )

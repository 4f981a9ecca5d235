"""What callers of an upstream ask of its limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Protocol

TURN_LASTS_S: Final = 0.05
"""How late a turn may still be used: whoever had something to do first that took longer takes
another one. Else all that was held up by the same trouble leaves at once."""


class Priority(IntEnum):
    """How urgent a call is; the later ones give way while a limit is busy."""

    LIVE = 1
    """Somebody waits for it now; may reserve up to half a second ahead."""

    BACKFILL = 2
    """Catching up; takes what live traffic leaves."""

    REPLAY = 3
    """Done over; only while a limit is idle."""


@dataclass(frozen=True, slots=True)
class BucketSeen:
    """What an upstream says of its own leaky bucket, as Shopify does with every answer."""

    capacity: float
    """Units that an idle bucket holds."""

    available: float
    """Units left, the call's own cost already taken."""

    restore_per_s: float
    """Units that come back in a second."""


class Limiter(Protocol):
    """Turns under limits that all replicas share."""

    async def turn(
        self,
        limits: Sequence[str],
        *,
        weight: int = 1,
        priority: Priority = Priority.LIVE,
        shop: str = "",
        max_wait_s: float = 1.0,
    ) -> None:
        """Returns when `weight` may be spent of every one of `limits`: of all or of none.

        Callers of one process and different `shop` that share a limit are served in turn. Name the
        limit first that most callers share. Make the call within `TURN_LASTS_S`.

        Raises:
            ServiceError: THROTTLED with the wait: `limit_busy` where that is longer than
                `max_wait_s`, `limits_unreachable` where the shared state does not answer, then
                within 50 ms. PERMANENT: `limit_undeclared`, `weight_above_limit`.
        """

    async def report(
        self, limits: Sequence[str], *, retry_after_s: float | None, code: str
    ) -> None:
        """Tells all replicas that the upstream has throttled: they slow at once.

        Raises nothing: a report that cannot be stored slows this process alone.
        """

    async def observe(self, limit: str, seen: BucketSeen) -> None:
        """Lets the shared state of `limit` follow what the upstream itself reports.

        Raises nothing.
        """


class Unlimited:
    """The limiter that lets everything pass, for tests and for upstreams without limits."""

    async def turn(
        self,
        limits: Sequence[str],
        *,
        weight: int = 1,
        priority: Priority = Priority.LIVE,
        shop: str = "",
        max_wait_s: float = 1.0,
    ) -> None:
        pass

    async def report(
        self, limits: Sequence[str], *, retry_after_s: float | None, code: str
    ) -> None:
        pass

    async def observe(self, limit: str, seen: BucketSeen) -> None:
        pass

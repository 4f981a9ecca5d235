"""Whether so much was given up in a row that the fault must be ours, and work has to stop.

A bad deploy that understands nothing any more would otherwise empty a stream into the dead letters.
Pure: it is told of each unit's end, and asked how much may be taken. ADR 13 says why it counts so.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil
from typing import Final

import structlog

from libs.clock import Clock
from libs.lifecycle import Readiness

_log = structlog.stdlib.get_logger()

READINESS: Final = "dead_letters"
"""What `/readyz` names while work is stopped."""

_SORTS_MAX: Final = 64
"""Sorts of unit that are watched at once; a topic comes from a header, so it may be anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BurialPolicy:
    """When work stops, and how it is tried again."""

    units_max: int = 50
    """Burials in a row that stop it; 0: none do."""
    shops_least: int = 3
    """Shops that they must be spread over, or all shops where there are fewer: no shop counts for
    more than its share, so that one with a broken body, or a pixel that is gone, stops nobody."""
    within_s: float = 600.0
    """An older burial counts no more: a few a day are not a run."""
    probe_s: float = 60.0
    """How long after a burial one unit is tried again."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """Why work is stopped."""

    sort: str
    """Of which units so many were given up, such as `orders/paid`."""
    shops: int
    reasons: Counter[str]
    """Burials by class of reason."""


@dataclass(slots=True)
class _Run:
    """Burials of one sort since it last went well: when and for which class of reason, by shop."""

    by_shop: dict[str, deque[tuple[float, str]]] = field(default_factory=dict)

    def add(self, shop: str, now_s: float, reason: str, *, share: int, since_s: float) -> None:
        self.by_shop.setdefault(shop, deque()).append((now_s, reason))
        for name, burials in list(self.by_shop.items()):
            while burials and (burials[0][0] < since_s or len(burials) > share):
                burials.popleft()
            if not burials:
                del self.by_shop[name]

    @property
    def units(self) -> int:
        return sum(map(len, self.by_shop.values()))


class BurialWatch:
    """Counts for one process. It stops by itself; it goes on after a probe, or when reset.

    `shops_known` is how many shops there are to fail. `changed` is told when work stops (why) and
    when it goes on (None).
    """

    def __init__(
        self,
        clock: Clock,
        policy: BurialPolicy,
        *,
        shops_known: Callable[[], int],
        changed: Callable[[Stopped | None], None] = lambda _: None,
    ) -> None:
        self._clock = clock
        self._policy = policy
        self._shops_known = shops_known
        self._changed = changed
        self._runs: dict[str, _Run] = {}
        self._probe_at_s = 0.0
        self.stopped: Stopped | None = None

    def ended_well(self, sort: str) -> None:
        """A unit of this sort was delivered, ignored or decided: the run of its sort is over.

        Others are not: that carts are understood says nothing of orders.
        """
        self._runs.pop(sort, None)
        if self.stopped is not None and self.stopped.sort == sort:
            self.reset()

    def buried(self, sort: str, shop: str, reason_class: str) -> None:
        """A unit of this sort was given up. Not to be told of replays: those are an experiment."""
        if not self._policy.units_max:
            return
        now_s = self._clock.monotonic_s()
        self._probe_at_s = now_s + self._policy.probe_s
        run = self._runs.pop(sort, None) or _Run()
        if len(self._runs) >= _SORTS_MAX:
            del self._runs[next(iter(self._runs))]
        self._runs[sort] = run
        shops_least = max(1, min(self._policy.shops_least, self._shops_known()))
        share = ceil(self._policy.units_max / shops_least)
        run.add(shop, now_s, reason_class, share=share, since_s=now_s - self._policy.within_s)
        if self.stopped is None and run.units >= self._policy.units_max:
            reasons = Counter(reason for burials in run.by_shop.values() for _, reason in burials)
            self.stopped = Stopped(sort, len(run.by_shop), reasons)
            self._changed(self.stopped)

    def allowance(self, in_hand: int) -> int | None:
        """How many units may be taken now by who has `in_hand`; None: as many as there is room for.

        While stopped: none until the probe is due, then one at a time, at once after one of another
        sort that ended well, until one of the sort that failed says how things are.
        """
        if self.stopped is None:
            return None
        if self._clock.monotonic_s() < self._probe_at_s:
            return 0
        return max(0, 1 - in_hand)

    def reset(self) -> None:
        """Goes on, and counts from nothing."""
        self._runs.clear()
        if self.stopped is not None:
            self.stopped = None
            self._changed(None)


def tell(readiness: Readiness | None) -> Callable[[Stopped | None], None]:
    """What a process does when its work stops or goes on: a line, and its readiness if it has one.

    None for a process that also takes what must be stored in any case: it stays ready for that.
    """

    def changed(stopped: Stopped | None) -> None:
        if stopped is None:
            _log.warning("work_goes_on_after_dead_letters")
        else:
            _log.error(
                "work_stopped_by_dead_letters",
                sort=stopped.sort,
                shops=stopped.shops,
                reasons=dict(stopped.reasons),
            )
        if readiness is not None:
            (readiness.unready if stopped else readiness.ready)(READINESS)

    return changed

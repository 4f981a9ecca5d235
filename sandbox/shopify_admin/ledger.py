"""What the Admin API was asked, and how each call ended: the judge in tests."""

from __future__ import annotations

from collections import Counter, deque
from typing import Final, NamedTuple

_CALLS_MAX: Final = 20_000


class Call(NamedTuple):
    """One request, and how it ended: `ok`, `throttled`, `unauthorised`, `invalid`, `http_503`."""

    shop: str
    operation: str
    version: str
    outcome: str
    requested: int
    actual: int
    at_s: float
    """Monotonic."""


class Ledger:
    """Counts all calls and remembers the last."""

    def __init__(self) -> None:
        self._calls: deque[Call] = deque(maxlen=_CALLS_MAX)
        self._counts: Counter[tuple[str, str, str]] = Counter()

    def record(self, call: Call) -> None:
        """Adds a call."""
        self._calls.append(call)
        self._counts[call.shop, call.operation, call.outcome] += 1

    @property
    def calls(self) -> list[Call]:
        """The last calls, in order."""
        return list(self._calls)

    def count(
        self, *, shop: str | None = None, operation: str | None = None, outcome: str | None = None
    ) -> int:
        """How many calls fit."""
        wanted = (shop, operation, outcome)
        return sum(
            count
            for key, count in self._counts.items()
            if all(want in {None, has} for want, has in zip(wanted, key, strict=True))
        )

    def summary(self) -> dict[str, object]:
        """What `GET /_sandbox/shopify/ledger` shows."""
        outcomes: Counter[str] = Counter()
        by_shop: dict[str, Counter[str]] = {}
        for (shop, operation, outcome), count in self._counts.items():
            outcomes[outcome] += count
            by_shop.setdefault(shop, Counter())[f"{operation}:{outcome}"] += count
        return {
            "requests": outcomes.total(),
            "outcomes": dict(outcomes),
            "by_shop": {shop: dict(counts) for shop, counts in by_shop.items()},
            "points": sum(call.actual for call in self._calls),
        }

    def reset(self) -> None:
        """Forgets everything."""
        self._calls.clear()
        self._counts.clear()

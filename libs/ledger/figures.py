"""The numbers of a ledger, of one row or of a sum of rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

DAY_NS: Final = 86_400_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def day_of(instant_ns: int) -> int:
    """The UTC day of an instant, in days since the epoch."""
    return instant_ns // DAY_NS


def day_text(day: int) -> str:
    """A UTC day as `YYYY-MM-DD`."""
    return (_EPOCH + timedelta(days=day)).date().isoformat()


class RowKey(NamedTuple):
    """What a row of the ledger is about."""

    shop: str
    sink: str
    day: int
    """UTC day on which the deliveries were received."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which rows are asked for; what is empty does not matter."""

    shop: str = ""
    sink: str = ""
    day: str = ""

    def takes(self, shop: str, sink: str, day: int) -> bool:
        """Whether a row belongs to it."""
        return (
            self.shop in ("", shop) and self.sink in ("", sink) and self.day in ("", day_text(day))
        )


EVERYTHING: Final = Scope()


@dataclass(slots=True)
class Ledger:
    """Units by how they ended, or where they are."""

    received: int = 0
    delivered: int = 0
    delivered_uncertain: int = 0
    ignored: Counter[str] = field(default_factory=Counter)
    dead: Counter[str] = field(default_factory=Counter)
    in_flight: Counter[str] = field(default_factory=Counter)
    """Units that have not ended, by the place where they were found."""
    unaccounted: int = 0
    """Units that have not ended and were found nowhere."""
    deliveries: int = 0
    """Distinct deliveries of known shops."""

    @property
    def ended(self) -> int:
        """Units that have ended."""
        return self.delivered + self.delivered_uncertain + self.ignored.total() + self.dead.total()

    @property
    def balanced(self) -> bool:
        """Whether every unit has ended or was found, and none was counted twice."""
        found = self.ended + self.in_flight.total()
        return not self.unaccounted and self.received == found

    def add(self, other: Ledger) -> None:
        """Takes in the figures of `other`."""
        self.received += other.received
        self.delivered += other.delivered
        self.delivered_uncertain += other.delivered_uncertain
        self.ignored += other.ignored
        self.dead += other.dead
        self.in_flight += other.in_flight
        self.unaccounted += other.unaccounted
        self.deliveries += other.deliveries

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, as `tidewire ledger --json` and `tidewire demo --json` write it."""
        return {
            "received": self.received,
            "delivered": self.delivered,
            "delivered_uncertain": self.delivered_uncertain,
            "ignored": dict(sorted(self.ignored.items())),
            "dead": dict(sorted(self.dead.items())),
            "in_flight": self.in_flight.total(),
            "in_flight_by_place": dict(sorted(self.in_flight.items())),
            "unaccounted": self.unaccounted,
            "deliveries": self.deliveries,
            "balanced": self.balanced,
        }

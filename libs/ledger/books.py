"""The fold: markers and outcomes, each taken in once, as counts and as units that are open. Pure.

Of a unit that has ended only its count is kept. What is known of the others costs about 310 bytes a
unit (`OPEN_MAX` of them: 155 MB); the counts cost about 500 bytes a (shop, sink, day).
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from libs.ledger.figures import Ledger, RowKey, Scope, day_of
from tidewire.commerce.v1 import record_pb2
from tidewire.delivery.v1 import outcome_pb2

OPEN_MAX: Final = 500_000
LOOSE_MAX: Final = 100_000

_TERMINAL: Final = frozenset(
    {
        outcome_pb2.OUTCOME_KIND_DELIVERED,
        outcome_pb2.OUTCOME_KIND_DELIVERED_UNCERTAIN,
        outcome_pb2.OUTCOME_KIND_IGNORED,
        outcome_pb2.OUTCOME_KIND_DEAD,
    }
)
"""ATTEMPTED is none of them: a request has left and nothing is known of it, so the unit is open."""


class UnitKey(NamedTuple):
    """What tells a unit from all others."""

    shop: str
    sink: str
    unit: str
    """Kind and id of the fact that carries it, `kind.id`."""


@dataclass(slots=True)
class OpenUnit:
    """A unit without a terminal outcome."""

    after: int
    """Its fact stands behind this sequence of COMMERCE …"""
    before: int
    """… and before this one: a delivery's marker follows its facts in one batch, so they stand
    between it and the marker before it."""
    received_ns: int
    stored_day: int
    """Day on which its marker was stored, with which it is forgotten."""
    attempts: int = 0
    place: str = ""
    """Where it was found when it was last looked for; empty for nowhere."""
    checked: bool = False
    """Whether its fact was asked for by name: `after` and `before` then leave one sequence."""
    gone: bool = False
    """Whether its fact is no longer in the stream: nobody can handle it any more."""


class _Ended(NamedTuple):
    kind: outcome_pb2.OutcomeKind.ValueType
    reason: str
    attempts: int


class Books:
    """All that is known of units, from markers and outcomes in the order of their streams.

    Each unit has one marker and, beside attempts, one terminal outcome: their writers see to it.
    The two streams may be taken in at any pace; an outcome that comes before its marker is held.
    """

    def __init__(self, *, open_max: int = OPEN_MAX) -> None:
        self.open: dict[str, dict[str, dict[str, OpenUnit]]] = {}
        """By shop, sink and unit."""
        self.open_count = 0
        self._open_max = open_max
        self._rows: defaultdict[int, dict[RowKey, Ledger]] = defaultdict(dict)
        self._deliveries: defaultdict[int, Counter[tuple[str, int]]] = defaultdict(Counter)
        self._loose: dict[UnitKey, _Ended] = {}
        self._loose_before: dict[UnitKey, _Ended] = {}
        self._last_marker = 0
        self._first_day = 0

    # -- taking in -------------------------------------------------------------------------------

    def add_marker(self, sequence: int, stored_ns: int, record: record_pb2.SeenRecord) -> None:
        """Takes in the marker of one delivery, stored at `sequence` of COMMERCE."""
        after, self._last_marker = self._last_marker, sequence
        stored_day = day_of(stored_ns)
        if stored_day < self._first_day:
            return
        received_ns = record.received_at.ToNanoseconds()
        shop, day = sys.intern(record.shop), day_of(received_ns)
        self._deliveries[stored_day][shop, day] += 1
        for share in record.shares:
            row = self._row(stored_day, RowKey(shop, sys.intern(share.sink), day))
            row.received += 1
            if share.ignored:
                row.ignored[share.ignored] += 1
            elif not share.fact_id:
                row.dead[record.reason] += 1
            else:
                key = UnitKey(shop, sys.intern(share.sink), share.fact_id)
                self._open(key, OpenUnit(after, sequence, received_ns, stored_day), row)

    def add_outcome(self, outcome: outcome_pb2.Outcome) -> None:
        """Takes in what is stored of one unit: that it was tried, or how it ended."""
        key = UnitKey(outcome.shop, outcome.sink, outcome.unit)
        ended = _Ended(outcome.kind, outcome.reason, outcome.attempts)
        unit = self.find(key)
        if unit is None:
            if len(self._loose) >= LOOSE_MAX:
                # A unit whose outcome is lost here is asked for by name before it is missed.
                del self._loose[next(iter(self._loose))]
            self._loose[key] = ended
        elif ended.kind in _TERMINAL:
            day = day_of(unit.received_ns)
            _count(self._row(unit.stored_day, RowKey(key.shop, key.sink, day)), ended)
            self._close(key)
        else:
            unit.attempts = ended.attempts

    def end_round(self) -> None:
        """Both streams were read to their ends, twice since the outcomes that are dropped now.

        They belong to no marker: it has expired, or what they end was never a delivery's.
        """
        self._loose_before, self._loose = self._loose, {}

    def forget_before(self, day: int) -> None:
        """Forgets whatever was stored before `day`: its markers expire in the course of a day."""
        if day <= self._first_day:
            return
        self._first_day = day
        for counts in (self._rows, self._deliveries):
            for old in [one for one in counts if one < day]:
                del counts[old]
        for key in [key for key, unit in self.units() if unit.stored_day < day]:
            self._close(key)

    # -- asking ----------------------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """Whether as many units are open as may be kept; take in no marker then."""
        return self.open_count >= self._open_max

    def find(self, key: UnitKey) -> OpenUnit | None:
        """The unit, where it is open."""
        return self.open.get(key.shop, {}).get(key.sink, {}).get(key.unit)

    def units(self) -> Iterator[tuple[UnitKey, OpenUnit]]:
        """Every open unit."""
        for shop, sinks in self.open.items():
            for sink, units in sinks.items():
                for name, unit in units.items():
                    yield UnitKey(shop, sink, name), unit

    def rows(self, scope: Scope) -> dict[RowKey, Ledger]:
        """What was received and has ended, by shop, sink and day of receipt."""
        found: dict[RowKey, Ledger] = {}
        for rows in self._rows.values():
            for key, row in rows.items():
                if scope.takes(*key):
                    found.setdefault(key, Ledger()).add(row)
        for row in found.values():
            row.deliveries = row.received
        return found

    def deliveries(self, scope: Scope) -> int:
        """Distinct deliveries of a shop and day, whatever the sink."""
        return sum(
            count
            for counts in self._deliveries.values()
            for (shop, day), count in counts.items()
            if scope.takes(shop, scope.sink, day)
        )

    # -- inside ----------------------------------------------------------------------------------

    def _row(self, stored_day: int, key: RowKey) -> Ledger:
        rows = self._rows[stored_day]
        row = rows.get(key)
        if row is None:
            row = rows[key] = Ledger()
        return row

    def _open(self, key: UnitKey, unit: OpenUnit, row: Ledger) -> None:
        ended = self._loose.pop(key, None) or self._loose_before.pop(key, None)
        if ended is not None and ended.kind in _TERMINAL:
            _count(row, ended)
            return
        unit.attempts = ended.attempts if ended else 0
        units = self.open.setdefault(key.shop, {}).setdefault(key.sink, {})
        self.open_count += key.unit not in units
        units[key.unit] = unit

    def _close(self, key: UnitKey) -> None:
        sinks = self.open[key.shop]
        units = sinks[key.sink]
        del units[key.unit]
        self.open_count -= 1
        if not units:
            del sinks[key.sink]
        if not sinks:
            del self.open[key.shop]


def _count(row: Ledger, ended: _Ended) -> None:
    match ended.kind:
        case outcome_pb2.OUTCOME_KIND_DELIVERED:
            row.delivered += 1
        case outcome_pb2.OUTCOME_KIND_DELIVERED_UNCERTAIN:
            row.delivered_uncertain += 1
        case outcome_pb2.OUTCOME_KIND_IGNORED:
            row.ignored[ended.reason] += 1
        case _:
            row.dead[ended.reason] += 1

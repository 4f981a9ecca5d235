"""Where a unit that has not ended is: still in its lane, parked, or nowhere. Pure.

The server says of a durable how far it was delivered, up to where all is acknowledged, and how many
messages wait or are in hand; it does not say which. So a fact behind what was delivered waits for
certain, one up to the floor is done with for certain, and of those between the two as many may be
in hand as the server counts. What goes beyond that was acknowledged without an outcome, and is lost
(ADR 14).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Final

from libs.bus import subjects
from libs.ledger.books import OpenUnit, UnitKey
from libs.ledger.figures import RowKey, day_of

LANE: Final = "lane"
PARKED: Final = "parked"
_NOWHERE: Final = ""


@dataclass(frozen=True, slots=True)
class LaneState:
    """What the server says of one durable."""

    floor: int
    """Everything up to this sequence of the stream is acknowledged."""
    delivered: int
    """Everything up to this sequence was delivered."""
    waiting: int
    """Messages that were never delivered."""
    in_hand: int
    """Messages that were delivered and are not acknowledged."""


@dataclass(slots=True)
class Placement:
    """What was found where, once."""

    in_flight: dict[RowKey, Counter[str]] = field(default_factory=dict)
    lost: list[tuple[UnitKey, OpenUnit]] = field(default_factory=list)
    """Found nowhere."""
    doubtful: list[tuple[UnitKey, OpenUnit]] = field(default_factory=list)
    """Those for which their own fact and outcome must be asked before they may be called lost."""
    oldest_ns: int | None = None
    """When the delivery was received of the unit that has waited longest."""

    @property
    def places(self) -> Counter[str]:
        """Units in flight by place."""
        total: Counter[str] = Counter()
        for counts in self.in_flight.values():
            total += counts
        return total

    def unaccounted(self) -> Counter[RowKey]:
        """Units found nowhere, by row."""
        return Counter(
            RowKey(key.shop, key.sink, day_of(unit.received_ns)) for key, unit in self.lost
        )


@dataclass(slots=True)
class _Lane:
    waiting: list[tuple[UnitKey, OpenUnit]] = field(default_factory=list)
    in_hand: list[tuple[UnitKey, OpenUnit]] = field(default_factory=list)


class Placer:
    """Places the open units of one shop after another, then judges each lane as a whole.

    `lanes` is by service and lane. `known_to` is a sequence of COMMERCE from before the lanes were
    asked: facts behind it need not be among those that the server counted.
    """

    def __init__(
        self,
        lanes: Mapping[tuple[str, int], LaneState],
        parked: Container[UnitKey],
        known_to: int,
    ) -> None:
        self._states = lanes
        self._parked = parked
        self._known_to = known_to
        self._lanes: dict[tuple[str, int], _Lane] = {}
        self._made = Placement()

    def place(self, shop: str, sinks: Mapping[str, Mapping[str, OpenUnit]]) -> None:
        """Takes in the open units of one shop."""
        number = subjects.lane(shop)
        for sink, units in sinks.items():
            lane = (sink.partition(".")[0], number)
            for name, unit in units.items():
                self._place(UnitKey(shop, sink, name), unit, lane)

    def finish(self) -> Placement:
        """Everything found, after the last shop."""
        for name, lane in self._lanes.items():
            state = self._states[name]
            known = {unit.before for _, unit in lane.waiting if unit.before <= self._known_to}
            if len(known) > state.waiting:
                self._doubt(lane.waiting)
            for key, unit in lane.waiting:
                self._found(key, unit, LANE)
            self._finish_in_hand(lane.in_hand, state.in_hand)
        self._doubt(self._made.lost)
        return self._made

    def _place(self, key: UnitKey, unit: OpenUnit, lane: tuple[str, int]) -> None:
        oldest_ns = self._made.oldest_ns
        if oldest_ns is None or unit.received_ns < oldest_ns:
            self._made.oldest_ns = unit.received_ns
        state = self._states.get(lane)
        if key in self._parked:
            self._found(key, unit, PARKED)
        elif state is None or unit.gone or state.floor >= unit.before - 1:
            self._lose(key, unit)
        else:
            regions = self._lanes.setdefault(lane, _Lane())
            waits = state.delivered <= unit.after
            (regions.waiting if waits else regions.in_hand).append((key, unit))

    def _finish_in_hand(self, units: list[tuple[UnitKey, OpenUnit]], in_hand: int) -> None:
        """One fact may owe several sinks: facts are counted, by the marker that names them."""
        facts = {unit.before: unit.received_ns for _, unit in units}
        too_many = len(facts) - in_hand
        missing: set[int] = set()
        if too_many > 0:
            self._doubt(units)
            # Which of them are missing nobody says; those that were received first are likeliest.
            missing = set(sorted(facts, key=lambda marker: (facts[marker], marker))[:too_many])
        for key, unit in units:
            if unit.before in missing:
                self._lose(key, unit)
            else:
                self._found(key, unit, LANE)

    def _found(self, key: UnitKey, unit: OpenUnit, place: str) -> None:
        unit.place = place
        row = RowKey(key.shop, key.sink, day_of(unit.received_ns))
        counts = self._made.in_flight.get(row)
        if counts is None:
            counts = self._made.in_flight[row] = Counter()
        counts[place] += 1

    def _lose(self, key: UnitKey, unit: OpenUnit) -> None:
        unit.place = _NOWHERE
        self._made.lost.append((key, unit))

    def _doubt(self, units: list[tuple[UnitKey, OpenUnit]]) -> None:
        self._made.doubtful += [(key, unit) for key, unit in units if not unit.checked]

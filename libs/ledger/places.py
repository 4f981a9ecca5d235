"""Where a unit that has not ended is: still in its lane, parked, or nowhere. Pure.

The server says of a durable how far it was delivered, up to where all is acknowledged, and how many
messages wait or are in hand; it does not say which. So a fact behind what was delivered waits for
certain, one up to the floor is done with for certain, and of those between the two as many may be
in hand as the server counts. What goes beyond that was acknowledged without an outcome, and is lost
(ADR 14).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from libs.bus import subjects
from libs.ledger.books import OpenUnit, UnitKey
from libs.ledger.figures import DAY_NS, RowKey, day_of

LANE: Final = "lane"
PARKED: Final = "parked"
_NOWHERE: Final = ""

_PAUSE_EVERY: Final = 1_000
"""About 3 ms: others share the process."""


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


_Held = tuple[str, str, str, OpenUnit]
"""Shop, sink, name and unit: a `UnitKey` is made only of what is lost or doubtful."""


@dataclass(slots=True)
class _Lane:
    waiting: list[_Held] = field(default_factory=list)
    waiting_known: set[int] = field(default_factory=set)
    """Markers of the facts that wait, of those that the server must have counted."""
    in_hand: list[_Held] = field(default_factory=list)


class Placer:
    """Places the open units one after another, then judges each lane as a whole.

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

    def place(
        self, units_open: Mapping[str, Mapping[str, Mapping[str, OpenUnit]]]
    ) -> Iterator[None]:
        """Places every open unit, by shop, sink and name; pauses after each thousand.

        Nothing may be opened or closed before the last pause.
        """
        count = 0
        for shop, sinks in units_open.items():
            number = subjects.lane(shop)
            for sink, units in sinks.items():
                name = (sink.partition(".")[0], number)
                state = self._states.get(name)
                lane = self._lanes.setdefault(name, _Lane())
                for unit_name, unit in units.items():
                    self._place((shop, sink, unit_name, unit), state, lane)
                    count += 1
                    if count % _PAUSE_EVERY == 0:
                        yield

    def finish(self) -> Placement:
        """Everything found, once all are placed."""
        for name, lane in self._lanes.items():
            state = self._states.get(name)
            if state is None:
                continue
            if len(lane.waiting_known) > state.waiting:
                self._doubt(lane.waiting)
            self._finish_in_hand(lane.in_hand, state.in_hand)
        self._made.doubtful += [pair for pair in self._made.lost if not pair[1].checked]
        return self._made

    def _place(self, held: _Held, state: LaneState | None, lane: _Lane) -> None:
        unit = held[3]
        oldest_ns = self._made.oldest_ns
        if oldest_ns is None or unit.received_ns < oldest_ns:
            self._made.oldest_ns = unit.received_ns
        if held[:3] in self._parked:
            self._found(held, PARKED)
        elif state is None or unit.gone or state.floor >= unit.before - 1:
            self._lose(held)
        elif state.delivered <= unit.after:
            lane.waiting.append(held)
            if unit.before <= self._known_to:
                lane.waiting_known.add(unit.before)
            self._found(held, LANE)
        else:
            lane.in_hand.append(held)

    def _finish_in_hand(self, units: list[_Held], in_hand: int) -> None:
        """One fact may owe several sinks: facts are counted, by the marker that names them."""
        facts = {unit.before: unit.received_ns for _, _, _, unit in units}
        too_many = len(facts) - in_hand
        missing: set[int] = set()
        if too_many > 0:
            self._doubt(units)
            # Which of them are missing nobody says; those that were received first are likeliest.
            missing = set(sorted(facts, key=lambda marker: (facts[marker], marker))[:too_many])
        for held in units:
            if held[3].before in missing:
                self._lose(held)
            else:
                self._found(held, LANE)

    def _found(self, held: _Held, place: str) -> None:
        shop, sink, _, unit = held
        unit.place = place
        row = (shop, sink, unit.received_ns // DAY_NS)
        counts = self._made.in_flight.get(row)  # type: ignore[call-overload]  # equal to its RowKey
        if counts is None:
            counts = self._made.in_flight[RowKey(*row)] = Counter()
        counts[place] += 1

    def _lose(self, held: _Held) -> None:
        shop, sink, name, unit = held
        unit.place = _NOWHERE
        self._made.lost.append((UnitKey(shop, sink, name), unit))

    def _doubt(self, units: list[_Held]) -> None:
        self._made.doubtful += [
            (UnitKey(shop, sink, name), unit)
            for shop, sink, name, unit in units
            if not unit.checked
        ]

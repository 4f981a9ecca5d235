"""Reads the streams into the books and says where each open unit is.

The order of the reads is what keeps a unit that moves on meanwhile from looking lost: first the
consumers, then what is parked, then markers and outcomes. A unit leaves its lane only for PARKED or
for an outcome, and PARKED only for an outcome; each is read after the place that was left.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from nats.aio.client import Client

from libs import resources
from libs.bus import subjects
from libs.bus.api import ApiError, js_api, refused
from libs.bus.commit_log import CommitLog, Stored
from libs.bus.jetstream_log import JetStreamLog
from libs.bus.scan import first_at, scan
from libs.clock import Clock
from libs.errors import Kind, ServiceError
from libs.ids import RandomIds
from libs.ledger.books import OPEN_MAX, Books, OpenUnit, UnitKey
from libs.ledger.figures import DAY_NS, EVERYTHING, Ledger, RowKey, Scope, day_of
from libs.ledger.parked import ParkedUnits
from libs.ledger.places import LaneState, Placement, Placer
from tidewire.commerce.v1 import record_pb2
from tidewire.delivery.v1 import outcome_pb2

_MARKERS: Final = "commerce.seen.>"
_OUTCOMES: Final = "outcome.*.*.*.*"
"""The index by event id has one token more, so it is left out."""

_LOOKS_MAX: Final = 3
_LOOK_AGAIN_S: Final = 0.5
"""A follower of the stream may lag: what is found nowhere is looked for again before it counts."""

_NAMES_AT_ONCE: Final = 1_000
_ASKED_AT_ONCE: Final = 64
_NOT_BEGUN: Final = -1
_NO_SUCH_CONSUMER: Final = 10014

DURABLES: Final[dict[str, Callable[[int], str]]] = {"events": subjects.events_durable}
"""By service: the durable with which it reads a lane. A sink begins with its service's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The ledger at one moment. It looks at the reader's books: use it before the next `read`."""

    books: Books
    placement: Placement
    unnormalised_segments: int
    """Segments that the normalizer has not finished; deliveries in them are no units yet."""
    parked_deliveries: int
    """Deliveries of shops that nobody has connected; they have no sink, so they are no units."""
    read_at_ns: int
    known_since_ns: int
    """Whatever was received since then is counted; of what came earlier some markers are gone."""
    unbalanced_since_ns: int | None
    """Since when something has been unaccounted for, as far as this reader has looked."""

    def rows(self, scope: Scope = EVERYTHING) -> dict[RowKey, Ledger]:
        """The figures by shop, sink and day."""
        found = self.books.rows(scope)
        for key, places in self.placement.in_flight.items():
            if key in found:
                found[key].in_flight = places
        for key, count in self.placement.unaccounted().items():
            if key in found:
                found[key].unaccounted = count
        return found

    def total(self, scope: Scope = EVERYTHING) -> Ledger:
        """The sum of all rows."""
        total = Ledger()
        for row in self.rows(scope).values():
            total.add(row)
        if not scope.sink:
            total.deliveries = self.books.deliveries(scope)
        return total


async def read_ledger(nats: Client, clock: Clock) -> Reading:
    """The ledger of everything that the streams still hold, read once.

    Raises:
        ServiceError: RETRYABLE, where NATS does not answer.
    """
    return await LedgerReader(nats, clock).read()


async def read_outcomes(nats: Client) -> list[outcome_pb2.Outcome]:
    """Every outcome that is stored."""
    return [
        outcome_pb2.Outcome.FromString(stored.data)
        async for stored in scan(nats, subjects.OUTCOMES, _OUTCOMES)
        if _is_outcome(stored)
    ]


class LedgerReader:
    """Follows the streams: the first `read` takes in everything, later ones what has come since.

    Not for several readings at the same time.
    """

    def __init__(self, nats: Client, clock: Clock, *, open_max: int = OPEN_MAX) -> None:
        self._nats = nats
        self._clock = clock
        self._open_max = open_max
        ids = RandomIds(clock)
        self._facts: CommitLog = JetStreamLog(nats, subjects.COMMERCE, ids)
        self._outcomes: CommitLog = JetStreamLog(nats, subjects.OUTCOMES, ids)
        self._unbalanced_since_ns: int | None = None
        self._begin_anew("")

    async def read(self) -> Reading:
        """The ledger now.

        Raises:
            ServiceError: RETRYABLE, where NATS does not answer or more is on its way than can be
                kept; the next `read` goes on, or begins anew.
        """
        for _ in range(_LOOKS_MAX - 1):
            reading = await self._look()
            if not reading.placement.lost:
                return reading
            await self._clock.sleep(_LOOK_AGAIN_S)
        return await self._look()

    def _begin_anew(self, created: str) -> None:
        self._created = created
        self._books = Books(open_max=self._open_max)
        self._parked = ParkedUnits(self._nats)
        self._marker_at = 0
        self._outcome_at = _NOT_BEGUN

    async def _look(self) -> Reading:
        read_at_ns = self._clock.now_ns()
        # Of the day on which the oldest living markers were stored some have expired already.
        first_day = day_of(read_at_ns - resources.SEEN_TTL_S * 1_000_000_000) + 1
        segments, known_to, lanes = await self._consumers()
        await self._parked.refresh()
        self._books.forget_before(first_day)
        await self._follow(first_day * DAY_NS)
        placement = await self._place(lanes, known_to)
        if placement.doubtful and await self._examine(placement.doubtful):
            placement = await self._place(lanes, known_to)
        self._note_balance(read_at_ns, balanced=not placement.lost)
        return Reading(
            books=self._books,
            placement=placement,
            unnormalised_segments=segments,
            parked_deliveries=self._parked.deliveries,
            read_at_ns=read_at_ns,
            known_since_ns=first_day * DAY_NS,
            unbalanced_since_ns=self._unbalanced_since_ns,
        )

    def _note_balance(self, now_ns: int, *, balanced: bool) -> None:
        if balanced:
            self._unbalanced_since_ns = None
        elif self._unbalanced_since_ns is None:
            self._unbalanced_since_ns = now_ns

    # -- the consumers ---------------------------------------------------------------------------

    async def _consumers(self) -> tuple[int, int, dict[tuple[str, int], LaneState]]:
        """Segments not normalised, the end of COMMERCE from before, and every lane."""
        normalizer = await self._lane(subjects.WEBHOOKS, subjects.NORMALIZER)
        info = await self._stream(subjects.COMMERCE)
        if info["created"] != self._created:
            # Another stream of the same name: what was read of the old one is no longer so.
            self._begin_anew(info["created"])
        names = [(service, lane) for service in DURABLES for lane in range(subjects.LANES)]
        states = await asyncio.gather(
            *(self._lane(subjects.COMMERCE, DURABLES[service](lane)) for service, lane in names)
        )
        lanes = dict(zip(names, states, strict=True))
        return normalizer.waiting + normalizer.in_hand, int(info["state"]["last_seq"]), lanes

    async def _lane(self, stream: str, durable: str) -> LaneState:
        try:
            info = await js_api(self._nats, f"CONSUMER.INFO.{stream}.{durable}")
        except ApiError as error:
            if error.err_code != _NO_SUCH_CONSUMER:
                raise refused(error) from error
            # Nobody has read there yet: when somebody does, it is given everything.
            state = (await self._stream(stream))["state"]
            return LaneState(floor=0, delivered=0, waiting=int(state["messages"]), in_hand=0)
        return LaneState(
            floor=int(info["ack_floor"]["stream_seq"]),
            delivered=int(info["delivered"]["stream_seq"]),
            waiting=int(info["num_pending"]),
            in_hand=int(info["num_ack_pending"]),
        )

    async def _stream(self, name: str) -> dict[str, Any]:
        try:
            return await js_api(self._nats, f"STREAM.INFO.{name}")
        except ApiError as error:
            raise refused(error) from error

    # -- the fold --------------------------------------------------------------------------------

    async def _follow(self, since_ns: int) -> None:
        """Takes in what has come since, the older message first, so that few units are open."""
        if self._outcome_at == _NOT_BEGUN:
            last = int((await self._stream(subjects.OUTCOMES))["state"]["last_seq"])
            self._outcome_at = await first_at(self._nats, subjects.OUTCOMES, since_ns, last)
        outcome_at = self._outcome_at
        markers = scan(self._nats, subjects.COMMERCE, _MARKERS, after=self._marker_at)
        outcomes = scan(self._nats, subjects.OUTCOMES, _OUTCOMES, after=outcome_at)
        await self._merge(markers, outcomes)
        self._books.end_round()

    async def _merge(self, markers: AsyncIterator[Stored], outcomes: AsyncIterator[Stored]) -> None:
        marker, outcome = await anext(markers, None), await anext(outcomes, None)
        while marker is not None or outcome is not None:
            if marker is not None and (outcome is None or marker.stored_ns <= outcome.stored_ns):
                if self._books.is_full:
                    await self._make_room()
                self._take_marker(marker)
                marker = await anext(markers, None)
            elif outcome is not None:
                self._take_outcome(outcome)
                outcome = await anext(outcomes, None)

    async def _make_room(self) -> None:
        """Closes what has ended by now, though its outcome stands further on in the stream.

        Read from the beginning, as many units are open as were at the height of the last days. It
        is asked for by name, and only goes on where that gave a tenth of the room.
        """
        await self._take_outcomes_of([key for key, _ in self._books.units()])
        if self._books.open_count > self._open_max * 9 // 10:
            self._begin_anew(self._created)
            raise ServiceError(
                Kind.RETRYABLE,
                "ledger_full",
                f"of {self._open_max} units that can be kept in mind almost all are on their way:"
                " the ledger is read anew when there are fewer",
            )

    def _take_marker(self, stored: Stored) -> None:
        record = record_pb2.SeenRecord.FromString(stored.data)
        self._books.add_marker(stored.sequence, stored.stored_ns, record)
        self._marker_at = stored.sequence

    def _take_outcome(self, stored: Stored) -> None:
        if _is_outcome(stored):
            self._books.add_outcome(outcome_pb2.Outcome.FromString(stored.data))
        self._outcome_at = stored.sequence

    # -- the places ------------------------------------------------------------------------------

    async def _place(self, lanes: dict[tuple[str, int], LaneState], known_to: int) -> Placement:
        placer = Placer(lanes, self._parked, known_to)
        for _ in placer.place(self._books.open):
            await asyncio.sleep(0)
        return placer.finish()

    async def _examine(self, doubtful: Sequence[tuple[UnitKey, OpenUnit]]) -> bool:
        """Asks for the outcome and the fact of each by name; whether that taught anything."""
        units = dict(doubtful)
        await self._take_outcomes_of(list(units))
        facts = {fact_subject(key): key for key in units}
        found = await self._facts.read(list(facts))
        # A follower may lag; that a fact is gone is believed of the leader alone.
        missing = [name for name in facts if name not in found]
        for start in range(0, len(missing), _ASKED_AT_ONCE):
            found |= await self._facts.read_fresh(missing[start : start + _ASKED_AT_ONCE])
        for key, unit in units.items():
            fact = found.get(fact_subject(key))
            unit.checked, unit.gone = True, fact is None
            if fact is not None:
                unit.after, unit.before = fact.sequence - 1, fact.sequence + 1
        return bool(units)

    async def _take_outcomes_of(self, keys: Sequence[UnitKey]) -> None:
        for start in range(0, len(keys), _NAMES_AT_ONCE):
            part = keys[start : start + _NAMES_AT_ONCE]
            names = [subjects.outcome(key.sink, key.shop, key.unit) for key in part]
            for stored in (await self._outcomes.read(names)).values():
                self._books.add_outcome(outcome_pb2.Outcome.FromString(stored.data))


def fact_subject(key: UnitKey) -> str:
    """The subject of the fact that carries a unit."""
    kind, _, fact_id = key.unit.partition(".")
    return subjects.fact(kind, key.shop, fact_id)


def _is_outcome(stored: Stored) -> bool:
    return subjects.is_of_a_unit(stored.subject)

"""How units stand and ended, in the stream OUTCOMES: the first terminal outcome of a unit stays."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

from nats.aio.client import Client

from libs.bus import subjects
from libs.bus.api import ApiError, js_api
from libs.bus.commit_log import ENTRIES_MAX, CommitLog, ConflictError, Entry
from libs.bus.scan import first_at, scan
from libs.errors import Kind, ServiceError
from services.events.ports import Known, Pair
from tidewire.delivery.v1 import outcome_pb2

_DAY_S: Final = 86_400
_OUTCOME_TTL_S: Final = 35 * _DAY_S
_INDEX_TTL_S: Final = 3 * _DAY_S
"""Events are asked for by id while somebody debugs them, which is soon or never."""

_TRIES_MAX: Final = 8


def event_subject(shop: str, event_id: str, sink: str) -> str:
    """Where it stands to which unit an event id belongs."""
    return subjects.outcome(subjects.BY_EVENT, shop, event_id) + f".{subjects.token(sink)}"


class OutcomeStore:
    """Records tries and terminal outcomes, and answers questions about them."""

    def __init__(self, nats: Client, log: CommitLog) -> None:
        self._nats = nats
        self._log = log

    async def known(self, shop: str, pairs: Sequence[Pair]) -> dict[Pair, Known]:
        """What is recorded of the (sink, unit) pairs."""
        names = {subjects.outcome(sink, shop, unit): (sink, unit) for sink, unit in pairs}
        found = await self._log.read(list(names))
        return {
            names[subject]: Known(outcome_pb2.Outcome.FromString(stored.data), stored.sequence)
            for subject, stored in found.items()
        }

    async def attempt(
        self, outcomes: Sequence[outcome_pb2.Outcome], known: Mapping[Pair, Known]
    ) -> dict[Pair, Known]:
        """Records tries; what has ended meanwhile is missing in the answer.

        Raises:
            ServiceError: RETRYABLE; nothing may be sent then.
        """
        sequences = {
            _pair(one): known[_pair(one)].sequence for one in outcomes if _pair(one) in known
        }
        stored: dict[Pair, Known] = {}
        for start in range(0, len(outcomes), ENTRIES_MAX):
            part = outcomes[start : start + ENTRIES_MAX]
            stored |= await self._store(part, sequences, first_stays=True)
        return stored

    async def record(
        self, outcomes: Sequence[outcome_pb2.Outcome], known: Mapping[Pair, Known] | None = None
    ) -> None:
        """Stores each outcome whose unit has not ended; returns when they are durable.

        Raises:
            ServiceError: RETRYABLE; recording again is harmless.
        """
        sequences = {pair: one.sequence for pair, one in (known or {}).items()}
        part: list[outcome_pb2.Outcome] = []
        entries = 0
        for outcome in outcomes:
            size = 1 + len(outcome.events)
            if part and entries + size > ENTRIES_MAX:
                await self._store(part, sequences, indexed=True)
                part, entries = [], 0
            if size > ENTRIES_MAX:
                await self._record_large(outcome, sequences)
                continue
            part.append(outcome)
            entries += size
        if part:
            await self._store(part, sequences, indexed=True)

    async def of_event(self, shop: str, event_id: str) -> list[outcome_pb2.Outcome]:
        """The outcomes of the units that an event id belongs to, one a pixel."""
        pattern = subjects.outcome(subjects.BY_EVENT, shop, event_id) + ".*"
        units = [
            stored.data.decode() async for stored in scan(self._nats, subjects.OUTCOMES, pattern)
        ]
        found = await self._log.read(units)
        return [outcome_pb2.Outcome.FromString(stored.data) for stored in found.values()]

    async def after(self, sequence: int) -> AsyncIterator[tuple[int, outcome_pb2.Outcome]]:
        """Terminal outcomes stored behind a sequence, in order."""
        async for stored in scan(self._nats, subjects.OUTCOMES, "outcome.>", after=sequence):
            if not subjects.is_of_a_unit(stored.subject):
                continue
            outcome = outcome_pb2.Outcome.FromString(stored.data)
            if outcome.kind != outcome_pb2.OUTCOME_KIND_ATTEMPTED:
                yield stored.sequence, outcome

    async def sequence_at(self, instant_ns: int) -> int:
        """The sequence behind which everything stored since `instant_ns` stands."""
        info = await js_api(self._nats, f"STREAM.INFO.{subjects.OUTCOMES}")
        last: int = info["state"]["last_seq"]
        return await first_at(self._nats, subjects.OUTCOMES, instant_ns, last)

    async def _record_large(
        self, outcome: outcome_pb2.Outcome, sequences: Mapping[Pair, int]
    ) -> None:
        """An outcome of more events than one batch has places for: its index goes ahead of it."""
        index = _index(outcome)
        for start in range(0, len(index), ENTRIES_MAX):
            await self._commit(index[start : start + ENTRIES_MAX])
        await self._store([outcome], sequences)

    async def _store(
        self,
        outcomes: Sequence[outcome_pb2.Outcome],
        sequences: Mapping[Pair, int],
        *,
        indexed: bool = False,
        first_stays: bool = False,
    ) -> dict[Pair, Known]:
        """Stores what has not ended, each on top of the record it was told of, and what stands."""
        fresh = list(outcomes)
        at = dict(sequences)
        for _ in range(_TRIES_MAX):
            if not fresh:
                return {}
            index = [entry for one in fresh for entry in _index(one)] if indexed else []
            entries = [_entry(one, at.get(_pair(one), 0)) for one in fresh]
            try:
                last = await self._commit([*entries, *index])
            except ConflictError:
                fresh = await self._still_open(fresh, at, first_stays=first_stays)
            else:
                first = last - len(entries) - len(index) + 1
                return {_pair(one): Known(one, first + place) for place, one in enumerate(fresh)}
        raise ServiceError(Kind.RETRYABLE, "contended", "other writers were always quicker")

    async def _still_open(
        self, outcomes: Sequence[outcome_pb2.Outcome], at: dict[Pair, int], *, first_stays: bool
    ) -> list[outcome_pb2.Outcome]:
        """Those that have not ended; `at` then says where each stands.

        Raises:
            ServiceError: RETRYABLE, `contended`: another try of one of them was noted meanwhile,
                whose names and time must stay.
        """
        found = await self._log.read_fresh([_subject(one) for one in outcomes])
        still_open = []
        for one in outcomes:
            stored = found.get(_subject(one))
            if stored is not None:
                at[_pair(one)] = stored.sequence
                known = outcome_pb2.Outcome.FromString(stored.data)
                if known.kind != outcome_pb2.OUTCOME_KIND_ATTEMPTED:
                    continue
                if first_stays and known.HasField("first_attempt_at"):
                    raise ServiceError(Kind.RETRYABLE, "contended", "another try is noted already")
            else:
                at.pop(_pair(one), None)
            still_open.append(one)
        return still_open

    async def _commit(self, entries: Sequence[Entry]) -> int:
        try:
            return await self._log.commit(entries)
        except ApiError as error:
            # A full stream, a leader in election: trying again does no harm.
            raise ServiceError(Kind.RETRYABLE, "refused_by_nats", error.description) from error


def _pair(outcome: outcome_pb2.Outcome) -> Pair:
    return outcome.sink, outcome.unit


def _subject(outcome: outcome_pb2.Outcome) -> str:
    return subjects.outcome(outcome.sink, outcome.shop, outcome.unit)


def _entry(outcome: outcome_pb2.Outcome, expected: int) -> Entry:
    data = outcome.SerializeToString()
    return Entry(_subject(outcome), data, expected=expected, ttl_s=_OUTCOME_TTL_S)


def _index(outcome: outcome_pb2.Outcome) -> list[Entry]:
    """Which unit each event id belongs to."""
    unit = _subject(outcome).encode()
    names = {
        event_subject(outcome.shop, event.event_id, outcome.sink)
        for event in outcome.events
        if event.event_id
    }
    return [Entry(name, unit, ttl_s=_INDEX_TTL_S) for name in sorted(names)]

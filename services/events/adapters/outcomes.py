"""How units ended, in the stream OUTCOMES: the first outcome of a unit stays."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

from nats.aio.client import Client

from libs.bus import subjects
from libs.bus.api import ApiError, js_api
from libs.bus.commit_log import ENTRIES_MAX, CommitLog, ConflictError, Entry
from libs.bus.scan import first_at, scan
from libs.errors import Kind, ServiceError
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
    """Records terminal outcomes and answers questions about them."""

    def __init__(self, nats: Client, log: CommitLog) -> None:
        self._nats = nats
        self._log = log

    async def ended(self, shop: str, pairs: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        """Those of the (sink, unit) pairs that have ended."""
        names = {subjects.outcome(sink, shop, unit): (sink, unit) for sink, unit in pairs}
        found = await self._log.read(list(names))
        return {names[subject] for subject in found}

    async def record(self, outcomes: Sequence[outcome_pb2.Outcome]) -> None:
        """Stores each outcome whose unit has none yet; returns when they are durable.

        Raises:
            ServiceError: RETRYABLE; recording again is harmless.
        """
        part: list[outcome_pb2.Outcome] = []
        entries = 0
        for outcome in outcomes:
            size = 1 + len(outcome.events)
            if part and entries + size > ENTRIES_MAX:
                await self._record(part)
                part, entries = [], 0
            if size > ENTRIES_MAX:
                await self._record_large(outcome)
                continue
            part.append(outcome)
            entries += size
        if part:
            await self._record(part)

    async def of_event(self, shop: str, event_id: str) -> list[outcome_pb2.Outcome]:
        """The outcomes of the units that an event id belongs to, one a pixel."""
        pattern = subjects.outcome(subjects.BY_EVENT, shop, event_id) + ".*"
        units = [
            stored.data.decode() async for stored in scan(self._nats, subjects.OUTCOMES, pattern)
        ]
        found = await self._log.read(units)
        return [outcome_pb2.Outcome.FromString(stored.data) for stored in found.values()]

    async def after(self, sequence: int) -> AsyncIterator[tuple[int, outcome_pb2.Outcome]]:
        """Outcomes stored behind a sequence, in order."""
        async for stored in scan(self._nats, subjects.OUTCOMES, "outcome.>", after=sequence):
            if not stored.subject.startswith(f"outcome.{subjects.BY_EVENT}."):
                yield stored.sequence, outcome_pb2.Outcome.FromString(stored.data)

    async def sequence_at(self, instant_ns: int) -> int:
        """The sequence behind which everything stored since `instant_ns` stands."""
        info = await js_api(self._nats, f"STREAM.INFO.{subjects.OUTCOMES}")
        last: int = info["state"]["last_seq"]
        return await first_at(self._nats, subjects.OUTCOMES, instant_ns, last)

    async def _record_large(self, outcome: outcome_pb2.Outcome) -> None:
        """An outcome of more events than one batch has places for: its index goes ahead of it."""
        index = _index(outcome)
        for start in range(0, len(index), ENTRIES_MAX):
            await self._commit(index[start : start + ENTRIES_MAX])
        await self._record([outcome], indexed=False)

    async def _record(
        self, outcomes: Sequence[outcome_pb2.Outcome], *, indexed: bool = True
    ) -> None:
        fresh = list(outcomes)
        for _ in range(_TRIES_MAX):
            if not fresh:
                return
            index = [entry for one in fresh for entry in _index(one)] if indexed else []
            try:
                await self._commit([*map(_entry, fresh), *index])
            except ConflictError:
                taken = await self._log.read_fresh([_subject(one) for one in fresh])
                fresh = [one for one in fresh if _subject(one) not in taken]
            else:
                return
        raise ServiceError(Kind.RETRYABLE, "contended", "other writers were always quicker")

    async def _commit(self, entries: Sequence[Entry]) -> None:
        try:
            await self._log.commit(entries)
        except ApiError as error:
            # A full stream, a leader in election: trying again does no harm.
            raise ServiceError(Kind.RETRYABLE, "refused_by_nats", error.description) from error


def _subject(outcome: outcome_pb2.Outcome) -> str:
    return subjects.outcome(outcome.sink, outcome.shop, outcome.unit)


def _entry(outcome: outcome_pb2.Outcome) -> Entry:
    return Entry(_subject(outcome), outcome.SerializeToString(), expected=0, ttl_s=_OUTCOME_TTL_S)


def _index(outcome: outcome_pb2.Outcome) -> list[Entry]:
    """Which unit each event id belongs to."""
    unit = _subject(outcome).encode()
    names = {
        event_subject(outcome.shop, event.event_id, outcome.sink)
        for event in outcome.events
        if event.event_id
    }
    return [Entry(name, unit, ttl_s=_INDEX_TTL_S) for name in sorted(names)]

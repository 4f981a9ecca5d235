"""How units ended, in the stream OUTCOMES: the first outcome of a unit stays."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

from nats.aio.client import Client
from tidewire.delivery.v1 import outcome_pb2

from libs.bus import subjects
from libs.bus.api import js_api
from libs.bus.commit_log import ENTRIES_MAX, CommitLog, ConflictError, Entry
from libs.bus.scan import first_at, scan
from libs.errors import Kind, ServiceError

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

    async def _record(self, outcomes: Sequence[outcome_pb2.Outcome]) -> None:
        fresh = list(outcomes)
        for _ in range(_TRIES_MAX):
            if not fresh:
                return
            try:
                await self._log.commit([entry for one in fresh for entry in _entries(one)])
            except ConflictError:
                taken = await self._log.read_fresh([_subject(one) for one in fresh])
                fresh = [one for one in fresh if _subject(one) not in taken]
            else:
                return
        raise ServiceError(Kind.RETRYABLE, "contended", "other writers were always quicker")


def _subject(outcome: outcome_pb2.Outcome) -> str:
    return subjects.outcome(outcome.sink, outcome.shop, outcome.unit)


def _entries(outcome: outcome_pb2.Outcome) -> list[Entry]:
    subject = _subject(outcome)
    index = {
        event_subject(outcome.shop, event.event_id, outcome.sink): subject
        for event in outcome.events
        if event.event_id
    }
    return [
        Entry(subject, outcome.SerializeToString(), expected=0, ttl_s=_OUTCOME_TTL_S),
        *(Entry(name, unit.encode(), ttl_s=_INDEX_TTL_S) for name, unit in index.items()),
    ]

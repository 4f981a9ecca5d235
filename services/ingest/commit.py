"""The commit protocol: read, plan, write all or none, and on a conflict read again and merge."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from libs import metric_names
from libs.bus.commit_log import BATCH_BYTES_MAX, ENTRIES_MAX, CommitLog, ConflictError, Stored
from libs.errors import Kind, ServiceError
from libs.telemetry import Metrics
from libs.vault import Vault
from services.ingest.commit_plan import Known, Plan, Prepared, plan, state_subjects
from services.ingest.state_cache import StateCache
from services.ingest.state_codec import view_of
from tidewire.commerce.v1 import record_pb2

_TRIES_MAX: Final = 12
_CACHE_BYTES_MAX: Final = 64 * 1024 * 1024

Read = Callable[[Sequence[str]], Awaitable[dict[str, Stored]]]


@dataclass(frozen=True, slots=True)
class _Recalled:
    """What a plan is made from."""

    states: Mapping[str, Known]
    existing: frozenset[str]


class CommitProtocol:
    """Commits batches of deliveries on a `CommitLog`.

    `before_commit` is awaited with each plan before it is written: what must be durable earlier,
    such as dead letters, is stored there.
    """

    def __init__(
        self,
        log: CommitLog,
        vault: Vault,
        *,
        sinks_of: Callable[[str], Sequence[str]],
        before_commit: Callable[[Plan], Awaitable[None]],
        metrics: Metrics,
    ) -> None:
        self._log = log
        self._cache = StateCache(_CACHE_BYTES_MAX)
        self._vault = vault
        self._sinks_of = sinks_of
        self._before_commit = before_commit
        self._conflicts = metrics.counter(metric_names.NORMALIZER_BATCH_RETRIES, reason="conflict")

    async def commit(self, batch: Sequence[Prepared]) -> list[Plan]:
        """What was written for `batch`: one plan, or several where one would be beyond bounds.

        Doing it again is harmless: what is committed is found to be a duplicate.

        Raises:
            ServiceError: RETRYABLE; all, some or none may be written.
        """
        if not batch:
            return []
        known = await self._recall(batch, self._log.read)
        for attempt in range(1, _TRIES_MAX + 1):
            planned = plan(
                batch,
                known.states,
                known.existing,
                sinks_of=self._sinks_of,
                seal=self._vault.seal,
            )
            too_much = len(planned.entries) > ENTRIES_MAX or planned.size_bytes > BATCH_BYTES_MAX
            # One delivery alone has a handful of entries, and each is within the server's bound.
            if too_much and len(batch) > 1:
                return await self._commit_in_halves(batch)
            await self._before_commit(planned)
            try:
                if planned.entries:
                    self._remember(planned, await self._log.commit(planned.entries))
            except ConflictError:
                self._conflicts.value += 1
                known = await self._recall_after_conflict(batch, planned, attempt)
                continue
            return [planned]
        raise ServiceError(Kind.RETRYABLE, "contended", "other writers were always quicker")

    async def _commit_in_halves(self, batch: Sequence[Prepared]) -> list[Plan]:
        middle = len(batch) // 2
        first = await self.commit(batch[:middle])
        return first + await self.commit(batch[middle:])

    async def _recall(self, batch: Sequence[Prepared], read: Read) -> _Recalled:
        """What is stored of `batch`: dedupe markers always, states where they are not at hand."""
        states: dict[str, Known] = {}
        names = [prepared.seen_subject for prepared in batch]
        for name in state_subjects(batch):
            remembered = self._cache.get(name)
            if remembered is None:
                names.append(name)
            else:
                states[name] = remembered
        found = await read(sorted(set(names)))
        existing = {prepared.seen_subject for prepared in batch} & found.keys()
        for name in names:
            if name in found and name not in existing:
                states[name] = await self._known(found[name])
        return _Recalled(states, frozenset(existing))

    async def _recall_after_conflict(
        self, batch: Sequence[Prepared], planned: Plan, attempt: int
    ) -> _Recalled:
        """What is stored by now, and which of the planned facts are already there.

        The second time the leader itself is asked: a follower that lags would answer as before for
        ever.
        """
        for name in state_subjects(batch):
            self._cache.forget(name)
        await asyncio.sleep(0.005 * (attempt - 1))
        read = self._log.read if attempt == 1 else self._log.read_fresh
        known = await self._recall(batch, read)
        facts = await read(planned.fact_subjects) if planned.fact_subjects else {}
        return _Recalled(known.states, known.existing | facts.keys())

    async def _known(self, stored: Stored) -> Known:
        record = record_pb2.StateRecord.FromString(stored.data)
        opened = await self._vault.open_bytes(record.payload, record.shop)
        known = Known(stored.sequence, view_of(record, opened))
        self._cache.put(stored.subject, known, len(stored.data))
        return known

    def _remember(self, planned: Plan, last_sequence: int) -> None:
        """The batch's entries got the sequences up to `last_sequence`, in their order."""
        before = last_sequence - len(planned.entries) + 1
        for subject, place, view in planned.states:
            size = len(planned.entries[place].data)
            self._cache.put(subject, Known(before + place, view), size)

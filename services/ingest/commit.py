"""The commit protocol: read, plan, write all or none, and on a conflict read again and merge."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from tidewire.commerce.v1 import record_pb2

from libs import metric_names
from libs.bus.commit_log import BATCH_BYTES_MAX, ENTRIES_MAX, CommitLog, ConflictError, Stored
from libs.errors import Kind, ServiceError
from libs.telemetry import Metrics
from libs.vault import Vault
from services.ingest.commit_plan import NOTHING, Known, Plan, Prepared, plan, subjects_of
from services.ingest.state_codec import view_of

_TRIES_MAX: Final = 12


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
        found = await self._log.read(subjects_of(batch))
        facts: frozenset[str] = frozenset()
        for attempt in range(1, _TRIES_MAX + 1):
            planned = await self._plan(batch, found, facts)
            if len(planned.entries) > ENTRIES_MAX or planned.size_bytes > BATCH_BYTES_MAX:
                return await self._commit_in_halves(batch)
            await self._before_commit(planned)
            try:
                if planned.entries:
                    await self._log.commit(planned.entries)
            except ConflictError:
                self._conflicts.value += 1
                found, facts = await self._read_again(batch, planned, found, attempt)
                continue
            return [planned]
        raise ServiceError(Kind.RETRYABLE, "contended", "other writers were always quicker")

    async def _commit_in_halves(self, batch: Sequence[Prepared]) -> list[Plan]:
        if len(batch) == 1:
            raise AssertionError("one delivery is within every bound of a batch")
        middle = len(batch) // 2
        first = await self.commit(batch[:middle])
        return first + await self.commit(batch[middle:])

    async def _plan(
        self, batch: Sequence[Prepared], found: Mapping[str, Stored], facts: frozenset[str]
    ) -> Plan:
        names = {prepared.state_subject for prepared in batch if prepared.state_subject}
        states = {
            name: await self._known(found[name]) if name in found else NOTHING for name in names
        }
        seen = frozenset(p.seen_subject for p in batch if p.seen_subject in found)
        return plan(batch, states, seen | facts, sinks_of=self._sinks_of, seal=self._vault.seal)

    async def _known(self, stored: Stored) -> Known:
        record = record_pb2.StateRecord.FromString(stored.data)
        opened = await self._vault.open_bytes(record.payload, record.shop)
        return Known(stored.sequence, view_of(record, opened))

    async def _read_again(
        self, batch: Sequence[Prepared], planned: Plan, before: Mapping[str, Stored], attempt: int
    ) -> tuple[dict[str, Stored], frozenset[str]]:
        """What is stored by now, and which of the planned facts are already there.

        The second time the leader itself is asked: a follower that lags would answer as before for
        ever.
        """
        read = self._log.read if attempt == 1 else self._log.read_fresh
        found = await read(subjects_of(batch))
        facts = await read(planned.fact_subjects) if planned.fact_subjects else {}
        if found == before and not facts:
            await asyncio.sleep(0.01 * attempt)
        return found, frozenset(facts)

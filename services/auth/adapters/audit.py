"""Who was given which secret, and who changed what: gathered, and stored a moment later.

One record is small and a write to disk is not, so records of a moment are stored together. They
wait in memory for that moment only; where they cannot be stored, as many as fit wait, and then
nothing is handed out any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import structlog
from nats.aio.client import Client

from libs import metric_names
from libs.bus.publisher import publish
from libs.clock import Clock
from libs.errors import Kind, ServiceError
from libs.ids import Ids
from libs.rpc.callers import Caller
from libs.rpc.interceptor import incoming_traceparent
from libs.telemetry import Metrics
from tidewire.auth.v1 import record_pb2

_log = structlog.stdlib.get_logger()

SUBJECT: Final = "audit.auth"
_EVERY_S: Final = 0.1
_TOGETHER_MAX: Final = 1_000
_TOGETHER_BYTES: Final = 512 * 1024
"""NATS takes a megabyte at once unless it is told otherwise, and the largest record, of 500
connections, is a tenth of that."""
_WAITING_MAX: Final = 20_000
_AGAIN_S: Final = 1.0
_CHANGES_MAX: Final = 100
_TEXT_CHARS_MAX: Final = 200
"""Whoever calls chooses what it names; a record must fit into a message all the same."""


class AuditLog:
    """Audit records on their way to the stream `AUDIT`; a part of a process."""

    def __init__(self, nats: Client, clock: Clock, ids: Ids, metrics: Metrics) -> None:
        self._nats = nats
        self._clock = clock
        self._ids = ids
        self._waiting: list[record_pb2.AuditRecord] = []
        self._come = asyncio.Event()
        self._stopping = False
        self._busy: Callable[[], bool] = lambda: False
        metrics.gauge(metric_names.AUDIT_WAITING, lambda: float(self.waiting))

    @property
    def waiting(self) -> int:
        """Records that are not stored yet."""
        return len(self._waiting)

    def note(
        self,
        caller: Caller,
        subjects: Sequence[str],
        *,
        code: str = "ok",
        changes: Sequence[str] = (),
        is_done: bool = False,
    ) -> None:
        """Has an act of a caller stored soon. Call it before anything is handed out.

        What `is_done` already is noted in any case: see `refuse_full`.

        Raises:
            ServiceError: RETRYABLE, `audit_unavailable`, where too many records wait already.
        """
        if not is_done:
            self.refuse_full()
        record = record_pb2.AuditRecord(
            caller=caller.name,
            identity=caller.identity,
            method=caller.method,
            subjects=[one[:_TEXT_CHARS_MAX] for one in subjects],
            code=code,
            changes=[one[:_TEXT_CHARS_MAX] for one in changes[:_CHANGES_MAX]],
            traceparent=(incoming_traceparent.get() or "")[:_TEXT_CHARS_MAX],
        )
        record.at.FromNanoseconds(self._clock.now_ns())
        self._waiting.append(record)
        self._come.set()

    def refuse_full(self) -> None:
        """For an act that is noted once it is done.

        Raises:
            ServiceError: RETRYABLE, `audit_unavailable`, where too many records wait already.
        """
        if len(self._waiting) >= _WAITING_MAX:
            raise ServiceError(
                Kind.RETRYABLE, "audit_unavailable", "what is handed out cannot be audited now"
            )

    def keep_while(self, busy: Callable[[], bool]) -> None:
        """Goes on after a stop for as long as `busy` says: rpcs under way still hand out."""
        self._busy = busy

    async def run(self, ready: Callable[[], None]) -> None:
        """Stores records until `stop`, then those that still wait."""
        ready()
        while not self._stopping or self._waiting or self._busy():
            if not self._waiting:
                self._come.clear()
                wait_s = _EVERY_S if self._stopping else _AGAIN_S
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._come.wait(), wait_s)
                continue
            if not self._stopping:
                await asyncio.sleep(_EVERY_S)
            await self._store()

    def stop(self) -> None:
        """Ends `run`."""
        self._stopping = True
        self._come.set()

    async def _store(self) -> None:
        some = _first(self._waiting)
        data = record_pb2.AuditRecords(records=some).SerializeToString()
        message_id = self._ids.new()
        while True:
            try:
                await publish(self._nats, SUBJECT, data, message_id=message_id)
            except ServiceError as error:
                _log.warning("audit_not_stored", reason=error.code, waiting=len(self._waiting))
                await asyncio.sleep(_AGAIN_S)
                continue
            del self._waiting[: len(some)]
            return


def _first(records: Sequence[record_pb2.AuditRecord]) -> Sequence[record_pb2.AuditRecord]:
    """As many as fit into one message; at least one."""
    some, size = records[:_TOGETHER_MAX], 0
    for place, record in enumerate(some):
        size += record.ByteSize()
        if size > _TOGETHER_BYTES and place:
            return some[:place]
    return some

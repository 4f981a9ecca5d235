"""Group commit: what arrived during one write is written by the next, and all are answered.

With `sync_interval: always` a write costs a sync of the disk. One write a webhook would cost two
thirds of the throughput; one a group costs nothing that anybody can see, and a lone webhook never
waits for company.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError

from libs import metric_names
from libs.bus import subjects
from libs.bus.api import UNREACHABLE, ApiError, answer_of
from libs.clock import Clock
from libs.errors import Kind, ServiceError
from libs.ids import Ids
from libs.telemetry import Metrics
from tidewire.ingest.v1 import delivery_pb2

_log = structlog.stdlib.get_logger()

SEGMENT_BYTES_MAX: Final = 768 * 1024
ANSWER_WITHIN_S: Final = 2.4
"""Of the 2.5 s within which every answer is given; the rest is for the answer itself."""
_WRITE_S_MAX: Final = 2.0
_WRITE_S_MIN: Final = 0.05
_QUIET_S: Final = 0.5


@dataclass(slots=True)
class _Waiting:
    delivery: delivery_pb2.Delivery
    size_bytes: int
    since_s: float
    stored: asyncio.Future[None]


def _unstored(code: str, message: str) -> ServiceError:
    return ServiceError(Kind.RETRYABLE, code, message, retry_after_s=1.0)


class GroupCommitter:
    """Stores deliveries in WEBHOOKS, packed; bounded in bytes and in time."""

    def __init__(
        self, nats: Client, clock: Clock, ids: Ids, metrics: Metrics, *, pending_bytes_max: int
    ) -> None:
        self._nats = nats
        self._clock = clock
        self._ids = ids
        self._pending_bytes_max = pending_bytes_max
        self._pending: deque[_Waiting] = deque()
        self._work = asyncio.Event()
        self._stopping = False
        self._ended = False
        self._holders = 0
        self.pending_bytes = 0
        self._commit_seconds = metrics.histogram(metric_names.INGEST_COMMIT)
        self._metrics = metrics
        self._segment_deliveries = metrics.histogram(metric_names.INGEST_SEGMENT_DELIVERIES)
        self._segment_bytes = metrics.histogram(metric_names.INGEST_SEGMENT_BYTES)
        metrics.gauge(metric_names.INGEST_PENDING_BYTES, lambda: float(self.pending_bytes))

    @property
    def full(self) -> bool:
        """Whether load must be shed: what waits already fills the bound."""
        return self.pending_bytes >= self._pending_bytes_max

    async def store(self, delivery: delivery_pb2.Delivery) -> None:
        """Returns when `delivery` is on disk.

        Raises:
            ServiceError: RETRYABLE; it may nevertheless be stored, and dedupe expects that.
        """
        size = delivery.ByteSize()
        if self._ended:
            raise _unstored("stopping", "this process is ending")
        if self.full:
            raise _unstored("overloaded", "more is waiting than the bound allows")
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append(_Waiting(delivery, size, self._clock.monotonic_s(), stored))
        self.pending_bytes += size
        self._work.set()
        await stored

    async def run(self, ready: Callable[[], None]) -> None:
        """Writes until `stop`, then writes what is left."""
        ready()
        try:
            while await self._woken():
                while self._pending:
                    await self._commit(self._next_group())
        finally:
            self._ended = True

    def stop(self) -> None:
        """`run` ends once nobody holds it and nothing has come for a moment."""
        self._stopping = True
        self._work.set()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps `run` from ending: for a server whose requests under way must still be stored."""
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1

    async def _woken(self) -> bool:
        """Waits for work; False when it is time to end."""
        if self._pending:
            return True
        self._work.clear()
        try:
            await asyncio.wait_for(self._work.wait(), _QUIET_S if self._stopping else None)
        except TimeoutError:
            return self._holders > 0
        return True

    def _next_group(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        size = 0
        while self._pending and (
            not group or size + self._pending[0].size_bytes <= SEGMENT_BYTES_MAX
        ):
            waiting = self._pending.popleft()
            size += waiting.size_bytes
            group.append(waiting)
        return group

    async def _commit(self, group: list[_Waiting]) -> None:
        started_s = self._clock.monotonic_s()
        try:
            await self._write(group, started_s)
        except ServiceError as error:
            self._fail(group, error)
        except Exception as error:  # noqa: BLE001  # whoever waits must get an answer
            _log.exception("commit_failed_unforeseen")
            self._fail(group, _unstored("not_stored", type(error).__name__))
        else:
            for waiting in group:
                if not waiting.stored.done():
                    waiting.stored.set_result(None)
            self._commit_seconds.observe(self._clock.monotonic_s() - started_s)
        finally:
            self.pending_bytes -= sum(waiting.size_bytes for waiting in group)

    async def _write(self, group: list[_Waiting], now_s: float) -> None:
        within_s = min(_WRITE_S_MAX, group[0].since_s + ANSWER_WITHIN_S - now_s)
        if within_s < _WRITE_S_MIN or not self._nats.is_connected:
            raise _unstored("not_connected", "NATS cannot be reached in time")
        segment = delivery_pb2.DeliverySegment(
            segment_id=self._ids.new(), deliveries=[waiting.delivery for waiting in group]
        )
        segment.committing_at.FromNanoseconds(self._clock.now_ns())
        payload = segment.SerializeToString()
        self._segment_bytes.observe(len(payload))
        self._segment_deliveries.observe(len(group))
        subject = subjects.webhook("shopify")
        try:
            answer = await self._nats.request(
                subject, payload, timeout=within_s, headers={"Nats-Msg-Id": segment.segment_id}
            )
            answer_of(subject, answer.data)
        except ApiError as error:
            raise _unstored("refused_by_nats", error.description) from error
        except (*UNREACHABLE, NatsError) as error:
            raise _unstored("not_stored", f"NATS: {type(error).__name__}") from error

    def _fail(self, group: list[_Waiting], error: ServiceError) -> None:
        # Only this group is answered so; what came meanwhile gets its own try.
        self._metrics.counter(metric_names.INGEST_COMMIT_FAILURES, code=error.code).value += 1
        _log.warning("commit_failed", code=error.code, deliveries=len(group))
        for waiting in group:
            if not waiting.stored.done():
                waiting.stored.set_exception(error)

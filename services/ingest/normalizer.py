"""The normalizer: from stored deliveries to committed state and facts.

Segments are read ahead and unpacked into one queue a shop, which are served in turn. A segment is
acknowledged when each of its deliveries is committed, parked or dead-lettered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

import structlog
from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from libs import metric_names
from libs.bus import subjects
from libs.bus.burial import BurialWatch
from libs.bus.pull import ConsumerSettings, Puller, ensure_consumer
from libs.clock import Clock
from libs.errors import Kind, ServiceError
from libs.fair_queue import FairQueue
from libs.telemetry import Metrics
from services.ingest.batch import BatchProcessor, ReadDelivery
from services.ingest.work import Job, OpenSegment
from tidewire.ingest.v1 import delivery_pb2

_log = structlog.stdlib.get_logger()

T = TypeVar("T")

CONSUMER: Final = ConsumerSettings(
    stream=subjects.WEBHOOKS, durable=subjects.NORMALIZER, ack_wait_s=15.0, max_ack_pending=2000
)
_QUANTUM_BYTES: Final = 64 * 1024
_BATCH_BYTES_MAX: Final = 2 * 1024 * 1024
_SEGMENTS_AT_HAND: Final = 16
_BATCHES_AHEAD: Final = 1
"""While one batch is being written the next is being understood, and no more: what is further
ahead would wait in line behind a shop that has much, instead of being served in turn."""
_RETRY_S: Final = 1.0
_POSTPONED_S: Final = 15.0
_LOOK_AGAIN_S: Final = 0.25
"""How soon a normalizer that dead letters have stopped notices that it may try one again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much the normalizer holds at once."""

    read_ahead_bytes: int
    batch_deliveries: int


class Normalizer:
    """Takes segments until it is stopped; finishes the deliveries in hand."""

    def __init__(
        self,
        nats: Client,
        processor: BatchProcessor,
        *,
        bounds: Bounds,
        clock: Clock,
        metrics: Metrics,
        burials: BurialWatch,
    ) -> None:
        self._burials = burials
        self._nats = nats
        self._processor = processor
        self._bounds = bounds
        self._clock = clock
        self._queue: FairQueue[Job] = FairQueue(_QUANTUM_BYTES)
        self._open: dict[int, OpenSegment] = {}
        self._understood: asyncio.Queue[tuple[list[Job], list[ReadDelivery]] | None] = (
            asyncio.Queue(_BATCHES_AHEAD)
        )
        self._under_way = 0
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._stopping = asyncio.Event()
        metrics.gauge(metric_names.NORMALIZER_QUEUE_BYTES, lambda: float(self._queue.cost))
        metrics.gauge(metric_names.NORMALIZER_LAG, self._lag_s)
        metrics.gauge(
            metric_names.CONSUMER_STOPPED,
            lambda: 1.0 if burials.stopped else 0.0,
            durable=subjects.NORMALIZER,
        )

    @property
    def in_hand(self) -> int:
        """Deliveries read and not yet decided."""
        return self._queue.size + sum(segment.remaining for segment in self._open.values())

    async def run(self, ready: Callable[[], None]) -> None:
        """Works until `stop`."""
        while not self._stopping.is_set():
            try:
                await ensure_consumer(self._nats, CONSUMER)
                break
            except ServiceError as error:
                _log.info("waiting_for_nats", reason=error.code)
                await asyncio.sleep(_RETRY_S)
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(self._read(ready), name="read")
            tasks.create_task(self._understand(), name="understand")
            committing = tasks.create_task(self._commit(), name="commit")
            beating = tasks.create_task(self._beat(), name="beat")
            await self._stopping.wait()
            reading.cancel()
            self._changed.set()
            await asyncio.wait({committing})
            beating.cancel()

    def stop(self) -> None:
        """Reads nothing new; what is queued and not begun is left to be delivered again."""
        self._stopping.set()
        self._changed.set()

    def add(self, segment: OpenSegment, deliveries: Sequence[delivery_pb2.Delivery]) -> None:
        """Queues the deliveries of a segment."""
        self._open[segment.sequence] = segment
        for index, delivery in enumerate(deliveries):
            cost = len(delivery.body.data) + 256
            self._queue.put(delivery.shop, Job(segment, index, delivery), cost)
        self._changed.set()

    async def _read(self, ready: Callable[[], None]) -> None:
        async with Puller(
            self._nats,
            CONSUMER,
            capacity=_SEGMENTS_AT_HAND,
            allowance=lambda: self._burials.allowance(self._queue.size + self._under_way),
        ) as puller:
            ready()
            while True:
                while self._queue.cost >= self._bounds.read_ahead_bytes:
                    self._room.clear()
                    await self._room.wait()
                await self._open_segment(await puller.take())

    async def _open_segment(self, message: Msg) -> None:
        sequence = message.metadata.sequence.stream
        known = self._open.get(sequence)
        if known is not None:
            # Delivered again while it is being worked on: settle the newer delivery.
            known.acknowledge = message.ack
            known.still_working = message.in_progress
            known.postpone = partial(message.nak, delay=_POSTPONED_S)
            return
        segment = _segment_of(message.data)
        if segment is None:
            await _until_it_works(partial(self._processor.bury_unreadable, message.data, sequence))
            await message.ack()
            return
        stored_ns = int(message.metadata.timestamp.timestamp() * 1e9)
        opened = OpenSegment(
            sequence=sequence,
            acknowledge=message.ack,
            still_working=message.in_progress,
            postpone=partial(message.nak, delay=_POSTPONED_S),
            remaining=len(segment.deliveries),
            size_bytes=len(message.data),
            received_s=self._clock.monotonic_s(),
            committing_ns=segment.committing_at.ToNanoseconds(),
            stored_ns=stored_ns,
        )
        self.add(opened, segment.deliveries)

    async def _understand(self) -> None:
        """Takes deliveries in turn and reads them, while the batch before is being written."""
        while not self._stopping.is_set():
            allowed = self._burials.allowance(self._under_way)
            if allowed == 0:
                await self._while_stopped()
                continue
            items_max = self._bounds.batch_deliveries if allowed is None else allowed
            jobs = [
                job for _, job in self._queue.take(items_max=items_max, cost_max=_BATCH_BYTES_MAX)
            ]
            if not jobs:
                self._changed.clear()
                await self._changed.wait()
                continue
            self._room.set()
            self._under_way += len(jobs)
            read, postponed = await _until_it_works(partial(self._processor.read, jobs))
            _mark(postponed)
            await self._understood.put((jobs, read))
        await self._understood.put(None)

    async def _while_stopped(self) -> None:
        """What is in hand waits, and its segments are kept from being given to others."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), _LOOK_AGAIN_S)

    async def _commit(self) -> None:
        """Commits what was read, batch after batch: that keeps a shop's deliveries in order."""
        while (work := await self._understood.get()) is not None:
            jobs, read = work
            _mark(await _until_it_works(partial(self._processor.commit, read)))
            self._under_way -= len(jobs)
            for job in jobs:
                await self._settle(job.segment)

    async def _settle(self, segment: OpenSegment) -> None:
        segment.remaining -= 1
        if segment.remaining:
            return
        del self._open[segment.sequence]
        # An acknowledgement that gets lost brings the segment again; dedupe makes that harmless.
        with suppress(NatsError, OSError, ServiceError):
            await (segment.postpone() if segment.postponed else segment.acknowledge())

    async def _beat(self) -> None:
        """Tells the server that what is open is being worked on."""
        while True:
            await asyncio.sleep(CONSUMER.ack_wait_s / 3)
            for segment in list(self._open.values()):
                with suppress(NatsError, OSError):
                    await segment.still_working()

    def _lag_s(self) -> float:
        oldest = next(iter(self._open.values()), None)
        return self._clock.monotonic_s() - oldest.received_s if oldest else 0.0


def _mark(jobs: Sequence[Job]) -> None:
    """One delivery that must wait has its whole segment delivered again; nobody else waits."""
    for job in jobs:
        job.segment.postponed = True


def _segment_of(data: bytes) -> delivery_pb2.DeliverySegment | None:
    """The segment that a message holds, if it does.

    Most bytes decode to something: one without deliveries is none of ours, and would never settle.
    """
    try:
        segment = delivery_pb2.DeliverySegment.FromString(data)
    except DecodeError:
        return None
    return segment if segment.deliveries else None


async def _until_it_works(act: Callable[[], Awaitable[T]]) -> T:
    """What `act` gives in the end: an outage costs time, never a delivery."""
    while True:
        try:
            return await act()
        except ServiceError as error:
            if error.kind is not Kind.RETRYABLE:
                raise
            _log.warning("batch_waits", code=error.code)
            await asyncio.sleep(_RETRY_S)

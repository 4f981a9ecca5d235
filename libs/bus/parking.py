"""Units that wait for their connection: references in PARKED, one queue a connection, in order.

A lane that kept them in hand would stand still for all of its shops (a full `max_ack_pending`
delivers nothing more to anybody), so they are moved here and acknowledged there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

import structlog
from nats.aio.client import Client

from libs import metric_names
from libs.bus import subjects
from libs.bus.api import ApiError, js_api, refused
from libs.bus.commit_log import ENTRIES_MAX, CommitLog, Entry
from libs.bus.scan import page
from libs.errors import ServiceError
from libs.telemetry import Metrics
from tidewire.delivery.v1 import gate_pb2

_log = structlog.stdlib.get_logger()

_LOOK_EVERY_S: Final = 1.0


REPLAYS: Final = ":replay"
"""Ends the name of a connection's second queue: what is tried again after it was given up gives way
to what is live, so live units must not stand behind it."""


def queue_of(connection_id: str, fact_subject: str) -> str:
    """The queue in which a unit of the connection waits."""
    return connection_id + (REPLAYS if subjects.is_replay(fact_subject) else "")


def connection_of(queue: str) -> str:
    """The connection that a queue waits for."""
    return queue.removesuffix(REPLAYS)


class ParkingLot:
    """The queues of one service; a part that keeps an eye on which of them hold something."""

    def __init__(self, nats: Client, log: CommitLog, service: str, metrics: Metrics) -> None:
        self._nats = nats
        self._log = log
        self._service = service
        self._depths: dict[str, int] = {}
        self._writes = 0
        self._stopping = asyncio.Event()
        metrics.gauge(
            metric_names.PARKED_UNITS, lambda: float(sum(self._depths.values())), service=service
        )

    async def run(self, ready: Callable[[], None]) -> None:
        """Counts what is parked, again and again, until `stop`; ready after the first count."""
        while not self._stopping.is_set():
            try:
                await self.count()
                ready()
            except ServiceError as error:
                _log.info("parked_not_counted", reason=error.code)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _LOOK_EVERY_S)

    def stop(self) -> None:
        """Ends `run`."""
        self._stopping.set()

    @property
    def depths(self) -> Mapping[str, int]:
        """References parked, by queue, as last counted."""
        return self._depths

    def is_behind(self, queue: str) -> bool:
        """Whether something is parked there, so that what comes now queues behind it.

        What another replica parked is known a second later: until then a live unit may overtake,
        which the receiver does not mind (each event has its own time and id).
        """
        return self._depths.get(queue, 0) > 0

    async def count(self) -> None:
        """Asks the server what is parked.

        Raises:
            ServiceError: RETRYABLE.
        """
        writes = self._writes
        request = {"subjects_filter": f"parked.{self._service}.*"}
        try:
            info = await js_api(self._nats, f"STREAM.INFO.{subjects.PARKED}", request)
        except ApiError as error:
            raise refused(error) from error
        if writes != self._writes:
            # Something was parked while the answer was under way: it may not be counted in it.
            return
        counted: dict[str, int] = info["state"].get("subjects") or {}
        self._depths = {subjects.text_of(name.split(".", 2)[2]): n for name, n in counted.items()}

    async def park(self, units: Sequence[gate_pb2.ParkedUnit]) -> None:
        """Stores references in order; returns when they are durable.

        Raises:
            ServiceError: RETRYABLE; some may be stored, and storing them again is harmless: what
                has ended is not done twice.
        """
        for start in range(0, len(units), ENTRIES_MAX):
            part = units[start : start + ENTRIES_MAX]
            queues = [queue_of(one.connection_id, one.subject) for one in part]
            entries = [
                Entry(subjects.parked(self._service, queue), one.SerializeToString())
                for queue, one in zip(queues, part, strict=True)
            ]
            try:
                await self._log.commit(entries)
            except ApiError as error:
                raise refused(error) from error
            self._writes += 1
            for queue in queues:
                self._depths[queue] = self._depths.get(queue, 0) + 1

    async def waiting(self, queue: str, *, limit: int) -> list[tuple[int, gate_pb2.ParkedUnit]]:
        """The first references of a queue, with their sequences.

        Raises:
            ServiceError: RETRYABLE.
        """
        subject = subjects.parked(self._service, queue)
        stored = await page(self._nats, subjects.PARKED, subject, limit=limit)
        return [(one.sequence, gate_pb2.ParkedUnit.FromString(one.data)) for one in stored]

    async def remove(self, queue: str, sequences: Sequence[int], *, through: int) -> None:
        """Takes out what is done: the queue up to `through`, and single references behind it.

        Raises:
            ServiceError: RETRYABLE.
        """
        subject = subjects.parked(self._service, queue)
        try:
            if through:
                # "Up to" is exclusive in the server's `seq`.
                request = {"filter": subject, "seq": through + 1}
                await js_api(self._nats, f"STREAM.PURGE.{subjects.PARKED}", request)
            for sequence in sequences:
                if sequence > through:
                    request = {"seq": sequence, "no_erase": True}
                    await js_api(self._nats, f"STREAM.MSG.DELETE.{subjects.PARKED}", request)
        except ApiError as error:
            raise refused(error) from error

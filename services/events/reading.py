"""Facts as they come from the bus, made ready: opened, known, mapped, or told to wait elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from google.protobuf.message import DecodeError

from libs.bus.consumer import Unit
from libs.bus.parking import queue_of
from libs.errors import Kind, ServiceError, permanent
from libs.telemetry import SpanRef
from libs.turnstile import Turnstile
from services.events.mapping import map_share
from services.events.ports import Known, Pair
from services.events.records import settled_in
from services.events.shares import MAYBE_SENT, Share, Task
from services.events.surroundings import Surroundings
from services.events.units import (
    connection_id_of,
    has_ended,
    meant_for,
    original_of,
    record_of,
    unreadable,
)
from tidewire.commerce.v1 import fact_pb2, record_pb2

_GONE_AFTER_S: Final = 60.0
"""How much longer than ingest this process may take to notice a new connection."""

_MAYBE_SENT_AFTER_S: Final = 47 * 3600.0
"""TikTok drops repetitions for 48 hours; the last hour is for a request under way."""


class Reader:
    """Makes units of one shop ready; sends and records nothing."""

    def __init__(self, around: Surroundings, turnstile: Turnstile) -> None:
        self._around = around
        self._turnstile = turnstile

    async def prepared(
        self, units: Sequence[Unit], only: str | None, *, may_park: bool = False
    ) -> tuple[list[Task], dict[Pair, Known]]:
        """The units with their shares mapped, but for those that have ended or are to be parked."""
        tasks = []
        for number, unit in enumerate(units):
            await self._turnstile.before(number)
            tasks.append(await self._opened(unit))
        pairs = [
            (s.sink, task.name) for task in tasks for s in task.shares if only in (None, s.sink)
        ]
        pairs += [pair for task in tasks if (pair := original_of(task.record))]
        known: dict[Pair, Known] = {}
        if pairs:
            # Asked for every unit: a durable that was made anew gives old facts out as untried.
            known = await self._around.outcomes.known(tasks[0].record.shop, pairs)
        for number, task in enumerate(tasks):
            await self._turnstile.before(number)
            shares = (s for s in task.shares if only in (None, s.sink))
            task.shares = [s for s in shares if not has_ended(known.get((s.sink, task.name)))]
            for share in task.shares:
                share.known = known.get((share.sink, task.name))
                if share.known is not None and not task.unit.tried_here:
                    task.unit.attempts = max(task.unit.attempts, share.known.outcome.attempts)
                if may_park:
                    share.parked = self._waits_elsewhere(task, share)
                if not share.parked:
                    self._map(task, share, known)
        return tasks, known

    async def _opened(self, unit: Unit) -> Task:
        started_ns = self._around.clock.now_ns()
        record = record_of(unit)
        tracer = self._around.tracer
        parent = SpanRef.parse(record.traceparent) or tracer.start_trace()
        known = {pixel.sink: pixel for pixel in self._around.pixels.of_shop(record.shop)}
        fact: fact_pb2.Fact | None = None
        trouble: ServiceError | None = None
        try:
            fact = await self._fact(record)
        except ServiceError as error:
            if error.kind is not Kind.PERMANENT:
                raise
            # This one fact cannot be opened; its neighbours in the batch can.
            trouble = error
        # A record that names no sink was written before its shop had any, or by an older writer.
        owed = record.sinks or (meant_for(fact, known) if fact else known)
        shares = [Share(s, connection_id_of(record.shop, s, known), known.get(s)) for s in owed]
        return Task(unit, record, fact, trouble, tracer.child(parent), started_ns, shares)

    async def _fact(self, record: record_pb2.FactRecord) -> fact_pb2.Fact:
        if not record.HasField("payload"):
            raise unreadable()
        opened = await self._around.opener.open_bytes(record.payload, record.shop)
        try:
            return fact_pb2.Fact.FromString(opened)
        except DecodeError:
            raise unreadable() from None

    def _map(self, task: Task, share: Share, known: Mapping[Pair, Known]) -> None:
        if task.fact is None or task.trouble is not None:
            share.failed = task.trouble or unreadable()
            return
        if share.pixel is None:
            self._without_pixel(task.record, share)
            return
        now_s = self._around.clock.now_ns() / 1e9
        first_s = share.first_attempt_s
        if first_s is not None and now_s - first_s > _MAYBE_SENT_AFTER_S:
            share.failed = permanent(
                MAYBE_SENT, "a request with it left 47 hours ago and nobody knows what became of it"
            )
            share.class_ = MAYBE_SENT
            return
        earlier = share.known
        if earlier is None or not earlier.outcome.events:
            # Of a replay the original's names count, also after a try that did not arrive.
            earlier = known.get(original_of(task.record) or ("", ""), earlier)
        # Once it was tried it is as old as it was then: an outage must not make it too old.
        as_of_s = now_s if first_s is None else first_s
        map_share(task, share, earlier.outcome if earlier else None, as_of_s)
        if share.known is not None:
            share.settled = settled_in(share.known.outcome)

    def _without_pixel(self, record: record_pb2.FactRecord, share: Share) -> None:
        """Its outcome is owed all the same: it waits for the connection, unless that is gone."""
        age_s = self._around.clock.now_ns() / 1e9 - record.received_at.seconds
        connected = self._around.pixels.is_connected(record.shop, share.sink)
        if age_s > _GONE_AFTER_S and not connected:
            share.ignored = "connection_removed"
            return
        share.failed = ServiceError(
            Kind.AUTH, "connection_missing", f"{share.sink} is not usable yet"
        )

    def _waits_elsewhere(self, task: Task, share: Share) -> str:
        """Why a share is parked unread; empty where it is not."""
        queue = queue_of(share.connection_id, task.unit.subject)
        is_behind = self._around.parking.is_behind(queue)
        return self._around.gatekeeper.parks(share.connection_id) or ("behind" if is_behind else "")

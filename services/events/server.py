"""gRPC in: `EventsService`. Checks, translates, decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from grpc.aio import ServicerContext

from libs import resources, sinks
from libs.bus import subjects
from libs.bus.commit_log import BATCH_BYTES_MAX, CommitLog, ConflictError, Entry
from libs.clock import Clock
from libs.connections import Connections
from libs.errors import permanent
from libs.rpc.server import incoming_traceparent
from libs.telemetry import SpanRef, Tracer
from libs.vault import Vault
from services.events.ports import OutcomeReader
from tidewire.commerce.v1 import fact_pb2, record_pb2
from tidewire.events.v1 import events_service_pb2 as pb
from tidewire.events.v1 import events_service_pb2_grpc

Context = ServicerContext[Any, Any]

_FACT = "events_tracked"
_TOPIC = "grpc/track_events"
_TAIL_POLL_S = 0.25
_MARKER_BYTES = 64 * 1024
"""Room beside the fact, for the marker that is stored with it."""


class EventsServer(events_service_pb2_grpc.EventsServiceServicer):
    """Takes events of other services, and says what became of events."""

    def __init__(
        self,
        *,
        log: CommitLog,
        vault: Vault,
        connections: Connections,
        outcomes: OutcomeReader,
        clock: Clock,
        tracer: Tracer,
    ) -> None:
        self._log = log
        self._vault = vault
        self._connections = connections
        self._outcomes = outcomes
        self._clock = clock
        self._tracer = tracer

    async def TrackEvents(  # noqa: N802
        self, request: pb.TrackEventsRequest, context: Context
    ) -> pb.TrackEventsResponse:
        """Stores the events as one fact; they then go the way of our own."""
        shop = self._shop(request)
        await self._vault.prepare([shop])
        span = SpanRef.parse(incoming_traceparent.get()) or self._tracer.start_trace()
        fact = fact_pb2.Fact(
            events_tracked=fact_pb2.EventsTracked(
                events=request.events, pixel_code=request.pixel_code
            )
        )
        record = record_pb2.FactRecord(
            fact_id=request.request_id,
            shop=shop,
            kind=_FACT,
            delivery_id=f"track.{request.request_id}",
            traceparent=span.traceparent(),
            payload=self._vault.seal(fact, shop),
        )
        record.sinks.extend(
            sink
            for sink in self._connections.sinks(shop)
            if request.pixel_code in ("", sink.partition(".")[2])
        )
        record.received_at.FromNanoseconds(self._clock.now_ns())
        if record.ByteSize() > BATCH_BYTES_MAX - _MARKER_BYTES:
            raise permanent("events_too_large", "send them in several requests", path="events")
        # A conflict is the same request again: it is stored already, and says the same.
        with suppress(ConflictError):
            await self._log.commit(self._entries(record, span))
        return pb.TrackEventsResponse(stored=len(request.events))

    async def GetEvent(  # noqa: N802
        self, request: pb.GetEventRequest, context: Context
    ) -> pb.GetEventResponse:
        """What became of one event at each pixel."""
        found = await self._outcomes.of_event(request.shop, request.event_id)
        if not found:
            raise permanent(
                "event_not_found",
                "nothing with this id has ended within 72 hours; it may still be under way",
                path="event_id",
            )
        return pb.GetEventResponse(outcomes=found)

    async def TailEvents(  # noqa: N802
        self, request: pb.TailEventsRequest, context: Context
    ) -> AsyncIterator[pb.TailEventsResponse]:
        """Outcomes as they are recorded, until the caller leaves."""
        since_ns = self._clock.now_ns() - request.since_s * 1_000_000_000
        sequence = await self._outcomes.sequence_at(since_ns)
        while True:
            async for place, outcome in self._outcomes.after(sequence):
                sequence = place
                if request.shop in ("", outcome.shop):
                    yield pb.TailEventsResponse(outcome=outcome)
            await asyncio.sleep(_TAIL_POLL_S)

    def _shop(self, request: pb.TrackEventsRequest) -> str:
        if self._connections.shop(request.shop) is None:
            raise permanent(
                "shop_unknown", "no connection of this shop: connect it first", path="shop"
            )
        wanted = {f"events.{request.pixel_code}"} if request.pixel_code else None
        if wanted and not wanted & set(self._connections.sinks(request.shop)):
            raise permanent(
                "pixel_unknown", "the shop has no connection of this pixel", path="pixel_code"
            )
        return request.shop

    def _entries(self, record: record_pb2.FactRecord, span: SpanRef) -> list[Entry]:
        """The fact and its marker in the ledger: stored together, once."""
        unit = sinks.unit_of(_FACT, record.fact_id)
        seen = record_pb2.SeenRecord(
            delivery_id=record.delivery_id,
            shop=record.shop,
            topic=_TOPIC,
            received_at=record.received_at,
            result=record_pb2.SEEN_RESULT_APPLIED,
            trace_id=span.trace_hex,
            shares=[record_pb2.SinkShare(sink=sink, fact_id=unit) for sink in record.sinks],
        )
        marker = subjects.seen(record.shop, record.delivery_id)
        return [
            Entry(
                subjects.fact(_FACT, record.shop, record.fact_id),
                record.SerializeToString(),
                expected=0,
                ttl_s=resources.FACT_TTL_S,
            ),
            Entry(marker, seen.SerializeToString(), expected=0, ttl_s=resources.SEEN_TTL_S),
        ]

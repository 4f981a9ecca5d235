"""The events service on one screen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

from libs.bus import subjects
from libs.bus.consumer import Consumer
from libs.bus.dead_letters import DeadLetterStore
from libs.bus.lag import LagWatch
from libs.bus.lease import Lease
from libs.bus.parking import ParkingLot
from libs.foundation import Foundation, OpsPart, rpc_observer
from libs.gates import GateBook
from libs.http.session import http_session
from libs.lifecycle import Part
from libs.retry import RetryPolicy
from libs.rpc.server import RpcServer, RpcService
from services.events import consumers
from services.events.adapters.marks import TokenMarks
from services.events.adapters.outcomes import OutcomeStore
from services.events.adapters.pixels import ConnectedPixels
from services.events.adapters.tiktok import TikTokEvents
from services.events.drainer import Drainer, Yard
from services.events.gatekeeper import Gatekeeper
from services.events.handlers import Handlers, Surroundings
from services.events.sender import Sender
from services.events.server import EventsServer
from services.events.settings import Settings
from tidewire.events.v1 import events_service_pb2_grpc


@asynccontextmanager
async def events(settings: Settings, base: Foundation) -> AsyncIterator[Mapping[str, Part]]:
    """The parts of the events service."""
    async with http_session() as session:
        api = TikTokEvents(
            settings.tiktok_api_base_url,
            session,
            base.connections,
            base.clock,
            base.metrics,
            timeout_s=settings.tiktok_timeout_s,
        )
        outcomes = OutcomeStore(base.nats, base.log(subjects.OUTCOMES))
        gates = GateBook(
            base.nats, base.log(subjects.bucket_stream(subjects.CIRCUITS)), base.clock, base.metrics
        )
        lot = ParkingLot(base.nats, base.log(subjects.PARKED), "events", base.metrics)
        limiter = base.limiter()
        marks = TokenMarks(base.connections)
        gatekeeper = Gatekeeper(gates, marks, base.clock)
        handlers = Handlers(
            Surroundings(
                opener=base.vault,
                pixels=ConnectedPixels(base.connections, api_version=settings.tiktok_api_version),
                sender=Sender(api, limiter.limiter, gatekeeper, base.tracer, base.metrics),
                gatekeeper=gatekeeper,
                outcomes=outcomes,
                dead_letters=DeadLetterStore(base.nats),
                parking=lot,
                tracer=base.tracer,
                metrics=base.metrics,
                clock=base.clock,
            )
        )
        policy = RetryPolicy(attempts_max=settings.attempts_max)
        lanes: dict[str, Part] = {
            f"lane-{lane}": Consumer(
                base.nats, consumers.conversions(handlers, gatekeeper, lane, policy), base.clock
            )
            for lane in range(subjects.LANES)
        }
        lease = Lease(
            base.log(subjects.bucket_stream(subjects.LEASES)),
            base.clock,
            "events.drain",
            base.ids.new(),
        )
        yard = Yard(
            nats=base.nats,
            lot=lot,
            facts=base.log(subjects.COMMERCE),
            gates=gates,
            marks=marks,
            lease=lease,
        )
        drainer = Drainer(yard, handlers, policy, base.clock)
        ops = OpsPart(settings.metrics_address, base.metrics, base.readiness)
        durables = [subjects.events_durable(lane) for lane in range(subjects.LANES)]
        lag = LagWatch(base.nats, subjects.COMMERCE, durables, base.metrics)
        yield {
            "ops": ops,
            "lag": lag,
            "grpc": _rpc(settings, base, outcomes),
            "limiter": limiter,
            "gates": gates,
            "parked": lot,
            **lanes,
            "drainer": drainer,
        }


def _rpc(settings: Settings, base: Foundation, outcomes: OutcomeStore) -> RpcServer:
    servicer = EventsServer(
        log=base.log(subjects.COMMERCE),
        vault=base.vault,
        connections=base.connections,
        outcomes=outcomes,
        clock=base.clock,
        tracer=base.tracer,
    )
    return RpcServer(
        address=settings.grpc_address,
        services=[
            RpcService(
                "tidewire.events.v1.EventsService",
                partial(events_service_pb2_grpc.add_EventsServiceServicer_to_server, servicer),
            )
        ],
        readiness=base.readiness,
        clock=base.clock,
        observe=rpc_observer(base.metrics),
    )

"""The events service on one screen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

from libs import metric_names
from libs.bus import subjects
from libs.bus.burial import BurialPolicy, BurialWatch, tell
from libs.bus.consumer import Consumer
from libs.bus.dead_letters import DeadLetterStore
from libs.bus.grouped_log import GroupedLog
from libs.bus.lag import LagWatch
from libs.bus.lease import Lease
from libs.bus.parking import ParkingLot
from libs.foundation import Foundation, OpsPart
from libs.gates import GateBook
from libs.http.session import http_session
from libs.lifecycle import Part
from libs.retry import RetryPolicy
from libs.rpc.server import MESSAGE_BYTES_MAX, RpcServer, RpcService
from services.events import consumers
from services.events.adapters.marks import TokenMarks
from services.events.adapters.outcomes import OutcomeStore
from services.events.adapters.pixels import ConnectedPixels
from services.events.adapters.tiktok import TikTokEvents
from services.events.drainer import Drainer, Yard
from services.events.gatekeeper import Gatekeeper
from services.events.handlers import Handlers
from services.events.lines import CALLS_AT_ONCE
from services.events.sender import Sender
from services.events.server import EventsServer
from services.events.settings import Settings
from services.events.surroundings import Surroundings
from tidewire.events.v1 import events_service_pb2_grpc


@asynccontextmanager
async def events(settings: Settings, base: Foundation) -> AsyncIterator[Mapping[str, Part]]:
    """The parts of the events service."""
    async with http_session(connections_max_per_host=CALLS_AT_ONCE) as session:
        api = TikTokEvents(
            settings.tiktok_api_base_url,
            session,
            base.connections,
            base.clock,
            base.metrics,
            timeout_s=settings.tiktok_timeout_s,
        )
        circuits = base.log(subjects.bucket_stream(subjects.CIRCUITS))
        gates = GateBook(base.nats, circuits, base.clock, base.metrics)
        lot = ParkingLot(base.nats, base.log(subjects.PARKED), "events", base.metrics)
        limiter = base.limiter()
        marks = TokenMarks(base.connections)
        gatekeeper = Gatekeeper(gates, marks, base.clock)
        outcomes = OutcomeStore(base.nats, GroupedLog(base.log(subjects.OUTCOMES)))
        burials = _burials(settings, base)
        handlers = Handlers(
            Surroundings(
                opener=base.vault,
                pixels=ConnectedPixels(base.connections, api_version=settings.tiktok_api_version),
                sender=Sender(
                    api, limiter.limiter, gatekeeper, base.tracer, base.metrics, base.clock
                ),
                gatekeeper=gatekeeper,
                outcomes=outcomes,
                dead_letters=DeadLetterStore(base.nats),
                parking=lot,
                burials=burials,
                tracer=base.tracer,
                metrics=base.metrics,
                clock=base.clock,
            )
        )
        yard = Yard(
            nats=base.nats,
            lot=lot,
            facts=base.log(subjects.COMMERCE),
            gates=gates,
            marks=marks,
            lease=_drain_lease(base),
            burials=burials,
        )
        policy = RetryPolicy(attempts_max=settings.attempts_max)
        yield {
            "ops": OpsPart(settings.metrics_address, base.metrics, base.readiness),
            "lag": _lag(base),
            "grpc": _rpc(settings, base, outcomes),
            "limiter": limiter,
            "gates": gates,
            "parked": lot,
            **_lanes(base, handlers, policy, gatekeeper, burials),
            "drainer": Drainer(yard, handlers, policy, base.clock),
        }


def _burials(settings: Settings, base: Foundation) -> BurialWatch:
    burials = BurialWatch(
        base.clock,
        BurialPolicy(units_max=settings.burials_max),
        shops_known=lambda: sum(1 for _ in base.connections.shops()),
        changed=tell(base.readiness),
    )
    base.metrics.gauge(
        metric_names.CONSUMER_STOPPED,
        lambda: 1.0 if burials.stopped else 0.0,
        durable=subjects.EVENTS_LANES,
    )
    return burials


def _lanes(
    base: Foundation,
    handlers: Handlers,
    policy: RetryPolicy,
    gatekeeper: Gatekeeper,
    burials: BurialWatch,
) -> Mapping[str, Part]:
    lanes: dict[str, Consumer] = {}

    def allowance() -> int | None:
        """What a lane may take: as little as the gate or a run of dead letters allows."""
        in_hand = sum(lane.in_hand for lane in lanes.values())
        found = (gatekeeper.allowance(), burials.allowance(in_hand))
        return min((one for one in found if one is not None), default=None)

    for number in range(subjects.LANES):
        spec = consumers.conversions(handlers, number, policy, allowance)
        lanes[f"lane-{number}"] = Consumer(base.nats, spec, base.clock)
    return lanes


def _drain_lease(base: Foundation) -> Lease:
    log = base.log(subjects.bucket_stream(subjects.LEASES))
    return Lease(log, base.clock, "events.drain", base.ids.new())


def _lag(base: Foundation) -> LagWatch:
    durables = [subjects.events_durable(lane) for lane in range(subjects.LANES)]
    return LagWatch(base.nats, subjects.COMMERCE, durables, base.metrics)


def _rpc(settings: Settings, base: Foundation, outcomes: OutcomeStore) -> RpcServer:
    servicer = EventsServer(
        log=base.log(subjects.COMMERCE),
        vault=base.vault,
        connections=base.connections,
        outcomes=outcomes,
        clock=base.clock,
        tracer=base.tracer,
    )
    return base.rpc_server(
        settings.grpc_address,
        [
            RpcService(
                "tidewire.events.v1.EventsService",
                partial(events_service_pb2_grpc.add_EventsServiceServicer_to_server, servicer),
            )
        ],
        # A report may have 1,000 events.
        request_bytes_max=MESSAGE_BYTES_MAX,
    )

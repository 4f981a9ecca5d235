"""The delivery service on one screen: what people and other services ask and tell of delivery.

It is a process of its own, so that a question that reads whole streams never slows a sink down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from libs.bus import subjects
from libs.bus.parking import ParkingLot
from libs.foundation import Foundation, OpsPart, rpc_observer
from libs.gates import GateBook
from libs.lifecycle import Part
from libs.rpc.server import RpcServer, RpcService
from services.delivery.dead_letters import DeadLetterServer
from services.delivery.gates import GateServer
from services.delivery.limiter import LimiterServer
from services.delivery.ports import SamePermissions
from services.delivery.settings import Settings
from tidewire.delivery.v1 import dead_letter_service_pb2_grpc, gate_service_pb2_grpc
from tidewire.limiter.v1 import limiter_service_pb2_grpc


def delivery(settings: Settings, base: Foundation) -> Mapping[str, Part]:
    """The parts of the delivery service."""
    gates = GateBook(
        base.nats, base.log(subjects.bucket_stream(subjects.CIRCUITS)), base.clock, base.metrics
    )
    lot = ParkingLot(base.nats, base.log(subjects.PARKED), "events", base.metrics)
    limiter = base.limiter()
    rpc = RpcServer(
        address=settings.grpc_address,
        services=[
            *_services(settings, base, GateServer(gates, lot, base.connections)),
            RpcService(
                "tidewire.limiter.v1.LimiterService",
                partial(
                    limiter_service_pb2_grpc.add_LimiterServiceServicer_to_server,
                    LimiterServer(limiter.limiter),
                ),
            ),
        ],
        readiness=base.readiness,
        clock=base.clock,
        observe=rpc_observer(base.metrics),
    )
    return {
        "ops": OpsPart(settings.metrics_address, base.metrics, base.readiness),
        "grpc": rpc,
        "limiter": limiter,
        "gates": gates,
        "parked": lot,
    }


def _services(settings: Settings, base: Foundation, gates: GateServer) -> Sequence[RpcService]:
    letters = DeadLetterServer(nats=base.nats, permissions=SamePermissions(settings.reveal))
    return [
        RpcService(
            "tidewire.delivery.v1.DeadLetterService",
            partial(dead_letter_service_pb2_grpc.add_DeadLetterServiceServicer_to_server, letters),
        ),
        RpcService(
            "tidewire.delivery.v1.GateService",
            partial(gate_service_pb2_grpc.add_GateServiceServicer_to_server, gates),
        ),
    ]

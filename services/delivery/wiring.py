"""The delivery service on one screen: what people and other services ask and tell of delivery.

It is a process of its own, so that a question that reads whole streams never slows a sink down.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from libs.bus import subjects
from libs.bus.parking import ParkingLot
from libs.foundation import Foundation, OpsPart
from libs.gates import GateBook
from libs.lifecycle import Part
from libs.limits import SharedLimiter
from libs.rpc.server import RpcService
from services.delivery.adapters.letters import LetterStore
from services.delivery.adapters.segments import SegmentStore
from services.delivery.dead_letters import DeadLetterServer
from services.delivery.gates import GateServer
from services.delivery.ledger import LedgerServer
from services.delivery.ledger_keeper import LedgerKeeper
from services.delivery.limiter import LimiterServer
from services.delivery.settings import Settings
from tidewire.delivery.v1 import (
    dead_letter_service_pb2_grpc,
    gate_service_pb2_grpc,
    ledger_service_pb2_grpc,
)
from tidewire.limiter.v1 import limiter_service_pb2_grpc


def delivery(settings: Settings, base: Foundation) -> Mapping[str, Part]:
    """The parts of the delivery service."""
    circuits = base.log(subjects.bucket_stream(subjects.CIRCUITS))
    gates = GateBook(base.nats, circuits, base.clock, base.metrics)
    lot = ParkingLot(base.nats, base.log(subjects.PARKED), "events", base.metrics)
    keeper = LedgerKeeper(base.nats, base.clock, base.metrics)
    limiter = base.limiter()
    rpc = base.rpc_server(
        settings.grpc_address,
        [
            _dead_letters(base),
            _gates(GateServer(gates, lot, base.connections)),
            _ledger(keeper),
            _limiter(limiter.limiter),
        ],
    )
    return {
        "ops": OpsPart(settings.metrics_address, base.metrics, base.readiness),
        "grpc": rpc,
        "ledger": keeper,
        "limiter": limiter,
        "gates": gates,
        "parked": lot,
    }


def _dead_letters(base: Foundation) -> RpcService:
    letters = DeadLetterServer(
        letters=LetterStore(base.nats, base.log(subjects.OUTCOMES)),
        commerce=base.log(subjects.COMMERCE),
        store_segment=SegmentStore(base.nats).store,
        vault=base.vault,
        tracer=base.tracer,
        clock=base.clock,
    )
    return RpcService(
        "tidewire.delivery.v1.DeadLetterService",
        partial(dead_letter_service_pb2_grpc.add_DeadLetterServiceServicer_to_server, letters),
    )


def _gates(servicer: GateServer) -> RpcService:
    return RpcService(
        "tidewire.delivery.v1.GateService",
        partial(gate_service_pb2_grpc.add_GateServiceServicer_to_server, servicer),
    )


def _ledger(keeper: LedgerKeeper) -> RpcService:
    return RpcService(
        "tidewire.delivery.v1.LedgerService",
        partial(ledger_service_pb2_grpc.add_LedgerServiceServicer_to_server, LedgerServer(keeper)),
    )


def _limiter(limiter: SharedLimiter) -> RpcService:
    return RpcService(
        "tidewire.limiter.v1.LimiterService",
        partial(
            limiter_service_pb2_grpc.add_LimiterServiceServicer_to_server, LimiterServer(limiter)
        ),
    )

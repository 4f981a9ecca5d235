"""The delivery service on one screen: what people and other services ask and tell of delivery.

It is a process of its own, so that a question that reads whole streams never slows a sink down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from libs.foundation import Foundation, OpsPart, rpc_observer
from libs.lifecycle import Part
from libs.rpc.server import RpcServer, RpcService
from services.delivery.dead_letters import DeadLetterServer
from services.delivery.ports import SamePermissions
from services.delivery.settings import Settings
from tidewire.delivery.v1 import dead_letter_service_pb2_grpc


def delivery(settings: Settings, base: Foundation) -> Mapping[str, Part]:
    """The parts of the delivery service."""
    rpc = RpcServer(
        address=settings.grpc_address,
        services=_services(settings, base),
        readiness=base.readiness,
        clock=base.clock,
        observe=rpc_observer(base.metrics),
    )
    return {"ops": OpsPart(settings.metrics_address, base.metrics, base.readiness), "grpc": rpc}


def _services(settings: Settings, base: Foundation) -> Sequence[RpcService]:
    letters = DeadLetterServer(nats=base.nats, permissions=SamePermissions(settings.reveal))
    return [
        RpcService(
            "tidewire.delivery.v1.DeadLetterService",
            partial(dead_letter_service_pb2_grpc.add_DeadLetterServiceServicer_to_server, letters),
        ),
    ]

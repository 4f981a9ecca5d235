"""gRPC in: `GateService`, the kill switches. Checks, translates, decides nothing."""

from __future__ import annotations

from typing import Any, Final

import structlog
from grpc.aio import ServicerContext

from libs.bus.parking import ParkingLot
from libs.connections import Connections
from libs.errors import permanent
from libs.gates import GateBook, connection_gate, sink_gate
from tidewire.connections.v1 import connection_pb2
from tidewire.delivery.v1 import gate_pb2, gate_service_pb2_grpc
from tidewire.delivery.v1 import gate_service_pb2 as pb

_log = structlog.stdlib.get_logger()

Context = ServicerContext[Any, Any]

_SINKS: Final = frozenset({"catalog", "events"})
"""Services that send something to an upstream."""

_KINDS: Final = (
    connection_pb2.CONNECTION_KIND_TIKTOK_EVENTS,
    connection_pb2.CONNECTION_KIND_TIKTOK_CATALOG,
    connection_pb2.CONNECTION_KIND_TIKTOK_SHOP,
)


class GateServer(gate_service_pb2_grpc.GateServiceServicer):
    """Shuts and opens gates for a person, and shows which are shut."""

    def __init__(self, gates: GateBook, lot: ParkingLot, connections: Connections) -> None:
        self._gates = gates
        self._lot = lot
        self._connections = connections

    async def Pause(  # noqa: N802
        self, request: pb.PauseRequest, context: Context
    ) -> pb.PauseResponse:
        """Stops a sink or a connection; nothing is lost."""
        name = self._name(request.target)
        await self._gates.follow()
        gate = await self._gates.close(name, gate_pb2.GATE_REASON_OPERATOR, note=request.note)
        _log.warning("gate_paused", gate=name)
        return pb.PauseResponse(gate=gate)

    async def Resume(  # noqa: N802
        self, request: pb.ResumeRequest, context: Context
    ) -> pb.ResumeResponse:
        """Lets it go on, whatever had shut it."""
        name = self._name(request.target)
        await self._gates.follow()
        gate = await self._gates.reopen(name, by_operator=True)
        _log.warning("gate_resumed", gate=name)
        return pb.ResumeResponse(gate=gate)

    async def List(  # noqa: N802
        self, request: pb.GateServiceListRequest, context: Context
    ) -> pb.GateServiceListResponse:
        """The gates that are shut, and what waits behind connections."""
        await self._gates.follow()
        await self._lot.count()
        gates = self._gates.all(include_open=request.include_open)
        return pb.GateServiceListResponse(gates=gates, parked=self._lot.depths)

    def _name(self, target: pb.GateTarget) -> str:
        if target.WhichOneof("target") == "sink":
            if target.sink not in _SINKS:
                known = ", ".join(sorted(_SINKS))
                raise permanent("sink_unknown", f"there are: {known}", path="target.sink")
            return sink_gate(target.sink)
        if not self._is_known(target.connection_id):
            raise permanent(
                "connection_unknown",
                "no shop has a connection of this id: see docs/connections.md on how it is made",
                path="target.connection_id",
            )
        return connection_gate(target.connection_id)

    def _is_known(self, connection_id: str) -> bool:
        # A shop's handle holds no dot, so it is what stands before the first one.
        shop = connection_id.partition(".")[0]
        return any(
            one.connection_id == connection_id
            for kind in _KINDS
            for one in self._connections.connections(shop, kind)
        )

"""`tidewire gates`: what is shut and why, and the kill switches."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from google.protobuf.timestamp_pb2 import Timestamp
from rich import box
from rich.console import Console
from rich.table import Table

from libs.errors import ServiceError
from libs.gates import connection_gate
from libs.rpc.client import call, channel
from libs.rpc.identity import Callee
from tidewire.delivery.v1 import gate_pb2, gate_service_pb2_grpc
from tidewire.delivery.v1 import gate_service_pb2 as pb

_CALL_S: Final = 10.0


async def list_gates(callee: Callee, *, as_json: bool) -> int:
    """Prints the gates that are shut and what waits; 0, or 2 where it cannot be asked."""

    async def ask(stub: Any) -> None:
        found = await call(stub.List, pb.GateServiceListRequest(), timeout_s=_CALL_S)
        if as_json:
            print(msgspec.json.format(msgspec.json.encode(as_dict(found)), indent=2).decode())
        else:
            Console(highlight=False).print(_table(found))

    return await _asked(callee, ask)


async def pause(callee: Callee, name: str, note: str) -> int:
    """Shuts a sink or a connection until somebody resumes it."""

    async def ask(stub: Any) -> None:
        request = pb.PauseRequest(target=_target(name), note=note)
        answer = await call(stub.Pause, request, timeout_s=_CALL_S)
        print(f"{answer.gate.name} is shut; tidewire gates resume {name} opens it again")

    return await _asked(callee, ask)


async def resume(callee: Callee, name: str) -> int:
    """Opens it; what was parked is sent first."""

    async def ask(stub: Any) -> None:
        request = pb.ResumeRequest(target=_target(name))
        answer = await call(stub.Resume, request, timeout_s=_CALL_S)
        print(f"{answer.gate.name} is open; what waited for it is sent first")

    return await _asked(callee, ask)


def as_dict(found: pb.GateServiceListResponse) -> dict[str, Any]:
    """The answer as data."""
    return {
        "gates": [
            {
                "name": gate.name,
                "reason": _reason(gate),
                "code": gate.code,
                "since": _instant(gate.since),
                "probe_at": _instant(gate.probe_at) if gate.HasField("probe_at") else None,
                "probes": gate.probes,
                "note": gate.note,
            }
            for gate in found.gates
        ],
        "parked": dict(sorted(found.parked.items())),
    }


async def _asked(callee: Callee, ask: Callable[[Any], Awaitable[None]]) -> int:
    try:
        async with channel(callee.address, callee.identity) as opened:
            await ask(gate_service_pb2_grpc.GateServiceStub(opened))
    except ServiceError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _target(name: str) -> pb.GateTarget:
    """A sink is named by its service, a connection by its id, which has dots."""
    return pb.GateTarget(connection_id=name) if "." in name else pb.GateTarget(sink=name)


def _table(found: pb.GateServiceListResponse) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("gate", "reason", "code", "since", "next probe", "failed probes", "note"):
        table.add_column(title)
    table.add_column("parked", justify="right")
    shut = {gate.name for gate in found.gates}
    for gate in found.gates:
        table.add_row(
            gate.name,
            _reason(gate),
            gate.code,
            _instant(gate.since),
            _instant(gate.probe_at) if gate.HasField("probe_at") else "when resumed",
            str(gate.probes),
            gate.note,
            f"{found.parked.get(gate.name.removeprefix(connection_gate('')), 0):,}",
        )
    for connection, count in sorted(found.parked.items()):
        if connection_gate(connection) not in shut:
            name = connection_gate(connection)
            table.add_row(name, "open", "", "", "being drained", "", "", f"{count:,}")
    if not table.row_count:
        table.caption = "every gate is open, nothing is parked"
    return table


def _reason(gate: gate_pb2.Gate) -> str:
    return gate_pb2.GateReason.Name(gate.reason).removeprefix("GATE_REASON_").lower()


def _instant(moment: Timestamp) -> str:
    return str(moment.ToJsonString())[:19] + "Z"

"""The kill switches over gRPC, on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from nats.aio.client import Client

from libs.bus import streams, subjects
from libs.bus.jetstream_log import JetStreamLog
from libs.bus.parking import ParkingLot
from libs.clock import SystemClock
from libs.connections import FileConnections
from libs.errors import ServiceError
from libs.foundation import connected
from libs.gates import GateBook, connection_gate, sink_gate
from libs.ids import RandomIds
from libs.lifecycle import Readiness, run_parts
from libs.rpc.client import call
from libs.rpc.server import RpcServer, RpcService
from libs.settings import Address
from libs.telemetry import Telemetry
from services.delivery.gates import GateServer
from tests.fakes import callers
from tests.fakes.nats_server import NatsServer
from tests.integration.rpc.rig import new_id
from tidewire.delivery.v1 import gate_pb2, gate_service_pb2_grpc
from tidewire.delivery.v1 import gate_service_pb2 as pb

SHOP = "example"
CONNECTION = "example.events.C1"


class House:
    def __init__(self, nats: Client, directory: Path) -> None:
        file = directory / "connections.yaml"
        file.write_text(yaml.safe_dump({"connections": [_SHOP]}), encoding="utf-8")
        self.clock = SystemClock()
        self.gates = self.book(nats)
        log = JetStreamLog(nats, subjects.PARKED, RandomIds(self.clock))
        self.lot = ParkingLot(nats, log, "events", Telemetry.null().metrics)
        self.servicer = GateServer(self.book(nats), self.lot, FileConnections(file))
        self.stub: Any = None

    def book(self, nats: Client) -> GateBook:
        stream = subjects.bucket_stream(subjects.CIRCUITS)
        log = JetStreamLog(nats, stream, RandomIds(self.clock))
        return GateBook(nats, log, self.clock, Telemetry.null().metrics)

    @asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        add = gate_service_pb2_grpc.add_GateServiceServicer_to_server
        server = RpcServer(
            address=Address("127.0.0.1", 0),
            services=[RpcService("tidewire.delivery.v1.GateService", partial(add, self.servicer))],
            guard=callers.guard(),
            readiness=Readiness(),
            clock=self.clock,
        )
        stopping = asyncio.Event()
        running = asyncio.create_task(run_parts({"grpc": server}, grace_s=1.0, stopping=stopping))
        try:
            while not server.port:  # noqa: ASYNC110  # it is bound within milliseconds
                await asyncio.sleep(0.01)
            async with callers.channel_to(server.port) as opened:
                self.stub = gate_service_pb2_grpc.GateServiceStub(opened)
                yield
        finally:
            stopping.set()
            await running


_SHOP: Mapping[str, Any] = {
    "shop": f"{SHOP}.myshopify.com",
    "country": "US",
    "currency": "USD",
    "active_since": "2026-01-01T00:00:00Z",
    "shopify": {"webhook_secrets": ["s"]},
    "tiktok_events": [{"access_token": "t", "pixel_code": "C1"}],
}


@pytest.fixture
async def house(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[House]:
    client = await connected(nats_server.url)
    await streams.apply(client, scale_mib=16)
    made = House(client, tmp_path)
    async with made.served():
        yield made
    await client.close()


def of_sink(sink: str) -> pb.GateTarget:
    return pb.GateTarget(sink=sink)


@pytest.mark.parametrize("sink", ["events", "catalog"])
async def test_a_sink_that_is_paused_is_shut_for_every_replica_until_resumed(
    house: House, sink: str
) -> None:
    target = of_sink(sink)

    paused = await call(
        house.stub.Pause, pb.PauseRequest(target=target, note="a release"), timeout_s=5
    )
    await house.gates.follow()
    shut = house.gates.shut(sink_gate(sink))
    await call(house.stub.Resume, pb.ResumeRequest(target=target), timeout_s=5)
    await house.gates.follow()

    assert (paused.gate.reason, paused.gate.note) == (gate_pb2.GATE_REASON_OPERATOR, "a release")
    assert shut is not None
    assert house.gates.shut(sink_gate(sink)) is None


async def test_a_person_opens_what_an_outage_shut(house: House) -> None:
    await house.gates.close(connection_gate(CONNECTION), gate_pb2.GATE_REASON_OUTAGE)

    target = pb.GateTarget(connection_id=CONNECTION)
    await call(house.stub.Resume, pb.ResumeRequest(target=target), timeout_s=5)

    await house.gates.follow()
    assert house.gates.shut(connection_gate(CONNECTION)) is None


async def test_the_listing_says_what_is_shut_and_how_much_waits(house: House) -> None:
    name = connection_gate(CONNECTION)
    await house.gates.close(name, gate_pb2.GATE_REASON_CREDENTIALS, code="upstream_40105")
    unit = gate_pb2.ParkedUnit(connection_id=CONNECTION, unit=new_id())
    await house.lot.park([unit])

    found = await call(house.stub.List, pb.GateServiceListRequest(), timeout_s=5)

    assert [(one.name, one.code) for one in found.gates] == [(name, "upstream_40105")]
    assert found.parked[CONNECTION] >= 1


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (pb.GateTarget(sink="evnets"), "target.sink"),
        (pb.GateTarget(connection_id="example.events.C9"), "target.connection_id"),
        (pb.GateTarget(connection_id="stranger.events.C1"), "target.connection_id"),
    ],
)
async def test_a_name_that_fits_nothing_is_refused(
    house: House, target: pb.GateTarget, path: str
) -> None:
    with pytest.raises(ServiceError) as caught:
        await call(house.stub.Pause, pb.PauseRequest(target=target), timeout_s=5)

    assert caught.value.path == path

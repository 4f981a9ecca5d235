"""The ledger as a process serves it: the keeper and gRPC, run together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from libs.clock import SystemClock
from libs.lifecycle import Readiness, run_parts
from libs.rpc.identity import Callee
from libs.rpc.server import RpcServer, RpcService
from libs.settings import Address
from libs.telemetry import Metrics
from services.delivery.ledger import LedgerServer
from services.delivery.ledger_keeper import LedgerKeeper
from tests.fakes import callers
from tests.integration.ledger.world import World
from tidewire.delivery.v1 import ledger_service_pb2_grpc

WITHIN_S: Final = 30.0


@dataclass
class Served:
    """What tests talk to."""

    keeper: LedgerKeeper
    metrics: Metrics
    callee: Callee
    stub: Any


@asynccontextmanager
async def served(world: World, **settings: Any) -> AsyncIterator[Served]:
    """The service on the world's server; it goes by the world's clock."""
    metrics = Metrics()
    keeper = LedgerKeeper(world.nats, world.clock, metrics, **settings)
    add = partial(ledger_service_pb2_grpc.add_LedgerServiceServicer_to_server, LedgerServer(keeper))
    readiness = Readiness()
    rpc = RpcServer(
        address=Address("127.0.0.1", 0),
        services=[RpcService("tidewire.delivery.v1.LedgerService", add)],
        guard=callers.guard(),
        readiness=readiness,
        clock=SystemClock(),
    )
    stopping = asyncio.Event()
    running = asyncio.create_task(
        run_parts(
            {"ledger": keeper, "grpc": rpc}, grace_s=5, readiness=readiness, stopping=stopping
        )
    )
    async with asyncio.timeout(WITHIN_S):
        async for is_ready in readiness.changes():
            if is_ready:
                break
    async with callers.channel_to(rpc.port) as opened:
        callee = callers.callee(rpc.port)
        yield Served(keeper, metrics, callee, ledger_service_pb2_grpc.LedgerServiceStub(opened))
    stopping.set()
    assert await asyncio.wait_for(running, WITHIN_S) == 0

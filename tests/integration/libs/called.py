"""A gRPC server with a guard, to be called by whoever a test wants to be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from libs.clock import SystemClock
from libs.errors import ServiceError
from libs.lifecycle import Readiness
from libs.rpc.callers import current_caller
from libs.rpc.client import call
from libs.rpc.guard import Guard
from libs.rpc.interceptor import WATCH_LASTS_S
from libs.rpc.server import RpcServer, RpcService
from libs.settings import Address
from tests.fakes import callers
from tidewire.auth.v1 import token_service_pb2 as pb
from tidewire.auth.v1 import token_service_pb2_grpc

TOKENS = "tidewire.auth.v1.TokenService"
KNOWN = ("acme.events.C1", "acme.shopify", "other.events.C2")


class Vault(token_service_pb2_grpc.TokenServiceServicer):
    """Answers with the name of the caller; tells watchers of what they may have."""

    def __init__(self) -> None:
        self.more = asyncio.Event()
        self.more.set()

    async def GetToken(  # noqa: N802
        self, request: pb.GetTokenRequest, context: Any
    ) -> pb.GetTokenResponse:
        caller = current_caller.get()
        token = pb.Token(connection_id=request.connection_id, access_token=caller.name)
        return pb.GetTokenResponse(token=token)

    async def BatchGetTokens(  # noqa: N802
        self, request: pb.BatchGetTokensRequest, context: Any
    ) -> pb.BatchGetTokensResponse:
        return pb.BatchGetTokensResponse()

    async def WatchTokens(  # noqa: N802
        self, request: pb.WatchTokensRequest, context: Any
    ) -> AsyncIterator[pb.WatchTokensResponse]:
        for one in KNOWN:
            if current_caller.get().may(connection_id=one):
                yield pb.WatchTokensResponse(connection_id=one)
            await self.more.wait()


@dataclass
class Called:
    """The server, and what it serves."""

    server: RpcServer
    vault: Vault

    @property
    def port(self) -> int:
        return self.server.port

    def as_(self, name: str) -> grpc.aio.Channel:
        return callers.channel_to(self.port, name)

    async def token(self, channel: grpc.aio.Channel, connection_id: str = "acme.events.C1") -> str:
        """The name by which the server knows whoever is at the other end of `channel`."""
        stub: Any = token_service_pb2_grpc.TokenServiceStub(channel)
        request = pb.GetTokenRequest(connection_id=connection_id)
        answer = await call(stub.GetToken, request, timeout_s=10)
        assert isinstance(answer, pb.GetTokenResponse)
        return answer.token.access_token

    async def refusal(
        self, channel: grpc.aio.Channel, connection_id: str = "acme.events.C1"
    ) -> tuple[grpc.StatusCode, ServiceError]:
        """With what status and error it is refused."""
        with pytest.raises(ServiceError) as caught:
            await self.token(channel, connection_id)
        status = caught.value.__cause__
        assert isinstance(status, grpc.aio.AioRpcError)
        return status.code(), caught.value


def policy_at(directory: Path, rules: str) -> Path:
    """A policy that knows everybody and has these rules."""
    path = directory / "policy.yaml"
    path.write_text(f"{callers.CALLERS}rules:\n{rules}", encoding="utf-8")
    return path


@asynccontextmanager
async def called(
    guard: Guard, *, quiet: bool = False, watch_lasts_s: float = WATCH_LASTS_S
) -> AsyncIterator[Called]:
    """The server, serving."""
    vault = Vault()  # type: ignore[abstract]  # the rest answers UNIMPLEMENTED
    add = partial(token_service_pb2_grpc.add_TokenServiceServicer_to_server, vault)
    quiet_methods = frozenset({"GetToken"} if quiet else ())
    server = RpcServer(
        address=Address("127.0.0.1", 0),
        services=[RpcService(TOKENS, add, filters=frozenset({"WatchTokens"}), quiet=quiet_methods)],
        guard=guard,
        readiness=Readiness(),
        clock=SystemClock(),
        watch_lasts_s=watch_lasts_s,
    )
    ready = asyncio.Event()
    running = asyncio.create_task(server.run(ready.set))
    await asyncio.wait_for(ready.wait(), 10)
    try:
        yield Called(server, vault)
    finally:
        server.stop()
        await asyncio.wait_for(running, 10)

"""Connections, credentials and webhook secrets as the token service tells of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

import grpc
import structlog

from libs.auth.tokens import TokenCache
from libs.clock import Clock
from libs.connections.index import ConnectionIndex
from libs.connections.ports import ShopView, WebhookSecret
from libs.errors import Kind, ServiceError
from libs.rpc.client import stream
from libs.settings import Secret
from tidewire.auth.v1 import (
    connection_service_pb2,
    connection_service_pb2_grpc,
    token_service_pb2,
    token_service_pb2_grpc,
)
from tidewire.connections.v1.connection_pb2 import Connection, ConnectionKind

_log = structlog.stdlib.get_logger()

SECRETS_AWAITED: Final = "secrets_awaited"
"""RETRYABLE: the token service has not been reached since this process started."""

_AGAIN_FIRST_S: Final = 0.1
_AGAIN_MOST_S: Final = 2.0


class RemoteConnections:
    """`Connections` and `Credentials` by the token service; a part of a process.

    Ready once all has been told. While the service is away, what was told last goes on holding.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        clock: Clock,
        *,
        webhook_secrets: bool = False,
        tokens: bool = True,
    ) -> None:
        """What this process needs besides connections, and may have by the policy."""
        self._channel = channel
        self._index = ConnectionIndex()
        self._tokens = TokenCache(channel, clock)
        self._clock = clock
        self._watches = {"connections": self._connections_told}
        if tokens:
            self._watches["tokens"] = self._tokens_told
        if webhook_secrets:
            self._watches["secrets"] = self._secrets_told
        self._awaited = set(self._watches)
        self._all_told = asyncio.Event()
        self._ready: Callable[[], None] = lambda: None
        self._stopping = asyncio.Event()

    def shop(self, handle: str) -> ShopView | None:
        return self._index.shop(handle)

    def shops(self) -> Iterable[ShopView]:
        return self._index.shops()

    def connections(self, handle: str, kind: ConnectionKind.ValueType) -> Sequence[Connection]:
        return self._index.connections(handle, kind)

    def sinks(self, handle: str) -> Sequence[str]:
        return self._index.sinks(handle)

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        return self._index.subscribe(changed)

    async def told(self) -> None:
        await self._all_told.wait()

    def webhook_secrets(self, handle: str | None) -> Sequence[WebhookSecret]:
        if "secrets" in self._awaited:
            # None known and none there are not the same: an honest webhook would be refused.
            raise ServiceError(Kind.RETRYABLE, SECRETS_AWAITED, "no secrets have been told yet")
        return self._index.webhook_secrets(handle)

    async def access_token(self, connection_id: str) -> Secret:
        return await self._tokens.access_token(connection_id)

    async def refused(self, connection_id: str, token: Secret) -> None:
        await self._tokens.refused(connection_id, token)

    async def run(self, ready: Callable[[], None]) -> None:
        """Follows the service until `stop`; raises what nobody foresaw rather than go on deaf."""
        self._ready = ready
        stopped = asyncio.create_task(self._stopping.wait())
        tasks = [asyncio.create_task(self._followed(one)) for one in self._watches.values()]
        try:
            done, _ = await asyncio.wait((stopped, *tasks), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (stopped, *tasks):
                task.cancel()
            await asyncio.gather(stopped, *tasks, return_exceptions=True)

    def stop(self) -> None:
        """Ends `run`; what was told stays."""
        self._stopping.set()

    async def _followed(self, watch: Callable[[], Awaitable[None]]) -> None:
        again_s = _AGAIN_FIRST_S
        while True:
            started_s = self._clock.monotonic_s()
            try:
                await watch()
            except ServiceError as error:
                _log.info("auth_not_followed", reason=error.code)
            if self._clock.monotonic_s() - started_s > _AGAIN_MOST_S:
                again_s = _AGAIN_FIRST_S
            await self._clock.sleep(again_s)
            again_s = min(_AGAIN_MOST_S, 2 * again_s)

    async def _connections_told(self) -> None:
        stub = connection_service_pb2_grpc.ConnectionServiceStub(self._channel)
        request = connection_service_pb2.WatchConnectionsRequest()
        told: set[str] = set()
        complete = False
        async for answer in stream(stub.WatchConnections, request, timeout_s=None):
            match answer.WhichOneof("change"):
                case "connection":
                    told.add(answer.connection.connection_id)
                    changed = self._index.put(answer.connection)
                case "removed_connection_id":
                    changed = self._index.remove(answer.removed_connection_id)
                case _:
                    complete = True
                    gone = [one for one in self._index.by_id if one not in told]
                    for one in gone:
                        self._index.remove(one)
                    changed = True
                    self._all_told.set()
                    self._now_ready("connections")
            # The first ones come by thousands: whoever listens hears of them together.
            if changed and complete:
                self._index.tell()

    async def _secrets_told(self) -> None:
        stub = token_service_pb2_grpc.TokenServiceStub(self._channel)
        request = token_service_pb2.WatchWebhookSecretsRequest()
        told: set[str] = set()
        async for answer in stream(stub.WatchWebhookSecrets, request, timeout_s=None):
            if answer.complete:
                self._index.keep_secrets_of(told)
                self._now_ready("secrets")
                continue
            told.add(answer.shop.shop)
            self._index.put_secrets(
                answer.shop.shop,
                [WebhookSecret(one.secret_id, one.key) for one in answer.shop.secrets],
            )

    async def _tokens_told(self) -> None:
        stub = token_service_pb2_grpc.TokenServiceStub(self._channel)
        request = token_service_pb2.WatchTokensRequest()
        async for answer in stream(stub.WatchTokens, request, timeout_s=None):
            if answer.connection_id:
                self._tokens.changed(answer)
            else:
                self._tokens.doubt()
                self._now_ready("tokens")

    def _now_ready(self, what: str) -> None:
        self._awaited.discard(what)
        if not self._awaited:
            self._ready()

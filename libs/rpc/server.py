"""A gRPC server as a part of a process: health, reflection, limits, one error vocabulary."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from libs.clock import Clock
from libs.errors import ServiceError, permanent
from libs.lifecycle import Readiness
from libs.rpc.guard import Guard
from libs.rpc.health import Health
from libs.rpc.interceptor import (
    STREAM_LASTS_S,
    WATCH_LASTS_S,
    Habits,
    Observe,
    ServiceInterceptor,
    incoming_traceparent,
)
from libs.settings import Address

__all__ = [
    "MESSAGE_BYTES_MAX",
    "REQUEST_BYTES_MAX",
    "RpcServer",
    "RpcService",
    "incoming_traceparent",
]

MESSAGE_BYTES_MAX: Final = 8 * 1024 * 1024
"""Of an answer, and of a request to the few services that are sent so much."""

REQUEST_BYTES_MAX: Final = 256 * 1024
"""Of a request to all others. The longest that a schema lets be is 500 ids of 200 characters."""

_RPCS_MAX = 1_000

_OPTIONS: Final = (
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    # A dead peer is noticed after 60 + 20 s, and clients may ask as often as every 20 s.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
    # So that whoever lost its certificate loses its connection too; rpcs under way are let finish.
    ("grpc.max_connection_age_ms", 3_600_000),
    # Otherwise a second server on the same port starts without a word and takes half the calls.
    ("grpc.so_reuseport", 0),
)


@dataclass(frozen=True)
class RpcService:
    """A service to be served: its full name, and what adds it to a server.

    `RpcService("tidewire.ingest.v1.IngestService",
    partial(add_IngestServiceServicer_to_server, servicer))`
    """

    name: str
    add_to: Callable[[grpc.aio.Server], None]

    filters: frozenset[str] = frozenset()
    """Methods that tell a caller only of what `current_caller` may have. Callers who are limited to
    some connections or shops may call them without naming one; no other method lets them."""

    quiet: frozenset[str] = frozenset()
    """Methods whose successes are counted and not logged: a line costs as much
    as everything else that we add to an rpc."""


@dataclass(kw_only=True)
class RpcServer:
    """Serves `services` on `address` until stopped; a Part for `run_parts`.

    `guard` says who may call what; only health and reflection are open to every caller that gets
    through TLS.

    Health (`grpc.health.v1`) follows `readiness`, for each service and for the whole. A stop
    refuses new rpcs at once, ends streams with UNAVAILABLE, and lets all other rpcs under way
    finish until the process's grace is over.
    """

    address: Address
    services: Sequence[RpcService]
    guard: Guard
    readiness: Readiness
    clock: Clock
    observe: Observe | None = None
    stream_lasts_s: float = STREAM_LASTS_S
    """Seconds after which a stream ends and its caller has to prove anew who it is."""

    watch_lasts_s: float = WATCH_LASTS_S
    """The same for those that are open to everybody: health and reflection."""

    request_bytes_max: int = REQUEST_BYTES_MAX

    def __post_init__(self) -> None:
        self._stopping = asyncio.Event()
        self.port = 0
        """The port it listens on, once ready."""

    async def run(self, ready: Callable[[], None]) -> None:
        """Serves until `stop`, then until the last rpc under way has ended.

        Raises:
            ServiceError: PERMANENT, `grpc_address_taken`, if it cannot listen there.
        """
        server = self._server()
        self.port = _listening(server, self.address, self.guard)
        await server.start()
        following = asyncio.create_task(self.guard.follow())
        try:
            ready()
            await self._stopping.wait()
            await server.stop(grace=_UNBOUNDED_S)
        finally:
            following.cancel()
            await server.stop(grace=None)

    def stop(self) -> None:
        # In this order: whoever watches health hears of it before its stream ends.
        self.readiness.drain()
        self._stopping.set()

    def _server(self) -> grpc.aio.Server:
        interceptor = ServiceInterceptor(
            self.guard,
            self.clock,
            self.observe,
            self._stopping,
            self._habits(),
            self.stream_lasts_s,
            self.watch_lasts_s,
        )
        server = grpc.aio.server(
            interceptors=[interceptor],
            options=(*_OPTIONS, ("grpc.max_receive_message_length", self.request_bytes_max)),
            maximum_concurrent_rpcs=_RPCS_MAX,
        )
        names = [service.name for service in self.services]
        health_pb2_grpc.add_HealthServicer_to_server(Health(self.readiness, names), server)
        for service in self.services:
            service.add_to(server)
        reflection.enable_server_reflection(
            [*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server
        )
        return server

    def _habits(self) -> Habits:
        return Habits(
            filters=frozenset(f"{one.name}/{rpc}" for one in self.services for rpc in one.filters),
            quiet=frozenset(f"{one.name}/{rpc}" for one in self.services for rpc in one.quiet),
        )


# The process's own grace ends the wait sooner, by cancelling `run`.
_UNBOUNDED_S = 3_600.0


def _listening(server: grpc.aio.Server, address: Address, guard: Guard) -> int:
    try:
        return server.add_secure_port(str(address), guard.credentials())
    except RuntimeError as error:
        raise _taken(address) from error


def _taken(address: Address) -> ServiceError:
    return permanent("grpc_address_taken", f"cannot listen on {address}; is another one running?")

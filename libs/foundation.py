"""What every service stands on: NATS that is fit, connections, keys, telemetry, an ops port."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, Protocol, TypeVar

import nats
import structlog
from nats.aio.client import Client

from libs import metric_names
from libs.auth import RemoteConnections, RemoteKeySource
from libs.bus import streams
from libs.bus.api import ApiError, refused
from libs.bus.jetstream_log import JetStreamLog
from libs.clock import Clock
from libs.connections import Connections, Credentials, FileConnections
from libs.errors import Kind, ServiceError, permanent
from libs.http.session import http_session
from libs.ids import Ids, RandomIds, system_random
from libs.keys import KekSettings, KeySource, KvKeySource, open_ring
from libs.lifecycle import Part, Readiness, run_parts
from libs.limits import DeclaredLimits, LimiterPart
from libs.ops_http import OpsServer
from libs.rpc.client import channel
from libs.rpc.guard import Refused, guard_of
from libs.rpc.identity import Identity
from libs.rpc.interceptor import Observe
from libs.rpc.server import REQUEST_BYTES_MAX, RpcServer, RpcService
from libs.rpc.settings import RpcSettings
from libs.settings import Address, env
from libs.telemetry import Counter, Histogram, Metrics, Telemetry, Tracer
from libs.vault import Vault

_log = structlog.stdlib.get_logger()

_NOT_YET: Final = range(10004, 10010)
"""What a cluster says that is not complete, has no leader yet, or not this one."""

_START_S: Final = 60.0
"""How long a start waits for NATS to come up before it gives up and says why."""


_AGAIN_S: Final = 0.5

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class CommonSettings(KekSettings, RpcSettings):
    """The knobs that all services share. Read once, from `TIDEWIRE_…`."""

    nats_url: str = env(
        "NATS_URL", "NATS servers, comma-separated", default="nats://127.0.0.1:4222"
    )
    nats_monitor_url: str = env(
        "NATS_MONITOR_URL",
        "monitoring endpoints of the NATS servers, comma-separated; asked for their fsync setting",
        default="http://127.0.0.1:8222",
    )
    nats_replicas: int = env("NATS_REPLICAS", "replicas of streams and buckets: 1, or 3", default=1)
    stream_scale_mib: int = env(
        "STREAM_SCALE_MIB",
        "bound of the small streams in MiB; the large ones get four",
        default=1024,
    )
    allow_weak_fsync: bool = env(
        "ALLOW_WEAK_FSYNC", "start although NATS does not sync every write to disk", default=False
    )
    auth_address: Address | None = env(
        "AUTH_ADDRESS",
        "the token service's gRPC, which gives connections, tokens and keys; none: they come from"
        " CONNECTIONS_FILE and the KEK of this process",
        default=None,
    )
    connections_file: Path = env(
        "CONNECTIONS_FILE",
        "shops and their connections; the token service takes them in from here",
        default=Path("connections.yaml"),
    )
    state_dir: Path = env(
        "STATE_DIR", "where spans go when no collector is configured", default=Path(".state")
    )
    grace_s: float = env("GRACE_S", "seconds to finish work on stop", default=20.0)
    limits: str = env(
        "LIMITS",
        "limits of upstreams that differ from what they document, `;` between them, such as "
        "`tiktok.events.app=500/s,300000/m` (s, m, h, d), `shopify.*.rest=80@4/s` or `…=none`",
        default="",
    )
    clock_offset_s: float = env(
        "CLOCK_OFFSET_S",
        "testing aid: seconds by which this process takes the time to be later than it is",
        default=0.0,
        least=-3600,
        most=3600,
    )


class ConnectionSource(Connections, Credentials, Part, Protocol):
    """Where connections and their secrets come from, as a part of the process."""


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What every service stands on, the token service too."""

    nats: Client
    clock: Clock
    ids: Ids
    tracer: Tracer
    metrics: Metrics
    readiness: Readiness
    nats_closed: asyncio.Event
    declared_limits: DeclaredLimits
    rpc: RpcSettings

    @property
    def identity(self) -> Identity:
        """Who this process is when it calls another over gRPC."""
        return Identity.of(self.rpc)

    def rpc_server(
        self,
        address: Address,
        services: Sequence[RpcService],
        *,
        request_bytes_max: int = REQUEST_BYTES_MAX,
    ) -> RpcServer:
        """A part that serves `services` to those whom the policy lets in.

        Raises:
            ServiceError: PERMANENT: the policy or a certificate cannot be used; says why.
        """
        return RpcServer(
            address=address,
            services=services,
            guard=guard_of(self.rpc, self.clock, rpc_refusals(self.metrics)),
            readiness=self.readiness,
            clock=self.clock,
            observe=rpc_observer(self.metrics),
            request_bytes_max=request_bytes_max,
        )

    def limiter(self) -> LimiterPart:
        """A part that gives turns under the limits which all replicas share; one a process."""
        return LimiterPart(
            self.nats,
            declared=self.declared_limits,
            clock=self.clock,
            ids=self.ids,
            random=system_random,
            metrics=self.metrics,
        )

    def log(self, stream: str) -> JetStreamLog:
        """The commit log of one stream."""
        return JetStreamLog(self.nats, stream, self.ids)


@dataclass(frozen=True, kw_only=True)
class Foundation(Ground):
    """What the wiring of a service is given that lives by the token service, or by a file."""

    connections: ConnectionSource
    keys: KeySource
    vault: Vault
    followers: Mapping[str, Part]
    """Parts behind `connections` and `keys`."""


@asynccontextmanager
async def ground(
    settings: CommonSettings, telemetry: Telemetry, clock: Clock
) -> AsyncIterator[Ground]:
    """Connected and checked; undone in reverse on leaving.

    Raises:
        ServiceError: what is wrong and what to do about it: NATS does not answer, is not fit, or
            the connections file or the key cannot be read.
    """
    try:
        declared_limits = DeclaredLimits(settings.limits)
    except ValueError as error:
        raise permanent("limits_invalid", f"TIDEWIRE_LIMITS: {error}") from error
    async with AsyncExitStack() as stack:
        closed = asyncio.Event()
        client = await connected(settings.nats_url, closed)
        stack.push_async_callback(client.close)
        await _settled(client, clock, lambda: _fit(client, settings))
        yield Ground(
            nats=client,
            clock=clock,
            ids=RandomIds(clock),
            tracer=telemetry.tracer,
            metrics=telemetry.metrics,
            readiness=Readiness(),
            nats_closed=closed,
            declared_limits=declared_limits,
            rpc=settings,
        )


@asynccontextmanager
async def foundation(
    settings: CommonSettings,
    telemetry: Telemetry,
    clock: Clock,
    *,
    webhook_secrets: bool = False,
    tokens: bool = True,
) -> AsyncIterator[Foundation]:
    """As `ground`, with connections and keys.

    `webhook_secrets` where webhooks are verified, `tokens` where upstreams are called.

    Raises:
        ServiceError: as `ground` does, and where the connections file or the key cannot be read.
    """
    async with AsyncExitStack() as stack:
        base = await stack.enter_async_context(ground(settings, telemetry, clock))
        connections: ConnectionSource
        keys: KeySource
        if settings.auth_address is None:
            connections = FileConnections(settings.connections_file)
            keys = await own_keys(base, settings)
            followers: dict[str, Part] = {"connections": connections}
        else:
            opened = channel(settings.auth_address, base.identity)
            stack.push_async_callback(opened.close)
            connections = RemoteConnections(
                opened, clock, webhook_secrets=webhook_secrets, tokens=tokens
            )
            keys = remote = RemoteKeySource(opened, base.nats)
            followers = {"connections": connections, "keys": remote}
        yield Foundation(
            **{one.name: getattr(base, one.name) for one in fields(base)},
            connections=connections,
            keys=keys,
            vault=Vault(keys),
            followers=followers,
        )


async def own_keys(base: Ground, settings: CommonSettings) -> KvKeySource:
    """The data keys, unwrapped in this process.

    Raises:
        ServiceError: PERMANENT, where the KEK cannot be read or is not the one in use.
    """

    async def opened() -> KvKeySource:
        ring = await open_ring(settings)
        return await KvKeySource.open(base.nats.jetstream(), ring, replicas=settings.nats_replicas)

    return await _settled(base.nats, base.clock, opened)


async def connected(url: str, closed: asyncio.Event | None = None) -> Client:
    """A connection that comes back by itself, for ever. The default gives up after two minutes.

    Some protocol errors close it for good all the same; then `closed` is set.

    Raises:
        ServiceError: RETRYABLE, `nats_unavailable`, where none came about within a minute.
    """

    async def note_closed() -> None:
        if closed is not None:
            closed.set()

    try:
        return await asyncio.wait_for(
            nats.connect(
                url.split(","),
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.5,
                connect_timeout=2,
                ping_interval=10,
                max_outstanding_pings=2,
                error_cb=_note_error,
                closed_cb=note_closed,
            ),
            _START_S,
        )
    except (TimeoutError, OSError, nats.errors.Error) as error:
        raise ServiceError(
            Kind.RETRYABLE, "nats_unavailable", f"no NATS at {url}: is it running?"
        ) from error


async def _settled(client: Client, clock: Clock, act: Callable[[], Awaitable[T]]) -> T:
    """What `act` gives. What NATS did not answer, or failed while it went away, is done again.

    A cluster that several processes lay out at once takes its time for each stream; a process that
    starts while NATS goes away would else end, and say that NATS is not fit.

    Raises:
        ServiceError: that of `act`, where NATS stayed, or did not within a minute.
    """
    deadline_s = clock.monotonic_s() + _START_S
    while True:
        reconnects = client.stats["reconnects"]
        try:
            return await act()
        except ServiceError as error:
            # The client hears of its connection's end a little later than whoever asks just then.
            await clock.sleep(_AGAIN_S)
            stayed = client.is_connected and client.stats["reconnects"] == reconnects
            is_final = stayed and error.kind is not Kind.RETRYABLE
            if is_final or clock.monotonic_s() > deadline_s:
                raise
            _log.info("waiting_for_nats", reason=error.code)


async def _note_error(error: Exception) -> None:
    _log.info("nats_connection", reason=type(error).__name__)


async def _fit(client: Client, settings: CommonSettings) -> None:
    layout = {"replicas": settings.nats_replicas, "scale_mib": settings.stream_scale_mib}
    try:
        await streams.create_missing(client, **layout)
        faults = await streams.faults(client, **layout)
    except ApiError as error:
        if error.err_code in _NOT_YET:
            raise refused(error) from error
        raise permanent("nats_not_fit", f"{error}: see `tidewire streams check`") from error
    if not settings.allow_weak_fsync:
        async with http_session() as session:
            faults += await streams.fsync_faults(settings.nats_monitor_url.split(","), session)
    if faults:
        raise permanent("nats_not_fit", "; ".join(faults))


class NatsWatch:
    """Readiness follows the connection to NATS; a connection that is closed ends the process.

    nats-py closes for good on some errors of the protocol. A process without a connection would
    answer health checks and do no work, so it ends, and whoever runs it starts it again.
    """

    _EVERY_S = 1.0

    def __init__(self, client: Client, closed: asyncio.Event, readiness: Readiness) -> None:
        self._client = client
        self._closed = closed
        self._readiness = readiness
        self._stopping = asyncio.Event()

    async def run(self, ready: Callable[[], None]) -> None:
        """Watches until `stop`.

        Raises:
            ServiceError: RETRYABLE, `nats_closed`.
        """
        while not self._stopping.is_set():
            if self._closed.is_set():
                raise ServiceError(Kind.RETRYABLE, "nats_closed", "NATS closed the connection")
            if self._client.is_connected:
                ready()
            else:
                self._readiness.unready("nats")
            try:
                await asyncio.wait_for(self._stopping.wait(), self._EVERY_S)
            except TimeoutError:
                continue

    def stop(self) -> None:
        """Ends `run`."""
        self._stopping.set()


class OpsPart:
    """The ops port as a part; up before all others are ready, so that `/readyz` can say why not."""

    def __init__(self, address: Address, metrics: Metrics, readiness: Readiness) -> None:
        self._readiness = readiness
        self._server = OpsServer(str(address), metrics, self._state)
        self._stopping = asyncio.Event()

    async def run(self, ready: Callable[[], None]) -> None:
        """Answers until `stop`."""
        await self._server.start()
        ready()
        try:
            await self._stopping.wait()
        finally:
            await self._server.stop()

    def stop(self) -> None:
        """Ends `run`."""
        self._stopping.set()

    def _state(self) -> tuple[bool, dict[str, str]]:
        waiting = dict.fromkeys(self._readiness.awaited, "not ready")
        return self._readiness.is_ready, waiting


def rpc_observer(metrics: Metrics) -> Observe:
    """Counts and times each rpc that was served."""
    counters: dict[tuple[str, str], Counter] = {}
    histograms: dict[str, Histogram] = {}

    def observe(
        method: str, started_ns: int, ended_ns: int, _: str | None, error: ServiceError | None
    ) -> None:
        code = error.kind.value if error else "ok"
        key = (method, code)
        if key not in counters:
            counters[key] = metrics.counter(metric_names.RPC_SERVED, method=method, code=code)
            histograms[method] = metrics.histogram(metric_names.RPC_DURATION, method=method)
        counters[key].value += 1
        histograms[method].observe((ended_ns - started_ns) / 1e9)

    return observe


def rpc_refusals(metrics: Metrics) -> Refused:
    """Counts each rpc that was not let in."""

    def refused(method: str, reason: str) -> None:
        metrics.counter(metric_names.RPC_REFUSED, method=method, reason=reason).value += 1

    return refused


def spare_collector() -> None:
    """Has the garbage collector look seldom: what every service does when it is set up.

    What was made so far stays for good. The rest is short-lived and mostly without cycles: to look
    for them after every 700 allocations costs a tenth of the normalizer's time.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


async def serve(parts: Mapping[str, Part], base: Ground, grace_s: float) -> int:
    """Runs a service's parts to their end; the process's exit code."""
    base.metrics.gauge(metric_names.NATS_CONNECTED, lambda: 1.0 if base.nats.is_connected else 0.0)
    spare_collector()
    watch = NatsWatch(base.nats, base.nats_closed, base.readiness)
    followers = base.followers if isinstance(base, Foundation) else {}
    every: dict[str, Part] = {"nats": watch, **followers, **parts}
    return await run_parts(every, grace_s=grace_s, readiness=base.readiness)

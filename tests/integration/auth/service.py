"""The token service on a real NATS, behind its guard and a policy; only the provider is played."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc
from nats.aio.client import Client

from libs.bus import streams, subjects
from libs.bus.follow import bucket_follower
from libs.bus.jetstream_log import JetStreamLog
from libs.bus.publisher import publish
from libs.bus.scan import scan
from libs.clock import SystemClock
from libs.foundation import connected
from libs.gates import GateBook
from libs.ids import RandomIds
from libs.keys import KvKeySource
from libs.lifecycle import Afterwards, Part, Readiness, run_parts
from libs.rpc.client import call
from libs.rpc.server import RpcServer, RpcService
from libs.settings import Address, Secret
from libs.telemetry import Metrics
from libs.vault import Vault
from services.auth.adapters.audit import AuditLog
from services.auth.adapters.events import ConnectionEvents
from services.auth.adapters.flows import FlowStore
from services.auth.adapters.grants import GrantStore
from services.auth.adapters.liveness import ReplicaLiveness
from services.auth.adapters.records import connection_records
from services.auth.book import Book
from services.auth.connecting import Connecting
from services.auth.connection_server import ConnectionServer
from services.auth.domain.grants import App, Consent, Grant
from services.auth.linking import Linking
from services.auth.ports import Place
from services.auth.refresher import Refresher
from services.auth.token_server import TokenServer
from services.auth.tokens import Tokens
from services.auth.unattended import Unattended
from services.auth.webhook_secrets import WebhookSecrets
from tests.fakes import callers
from tests.fakes.nats_server import NatsServer
from tests.fakes.provider import PlayedProvider, PlayedProviders
from tests.fakes.until import until
from tidewire.auth.v1 import connection_service_pb2 as pb
from tidewire.auth.v1 import (
    connection_service_pb2_grpc,
    record_pb2,
    token_service_pb2_grpc,
)
from tidewire.connections.v1 import connection_pb2

POLICY: Final = f"""\
{callers.CALLERS}
rules:
  - {{callers: [operator, auth], methods: ["*"]}}
  - callers: [events]
    methods: [tidewire.auth.v1.*]
    connections: ["*.events.*"]
  - callers: [ingest]
    methods: [tidewire.auth.v1.TokenService/*, tidewire.auth.v1.ConnectionService/Watch*]
"""
SERVICE_SECRET: Final = "service-app-secret-nobody-prints"
LIFE: Final = timedelta(hours=1)
_CLOCK: Final = SystemClock()
_KEK: Final = bytes(32)


@dataclass
class Provider(PlayedProvider):
    """Gives a new token at each refresh, and notes which ones it was told to end."""

    revoked: list[str] = field(default_factory=list)
    refreshes: int = 0
    trouble: Exception | None = None

    async def exchange(self, app: App, consent: Consent, code: str) -> Grant:
        self.exchanges.append((app, consent, code))
        if self.trouble is not None:
            raise self.trouble
        return Grant(access_token=Secret(f"granted-{uuid.uuid4().hex}"), scopes=("read_orders",))

    async def refresh(self, app: App, shop: str, grant: Grant) -> Grant:
        self.refreshes += 1
        if self.trouble is not None:
            raise self.trouble
        return Grant(
            access_token=Secret(f"refreshed-{uuid.uuid4().hex}"),
            refresh_token=Secret(f"refresh-{uuid.uuid4().hex}"),
            expires_at=datetime.now(UTC) + LIFE,
        )

    async def revoke(self, app: App, shop: str, grant: Grant) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.revoked.append(grant.access_token.reveal())


@dataclass
class World:
    """`Places` and `Attention`."""

    country: str = "GB"
    attended: list[str] = field(default_factory=list)

    async def place(self, shop: str) -> Place:
        return Place(self.country, "GBP")

    def soon(self, shop: str) -> None:
        self.attended.append(shop)


@dataclass
class Rig:
    """One replica, and what tests ask of it; the shop is the test's own."""

    shop: str
    nats: Client
    provider: Provider
    providers: PlayedProviders
    world: World
    server: RpcServer
    keys: KvKeySource
    grants: GrantStore
    linking: Linking
    book: Book
    audit: AuditLog
    told: list[tuple[str, str]]
    channels: Mapping[str, grpc.aio.Channel]

    def tokens(self, caller: str = "operator") -> Any:
        return token_service_pb2_grpc.TokenServiceStub(self.channels[caller])

    def connections(self, caller: str = "operator") -> Any:
        return connection_service_pb2_grpc.ConnectionServiceStub(self.channels[caller])

    def store(self, **fields: Any) -> pb.ConnectionSpec:
        kind = connection_pb2.CONNECTION_KIND_SHOPIFY
        return pb.ConnectionSpec(
            **{"shop": self.shop, "kind": kind, "country": "US", "currency": "USD", **fields}
        )

    def pixel(self, code: str = "C1", **settings: Any) -> pb.ConnectionSpec:
        return pb.ConnectionSpec(
            shop=self.shop,
            kind=connection_pb2.CONNECTION_KIND_TIKTOK_EVENTS,
            tiktok_events=connection_pb2.EventsSettings(pixel_code=code, **settings),
        )

    async def imported(
        self, spec: pb.ConnectionSpec | None = None, *, lasts: timedelta | None = None, **more: Any
    ) -> str:
        """The id of a connection that was imported."""
        request = pb.ImportConnectionRequest(spec=spec or self.store(), **more)
        if lasts is not None:
            request.expires_at.FromDatetime(datetime.now(UTC) + lasts)
        answer = await call(self.connections().ImportConnection, request, timeout_s=10.0)
        return str(answer.connection.connection.connection_id)

    async def connected(self) -> tuple[str, str]:
        """The ids of a store and its pixel C1."""
        store = await self.imported(
            access_token=self.token("store-1"), webhook_secrets=["hook-secret-1"]
        )
        return store, await self.imported(self.pixel(), access_token=self.token("pixel-1"))

    def token(self, name: str) -> str:
        """A token that no other test's shop has: what many share is not revoked with one."""
        return f"token-{name}-of-{self.shop}"

    async def audited(self, method: str) -> list[record_pb2.AuditRecord]:
        """Records of a method about this shop, once those that wait have been stored."""
        await until(lambda: not self.audit.waiting)
        found = []
        async for stored in scan(self.nats, subjects.AUDIT, "audit.>"):
            for record in record_pb2.AuditRecords.FromString(stored.data).records:
                of_shop = any(one.partition(".")[0] == self.shop for one in record.subjects)
                if of_shop and record.method.endswith(f"/{method}"):
                    found.append(record)
        return found

    async def all_that_was_stored(self) -> bytes:
        """Every byte in the streams that the service writes to."""
        names = [subjects.bucket_stream(one) for one in (subjects.CONNECTIONS, subjects.TOKENS)]
        found = b""
        for name in (subjects.AUDIT, *names):
            async for stored in scan(self.nats, name, ">"):
                found += stored.data
        return found


@asynccontextmanager
async def rig_at(server: NatsServer, directory: Path, *, port: int = 0) -> AsyncIterator[Rig]:
    """A replica on `server`, ready; at `port`, where one is named."""
    async with AsyncExitStack() as stack:
        nats = await connected(server.url)
        stack.push_async_callback(nats.close)
        await streams.create_missing(nats, replicas=1, scale_mib=16)
        policy = directory / "policy.yaml"
        policy.write_text(POLICY, encoding="utf-8")
        rig, parts, readiness = await _made(nats, policy, port)
        stopping = asyncio.Event()
        running = asyncio.create_task(
            run_parts(parts, grace_s=5.0, readiness=readiness, stopping=stopping)
        )
        async with asyncio.timeout(10):
            await readiness.until(parts)
        channels = {
            name: await stack.enter_async_context(callers.channel_to(rig.server.port, name))
            for name in ("operator", "events", "ingest", "delivery")
        }
        rig.channels = channels
        yield rig
        stopping.set()
        await running


async def _made(nats: Client, policy: Path, port: int) -> tuple[Rig, dict[str, Part], Readiness]:
    ids, metrics, readiness = RandomIds(_CLOCK), Metrics(), Readiness()

    def log(bucket: str) -> JetStreamLog:
        return JetStreamLog(nats, subjects.bucket_stream(bucket), ids)

    keys = await KvKeySource.open(nats.jetstream(), _KEK)
    provider, world = Provider(), World()
    providers = PlayedProviders(provider)
    records = connection_records(log(subjects.CONNECTIONS))
    grants = GrantStore(log(subjects.TOKENS), Vault(keys))
    liveness = ReplicaLiveness(nats, log(subjects.LEASES), _CLOCK, ids.new())
    gates = GateBook(nats, log(subjects.CIRCUITS), _CLOCK, metrics)
    book = Book(records, grants, gates)
    gates.subscribe(book.look_at_gates)
    events = ConnectionEvents(partial(publish, nats), grants, _CLOCK)
    refresher = Refresher(grants, providers, liveness, _CLOCK, metrics, ended=events.ended)
    tokens = Tokens(grants, refresher, providers, _CLOCK)
    told: list[tuple[str, str]] = []
    linking = Linking(
        book=book,
        records=records,
        grants=grants,
        providers=providers,
        places=world,
        forgetting=keys,
        clock=_CLOCK,
        attention=world,
        told=lambda connection_id, _, code: told.append((connection_id, code)),
    )
    audit = AuditLog(nats, _CLOCK, ids, metrics)
    secrets = WebhookSecrets(grants, [Secret(SERVICE_SECRET)])
    connecting = _connecting(FlowStore(log(subjects.FLOWS), keys), providers, linking)
    server = RpcServer(
        address=Address("127.0.0.1", port),
        services=_services(
            TokenServer(tokens, grants, secrets, keys, book.index, audit),
            ConnectionServer(
                book=book,
                linking=linking,
                connecting=connecting,
                unattended=Unattended(providers, _NoSessions()),
                grants=grants,
                refresher=refresher,
                gates=gates,
                audit=audit,
            ),
        ),
        guard=callers.guard(policy),
        readiness=Readiness(),
        clock=_CLOCK,
    )
    known = ("gates", "connections", "grants")
    parts: dict[str, Part] = {
        "liveness": liveness,
        "audit": audit,
        "events": events,
        "gates": gates,
        "connections": bucket_follower(nats, subjects.CONNECTIONS, records.take),
        "grants": bucket_follower(nats, subjects.TOKENS, grants.take),
        "secrets": Afterwards(secrets, readiness, ["grants"]),
        "refresher": refresher,
        "grpc": Afterwards(server, readiness, [*known, "secrets"]),
    }
    shop = f"s{uuid.uuid4().hex[:10]}"
    rig = Rig(
        shop, nats, provider, providers, world, server, keys, grants, linking, book, audit, told, {}
    )
    return rig, parts, readiness


def _connecting(flows: FlowStore, providers: PlayedProviders, linking: Linking) -> Connecting:
    return Connecting(
        flows=flows,
        providers=providers,
        connected=linking,
        clock=_CLOCK,
        public_url="http://127.0.0.1:1",
        signing_secret=b"s" * 32,
        scopes={},
        random_bytes=lambda count: uuid.uuid4().bytes * (count // 16 + 1),
    )


def _services(tokens: TokenServer, connections: ConnectionServer) -> list[RpcService]:
    return [
        RpcService(
            "tidewire.auth.v1.TokenService",
            partial(token_service_pb2_grpc.add_TokenServiceServicer_to_server, tokens),
            filters=frozenset({"WatchTokens", "WatchWebhookSecrets"}),
        ),
        RpcService(
            "tidewire.auth.v1.ConnectionService",
            partial(
                connection_service_pb2_grpc.add_ConnectionServiceServicer_to_server, connections
            ),
            filters=frozenset({"ListConnections", "WatchConnections"}),
        ),
    ]


class _NoSessions:
    async def exchange_session(self, app: App, session_token: str) -> tuple[str, Grant]:
        raise NotImplementedError

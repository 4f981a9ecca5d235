"""Four replicas of the token service, the simulators, and stores whose tokens are about to expire.

Judged from outside: by the simulator's ledger, by every token that was handed out, and by what is
told on the bus. The record in the bucket is read to find out who holds a refresh.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import aiohttp
import grpc
import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg

from cli.demo.connecting import agree
from cli.stack import Stack
from libs import metric_names
from libs.bus import subjects
from libs.bus.jetstream_log import JetStreamLog
from libs.clock import SystemClock
from libs.errors import ServiceError
from libs.foundation import connected
from libs.http.session import http_session
from libs.ids import RandomIds
from libs.rpc.client import call, channel
from libs.settings import Address
from sandbox.oauth.apps import SHOPIFY_SCOPES
from tidewire.auth.v1 import (
    connection_service_pb2,
    connection_service_pb2_grpc,
    record_pb2,
    token_service_pb2,
    token_service_pb2_grpc,
)
from tidewire.connections.v1 import connection_pb2

REPLICAS: Final = ("auth", "auth#2", "auth#3", "auth#4")

FIRST: Final = 1
"""The revision of a store's first token."""

CALL_S: Final = 15.0
_LOOK_S: Final = 0.02
_TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
_ID_TOKEN: Final = "urn:ietf:params:oauth:token-type:id_token"
_OFFLINE: Final = "urn:shopify:params:oauth:token-type:offline-access-token"
_MOVED: Final = "auth.connection.needs_reauthorization.*"


@dataclass(frozen=True, slots=True)
class Store:
    """A store with an app of its own; `rotation` is what becomes of a used refresh token."""

    handle: str
    rotation: str

    @property
    def domain(self) -> str:
        return f"{self.handle}.myshopify.com"

    @property
    def connection_id(self) -> str:
        return f"{self.handle}.shopify"

    @property
    def app_id(self) -> str:
        return f"app-of-{self.handle}"

    @property
    def secret(self) -> str:
        return f"secret-of-{self.handle}-made-up"

    def spec(self) -> connection_service_pb2.ConnectionSpec:
        return connection_service_pb2.ConnectionSpec(
            shop=self.domain,
            kind=connection_pb2.CONNECTION_KIND_SHOPIFY,
            country="US",
            currency="USD",
            app=connection_service_pb2.OwnApp(client_id=self.app_id, client_secret=self.secret),
        )


@dataclass(frozen=True, slots=True)
class Handed:
    """A token that somebody was given; `token` is its hash."""

    connection_id: str
    replica: str
    revision: int
    token: str


class House:
    """The stack with its replicas, and words for doing things to them."""

    def __init__(self, stack: Stack, nats: Client, http: aiohttp.ClientSession) -> None:
        self.stack = stack
        self.nats = nats
        self.handed: list[Handed] = []
        self.told_s: dict[str, float] = {}
        """When the bus first told that a shop's connection needs a person, in Unix seconds."""

        self._http = http
        self._log = JetStreamLog(
            nats, subjects.bucket_stream(subjects.TOKENS), RandomIds(SystemClock())
        )
        self._channels: dict[str, tuple[grpc.aio.Channel, grpc.aio.Channel]] = {}
        self._former: list[grpc.aio.Channel] = []
        self._absent: set[str] = set()
        self._reviving: set[asyncio.Task[None]] = set()

    # -- the replicas ---------------------------------------------------------------------------

    @property
    def present(self) -> list[str]:
        """Replicas that are neither killed nor stopped."""
        return [name for name in REPLICAS if name not in self._absent]

    def owner(self, replica: str) -> str:
        """By which name the replica's present process holds intents."""
        text = self.stack.log_path(replica).read_text(errors="replace")
        lines = [line for line in text.splitlines() if '"replica_lives"' in line]
        return str(json.loads(lines[-1])["owner"])

    def replica_of(self, owner: str) -> str:
        return next(name for name in REPLICAS if self.owner(name) == owner)

    async def kill(self, replica: str) -> None:
        """`kill -9`; it comes back by `revive`."""
        self._absent.add(replica)
        await self.stack.kill(replica)
        # Closed in the end: to close a channel is to cancel whoever waits on it.
        self._former += self._channels.pop(replica, ())

    def revive(self, replica: str) -> None:
        """Starts a killed replica again, which is present once it is ready."""

        async def revived() -> None:
            await self.stack.restart(replica)
            self._absent.discard(replica)

        task = asyncio.create_task(revived())
        self._reviving.add(task)
        task.add_done_callback(self._reviving.discard)

    def pause(self, replica: str) -> None:
        self._absent.add(replica)
        self.stack.processes[replica].send_signal(signal.SIGSTOP)

    def go_on(self, replica: str) -> None:
        self.stack.processes[replica].send_signal(signal.SIGCONT)
        self._absent.discard(replica)

    async def at_least(self, count: int) -> None:
        """Returns when so many replicas are present."""
        while len(self.present) < count:
            await asyncio.wait(set(self._reviving), return_when=asyncio.FIRST_COMPLETED)

    async def recovered(self) -> None:
        """After a round that broke off: everything runs, nothing is scripted."""
        await self.unscript()
        if not self.stack.nats.running:
            await self.stack.restart("nats")
        for name in REPLICAS:
            if self.stack.processes[name].returncode is None:
                self.go_on(name)
        if self._reviving:
            await asyncio.wait(set(self._reviving))
        for name in REPLICAS:
            if self.stack.processes[name].returncode is not None:
                self.revive(name)
        await self.at_least(len(REPLICAS))

    async def closed(self) -> None:
        for task in tuple(self._reviving):
            with suppress(ServiceError):
                await task
        for pair in self._channels.values():
            self._former += pair
        for one in self._former:
            await one.close()

    def tokens(self, replica: str) -> Any:
        """The TokenService of one replica, called as a service that may."""
        return token_service_pb2_grpc.TokenServiceStub(self._open(replica)[0])

    def connections(self, replica: str) -> Any:
        """The ConnectionService of one replica, called as a person."""
        return connection_service_pb2_grpc.ConnectionServiceStub(self._open(replica)[1])

    def _open(self, replica: str) -> tuple[grpc.aio.Channel, grpc.aio.Channel]:
        found = self._channels.get(replica)
        if found is None:
            address = Address("127.0.0.1", self.stack.ports.grpc[replica])
            service = channel(address, self.stack.certificates.identity("ingest"))
            found = (service, channel(address, self.stack.operator))
            self._channels[replica] = found
        return found

    async def metric(self, replica: str, name: str) -> float:
        """The value of a gauge without labels."""
        url = f"http://127.0.0.1:{self.stack.ports.metrics[replica]}/metrics"
        async with self._http.get(url) as answer:
            lines = (await answer.text()).splitlines()
        return float(next(line.split()[-1] for line in lines if line.startswith(f"{name} ")))

    async def ended(self, replica: str) -> float:
        """How many connections need a person, as one replica counts them."""
        return await self.metric(replica, metric_names.GRANTS_ENDED)

    # -- stores ---------------------------------------------------------------------------------

    async def register(self, stores: Sequence[Store]) -> None:
        """Tells the simulator of the apps of these stores."""
        await self._post(
            "/_sandbox/apps",
            [
                {
                    "provider": "shopify",
                    "id": store.app_id,
                    "secret": store.secret,
                    "scopes": SHOPIFY_SCOPES,
                    "rotation": store.rotation,
                    "loopback_webhooks": True,
                }
                for store in stores
            ],
        )

    async def take_in(self, store: Store, *, lives_s: float, replica: str) -> None:
        """Connects a store by a grant from elsewhere whose token lives so long.

        One that is over at once is over for the simulator too: whoever uses it uses a dead token.
        """
        asked = {"shop": store.domain, "app": store.app_id}
        session = (await self._post("/_sandbox/shopify/session-token", asked))["session_token"]
        form = {
            "client_id": store.app_id,
            "client_secret": store.secret,
            "grant_type": _TOKEN_EXCHANGE,
            "subject_token": session,
            "subject_token_type": _ID_TOKEN,
            "requested_token_type": _OFFLINE,
            "expiring": "1",
        }
        granted = await self._post(f"/shopify/{store.domain}/admin/oauth/access_token", form)
        if lives_s <= 0:
            subject = {"provider": "shopify", "app": store.app_id, "account": store.domain}
            await self._post("/_sandbox/oauth/expire", subject)
        request = connection_service_pb2.ImportConnectionRequest(
            spec=store.spec(),
            access_token=granted["access_token"],
            refresh_token=granted["refresh_token"],
        )
        request.expires_at.FromNanoseconds(int((time.time() + lives_s) * 1e9))
        stub = self.connections(replica)
        await call(stub.ImportConnection, request, timeout_s=CALL_S)

    async def connect(self, store: Store, *, replica: str) -> None:
        """Connects a store as its owner would, in a browser."""
        stub = self.connections(replica)
        begin = connection_service_pb2.BeginConnectionRequest(spec=store.spec())
        begun = await call(stub.BeginConnection, begin, timeout_s=CALL_S)
        page = await agree(begun.url)
        get = connection_service_pb2.GetFlowRequest(flow_id=begun.flow_id)
        flow = await call(stub.GetFlow, get, timeout_s=CALL_S)
        connected_state = connection_service_pb2.FLOW_STATE_CONNECTED
        assert flow.state == connected_state, flow.error_message or page[:300]

    async def state(self, store: Store, replica: str) -> connection_pb2.ConnectionState.ValueType:
        """How a connection is, as one replica tells it."""
        request = connection_service_pb2.GetConnectionRequest(connection_id=store.connection_id)
        answer = await call(self.connections(replica).GetConnection, request, timeout_s=CALL_S)
        found: connection_pb2.ConnectionState.ValueType = answer.connection.connection.state
        return found

    async def record(self, store: Store) -> record_pb2.StoredGrant:
        """What is stored of a store's grant now."""
        name = subjects.in_bucket(subjects.TOKENS, subjects.token(store.connection_id))
        found = (await self._log.read_fresh([name])).get(name)
        return record_pb2.StoredGrant.FromString(found.data if found is not None else b"")

    async def holder(self, store: Store, within_s: float = 10.0) -> str | None:
        """The replica that refreshes the store's first grant; None where that is over already."""
        seen = [record_pb2.StoredGrant()]

        async def found() -> bool:
            seen[0] = await self.record(store)
            return bool(seen[0].intent.holder) or seen[0].token_revision > FIRST

        await until(found, within_s)
        return self.replica_of(seen[0].intent.holder) if seen[0].intent.holder else None

    # -- tokens ---------------------------------------------------------------------------------

    async def token(
        self, store: Store, replica: str, timeout_s: float = CALL_S
    ) -> token_service_pb2.Token:
        """The store's token from one replica, over mTLS.

        Raises:
            ServiceError: the replica's.
        """
        request = token_service_pb2.GetTokenRequest(connection_id=store.connection_id)
        answer = await call(self.tokens(replica).GetToken, request, timeout_s=timeout_s)
        token: token_service_pb2.Token = answer.token
        digest = sha256(token.access_token.encode()).hexdigest()
        self.handed.append(Handed(store.connection_id, replica, token.revision, digest))
        return token

    async def use(self, store: Store, token: token_service_pb2.Token) -> int:
        """The status of a call on the store's Admin API."""
        url = f"{self.stack.sandbox_url}/shopify/{store.domain}/admin/oauth/access_scopes.json"
        headers = {"X-Shopify-Access-Token": token.access_token}
        async with self._http.get(url, headers=headers) as answer:
            return answer.status

    async def rotate(self, store: Store, replica: str) -> None:
        """Has one replica refresh a store's token now."""
        request = connection_service_pb2.RotateConnectionRequest(connection_id=store.connection_id)
        with suppress(ServiceError):
            await call(self.connections(replica).RotateConnection, request, timeout_s=CALL_S)

    # -- the simulator --------------------------------------------------------------------------

    async def script(self, *faults: dict[str, Any]) -> None:
        """Posts faults of the token endpoints."""
        await self._post("/_sandbox/oauth/faults", list(faults))

    async def unscript(self) -> None:
        async with self._http.delete(f"{self.stack.sandbox_url}/_sandbox/oauth/faults") as answer:
            assert answer.status == 200

    async def ledger(self) -> dict[str, Any]:
        """What the simulator has counted, of all."""
        async with self._http.get(f"{self.stack.sandbox_url}/_sandbox/oauth/ledger") as answer:
            found: dict[str, Any] = msgspec.json.decode(await answer.read())
            return found

    async def account(self, store: Store) -> dict[str, Any]:
        """What the simulator has counted of one store."""
        lines = (await self.ledger())["connections"]
        own = (line for line in lines if line["app_id"] == store.app_id)
        return next(own, {"refreshes": 0, "grant_lost": False, "calls_dead": {}})

    async def rotated(self, store: Store, within_s: float = 10.0) -> None:
        """Returns once the simulator has given a new pair for the store's old one."""

        async def found() -> bool:
            return bool((await self.account(store))["refreshes"])

        await until(found, within_s)

    async def _post(self, path: str, body: object) -> Any:
        data, headers = msgspec.json.encode(body), {"Content-Type": "application/json"}
        url = self.stack.sandbox_url + path
        async with self._http.post(url, data=data, headers=headers) as answer:
            found = await answer.read()
            assert answer.status == 200, found.decode()
            return msgspec.json.decode(found)

    async def _note(self, message: Msg) -> None:
        self.told_s.setdefault(message.subject.rpartition(".")[2], time.time())


async def until(fits: Callable[[], Awaitable[bool]], within_s: float) -> None:
    """Looks again and again, and returns once it fits.

    Raises:
        TimeoutError: it did not within so many seconds.
    """
    async with asyncio.timeout(within_s):
        while True:
            if await fits():
                return
            await asyncio.sleep(_LOOK_S)


@asynccontextmanager
async def housed(directory: Path, stores: Sequence[Store]) -> AsyncIterator[House]:
    """A house whose replicas are ready, and whose simulator knows the apps of these stores."""
    stack = Stack(directory, os.environ)
    stack.connections_file.write_text("connections: []\n", "utf-8")
    async with stack, http_session(connections_max=1000, connections_max_per_host=500) as http:
        await stack.start_all(("sandbox", *REPLICAS))
        nats = await connected(stack.nats.url)
        house = House(stack, nats, http)
        try:
            await nats.subscribe(_MOVED, cb=house._note)
            await house.register(stores)
            yield house
        finally:
            await house.closed()
            await nats.close()

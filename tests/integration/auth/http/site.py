"""The HTTP server of auth on a real port and a real nats-server, and browsers to look at it."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import aiohttp
from nats.aio.client import Client

from libs.bus import subjects
from libs.bus.jetstream_log import JetStreamLog
from libs.clock import FakeClock, SystemClock
from libs.errors import ServiceError
from libs.ids import RandomIds
from libs.keys import MemoryKeySource
from libs.settings import Address, Secret
from services.auth.adapters.flows import FlowStore
from services.auth.connecting import Connecting
from services.auth.domain.grants import Family, Grant
from services.auth.http import HttpServer, is_https
from services.auth.merchant_pages import MerchantPages
from services.auth.operator_pages import OperatorPages
from services.auth.pages import Cookies, Pages
from tests.fakes.provider import APP_SECRET, CODE, TOKEN, PlayedProvider, PlayedProviders
from tidewire.auth.v1 import connection_service_pb2, health_pb2
from tidewire.auth.v1.connection_service_pb2 import ConnectionSpec, GrantFlow
from tidewire.connections.v1.connection_pb2 import CONNECTION_KIND_SHOPIFY

PASSWORD: Final = "correct horse battery"
SHOP: Final = "example"
STORE: Final = ConnectionSpec(shop=SHOP, kind=CONNECTION_KIND_SHOPIFY)
CODE_FLOW: Final = GrantFlow.GRANT_FLOW_AUTHORIZATION_CODE
SCOPES: Final = {Family.SHOPIFY: ("read_products", "read_orders")}


@dataclass
class PlayedConnected:
    """`Connected`: remembers what it was told, or fails as it is told."""

    failure: ServiceError | None = None
    made: list[tuple[ConnectionSpec, Grant]] = field(default_factory=list)

    async def connect(self, spec: ConnectionSpec, flow: GrantFlow.ValueType, grant: Grant) -> str:
        if self.failure is not None:
            raise self.failure
        self.made.append((spec, grant))
        return f"{spec.shop}.store"


@dataclass
class PlayedOverview:
    """`Overview` of what it is given."""

    statuses: Sequence[health_pb2.ConnectionStatus] = ()

    def connections(self) -> Sequence[health_pb2.ConnectionStatus]:
        return self.statuses


@dataclass(frozen=True)
class Seen:
    """What a browser was answered."""

    status: int
    headers: Mapping[str, str]
    cookies: tuple[str, ...]
    text: str
    path: str
    """Where it ended up."""


class Browser:
    """A client with cookies of its own; it keeps all it was shown in `shown`."""

    def __init__(self, session: aiohttp.ClientSession, url: str, shown: list[str]) -> None:
        self._session = session
        self._url = url
        self._shown = shown
        self.sends: dict[str, str] = {}
        """Headers of every request from now on."""

    async def get(self, url: str, *, follow: bool = True, **headers: str) -> Seen:
        """The answer to an address, ours or a whole one."""
        return await self._ask("GET", url, follow=follow, headers=headers)

    async def post(self, url: str, *, follow: bool = True, **fields: str) -> Seen:
        """The answer to a form."""
        return await self._ask("POST", url, follow=follow, data=fields)

    async def ask(self, method: str, url: str, data: bytes, content_type: str) -> Seen:
        """The answer to a request as no browser makes it."""
        headers = {"Content-Type": content_type}
        return await self._ask(method, url, follow=False, data=data, headers=headers)

    async def raw(self, target: str) -> str:
        """The answer to a request line that no client library would send."""
        _, _, address = self._url.partition("//")
        host, _, port = address.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            f"GET {target} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n".encode()
        )
        answer = (await reader.read()).decode()
        writer.close()
        await writer.wait_closed()
        self._shown.append(answer)
        return answer

    async def _ask(
        self,
        method: str,
        url: str,
        *,
        follow: bool,
        data: Mapping[str, str] | bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Seen:
        whole = self._url + url if url.startswith("/") else url
        async with self._session.request(
            method,
            whole,
            data=data,
            headers={**self.sends, **(headers or {})},
            allow_redirects=follow,
        ) as answer:
            text = await answer.text()
            self._shown.append(text)
            cookies = tuple(answer.headers.getall("Set-Cookie", ()))
            return Seen(answer.status, dict(answer.headers), cookies, text, answer.url.path)


@dataclass
class Site:
    """The server, what it was put together of, and everything that browsers were shown."""

    url: str
    clock: FakeClock
    log: JetStreamLog
    keys: MemoryKeySource
    provider: PlayedProvider
    connected: PlayedConnected
    overview: PlayedOverview
    connecting: Connecting
    flows: FlowStore
    shown: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def browser(self) -> AsyncIterator[Browser]:
        """A browser that nobody has used yet."""
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar) as session:
            yield Browser(session, self.url, self.shown)

    async def begun(self, spec: ConnectionSpec = STORE) -> str:
        """The id of an attempt."""
        return (await self.connecting.begin(spec, CODE_FLOW)).flow_id

    async def flow(self, flow_id: str) -> connection_service_pb2.GetFlowResponse:
        """How an attempt stands."""
        return await self.connecting.flow(flow_id)

    def secrets(self) -> list[str]:
        """What must stand on no page and in no log."""
        states = [consent.state for consent in self.provider.consents]
        return [CODE, TOKEN, APP_SECRET, PASSWORD, *states]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def site_of(
    nats: Client,
    *,
    password: str | None = PASSWORD,
    allow_installs: bool = False,
    public_url: str = "",
    families: tuple[Family, ...] = (),
    secret: bytes = b"a secret for tests",
) -> AsyncIterator[Site]:
    """A server that is ready; its provider's consent page is there as well."""
    clock, keys, port = FakeClock(), MemoryKeySource(), _free_port()
    log = JetStreamLog(nats, subjects.bucket_stream(subjects.FLOWS), RandomIds(SystemClock()))
    url = public_url or f"http://127.0.0.1:{port}"
    provider, connected, overview = PlayedProvider(), PlayedConnected(), PlayedOverview()
    flows = FlowStore(log, keys)
    connecting = Connecting(
        flows=flows,
        providers=PlayedProviders(provider, families),
        connected=connected,
        clock=clock,
        public_url=url,
        signing_secret=secret,
        scopes=SCOPES,
        random_bytes=secrets.token_bytes,
    )
    pages, cookies = Pages(https=is_https(url)), Cookies(https=is_https(url))
    merchant = MerchantPages(connecting, pages, cookies, clock, allow_installs=allow_installs)
    desk = OperatorPages(
        overview,
        pages,
        cookies,
        clock,
        password=Secret(password) if password else None,
        signing_secret=secret,
        random_bytes=secrets.token_bytes,
    )
    server = HttpServer(Address("127.0.0.1", port), [*merchant.routes(), *desk.routes()], pages)
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as group, provider.serving():
        group.create_task(server.run(ready.set))
        await ready.wait()
        try:
            yield Site(
                f"http://127.0.0.1:{port}",
                clock,
                log,
                keys,
                provider,
                connected,
                overview,
                connecting,
                flows,
            )
        finally:
            server.stop()

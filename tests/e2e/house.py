"""The whole suite as processes, with a person before it who connects, sells and looks."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import aiohttp
import grpc
from nats.aio.client import Client

from cli.stack import Stack
from libs.bus import subjects
from libs.bus.api import js_api
from libs.bus.scan import scan
from libs.foundation import connected as nats_connected
from libs.gates import connection_gate
from libs.rpc.client import call, channel
from libs.settings import Address
from sandbox.shopify.signing import webhook_signature
from tests.e2e.browser import Browser
from tests.unit.ingest.normalize.bodies_of import order
from tidewire.auth.v1 import connection_service_pb2 as pb
from tidewire.auth.v1 import (
    connection_service_pb2_grpc,
    health_pb2,
    record_pb2,
    token_service_pb2,
    token_service_pb2_grpc,
)
from tidewire.connections.v1 import connection_pb2
from tidewire.delivery.v1 import (
    gate_pb2,
    gate_service_pb2,
    gate_service_pb2_grpc,
    ledger_service_pb2,
    ledger_service_pb2_grpc,
)

NEEDS_PERSON: Final = connection_pb2.CONNECTION_STATE_NEEDS_REAUTHORIZATION
ACTIVE: Final = connection_pb2.CONNECTION_STATE_ACTIVE

SHOPIFY_SECRET: Final = "sandbox-shopify-secret"
SHOPIFY_APP: Final = "sandbox-shopify-app"
TIKTOK_APP: Final = "7000000000000000001"
TIKTOK_SHOP_APP: Final = "sandbox-shop-key"

_CALL_S: Final = 20.0
_WITHIN_S: Final = 130.0
"""For a command: `ledger` waits up to two minutes for what may still turn up."""

_ORDERS: Final = itertools.count(5_000_001)


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    code: int
    said: str


@dataclass
class House:
    """A stack, and everything that a test does with it."""

    stack: Stack
    http: aiohttp.ClientSession
    nats: Client
    browser: Browser
    channels: AsyncExitStack
    said: list[str] = field(default_factory=list)
    """What commands have printed."""

    _opened: dict[tuple[str, str], grpc.aio.Channel] = field(default_factory=dict)

    # -- the person ------------------------------------------------------------------------------

    @property
    def environ(self) -> dict[str, str]:
        """What a person's shell has."""
        ports = self.stack.ports.grpc
        return {
            **os.environ,
            **self.stack.certificates.environment("operator"),
            "PYTHONPATH": os.pathsep.join(sys.path),
            "TIDEWIRE_AUTH_ADDRESS": f"127.0.0.1:{ports['auth']}",
            "TIDEWIRE_DELIVERY_GRPC_ADDRESS": f"127.0.0.1:{ports['delivery']}",
            "COLUMNS": "400",
            # What is printed waits in a buffer, as it does in a pipe of anybody's.
            "PYTHONUNBUFFERED": "",
        }

    async def tidewire(self, *args: str) -> Ran:
        """One command from beginning to end."""
        process = await self._begun(*args)
        said, _ = await asyncio.wait_for(process.communicate(), _WITHIN_S)
        self.said.append(said.decode())
        return Ran(process.returncode or 0, said.decode())

    async def tidewire_connect(self, *args: str) -> Ran:
        """`tidewire connect … --no-browser`, and the browser that its reader opens."""
        process = await self._begun("connect", *args, "--no-browser")
        assert process.stdout is not None
        said = ""
        while "http" not in said:
            line = await asyncio.wait_for(process.stdout.readline(), _WITHIN_S)
            assert line, said
            said += line.decode()
        before, link = said[: said.index("http")], said[said.index("http") :].strip()
        await self.browser.agree(link)
        rest, _ = await asyncio.wait_for(process.communicate(), _WITHIN_S)
        # But for the link: that is there to be read.
        self.said.append(before + rest.decode())
        return Ran(process.returncode or 0, said + rest.decode())

    async def _begun(self, *args: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cli", *args,
            env=self.environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip

    # -- connecting, without a command -----------------------------------------------------------

    async def channel(self, service: str, who: str = "operator") -> grpc.aio.Channel:
        """To one process, with somebody's certificate; kept open."""
        known = self._opened.get((service, who))
        if known is None:
            address = Address("127.0.0.1", self.stack.ports.grpc[service])
            opening = channel(address, self.stack.certificates.identity(who))
            known = await self.channels.enter_async_context(opening)
            self._opened[service, who] = known
        return known

    async def connections(self, service: str = "auth") -> Any:
        """The connections as one process of the token service tells of them to a person."""
        return connection_service_pb2_grpc.ConnectionServiceStub(await self.channel(service))

    async def connect_store(self, shop: str) -> str:
        """Connects a store; its connection."""
        spec = pb.ConnectionSpec(
            shop=shop,
            kind=connection_pb2.CONNECTION_KIND_SHOPIFY,
            country="US",
            currency="USD",
        )
        return await self.connect(spec)

    async def connect_pixel(self, shop: str, pixel: str, advertiser: str) -> str:
        """Connects a pixel by an advertiser's grant of its own; its connection."""
        await self.change_app("tiktok-business", TIKTOK_APP, advertiser_ids=[advertiser])
        spec = pb.ConnectionSpec(
            shop=shop,
            kind=connection_pb2.CONNECTION_KIND_TIKTOK_EVENTS,
            tiktok_events=connection_pb2.EventsSettings(pixel_code=pixel),
        )
        return await self.connect(spec)

    async def connect(self, spec: pb.ConnectionSpec) -> str:
        """Begins, agrees in the browser, and is connected."""
        stub = await self.connections()
        begun = await call(
            stub.BeginConnection, pb.BeginConnectionRequest(spec=spec), timeout_s=_CALL_S
        )
        page = await self.browser.agree(begun.url)
        flow = await call(stub.GetFlow, pb.GetFlowRequest(flow_id=begun.flow_id), timeout_s=_CALL_S)
        assert flow.state == pb.FLOW_STATE_CONNECTED, (flow, page)
        return str(flow.connection_id)

    async def status(
        self, connection_id: str, service: str = "auth"
    ) -> health_pb2.ConnectionStatus:
        """How a connection is."""
        stub = await self.connections(service)
        request = pb.GetConnectionRequest(connection_id=connection_id)
        answer = await call(stub.GetConnection, request, timeout_s=_CALL_S)
        found: health_pb2.ConnectionStatus = answer.connection
        return found

    async def token(self, connection_id: str, service: str = "auth", who: str = "ingest") -> str:
        """A connection's token, as a service gets it from one process."""
        stub: Any = token_service_pb2_grpc.TokenServiceStub(await self.channel(service, who))
        request = token_service_pb2.GetTokenRequest(connection_id=connection_id)
        return str((await call(stub.GetToken, request, timeout_s=_CALL_S)).token.access_token)

    async def rotate(self, connection_id: str, service: str) -> None:
        """Has one process refresh a token."""
        stub = await self.connections(service)
        request = pb.RotateConnectionRequest(connection_id=connection_id)
        await call(stub.RotateConnection, request, timeout_s=_CALL_S)

    async def becomes(self, connection_id: str, state: int) -> None:
        """Returns once a connection is in a state."""

        async def holds() -> bool:
            return (await self.status(connection_id)).connection.state == state

        await until(holds, f"{connection_id} is {state}")

    # -- the simulators --------------------------------------------------------------------------

    async def asked(self, path: str) -> Any:
        """What a simulator shows."""
        async with self.http.get(f"{self.stack.sandbox_url}/_sandbox/{path}") as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def tell(self, path: str, body: object) -> Any:
        """Has a simulator do something."""
        url = f"{self.stack.sandbox_url}/_sandbox/{path}"
        async with self.http.post(url, json=body) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def change_app(self, provider: str, app: str, **fields: object) -> None:
        """Changes how an app is registered with its platform."""
        await self.tell("apps", {"provider": provider, "id": app, **fields})

    async def granted(self, provider: str, app: str, account: str) -> dict[str, Any]:
        """What a platform has counted of one account's grants."""
        every = (await self.asked("oauth/ledger"))["connections"]
        (found,) = [
            one
            for one in every
            if (one["provider"], one["app_id"], one["account"]) == (provider, app, account)
        ]
        counts: dict[str, Any] = found
        return counts

    async def topics(self, shop: str) -> set[str]:
        """What a store is subscribed to."""
        found = await self.asked(f"shopify/webhooks?shop={domain(shop)}")
        return {one["topic"] for one in found}

    async def purchases(self) -> dict[str, list[str]]:
        """Ids of the purchases that TikTok has accepted, by pixel."""
        found: dict[str, list[str]] = {}
        for event in (await self.asked("ledger?full=1"))["events"]:
            pixel, name, event_id = event["key"]
            if name == "Purchase":
                found.setdefault(pixel, []).append(event_id)
        return found

    async def has_bought(
        self, pixel: str, orders: Sequence[int], *, perhaps_twice: bool = False
    ) -> list[str]:
        """The events of a pixel at TikTok, once it knows these orders and no others.

        Each once, unless somebody was killed who may have sent it without having noted that.
        """
        wanted = sorted(f"purchase.{one}" for one in orders)

        async def holds() -> bool:
            return set((await self.purchases()).get(pixel, ())) >= set(wanted)

        await until(holds, f"{wanted} are at {pixel}", _WITHIN_S)
        found = (await self.purchases())[pixel]
        assert sorted(set(found) if perhaps_twice else found) == wanted, found
        return found

    # -- the merchant's customers ----------------------------------------------------------------

    async def buys(self, shop: str, *, by_subscription: bool = False) -> int:
        """A webhook of a paid order, by hand or as the store has subscribed; the order's id."""
        number = next(_ORDERS)
        body = paid_order(number)
        if by_subscription:
            wish = {"shop": domain(shop), "topic": "orders/paid", "body": body}
            (sent,) = (await self.tell("shopify/send", wish))["sent"]
            assert sent["status"] == 200, sent
            return number
        await self.posts(shop, json.dumps(body).encode())
        return number

    async def posts(self, shop: str, body: bytes) -> None:
        """A webhook of a paid order with this body, signed."""
        headers = {
            "Content-Type": "application/json",
            "X-Shopify-Topic": "orders/paid",
            "X-Shopify-Shop-Domain": domain(shop),
            "X-Shopify-Webhook-Id": f"w{next(_ORDERS)}",
            "X-Shopify-API-Version": "2026-10",
            "X-Shopify-Hmac-Sha256": webhook_signature(SHOPIFY_SECRET, body),
        }
        async with self.http.post(self.stack.webhooks_url, data=body, headers=headers) as answer:
            assert answer.status == 200, (answer.status, await answer.text())

    async def ends_lease(self, *names: str) -> None:
        """Has leases of those who were killed run out now."""
        stream = subjects.bucket_stream(subjects.LEASES)
        for name in names:
            subject = subjects.in_bucket(subjects.LEASES, name)
            await js_api(self.nats, f"STREAM.PURGE.{stream}", {"filter": subject})

    # -- looking ---------------------------------------------------------------------------------

    async def metrics(self, service: str) -> str:
        """The page of metrics of a process."""
        port = self.stack.ports.metrics[service]
        async with self.http.get(f"http://127.0.0.1:{port}/metrics") as answer:
            return await answer.text()

    async def metric(self, service: str, name: str, **labels: str) -> float:
        """The sum of what a process counts under these labels."""
        total = 0.0
        for line in (await self.metrics(service)).splitlines():
            head, _, value = line.rpartition(" ")
            fits = all(f'{label}="{wanted}"' in head for label, wanted in labels.items())
            if head.partition("{")[0] == name and fits:
                total += float(value)
        return total

    def logged(self, service: str, event: str) -> list[dict[str, Any]]:
        """What a process has logged under a name."""
        lines = self.stack.log_path(service).read_text(encoding="utf-8").splitlines()
        found = [json.loads(line) for line in lines if f'"{event}"' in line]
        return [one for one in found if one["event"] == event]

    async def gates(self) -> gate_service_pb2.GateServiceListResponse:
        """The gates that are shut, and what waits with which connection."""
        stub: Any = gate_service_pb2_grpc.GateServiceStub(await self.channel("delivery"))
        request = gate_service_pb2.GateServiceListRequest()
        found: gate_service_pb2.GateServiceListResponse
        found = await call(stub.List, request, timeout_s=_CALL_S)
        return found

    async def parks(self, connection_id: str, units: int) -> None:
        """Returns once so many units wait with a connection, whose gate is shut."""

        async def holds() -> bool:
            return (await self.gates()).parked.get(connection_id, 0) == units

        await until(holds, f"{units} units are parked with {connection_id}", _WITHIN_S)
        assert await self.is_shut(connection_id)

    async def is_shut(self, connection_id: str) -> bool:
        """Whether the gate of a connection is shut for its credentials."""
        return any(
            gate.name == connection_gate(connection_id)
            and gate.reason == gate_pb2.GATE_REASON_CREDENTIALS
            for gate in (await self.gates()).gates
        )

    async def told_of(self, connection_id: str) -> list[str]:
        """The states of a connection that were published, in order."""
        shop = connection_id.partition(".")[0]
        subject = f"auth.connection.*.{subjects.token(shop)}"
        events = [
            record_pb2.ConnectionEvent.FromString(one.data)
            async for one in scan(self.nats, subjects.AUDIT, subject)
        ]
        return [
            connection_pb2.ConnectionState.Name(one.state).removeprefix("CONNECTION_STATE_").lower()
            for one in events
            if one.connection_id == connection_id
        ]

    async def ledger(self, shop: str) -> ledger_service_pb2.LedgerServiceGetResponse:
        """What became of all that was received of a shop, as far as is known."""
        stub: Any = ledger_service_pb2_grpc.LedgerServiceStub(await self.channel("delivery"))
        request = ledger_service_pb2.LedgerServiceGetRequest(shop=shop)
        found: ledger_service_pb2.LedgerServiceGetResponse
        found = await call(stub.Get, request, timeout_s=_CALL_S)
        return found


async def until(holds: Callable[[], Awaitable[bool]], what: str, within_s: float = 40.0) -> None:
    """Returns as soon as `holds` does; looks seldom, for others have to work meanwhile."""
    deadline_s = time.monotonic() + within_s
    while not await holds():
        if time.monotonic() > deadline_s:
            raise AssertionError(f"not within {within_s:.0f} s: {what}")
        await asyncio.sleep(0.1)


@asynccontextmanager
async def house_at(directory: Path, environ: Mapping[str, str]) -> AsyncIterator[House]:
    """A house with everything in it ready, and nothing connected."""
    wanted = {**os.environ, "TIDEWIRE_AUTH_KEEP_EVERY_S": "1", **environ}
    async with (
        Stack(directory, wanted) as stack,
        aiohttp.ClientSession() as http,
        Browser() as browser,
        AsyncExitStack() as channels,
    ):
        await stack.start_all()
        nats = await nats_connected(stack.nats.url)
        channels.push_async_callback(nats.close)
        house = House(stack, http, nats, browser, channels)
        # TikTok Shop sends everybody to the address that is registered.
        callback = f"{stack.pages_url}/oauth/tiktok-shop/callback"
        await house.change_app("tiktok-shop", TIKTOK_SHOP_APP, redirect_uris=[callback])
        yield house


def domain(shop: str) -> str:
    """Where a store is."""
    return f"{shop}.myshopify.com"


def paid_order(number: int) -> dict[str, Any]:
    """An order of this moment."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    token = f"c0ffee{number}"
    return order(
        id=number, created_at=now, updated_at=now, processed_at=now, refunds=[],
        checkout_token=token, cart_token=token, name=f"#{number}", order_number=number,
    )  # fmt: skip

"""The services as their wiring builds them, in this process, with a sandbox for TikTok."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

import grpc
import yaml

from libs.clock import SystemClock
from libs.errors import ServiceError
from libs.foundation import Foundation, foundation
from libs.keys import create_kek
from libs.lifecycle import Part, run_parts
from libs.rpc.server import RpcServer
from libs.settings import Address
from libs.telemetry import Telemetry
from sandbox.tiktok.app import TikTokSandbox
from sandbox.tiktok.config import Grant, SandboxConfig
from services.delivery import settings as delivery_settings
from services.delivery.wiring import delivery
from services.events import settings as events_settings
from services.events.wiring import events
from services.ingest import settings as ingest_settings
from services.ingest.wiring import ingest
from tests.fakes import callers
from tests.fakes.nats_server import NatsServer
from tests.unit.ingest.normalize.bodies_of import order, product
from tidewire.commerce.v1 import commerce_service_pb2_grpc, tracked_event_pb2
from tidewire.delivery.v1 import dead_letter_service_pb2_grpc
from tidewire.events.v1 import events_service_pb2_grpc
from tidewire.ingest.v1 import ingest_service_pb2_grpc

WITHIN_S: Final = 45.0
_ANY: Final = Address("127.0.0.1", 0)
_CLOCK: Final = SystemClock()
_TOKEN: Final = "token"

T = TypeVar("T")


async def eventually(ask: Callable[[], Awaitable[T]], good: Callable[[T], bool]) -> T:
    """The first answer that is good; what is not found yet is asked for again.

    Raises:
        TimeoutError: none was.
    """
    deadline_s = time.monotonic() + WITHIN_S
    while True:
        try:
            found = await ask()
            if good(found):
                return found
        except ServiceError as error:
            if not error.code.endswith("not_found"):
                raise
        if time.monotonic() > deadline_s:
            raise TimeoutError("no good answer in time")
        await asyncio.sleep(0.05)


@dataclass
class Rig:
    """What tests talk to."""

    shop: str
    tiktok: TikTokSandbox
    foundation: Foundation
    ingest_channel: grpc.aio.Channel
    events_channel: grpc.aio.Channel
    delivery_channel: grpc.aio.Channel

    def __post_init__(self) -> None:
        self.ingest: Any = ingest_service_pb2_grpc.IngestServiceStub(self.ingest_channel)
        self.commerce: Any = commerce_service_pb2_grpc.CommerceServiceStub(self.ingest_channel)
        self.events: Any = events_service_pb2_grpc.EventsServiceStub(self.events_channel)
        self.dead_letters: Any = dead_letter_service_pb2_grpc.DeadLetterServiceStub(
            self.delivery_channel
        )

    def ids_at_tiktok(self) -> list[str]:
        """Event ids that TikTok accepted, in order, repetitions included."""
        full: dict[str, Any] = self.tiktok.ledger.full()
        return [event["key"][2] for event in full["events"]]

    async def accepted(self) -> list[str]:
        """As `ids_at_tiktok`, to be awaited."""
        return self.ids_at_tiktok()


def new_id() -> str:
    return uuid.uuid4().hex[:12]


def tracked(event_id: str, **changes: Any) -> tracked_event_pb2.TrackedEvent:
    event = tracked_event_pb2.TrackedEvent(
        event="Subscribe", event_id=event_id, page_url="https://shop.example/club"
    )
    event.occurred_at.GetCurrentTime()
    event.MergeFrom(tracked_event_pb2.TrackedEvent(**changes))
    return event


def order_body(order_id: int, **changes: Any) -> bytes:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    times = {"created_at": now, "updated_at": now, "processed_at": now}
    return json.dumps(order(**{**times, "id": order_id, **changes})).encode()


def product_body(product_id: int, updated_at: str) -> bytes:
    return json.dumps(product(id=product_id, updated_at=updated_at)).encode()


@asynccontextmanager
async def rig_at(
    server: NatsServer,
    directory: Path,
    *,
    shop: str = "",
    entry: Mapping[str, Any] = MappingProxyType({}),
    ingest_changes: Mapping[str, Any] = MappingProxyType({}),
) -> AsyncIterator[Rig]:
    """The services on `server`, for a shop of its own with the pixels C1 and C2.

    `entry` replaces parts of the shop's entry in the connections file.
    """
    shop = shop or f"s{new_id()}"
    _write_connections(directory / "connections.yaml", shop, entry)
    kek_file = server.directory / "kek"
    if not kek_file.exists():
        create_kek(kek_file)
    grant = Grant(pixels=frozenset({"C1", "C2"}))
    tiktok = TikTokSandbox(SandboxConfig(tokens={_TOKEN: grant}), _CLOCK)
    common: dict[str, Any] = {
        "nats_url": server.url,
        "nats_monitor_url": server.monitor_url,
        "stream_scale_mib": 64,
        "connections_file": directory / "connections.yaml",
        "kek_file": kek_file,
        "state_dir": directory,
        "grpc_address": _ANY,
        "metrics_address": _ANY,
    }
    async with AsyncExitStack() as stack:
        url = await tiktok.start()
        stack.push_async_callback(tiktok.stop)
        for_ingest = ingest_settings.Settings(
            **common, **callers.settings_of("ingest"), http_address=_ANY, **ingest_changes
        )
        base = await stack.enter_async_context(foundation(for_ingest, Telemetry.null(), _CLOCK))
        parts = await stack.enter_async_context(ingest(for_ingest, base, ingest_settings.Role.ALL))
        first = await stack.enter_async_context(_served(parts, base))
        for_events = events_settings.Settings(
            **common, **callers.settings_of("events"), tiktok_api_base_url=url
        )
        other = await stack.enter_async_context(foundation(for_events, Telemetry.null(), _CLOCK))
        lanes = await stack.enter_async_context(events(for_events, other))
        second = await stack.enter_async_context(_served(lanes, other))
        for_delivery = delivery_settings.Settings(**common, **callers.settings_of("delivery"))
        last = await stack.enter_async_context(foundation(for_delivery, Telemetry.null(), _CLOCK))
        third = await stack.enter_async_context(_served(delivery(for_delivery, last), last))
        yield Rig(shop, tiktok, base, first, second, third)


@asynccontextmanager
async def _served(parts: Mapping[str, Part], base: Foundation) -> AsyncIterator[grpc.aio.Channel]:
    stopping = asyncio.Event()
    running = asyncio.create_task(
        run_parts(parts, grace_s=10.0, readiness=base.readiness, stopping=stopping)
    )
    async with asyncio.timeout(WITHIN_S):
        async for is_ready in base.readiness.changes():
            if is_ready:
                break
    server = parts["grpc"]
    assert isinstance(server, RpcServer)
    async with callers.channel_to(server.port) as opened:
        yield opened
        stopping.set()
        await asyncio.wait_for(running, WITHIN_S)


def _write_connections(path: Path, shop: str, changes: Mapping[str, Any]) -> None:
    pixels = [{"access_token": _TOKEN, "pixel_code": code} for code in ("C1", "C2")]
    entry = {
        "shop": f"{shop}.myshopify.com",
        "country": "US",
        "currency": "USD",
        "active_since": "2020-01-01T00:00:00Z",
        "shopify": {"webhook_secrets": ["secret"]},
        "tiktok_events": pixels,
        **changes,
    }
    path.write_text(yaml.safe_dump({"connections": [entry]}), encoding="utf-8")

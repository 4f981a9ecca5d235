"""Ingest in this process, on a real nats-server: its door, its committer, its normalizer."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import nats
import yaml
from nats.aio.client import Client

from libs.bus import streams, subjects
from libs.bus.api import ApiError, js_api
from libs.bus.burial import BurialPolicy, BurialWatch
from libs.bus.commit_log import CommitLog, ConflictError, Entry, Stored
from libs.bus.jetstream_log import JetStreamLog
from libs.bus.publisher import publish
from libs.bus.scan import scan
from libs.clock import SystemClock
from libs.connections import FileConnections
from libs.errors import ServiceError
from libs.ids import RandomIds
from libs.keys import KeySource, MemoryKeySource
from libs.lifecycle import Part
from libs.resources import MESSAGES
from libs.sealing import seal
from libs.settings import Address
from libs.telemetry import Metrics, Sampler, Tracer
from libs.vault import Vault
from services.ingest.batch import BatchProcessor
from services.ingest.committer import GroupCommitter
from services.ingest.http import UNKNOWN_SHOP, HttpServer, Webhooks
from services.ingest.normalizer import Bounds, Normalizer
from services.ingest.work import Job, OpenSegment
from tests.fakes.nats_server import NatsServer
from tests.fakes.streams import delete_streams
from tests.unit.ingest.normalize.bodies_of import order
from tidewire.commerce.v1 import order_pb2, record_pb2
from tidewire.delivery.v1 import outcome_pb2
from tidewire.ingest.v1 import delivery_pb2

SHOP: Final = "example"
OTHER: Final = "other"
STRANGER: Final = "stranger"
SECRETS: Final[Mapping[str, Sequence[str]]] = {SHOP: ("new-secret", "old-secret"), OTHER: ("two",)}
BODY_BYTES_MAX: Final = 6 * 2**20
PENDING_BYTES_MAX: Final = 32 * 2**20
WITHIN_S: Final = 60.0
"""The machine may be slow: a wait ends early where all is well."""

_CLOCK: Final = SystemClock()
_SCALE_MIB: Final = 16


async def eventually(
    holds: Callable[[], Awaitable[bool]], what: str, within_s: float = WITHIN_S
) -> None:
    """Returns as soon as `holds` does.

    Raises:
        TimeoutError: it did not; names `what`.
    """
    deadline_s = time.monotonic() + within_s
    while not await holds():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"not within {within_s:.0f} s: {what}")
        await asyncio.sleep(0.02)


@asynccontextmanager
async def connection(url: str) -> AsyncIterator[Client]:
    """A client that comes back by itself, as the services' own."""
    client = await nats.connect(
        url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=_ignored
    )
    try:
        yield client
    finally:
        await client.close()


async def _ignored(_error: Exception) -> None:
    """Tests look at what comes of an error, not at the client's own words."""


async def fresh_streams(client: Client, server: NatsServer) -> None:
    """All streams, new and empty."""
    await delete_streams(client, server)
    await streams.apply(client, scale_mib=_SCALE_MIB)


@asynccontextmanager
async def running(part: Part) -> AsyncIterator[None]:
    """A part of a process, ready; stopped and finished on leaving."""
    ready = asyncio.Event()
    task = asyncio.create_task(part.run(ready.set))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({task, waiting}, timeout=WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    try:
        assert ready.is_set(), "the part did not become ready"
        yield
    finally:
        part.stop()
        await asyncio.wait_for(task, WITHIN_S)


@dataclass
class Suite:
    """What ingest is made of; tests put together what they need."""

    nats: Client
    connections: FileConnections
    keys: KeySource
    connections_file: Path

    def __post_init__(self) -> None:
        self.metrics = Metrics()
        self.tracer = Tracer(Sampler(_CLOCK), None, strict=True)
        self.ids = RandomIds(_CLOCK)
        self.burials = BurialWatch(_CLOCK, BurialPolicy(), shops_known=lambda: 3)
        self.vault = Vault(self.keys)
        self.log = JetStreamLog(self.nats, subjects.COMMERCE, self.ids)

    def committer(self, pending_bytes_max: int = PENDING_BYTES_MAX) -> GroupCommitter:
        return GroupCommitter(
            self.nats, _CLOCK, self.ids, self.metrics, pending_bytes_max=pending_bytes_max
        )

    def webhooks(self, committer: GroupCommitter) -> Webhooks:
        return Webhooks(
            connections=self.connections,
            credentials=self.connections,
            keys=self.keys,
            committer=committer,
            tracer=self.tracer,
            metrics=self.metrics,
            clock=_CLOCK,
            ids=self.ids,
        )

    def processor(
        self,
        log: CommitLog | None = None,
        kind: type[BatchProcessor] = BatchProcessor,
        on_tied: Callable[[str, str], None] = lambda _shop, _product_id: None,
    ) -> BatchProcessor:
        return kind(
            nats=self.nats,
            log=log or self.log,
            vault=self.vault,
            connections=self.connections,
            credentials=self.connections,
            tracer=self.tracer,
            metrics=self.metrics,
            clock=_CLOCK,
            burials=self.burials,
            on_tied=on_tied,
        )

    def normalizer(
        self, processor: BatchProcessor | None = None, *, batch_deliveries: int = 120
    ) -> Normalizer:
        bounds = Bounds(read_ahead_bytes=64 * 2**20, batch_deliveries=batch_deliveries)
        return Normalizer(
            self.nats,
            processor or self.processor(),
            bounds=bounds,
            clock=_CLOCK,
            metrics=self.metrics,
            burials=self.burials,
        )

    async def delivery(
        self, delivery_id: str, body: bytes, *, shop: str = SHOP, topic: str = "orders/paid"
    ) -> delivery_pb2.Delivery:
        """A delivery as the door stores it."""
        known = self.connections.shop(shop) is not None
        owner = shop if known else UNKNOWN_SHOP
        sealed = seal(body, await self.keys.current(owner), associated=owner.encode())
        made = delivery_pb2.Delivery(
            delivery_id=delivery_id,
            source=delivery_pb2.SOURCE_SHOPIFY,
            shop=shop,
            topic=topic,
            secret_id=f"{shop}.0",
            traceparent=self.tracer.start_trace().traceparent(),
            body=sealed,
            body_size_bytes=len(body),
            shop_unknown=not known,
        )
        made.received_at.FromNanoseconds(_CLOCK.now_ns())
        return made

    async def orders(
        self, count: int, *, shop: str = SHOP, first: int = 1
    ) -> list[delivery_pb2.Delivery]:
        """Deliveries of `count` paid orders, all different."""
        numbers = range(first, first + count)
        return [await self.delivery(f"w{n}", order_body(id=n), shop=shop) for n in numbers]

    async def store(self, deliveries: Sequence[delivery_pb2.Delivery]) -> int:
        """Puts a segment into WEBHOOKS; its sequence."""
        segment_id = self.ids.new()
        segment = delivery_pb2.DeliverySegment(segment_id=segment_id, deliveries=deliveries)
        segment.committing_at.FromNanoseconds(_CLOCK.now_ns())
        return await self.store_bytes(segment.SerializeToString(), segment_id)

    async def store_bytes(self, data: bytes, message_id: str = "any") -> int:
        """Puts any bytes into WEBHOOKS; their sequence."""
        return await publish(self.nats, subjects.webhook("shopify"), data, message_id=message_id)

    # -- what is stored --------------------------------------------------------------------------

    async def segments(self) -> list[delivery_pb2.DeliverySegment]:
        found = await self.stored(subjects.WEBHOOKS, "webhook.*")
        return [delivery_pb2.DeliverySegment.FromString(one.data) for one in found]

    async def received(self) -> list[delivery_pb2.Delivery]:
        return [delivery for segment in await self.segments() for delivery in segment.deliveries]

    async def stored(self, stream: str, pattern: str) -> list[Stored]:
        return [one async for one in scan(self.nats, stream, pattern)]

    async def seen(self) -> dict[str, record_pb2.SeenRecord]:
        found = await self.stored(subjects.COMMERCE, "commerce.seen.>")
        records = [record_pb2.SeenRecord.FromString(one.data) for one in found]
        return {record.delivery_id: record for record in records}

    async def facts(self, kind: str = "order_paid") -> dict[str, int]:
        """The sequence at which each fact stands: it moves where a fact is published again."""
        found = await self.stored(subjects.COMMERCE, f"commerce.fact.{kind}.>")
        records = [(record_pb2.FactRecord.FromString(one.data), one.sequence) for one in found]
        return {record.fact_id: sequence for record, sequence in records}

    async def state(self, kind: str, resource_id: str, shop: str = SHOP) -> record_pb2.StateRecord:
        name = subjects.state(kind, shop, resource_id)
        return record_pb2.StateRecord.FromString((await self.log.read([name]))[name].data)

    async def dead_letters(self) -> list[outcome_pb2.DeadLetter]:
        found = await self.stored(subjects.DEAD_LETTERS, "dlq.>")
        return [outcome_pb2.DeadLetter.FromString(one.data) for one in found]

    async def parked(self) -> list[delivery_pb2.Delivery]:
        found = await self.stored(subjects.PARKED, "parked.>")
        return [delivery_pb2.Delivery.FromString(one.data) for one in found]

    async def overwritten(self) -> int:
        """How often a message of COMMERCE took the place of another."""
        state = (await js_api(self.nats, f"STREAM.INFO.{subjects.COMMERCE}"))["state"]
        return int(state["last_seq"]) - int(state["messages"])

    async def unacknowledged(self) -> int:
        """Segments that the normalizer has still to see or to acknowledge."""
        info = await js_api(self.nats, f"CONSUMER.INFO.{subjects.WEBHOOKS}.{subjects.NORMALIZER}")
        return int(info["num_pending"]) + int(info["num_ack_pending"])

    async def all_acknowledged(self) -> bool:
        """Whether nothing is left to read; also False while nobody can be asked."""
        try:
            return await self.unacknowledged() == 0
        except (ApiError, ServiceError):
            return False


def job_of(delivery: delivery_pb2.Delivery, sequence: int = 1, index: int = 0) -> Job:
    """A delivery as the normalizer hands it to a processor."""
    return Job(open_segment(sequence), index, delivery)


def open_segment(
    sequence: int = 1,
    remaining: int = 1,
    acknowledge: Callable[[], Awaitable[None]] | None = None,
) -> OpenSegment:
    async def nothing() -> None:
        return None

    return OpenSegment(
        sequence=sequence,
        acknowledge=acknowledge or nothing,
        still_working=nothing,
        postpone=nothing,
        remaining=remaining,
        size_bytes=0,
        received_s=0.0,
        committing_ns=1,
        stored_ns=1,
    )


def order_body(**changes: Any) -> bytes:
    return json.dumps(order(**changes)).encode()


def signature(body: bytes, secret: str = SECRETS[SHOP][0]) -> str:
    return base64.b64encode(hmac.digest(secret.encode(), body, "sha256")).decode()


def write_connections(path: Path, secrets: Mapping[str, Sequence[str]]) -> None:
    entries = [
        {
            "shop": f"{shop}.myshopify.com",
            "country": "US",
            "currency": "USD",
            "active_since": "2020-01-01T00:00:00Z",
            "shopify": {"webhook_secrets": list(keys)},
            "tiktok_events": [{"access_token": "token", "pixel_code": f"C{place}"}],
        }
        for place, (shop, keys) in enumerate(secrets.items())
    ]
    path.write_text(yaml.safe_dump({"connections": entries}), encoding="utf-8")


@asynccontextmanager
async def suite_at(server: NatsServer, directory: Path) -> AsyncIterator[Suite]:
    """A suite of two shops on fresh streams."""
    path = directory / "connections.yaml"
    write_connections(path, SECRETS)
    async with connection(server.url) as client:
        await fresh_streams(client, server)
        yield Suite(client, FileConnections(path), MemoryKeySource(), path)


@dataclass(frozen=True)
class Door:
    """A webhook endpoint that serves."""

    url: str
    committer: GroupCommitter


@asynccontextmanager
async def door_of(suite: Suite, pending_bytes_max: int = PENDING_BYTES_MAX) -> AsyncIterator[Door]:
    """The endpoint and its committer, both running."""
    committer = suite.committer(pending_bytes_max)
    port = _free_port()
    server = HttpServer(
        Address("127.0.0.1", port),
        suite.webhooks(committer).receive,
        body_bytes_max=BODY_BYTES_MAX,
        reuse_port=False,
    )
    async with running(committer), running(server):
        yield Door(f"http://127.0.0.1:{port}/webhooks/shopify", committer)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class HookedLog:
    """The real log, with something that happens just before, or just after, its first commit."""

    def __init__(
        self,
        log: CommitLog,
        *,
        before: Callable[[], Awaitable[None]] | None = None,
        after: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._log = log
        self._before = before
        self._after = after
        self.sizes: list[int] = []
        self.conflicts = 0

    async def read(self, subjects: Sequence[str]) -> dict[str, Stored]:
        return await self._log.read(subjects)

    async def read_fresh(self, subjects: Sequence[str]) -> dict[str, Stored]:
        return await self._log.read_fresh(subjects)

    async def commit(self, entries: Sequence[Entry]) -> int:
        before, self._before = self._before, None
        if before:
            await before()
        try:
            last = await self._log.commit(entries)
        except ConflictError:
            self.conflicts += 1
            raise
        self.sizes.append(len(entries))
        after, self._after = self._after, None
        if after:
            await after()
        return last


async def opened_order(suite: Suite, order_id: str) -> order_pb2.Order:
    record = await suite.state("order", order_id)
    data = await suite.vault.open_bytes(record.payload, SHOP)
    message = MESSAGES[record.kind].FromString(data)
    assert isinstance(message, order_pb2.Order)
    return message

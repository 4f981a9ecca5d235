"""What stores tell of themselves, from the webhook's body through the bus to what is done."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from nats.aio.client import Client

from libs.bus import streams, subjects
from libs.bus.consumer import Consumer, GivenUp, Unit
from libs.bus.dead_letters import DeadLetterStore
from libs.bus.publisher import publish
from libs.clock import FakeClock, SystemClock
from libs.errors import Kind, ServiceError, permanent
from libs.foundation import connected
from libs.keys import MemoryKeySource
from libs.vault import Vault
from services.auth.consumers import StoreFacts, stores
from services.ingest.normalize import ShopContext, StateView, apply
from tests.fakes.nats_server import NatsServer
from tests.unit.ingest.normalize.bodies_of import normalized, shop
from tidewire.commerce.v1 import record_pb2
from tidewire.delivery.v1 import outcome_pb2

UNINSTALLED_S = 1_790_000_000
AT = datetime.fromtimestamp(UNINSTALLED_S, UTC)


@dataclass
class Told:
    """`StoreGrants`, `Askable` and `Attention` in memory, of one shop."""

    granted: datetime | None = AT - timedelta(days=1)
    alive: bool = False
    trouble: list[ServiceError] = field(default_factory=list)
    ended: list[tuple[str, datetime]] = field(default_factory=list)
    looked_at: list[str] = field(default_factory=list)
    probed: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def granted_at(self, shop: str) -> datetime | None:
        return self.granted

    async def is_alive(self, shop: str) -> bool:
        self.probed += 1
        if self.trouble:
            raise self.trouble.pop()
        return self.alive

    async def uninstalled(self, shop: str, *, granted_until: datetime) -> None:
        self.ended.append((shop, granted_until))
        self.changed.set()

    def soon(self, shop: str) -> None:
        self.looked_at.append(shop)
        self.changed.set()


@dataclass
class Letters:
    kept: list[outcome_pb2.DeadLetter] = field(default_factory=list)

    async def store(self, letter: outcome_pb2.DeadLetter) -> None:
        self.kept.append(letter)


@dataclass
class Bench:
    told: Told = field(default_factory=Told)
    letters: Letters = field(default_factory=Letters)
    vault: Vault = field(default_factory=lambda: Vault(MemoryKeySource()))

    @property
    def facts(self) -> StoreFacts:
        return StoreFacts(self.vault, self.told, self.told, self.told, self.letters, FakeClock())

    async def units(self, handle: str, *deliveries: tuple[str, dict[str, Any], int]) -> list[Unit]:
        """What the normalizer publishes of deliveries: topic, body, when it was triggered."""
        await self.vault.prepare([handle])
        state: StateView | None = None
        units = []
        for topic, body, triggered_s in deliveries:
            context = ShopContext(shop=handle, country="US", currency="USD")
            incoming = normalized(topic, body, shop=context, triggered_s=triggered_s)
            applied = apply(state, incoming)
            state = applied.new_state or state
            for fact in applied.facts:
                record = record_pb2.FactRecord(
                    fact_id=fact.fact_id,
                    shop=handle,
                    kind=fact.kind,
                    delivery_id=topic,
                    payload=self.vault.seal(fact.fact, handle),
                    received_at=Timestamp(seconds=triggered_s),
                )
                subject = subjects.fact(fact.kind, handle, fact.fact_id)
                units.append(Unit(subject, 1, record.SerializeToString(), 0, redelivered=False))
        return units

    async def handled(
        self, *deliveries: tuple[str, dict[str, Any], int]
    ) -> list[ServiceError | None]:
        return list(await self.facts.handle(await self.units("example", *deliveries)))


def uninstalled(handle: str = "example", at_s: int = UNINSTALLED_S) -> tuple[str, Any, int]:
    return "app/uninstalled", shop(myshopify_domain=f"{handle}.myshopify.com"), at_s


async def test_an_uninstalled_store_ends_what_it_had_granted() -> None:
    bench = Bench()

    assert await bench.handled(uninstalled()) == [None]

    assert bench.told.ended == [("example", AT - timedelta(days=1))]
    assert bench.told.looked_at == []
    assert bench.told.probed == 0


async def test_an_uninstall_that_comes_after_the_app_is_installed_again_ends_nothing() -> None:
    bench = Bench(Told(granted=AT + timedelta(hours=2), alive=True))

    assert await bench.handled(uninstalled()) == [None]

    assert bench.told.ended == []
    assert bench.told.looked_at == ["example"]


@pytest.mark.parametrize("minutes", [-9, 9, 60])
async def test_where_clocks_prove_nothing_the_store_is_asked(minutes: int) -> None:
    granted = AT + timedelta(minutes=minutes)
    lives, dead = Bench(Told(granted, alive=True)), Bench(Told(granted, alive=False))

    for bench in (lives, dead):
        await bench.handled(uninstalled())

    assert lives.told.ended == []
    assert dead.told.ended == [("example", granted)]


async def test_while_the_store_cannot_be_asked_nothing_is_decided() -> None:
    down = ServiceError(Kind.RETRYABLE, "upstream_status_503")
    bench = Bench(Told(granted=AT, trouble=[down]))

    assert await bench.handled(uninstalled()) == [down]

    assert (bench.told.ended, bench.told.looked_at) == ([], [])


async def test_a_store_without_a_grant_has_nothing_to_end() -> None:
    bench = Bench(Told(granted=None))

    assert await bench.handled(uninstalled()) == [None]

    assert bench.told.ended == []


async def test_changed_scopes_have_the_store_looked_at() -> None:
    body = {
        "id": 1,
        "previous": ["read_orders"],
        "current": [],
        "updated_at": "2026-09-01T12:00:00Z",
    }

    bench = Bench()
    await bench.handled(("app/scopes_update", body, UNINSTALLED_S))

    assert bench.told.looked_at == ["example"]
    assert bench.told.ended == []


async def test_an_uninstall_that_is_older_than_the_newest_state_is_not_even_told() -> None:
    bench = Bench()
    again = shop(updated_at="2030-01-01T00:00:00Z")

    await bench.handled(("shop/update", again, UNINSTALLED_S + 9), uninstalled())

    assert bench.told.ended == []


async def test_a_fact_that_cannot_be_read_goes_to_the_dead_letters_with_its_shop() -> None:
    bench = Bench()
    subject = subjects.fact("shop_changed", "example", "shop-1")
    for data in (b"\xff\xff", b""):
        unit = Unit(subject, 1, data, 0, redelivered=False)
        (error,) = await bench.facts.handle([unit])
        assert error is not None
        assert (error.kind, error.code) == (Kind.PERMANENT, "fact_unreadable")

    unit = Unit(subject, 1, b"\xff\xff", 0, redelivered=False)
    await bench.facts.bury(GivenUp(unit, "permanent/fact_unreadable", permanent("fact_unreadable")))

    (letter,) = bench.letters.kept
    assert (letter.service, letter.shop, letter.unit, letter.reason_class) == (
        "auth",
        "example",
        "shop_changed.shop-1",
        "permanent",
    )


@pytest.fixture
async def nats(nats_server: NatsServer) -> AsyncIterator[Client]:
    client = await connected(nats_server.url)
    await streams.apply(client, scale_mib=16)
    yield client
    await client.close()


async def test_the_durable_follows_all_stores_and_tries_again_what_could_not_be_decided(
    nats: Client,
) -> None:
    down = ServiceError(Kind.THROTTLED, "throttled", retry_after_s=0.02)
    bench = Bench(Told(granted=AT, trouble=[down]))
    told, letters = bench.told, DeadLetterStore(nats)
    facts = StoreFacts(bench.vault, told, told, told, letters, SystemClock())
    consumer = Consumer(nats, stores(facts), SystemClock())
    running = asyncio.create_task(consumer.run(lambda: None))
    handle = f"shop-{uuid.uuid4().hex}"

    for unit in await bench.units(handle, uninstalled(handle)):
        await publish(nats, unit.subject, unit.data, message_id=unit.subject)
    async with asyncio.timeout(20):
        await bench.told.changed.wait()
    consumer.stop()
    await running

    assert bench.told.ended == [(handle, AT)]
    assert bench.told.probed == 2

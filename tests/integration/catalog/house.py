"""The catalog service in this process, between real NATS and simulators of Shopify and TikTok."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
import yaml
from aiohttp import web
from google.protobuf.timestamp_pb2 import Timestamp
from nats.aio.client import Client

from libs import resources
from libs.bus import subjects
from libs.bus.commit_log import Entry
from libs.bus.jetstream_log import JetStreamLog
from libs.clock import SystemClock
from libs.connections import FileConnections
from libs.foundation import Foundation
from libs.ids import RandomIds
from libs.keys import MemoryKeySource
from libs.lifecycle import Readiness
from libs.limits import DeclaredLimits
from libs.telemetry import Metrics, Sampler, Tracer
from libs.vault import Vault
from sandbox.catalog_judge import Market, compared
from sandbox.oauth.desk import Desk
from sandbox.shopify.catalog_model import CatalogShop
from sandbox.shopify.catalog_plan import CatalogPlan
from sandbox.shopify.catalog_shop import make_catalog
from sandbox.shopify.wire import Told
from sandbox.shopify_admin.app import AdminConfig, ShopifyAdminSandbox
from sandbox.shopify_admin.shelf import Shelf
from sandbox.tiktok.app import TikTokSandbox
from sandbox.tiktok.catalog.settings import CatalogSettings as SandboxCatalog
from sandbox.tiktok.catalog.shelf import Line
from sandbox.tiktok.config import Grant, SandboxConfig
from services.catalog.engine import Engine
from services.catalog.settings import Settings
from services.catalog.views import CatalogView, SyncView
from services.catalog.wiring import at_work
from services.ingest.normalize import DeliveryMeta, Normalized, ShopContext, apply, normalize
from tests.fakes.nats_server import NatsServer
from tests.integration.ingest.harness import eventually, fresh_streams, running
from tidewire.commerce.v1 import record_pb2

SHOP: Final = "example"
DOMAIN: Final = "example.myshopify.com"
CLOCK: Final = SystemClock()
FREE: Final = (
    "tiktok.catalog.app=none;tiktok.catalog.upload=none;tiktok.catalog.delete=none;"
    "tiktok.catalog.upload.*=none;tiktok.catalog.delete.*=none;shopify.*.graphql=none"
)
PROMPT: Final = SandboxCatalog(
    submit_spacing_s=0, ingestion_ms=5, ingestion_us_per_item=0, waiting_ms=0, review_ms=0
)
"""A TikTok that lets nobody wait."""


def catalog_entry(catalog_id: str = "7001", **changes: Any) -> dict[str, Any]:
    """A catalog of the connections file."""
    plain = {
        "access_token": "token-of-tiktok",
        "business_center_id": "1",
        "catalog_id": catalog_id,
        "country": "US",
        "currency": "USD",
        "language": "en",
        "submit_spacing_s": 0,
    }
    return plain | changes


@dataclass
class House:
    """The service and its surroundings."""

    nats: Client
    url: str
    tiktok: TikTokSandbox
    shopify: ShopifyAdminSandbox
    session: aiohttp.ClientSession
    settings: Settings
    connections_file: Path
    metrics: Metrics = field(default_factory=Metrics)
    keys: MemoryKeySource = field(default_factory=MemoryKeySource)

    @property
    def shelf(self) -> CatalogShop:
        """What the shop has."""
        shelf = self.shopify.store(DOMAIN).shelf
        assert shelf is not None
        return shelf.shop

    def stock(self, plan: CatalogPlan) -> CatalogShop:
        """Fills the shop's shelf."""
        shop = make_catalog(plan, int(CLOCK.now_ns() / 1e9) - 3600)
        self.shopify.store(DOMAIN).shelf = Shelf(shop)
        return shop

    def write_connections(self, *catalogs: Mapping[str, Any]) -> None:
        """One shop with these catalogs."""
        shop = {
            "shop": DOMAIN,
            "country": "US",
            "currency": "USD",
            "active_since": "2026-01-01T00:00:00Z",
            "shopify": {"webhook_secrets": ["secret"], "access_token": "shpat_example"},
            "tiktok_catalog": [dict(one) for one in catalogs],
        }
        self.connections_file.write_text(yaml.safe_dump({"connections": [shop]}))

    def items(self, catalog_id: str = "7001") -> dict[str, bytes]:
        """What TikTok has in a catalog, by id, as it was sent."""
        return self.tiktok.catalogs.items(catalog_id) or {}

    def submits(self, catalog_id: str = "7001") -> list[Line]:
        """Everything that was submitted to a catalog."""
        catalog = self.tiktok.catalogs.book.get(catalog_id)
        return list(catalog.history) if catalog else []

    def make_catalog(self, catalog_id: str, **changes: Any) -> None:
        """A catalog at TikTok that differs from the others."""
        settings = msgspec.structs.replace(PROMPT, **changes)
        self.tiktok.catalogs.book.make(catalog_id, settings)

    def behave(self, catalog_id: str = "7001", **changes: Any) -> None:
        """Has a catalog at TikTok behave differently from now on."""
        catalog = self.tiktok.catalogs.book.get(catalog_id)
        assert catalog is not None
        catalog.change(msgspec.structs.replace(catalog.settings, **changes))

    def fault(self, effect: Mapping[str, Any], what: str = "product/", **limits: Any) -> None:
        """Has TikTok's catalog fail; `limits` are those of a fault, and `sku` a pattern."""
        match = {"path": f"/open_api/v1.3/catalog/{what}"}
        if "sku" in limits:
            match["sku"] = limits.pop("sku")
        script = msgspec.json.encode({"match": match, "effect": dict(effect), **limits})
        self.tiktok.faults.post(script, CLOCK.monotonic_s())

    async def view(self, engine: Engine, catalog_id: str = "7001") -> CatalogView:
        """How a catalog is, as the service tells it."""
        status = await engine.status(SHOP)
        return next(one for one in status.catalogs if one.catalog_id == catalog_id)

    async def sees(
        self, engine: Engine, holds: Callable[[CatalogView], bool], what: str = "", **whom: str
    ) -> CatalogView:
        """How a catalog is as soon as `holds` does."""
        seen: list[CatalogView] = []

        async def found() -> bool:
            view = await self.view(engine, **whom)
            if holds(view):
                seen.append(view)
            return bool(seen)

        await eventually(found, what or "the catalog is as awaited", within_s=30)
        return seen[0]

    def compared(self, catalog_id: str = "7001", **market: str) -> dict[str, Any]:
        """How TikTok's catalog differs from the shop, as the simulators know both."""
        whom = {"country": "US", "currency": "USD", "language": "en"} | market
        return compared(self.shelf, self.items(catalog_id), Market(**whom))

    async def told(self, changes: Iterable[Told]) -> None:
        """Has what Shopify tells of changes in COMMERCE."""
        for one in changes:
            await self.tell(one.topic, one.body)

    async def rested(self, engine: Engine) -> SyncView:
        """The shop's sync, once it has come to its end."""
        found: list[SyncView] = []

        async def ended() -> bool:
            progress = (await engine.status(SHOP)).progress
            if progress is not None and progress.phase.is_end:
                found.append(progress)
            return bool(found)

        await eventually(ended, "the sync has come to its end")
        return found[0]

    async def equal(self, catalog_id: str = "7001", **market: str) -> bool:
        """True once TikTok has exactly what the shop sells.

        Raises:
            AssertionError: it has not; says how they differ.
        """
        last: dict[str, Any] = {}

        async def same() -> bool:
            last.update(self.compared(catalog_id, **market))
            return bool(last["equal"])

        try:
            await eventually(same, "TikTok has what the shop sells")
        except TimeoutError:
            raise AssertionError(last) from None
        return True

    async def tell(self, topic: str, body: Mapping[str, Any]) -> None:
        """Has the normalizer's word on a webhook in COMMERCE, as if it had come that way."""
        data = msgspec.json.encode(body)
        meta = DeliveryMeta(body_hash=hash(data) & 0xFFFF, received_at=_now())
        said = normalize(topic, data, ShopContext(shop=SHOP, country="US", currency="USD"), meta)
        assert isinstance(said, Normalized)
        view = apply(None, said).new_state
        assert view is not None
        record = record_pb2.StateRecord(
            kind=view.kind,
            shop=SHOP,
            resource_id=view.resource_id,
            version=view.version,
            deleted=view.deleted,
        )
        if view.message is not None:
            vault = Vault(self.keys)
            await vault.prepare([SHOP])
            record.payload.CopyFrom(vault.seal(view.message, SHOP))
        name = subjects.state(resources.NAMES[view.kind], SHOP, view.resource_id)
        log = JetStreamLog(self.nats, subjects.COMMERCE, RandomIds(CLOCK))
        await log.commit([Entry(name, record.SerializeToString())])

    @asynccontextmanager
    async def running(
        self, connections: FileConnections | None = None, **changes: Any
    ) -> AsyncIterator[Engine]:
        """The service at work; ended as a process that is told to stop would be."""
        settings = replace(self.settings, **changes)
        base = self._foundation(settings)
        if connections is not None:
            base = replace(base, connections=connections)
        async with at_work(settings, base) as (engine, parts), AsyncExitStack() as stack:
            for part in (base.connections, *parts.values()):
                await stack.enter_async_context(running(part))
            yield engine

    @asynccontextmanager
    async def doomed(self, **changes: Any) -> AsyncIterator[Engine]:
        """The service at work; killed at the end: nothing is finished and nothing is given up."""
        settings = replace(self.settings, **changes)
        base = self._foundation(settings)
        async with at_work(settings, base) as (engine, parts):
            tasks = [
                asyncio.create_task(part.run(lambda: None))
                for part in (base.connections, *parts.values())
            ]
            try:
                yield engine
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)

    def _foundation(self, settings: Settings) -> Foundation:
        return Foundation(
            nats=self.nats,
            clock=CLOCK,
            ids=RandomIds(CLOCK),
            tracer=Tracer(Sampler(CLOCK), None, strict=True),
            metrics=self.metrics,
            readiness=Readiness(),
            nats_closed=asyncio.Event(),
            declared_limits=DeclaredLimits(settings.limits),
            rpc=settings,
            connections=FileConnections(self.connections_file, poll_s=0.1),
            keys=self.keys,
            vault=Vault(self.keys),
            followers={},
        )


def _now() -> Timestamp:
    now = Timestamp()
    now.GetCurrentTime()
    return now


@asynccontextmanager
async def opened(nats: Client, server: NatsServer, folder: Path) -> AsyncIterator[House]:
    """A house with fresh streams, simulators that serve, and one catalog."""
    await fresh_streams(nats, server)
    desk = Desk(CLOCK)
    grant = Grant(catalogs=frozenset({"7001", "7002", "7003"}))
    tiktok = TikTokSandbox(
        SandboxConfig(
            tokens={"token-of-tiktok": grant, "new-token-of-tiktok": grant},
            catalog_defaults=PROMPT,
        ),
        CLOCK,
        desk,
    )
    shopify = ShopifyAdminSandbox(
        AdminConfig(tokens={DOMAIN: "shpat_example"}, capacity=20_000, restore_per_s=10_000),
        CLOCK,
        desk,
    )
    app = tiktok.app()
    shopify.add_routes(app)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, max_line_size=65_536)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    settings = Settings(
        tiktok_api_base_url=url,
        shopify_base_url=f"{url}/shopify/{{shop}}",
        limits=FREE,
        state_dir=folder,
        settle_s=0.05,
        log_poll_s=0.02,
        bulk_poll_s=0.05,
        review_every_s=0.0,
    )
    try:
        async with aiohttp.ClientSession() as session:
            house = House(
                nats, url, tiktok, shopify, session, settings, folder / "connections.yaml"
            )
            house.write_connections(catalog_entry())
            yield house
    finally:
        shopify.let_go()
        await tiktok.stop()
        await runner.cleanup()

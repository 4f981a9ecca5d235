"""Shopify's Admin API on loopback, and clients of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml
from aiohttp import web

from libs.clock import Clock, SystemClock
from libs.connections import FileConnections
from libs.limits import BucketSeen, Limiter, Priority
from libs.shopify.admin import ShopifyAdmin
from libs.telemetry import Metrics
from sandbox.shopify_admin.app import AdminConfig, ShopifyAdminSandbox

TOKEN: Final = "shpat_example"
DOMAIN: Final = "example.myshopify.com"
CLOCK: Final = SystemClock()


@dataclass
class RecordingLimiter:
    """A limiter that lets everything pass and remembers what it was told."""

    turns: list[tuple[tuple[str, ...], int, Priority, str]] = field(default_factory=list)
    reports: list[tuple[tuple[str, ...], float | None, str]] = field(default_factory=list)
    seen: list[tuple[str, BucketSeen]] = field(default_factory=list)

    async def turn(
        self,
        limits: Sequence[str],
        *,
        weight: int = 1,
        priority: Priority = Priority.LIVE,
        shop: str = "",
        max_wait_s: float = 1.0,
    ) -> None:
        self.turns.append((tuple(limits), weight, priority, shop))

    async def report(
        self, limits: Sequence[str], *, retry_after_s: float | None, code: str
    ) -> None:
        self.reports.append((tuple(limits), retry_after_s, code))

    async def observe(self, limit: str, seen: BucketSeen) -> None:
        self.seen.append((limit, seen))


@dataclass
class Served:
    """A simulator that serves, and where."""

    sandbox: ShopifyAdminSandbox
    url: str

    @property
    def template(self) -> str:
        return f"{self.url}/shopify/{{shop}}"

    def put(self, *, orders: Any = (), products: Any = (), domain: str = DOMAIN) -> None:
        store = self.sandbox.store(domain)
        store.put("Order", orders)
        store.put("Product", products)


@asynccontextmanager
async def serving(
    tokens: Mapping[str, str] | None = None,
    *,
    schema_folder: Path | None = None,
    capacity: float = 2000.0,
    restore_per_s: float = 100.0,
    clock: Clock = CLOCK,
) -> AsyncIterator[Served]:
    config = AdminConfig(
        tokens=tokens if tokens is not None else {DOMAIN: TOKEN},
        schema_folder=schema_folder,
        capacity=capacity,
        restore_per_s=restore_per_s,
    )
    sandbox = ShopifyAdminSandbox(config, clock)
    app = web.Application(client_max_size=32 * 2**20)
    sandbox.add_routes(app)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield Served(sandbox, f"http://127.0.0.1:{runner.addresses[0][1]}")
    finally:
        sandbox.let_go()
        await runner.cleanup()


def connections_file(
    path: Path, shops: Mapping[str, str | None], *, api_version: str | None = None
) -> FileConnections:
    """A connections file of shops (by handle) with their Admin tokens, if any."""
    entries = [
        {
            "shop": f"{handle}.myshopify.com",
            "country": "US",
            "currency": "USD",
            "active_since": "2020-01-01T00:00:00Z",
            "shopify": {
                "webhook_secrets": ["secret"],
                **({"access_token": token} if token else {}),
                **({"api_version": api_version} if api_version else {}),
            },
            "tiktok_events": [{"access_token": "token", "pixel_code": f"C{place}"}],
        }
        for place, (handle, token) in enumerate(shops.items())
    ]
    path.write_text(yaml.safe_dump({"connections": entries}), encoding="utf-8")
    return FileConnections(path)


def admin_of(
    url_template: str,
    session: aiohttp.ClientSession,
    connections: FileConnections,
    limiter: Limiter,
    metrics: Metrics,
    *,
    api_version: str = "2026-10",
    timeout_s: float = 5.0,
    clock: Clock = CLOCK,
) -> ShopifyAdmin:
    return ShopifyAdmin(
        base_url=url_template,
        api_version=api_version,
        session=session,
        connections=connections,
        credentials=connections,
        limiter=limiter,
        clock=clock,
        metrics=metrics,
        timeout_s=timeout_s,
    )

"""`tidewire sandbox`: the simulators as a process; who may call comes from the connections file."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvloop
import yaml
from aiohttp import web

from libs.clock import SystemClock
from libs.settings import Address, env, load
from sandbox.oauth.desk import Desk
from sandbox.shopify_admin.app import AdminConfig, ShopifyAdminSandbox
from sandbox.tiktok.app import STOP_GRACE_S, TikTokSandbox
from sandbox.tiktok.config import Grant, Rules, SandboxConfig
from sandbox.tiktok_shop.app import TikTokShopSandbox

_SCHEMAS_BESIDE_PROJECT: Final = Path("..", "shared", "data", "schema", "admin")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Read once, from `TIDEWIRE_…`."""

    address: Address = env(
        "SANDBOX_ADDRESS", "where the simulators listen", default=Address("127.0.0.1", 9300)
    )
    connections_file: Path = env(
        "CONNECTIONS_FILE", "shops and their connections", default=Path("connections.yaml")
    )
    latency_ms: float = env("SANDBOX_LATENCY_MS", "time each answer of TikTok takes", default=0.0)
    shopify_schemas: Path = env(
        "SANDBOX_SHOPIFY_SCHEMAS",
        "folder of Shopify's own Admin schemas (`admin_<version>.introspection.json.gz`), by which"
        " operations are judged; without it by a part of our own",
        default=_SCHEMAS_BESIDE_PROJECT,
    )
    apps_file: Path | None = env(
        "SANDBOX_APPS_FILE",
        "JSON list of OAuth apps (as `POST /_sandbox/apps` takes them) beside those made up",
        default=None,
    )


def grants_of(connections_file: Path) -> dict[str, Grant]:
    """Which token may report for which pixels, as the connections file has it."""
    pixels: dict[str, set[str]] = {}
    for shop in _shops_in(connections_file):
        for pixel in shop.get("tiktok_events", ()):
            pixels.setdefault(pixel["access_token"], set()).add(pixel["pixel_code"])
    return {token: Grant(pixels=frozenset(codes)) for token, codes in pixels.items()}


def admin_tokens_of(connections_file: Path) -> dict[str, str]:
    """The Admin API token of each shop that has one, by domain, as the connections file has it."""
    return {
        _domain(shop["shop"]): token
        for shop in _shops_in(connections_file)
        if (token := shop.get("shopify", {}).get("access_token"))
    }


def _shops_in(connections_file: Path) -> list[dict[str, Any]]:
    """The shops of a connections file; none without one: then OAuth alone gives out tokens."""
    if not connections_file.is_file():
        return []
    document = yaml.safe_load(connections_file.read_text(encoding="utf-8"))
    shops: list[dict[str, Any]] = document["connections"]
    return shops


def _domain(shop: str) -> str:
    return (shop if "." in shop else f"{shop}.myshopify.com").lower()


def serve_sandbox(environ: Mapping[str, str]) -> int:
    """Runs the simulators until they are told to stop."""
    uvloop.run(_serve(load(Settings, environ)))
    return 0


async def _serve(settings: Settings) -> None:
    clock = SystemClock()
    config = SandboxConfig(
        tokens=grants_of(settings.connections_file),
        rules=Rules(accept_guide_lists=True),
        base_latency_ms=settings.latency_ms,
    )
    desk = Desk(clock)
    if settings.apps_file is not None:
        desk.apps.post(settings.apps_file.read_bytes())
    tiktok = TikTokSandbox(config, clock, desk)
    shopify = ShopifyAdminSandbox(
        AdminConfig(
            tokens=admin_tokens_of(settings.connections_file),
            schema_folder=settings.shopify_schemas,
            loopback_webhooks=True,
        ),
        clock,
        desk,
    )
    app = tiktok.app()
    shopify.add_routes(app)
    TikTokShopSandbox(desk).add_routes(app)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_GRACE_S)
    await runner.setup()
    address = settings.address
    await web.TCPSite(runner, address.host, address.port, reuse_address=True).start()
    try:
        await stopping.wait()
    finally:
        shopify.let_go()
        await tiktok.stop()
        await runner.cleanup()

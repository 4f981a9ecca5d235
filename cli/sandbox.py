"""`tidewire sandbox`: the simulators as a process; who may call comes from the connections file."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop
from aiohttp import web

from libs.clock import SystemClock
from libs.connections.tree import parse_yaml
from libs.settings import Address, env, load
from sandbox.catalog_judge import CatalogJudge
from sandbox.oauth.desk import Desk
from sandbox.shopify.catalog_model import CatalogShop
from sandbox.shopify_admin.app import AdminConfig, ShopifyAdminSandbox
from sandbox.tiktok.app import REQUEST_LINE_MAX_BYTES, STOP_GRACE_S, TikTokSandbox
from sandbox.tiktok.catalog.settings import CatalogSettings, changed
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
    shopify_points_per_s: float = env(
        "SANDBOX_SHOPIFY_POINTS_PER_S",
        "points that a shop of Shopify's gains in a second, of which it holds twenty times as many:"
        " 100 on the Standard plan, 1000 on Plus",
        default=100.0,
        least=1,
    )
    catalog_spacing_s: float = env(
        "SANDBOX_CATALOG_SPACING_S",
        "least time between submits to a catalog of TikTok's; 0 for none",
        default=60.0,
    )
    catalog_ingestion_ms: float = env(
        "SANDBOX_CATALOG_INGESTION_MS", "time that a submit to a catalog takes", default=1000.0
    )
    catalog_review_ms: float = env(
        "SANDBOX_CATALOG_REVIEW_MS", "time that the review of a catalog item takes", default=2000.0
    )
    catalogs_file: Path | None = env(
        "SANDBOX_CATALOGS_FILE",
        "JSON object of catalogs' settings (as `POST /_sandbox/catalogs/<id>` takes them) by id,"
        " beside those of the connections file",
        default=None,
    )


def grants_of(connections_file: Path) -> dict[str, Grant]:
    """What each token may do for pixels and catalogs, as the connections file has it."""
    pixels: dict[str, set[str]] = {}
    catalogs: dict[str, set[str]] = {}
    for shop in _shops_in(connections_file):
        for pixel in shop.get("tiktok_events", ()):
            pixels.setdefault(pixel["access_token"], set()).add(pixel["pixel_code"])
        for catalog in shop.get("tiktok_catalog") or ():
            token = catalog.get("access_token")
            if token:
                catalogs.setdefault(token, set()).add(str(catalog["catalog_id"]))
    return {
        token: Grant(
            pixels=frozenset(pixels.get(token, ())), catalogs=frozenset(catalogs.get(token, ()))
        )
        for token in pixels | catalogs
    }


def catalog_defaults_of(settings: Settings) -> CatalogSettings:
    """How a catalog behaves that nothing else is said of."""
    return CatalogSettings(
        submit_spacing_s=settings.catalog_spacing_s,
        ingestion_ms=settings.catalog_ingestion_ms,
        review_ms=settings.catalog_review_ms,
    )


def catalogs_of(settings: Settings) -> dict[str, CatalogSettings]:
    """The catalogs of the connections file and of the catalogs file, by id.

    Raises:
        msgspec.DecodeError: the catalogs file has a setting that there is not.
    """
    defaults = catalog_defaults_of(settings)
    catalogs: dict[str, CatalogSettings] = {}
    for shop in _shops_in(settings.connections_file):
        for catalog in shop.get("tiktok_catalog") or ():
            catalogs[str(catalog["catalog_id"])] = msgspec.structs.replace(
                defaults,
                bc_id=str(catalog["business_center_id"]),
                region=catalog.get("country") or shop.get("country") or defaults.region,
                currency=catalog.get("currency") or shop.get("currency") or defaults.currency,
            )
    if settings.catalogs_file is not None:
        told = msgspec.json.decode(settings.catalogs_file.read_bytes(), type=dict[str, msgspec.Raw])
        for catalog_id, body in told.items():
            catalogs[catalog_id] = changed(catalogs.get(catalog_id, defaults), bytes(body))
    return catalogs


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
    # Read as the services read it: the country `NO` is Norway.
    document: Any = parse_yaml(connections_file.read_text(encoding="utf-8"))[0]
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
        catalogs=catalogs_of(settings),
        catalog_defaults=catalog_defaults_of(settings),
    )
    desk = Desk(clock)
    if settings.apps_file is not None:
        desk.apps.post(settings.apps_file.read_bytes())
    tiktok = TikTokSandbox(config, clock, desk)
    shopify = ShopifyAdminSandbox(
        AdminConfig(
            tokens=admin_tokens_of(settings.connections_file),
            schema_folder=settings.shopify_schemas,
            capacity=20 * settings.shopify_points_per_s,
            restore_per_s=settings.shopify_points_per_s,
            loopback_webhooks=True,
        ),
        clock,
        desk,
    )
    app = tiktok.app()
    shopify.add_routes(app)
    TikTokShopSandbox(desk).add_routes(app)
    CatalogJudge(_shop_of(shopify), _items_of(tiktok)).add_routes(app)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    runner = web.AppRunner(
        app,
        access_log=None,
        shutdown_timeout=STOP_GRACE_S,
        max_line_size=REQUEST_LINE_MAX_BYTES,
    )
    await runner.setup()
    address = settings.address
    await web.TCPSite(runner, address.host, address.port, reuse_address=True).start()
    try:
        await stopping.wait()
    finally:
        shopify.let_go()
        await tiktok.stop()
        await runner.cleanup()


def _shop_of(shopify: ShopifyAdminSandbox) -> Callable[[str], CatalogShop | None]:
    def shop_of(domain: str) -> CatalogShop | None:
        shelf = shopify.store(domain).shelf
        return shelf.shop if shelf else None

    return shop_of


def _items_of(tiktok: TikTokSandbox) -> Callable[[str], dict[str, bytes] | None]:
    def items_of(catalog_id: str) -> dict[str, bytes] | None:
        return tiktok.catalogs.items(catalog_id)

    return items_of

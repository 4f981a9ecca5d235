"""All three simulators on one loopback port, and a client that writes its requests by hand."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import aiohttp
from aiohttp import web

from libs.clock import FakeClock
from sandbox.oauth.desk import Desk
from sandbox.shopify_admin.app import AdminConfig, ShopifyAdminSandbox
from sandbox.tiktok.app import Grant, SandboxConfig, TikTokSandbox
from sandbox.tiktok_shop.app import TikTokShopSandbox
from tests.unit.sandbox.samples import NOW_S, PIXEL, TOKEN

SHOP: Final = "example.myshopify.com"
STATIC_TOKEN: Final = "shpat_example"
CALLBACK: Final = "http://127.0.0.1:1/callback"
SHOPIFY: Final = {"client_id": "sandbox-shopify-app", "client_secret": "sandbox-shopify-secret"}
TIKTOK: Final = {"app_id": "7000000000000000001", "secret": "sandbox-tiktok-secret"}
ACCOUNT: Final = {"client_id": "sandbox-account-app", "client_secret": "sandbox-account-secret"}
SELLER: Final = {"app_key": "sandbox-shop-key", "app_secret": "sandbox-shop-secret"}
JSON: Final = {"Accept": "application/json"}

_FIELD = re.compile(r'<input type="hidden" name="([^"]*)" value="([^"]*)">')


@dataclass
class Client:
    """Hand-written requests, and what came back."""

    session: aiohttp.ClientSession
    url: str
    clock: FakeClock
    desk: Desk

    async def get(self, path: str, query: Any = None, **options: Any) -> tuple[int, Any]:
        return await self._sent("GET", path, params=query, **options)

    async def post(self, path: str, **options: Any) -> tuple[int, Any]:
        return await self._sent("POST", path, **options)

    async def delete(self, path: str, **options: Any) -> tuple[int, Any]:
        return await self._sent("DELETE", path, **options)

    async def _sent(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        url = f"{self.url}{path}"
        async with self.session.request(method, url, allow_redirects=False, **options) as answer:
            text = await answer.text()
            try:
                return answer.status, json.loads(text)
            except ValueError:
                return answer.status, text

    async def consent(self, path: str, query: dict[str, str], decision: str = "allow") -> Any:
        """What a person does: opens the page and presses a button; the address and its query."""
        status, page = await self.get(path, query)
        assert status == 200, page
        fields = {name: unescape(value) for name, value in _FIELD.findall(page)}
        url, form = f"{self.url}{path}", fields | {"decision": decision}
        async with self.session.post(url, data=form, allow_redirects=False) as answer:
            assert answer.status == 302, await answer.text()
            parts = urlsplit(answer.headers["Location"])
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        return f"{parts.scheme}://{parts.netloc}{parts.path}", query

    async def change(self, **app: Any) -> None:
        """Changes fields of a registered app."""
        status, found = await self.post("/_sandbox/apps", json=app)
        assert status == 200, found

    async def fault(self, **fault: Any) -> None:
        status, found = await self.post("/_sandbox/oauth/faults", json=[fault])
        assert status == 200, found

    async def oauth(self) -> dict[str, Any]:
        """The OAuth part of the ledger."""
        _, found = await self.get("/_sandbox/ledger")
        part: dict[str, Any] = found["oauth"]
        return part

    async def shopify_code(self, scope: str = "read_products,write_orders") -> str:
        query = {
            "client_id": SHOPIFY["client_id"],
            "scope": scope,
            "redirect_uri": CALLBACK,
            "state": "nonce-1",
        }
        _, found = await self.consent(f"/shopify/{SHOP}/admin/oauth/authorize", query)
        code: str = found["code"]
        return code

    async def shopify_token(self, shop: str = SHOP, **fields: str) -> tuple[int, Any]:
        path = f"/shopify/{shop}/admin/oauth/access_token"
        return await self.post(path, data=SHOPIFY | fields, headers=JSON)

    async def installed(self, scope: str = "read_products,write_orders") -> dict[str, Any]:
        """An expiring pair, freshly granted."""
        status, found = await self.shopify_token(code=await self.shopify_code(scope), expiring="1")
        assert status == 200, found
        pair: dict[str, Any] = found
        return pair

    async def refreshed(self, refresh_token: str) -> tuple[int, Any]:
        return await self.shopify_token(grant_type="refresh_token", refresh_token=refresh_token)

    async def admin(
        self, token: str, query: str, variables: Any = None, version: str = "2026-10"
    ) -> tuple[int, Any]:
        return await self.post(
            f"/shopify/{SHOP}/admin/api/{version}/graphql.json",
            json={"query": query, "variables": variables},
            headers={"X-Shopify-Access-Token": token},
        )


@asynccontextmanager
async def connected(schema_folder: Path | None = None) -> AsyncIterator[Client]:
    clock = FakeClock(NOW_S)
    desk = Desk(clock)
    tiktok = TikTokSandbox(SandboxConfig(tokens={TOKEN: Grant(frozenset({PIXEL}))}), clock, desk)
    shopify = ShopifyAdminSandbox(
        AdminConfig(tokens={SHOP: STATIC_TOKEN}, schema_folder=schema_folder), clock, desk
    )
    app = tiktok.app()
    shopify.add_routes(app)
    TikTokShopSandbox(desk).add_routes(app)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            yield Client(session, url, clock, desk)
    finally:
        shopify.let_go()
        await runner.cleanup()

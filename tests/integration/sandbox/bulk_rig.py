"""A shop with a small catalog behind a real port, and what is asked of its bulk operations."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiohttp import web

from libs.clock import FakeClock
from sandbox.shopify.catalog_model import CatalogShop
from sandbox.shopify_admin.app import AdminConfig, ShopifyAdminSandbox
from sandbox.shopify_admin.shelf import Shelf
from tests.unit.sandbox_shopify_admin.shelves import AT_S, SHOP, small_shop

TOKEN: Final = "shpat_example"
START: Final = """
mutation Start($q: String!, $grouped: Boolean! = false) {
  bulkOperationRunQuery(query: $q, groupObjects: $grouped) {
    bulkOperation { id status url objectCount } userErrors { field message code }
  }
}"""
POLL: Final = """
query Poll($id: ID!) {
  bulkOperation(id: $id) {
    id status errorCode type query createdAt completedAt objectCount rootObjectCount fileSize url
    partialDataUrl
  }
}"""
CANCEL: Final = """
mutation Cancel($id: ID!) {
  bulkOperationCancel(id: $id) {
    bulkOperation { id status } userErrors { field message }
  }
}"""
LIST: Final = """
query All($query: String, $reverse: Boolean) {
  bulkOperations(first: 10, query: $query, reverse: $reverse) { nodes { id status } }
}"""
PRODUCTS: Final = "{ products { edges { node { id title } } } }"
_TRIES: Final = 250


@dataclass
class Bulk:
    """Hand-written calls."""

    session: aiohttp.ClientSession
    url: str
    clock: FakeClock
    sandbox: ShopifyAdminSandbox
    shop: CatalogShop

    async def ask(self, query: str, variables: Any = None, version: str = "2026-10") -> Any:
        """The whole answer to a GraphQL operation."""
        url = f"{self.url}/shopify/{SHOP}/admin/api/{version}/graphql.json"
        body = {"query": query, "variables": variables}
        headers = {"X-Shopify-Access-Token": TOKEN}
        async with self.session.post(url, json=body, headers=headers) as answer:
            assert answer.status == 200
            return await answer.json()

    async def start(self, query: str = PRODUCTS, **more: Any) -> Any:
        """The payload of a start."""
        body = await self.ask(START, {"q": query, **more})
        return body["data"]["bulkOperationRunQuery"]

    async def started(self, query: str = PRODUCTS, **more: Any) -> str:
        """The id of an operation that was taken."""
        payload = await self.start(query, **more)
        assert payload["userErrors"] == []
        found: str = payload["bulkOperation"]["id"]
        return found

    async def poll(self, id_: str) -> Any:
        body = await self.ask(POLL, {"id": id_})
        return body["data"]["bulkOperation"]

    async def until(self, id_: str, *statuses: str) -> Any:
        """The operation once it has one of these statuses."""
        for _ in range(_TRIES):
            found = await self.poll(id_)
            if found["status"] in statuses:
                return found
            await asyncio.sleep(0.01)
        raise AssertionError(f"still {found}")

    async def lines(self, query: str = PRODUCTS, **more: Any) -> list[dict[str, Any]]:
        """What a query exports."""
        found = await self.until(await self.started(query, **more), "COMPLETED")
        return [json.loads(line) for line in (await self.fetch(found["url"])).splitlines()]

    async def fetch(self, url: str, **headers: str) -> bytes:
        async with self.session.get(url, headers=headers) as answer:
            assert answer.status in {200, 206}, await answer.text()
            return await answer.read()

    async def pace(self, **settings: Any) -> None:
        await self.post("/_sandbox/shopify/bulk", settings)

    async def fault(self, **fault: Any) -> None:
        await self.post("/_sandbox/shopify/bulk/faults", fault)

    async def post(self, path: str, body: Any) -> Any:
        async with self.session.post(f"{self.url}{path}", json=body) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()


@asynccontextmanager
async def bulk_shop(schema_folder: Path | None = None) -> AsyncIterator[Bulk]:
    clock = FakeClock(AT_S + 100_000)
    config = AdminConfig(tokens={SHOP: TOKEN}, schema_folder=schema_folder, loopback_webhooks=True)
    sandbox = ShopifyAdminSandbox(config, clock)
    shop = small_shop()
    sandbox.store(SHOP).shelf = Shelf(shop)
    app = web.Application()
    sandbox.add_routes(app)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            yield Bulk(session, url, clock, sandbox, shop)
    finally:
        sandbox.let_go()
        await runner.cleanup()

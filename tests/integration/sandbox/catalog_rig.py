"""A TikTok sandbox on loopback whose catalogs a test writes to by hand."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from libs.clock import FakeClock
from sandbox.tiktok.app import Grant, SandboxConfig, TikTokSandbox
from sandbox.tiktok.catalog.settings import CatalogSettings
from tests.unit.sandbox_catalog.samples import BC, CATALOG, QUICK, TOKEN, product

ROOT: Final = "/open_api/v1.3/catalog/"
IDS: Final = {"bc_id": BC, "catalog_id": CATALOG}


@dataclass
class Client:
    """Hand-written requests to one catalog."""

    session: aiohttp.ClientSession
    url: str
    clock: FakeClock

    async def raw(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """The status, and the JSON or the text."""
        async with self.session.request(method, f"{self.url}{path}", **options) as answer:
            text = await answer.text()
            try:
                return answer.status, json.loads(text)
            except ValueError:
                return answer.status, text

    async def get(self, path: str, token: str = TOKEN, **query: str) -> Any:
        """The envelope."""
        headers = {"Access-Token": token}
        _, found = await self.raw("GET", ROOT + path, params=IDS | query, headers=headers)
        return found

    async def post(self, path: str, token: str = TOKEN, **fields: Any) -> Any:
        """The envelope."""
        headers = {"Access-Token": token}
        _, found = await self.raw("POST", ROOT + path, json=IDS | fields, headers=headers)
        return found

    async def upload(self, *products: dict[str, Any], **fields: Any) -> Any:
        return await self.post("product/upload/", products=list(products), **fields)

    async def uploaded(self, *skus: str) -> str:
        """The id of the log of a good upload."""
        found = await self.upload(*(product(sku) for sku in skus))
        assert found["code"] == 0, found
        log_id: str = found["data"]["feed_log_id"]
        return log_id

    async def delete(self, *skus: Any) -> Any:
        return await self.post("product/delete/", sku_ids=list(skus))

    async def log(self, log_id: str, **query: str) -> Any:
        found = await self.get("product/log/", feed_log_id=log_id, **query)
        assert found["code"] == 0, found
        return found["data"]["product_feed_log"]

    async def log_of(self, answer: Any) -> Any:
        assert answer["code"] == 0, answer
        return await self.log(answer["data"]["feed_log_id"])

    async def change(self, **settings: Any) -> None:
        status, found = await self.raw("POST", f"/_sandbox/catalogs/{CATALOG}", json=settings)
        assert status == 200, found

    async def fault(self, **fault: Any) -> None:
        status, found = await self.raw("POST", "/_sandbox/faults", json=[fault])
        assert status == 200, found

    async def summary(self) -> Any:
        _, found = await self.raw("GET", "/_sandbox/catalogs")
        return found["catalogs"][CATALOG]

    async def skus(self) -> list[str]:
        _, found = await self.raw("GET", f"/_sandbox/catalogs/{CATALOG}/items")
        return [item["sku_id"] for item in found["items"]]

    async def outcomes(self) -> list[str]:
        _, found = await self.raw("GET", f"/_sandbox/catalogs/{CATALOG}/history")
        return [line["outcome"] for line in found["history"]]


@asynccontextmanager
async def catalogs(settings: CatalogSettings = QUICK, **config: Any) -> AsyncIterator[Client]:
    """A sandbox whose catalogs behave as `settings` say."""
    clock = FakeClock()
    tokens = {TOKEN: Grant(pixels=frozenset({"C1"}), catalogs=frozenset({CATALOG}))}
    told = SandboxConfig(tokens=tokens, catalog_defaults=settings, **config)
    sandbox = TikTokSandbox(told, clock)
    url = await sandbox.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield Client(session, url, clock)
    finally:
        await sandbox.stop()

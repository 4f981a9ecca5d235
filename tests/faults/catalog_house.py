"""A suite that keeps two catalogs of one shop, and words to ask the simulators and the records.

One catalog speaks each dialect. TikTok's minute between two submits is a second here, so that the
spacing is judged without being waited for.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
import yaml
from nats.aio.client import Client

from libs.bus import subjects
from libs.bus.commit_log import Stored
from libs.bus.scan import scan
from libs.connections.names import catalog_id
from libs.foundation import connected
from libs.http.session import http_session
from libs.rpc.client import call, channel
from libs.settings import Address
from sandbox.shopify.model import Delivery
from sandbox.shopify.sender import Manners, send_all
from services.catalog import keys, records
from services.catalog.domain.sync import SyncProduct
from tests.faults.cluster import NatsCluster
from tests.faults.site import Kind, SiteStack
from tests.faults.wire import Wire
from tidewire.catalog.v1 import catalog_service_pb2, catalog_service_pb2_grpc

SHOP: Final = "catalog-faults"
DOMAIN: Final = f"{SHOP}.myshopify.com"
VARIANTS: Final = 300
SPACING_S: Final = 1
SECRET: Final = "shpss_catalog_faults"  # of a shop that is made up
TOKEN: Final = "token-of-catalog-faults"

_FIRST: Final = ("sandbox", "auth", "ingest-http", "ingest-normalizer")
_CALL_S: Final = 15.0
_SYNCED_WITHIN_S: Final = 90.0
_MANNERS: Final = Manners(connections=4, retries=200, backoff_s=0.05, backoff_max_s=1.0)
_FREE: Final = (
    "tiktok.catalog.app=none;tiktok.catalog.upload=none;tiktok.catalog.delete=none;"
    "tiktok.catalog.upload.*=none;tiktok.catalog.delete.*=none;shopify.*.graphql=2000@100/s;"
    "shopify.*.rest=none"
)
"""Shopify's budget as the simulator has it: it decides how many products can be read anew."""

_TOLD: Final = {
    "TIDEWIRE_LIMITS": _FREE,
    "TIDEWIRE_SANDBOX_CATALOG_SPACING_S": f"{SPACING_S}",
    "TIDEWIRE_SANDBOX_CATALOG_INGESTION_MS": "200",
    "TIDEWIRE_SANDBOX_CATALOG_REVIEW_MS": "200",
    "TIDEWIRE_CATALOG_SETTLE_S": "0.2",
    "TIDEWIRE_CATALOG_LOG_POLL_S": "0.2",
    "TIDEWIRE_CATALOG_BULK_POLL_S": "0.3",
    "TIDEWIRE_CATALOG_REVIEW_EVERY_S": "1",
    # As long as a fault may last and still be judged within half a minute of its end.
    "TIDEWIRE_CATALOG_LOG_PATIENCE_S": "10",
    "TIDEWIRE_CATALOG_TIKTOK_TIMEOUT_S": "5",
}


@dataclass(frozen=True, slots=True)
class Place:
    """One catalog of the shop."""

    catalog_id: str
    dialect: str

    @property
    def connection_id(self) -> str:
        return catalog_id(SHOP, self.catalog_id)


PLACES: Final = (Place("7001", "product_upload"), Place("7002", "item_batch"))


class CatalogHouse:
    """A stack that is up, whose shop is seeded into its catalogs."""

    def __init__(
        self, kind: Kind, stack: SiteStack, nats: Client, http: aiohttp.ClientSession, tiktok: Wire
    ) -> None:
        self.kind = kind
        self.stack = stack
        self.nats = nats
        self.tiktok = tiktok
        self._http = http
        self._seeds = itertools.count(1)

    # -- the simulators ------------------------------------------------------------------------

    async def sandbox(self, method: str, path: str, body: object = None) -> Any:
        """What the simulators answer.

        Raises:
            RuntimeError: they refuse it.
        """
        data = None if body is None else msgspec.json.encode(body)
        url = f"{self.stack.sandbox_url}/_sandbox/{path}"
        async with self._http.request(method, url, data=data) as answer:
            found = await answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{path}: {found.decode()[:300]}")
            return msgspec.json.decode(found)

    async def mutate(self, kind: str, count: int, *, told: bool = True) -> None:
        """So many changes of the shop. Returns when Shopify has told of them, if it does.

        Shopify sends again for hours; here for some minutes, which is longer than any fault takes.
        """
        wish = {"shop": DOMAIN, "kind": kind, "count": count, "seed": next(self._seeds)}
        found = await self.sandbox("POST", "shopify/mutate", {**wish, "secret": SECRET})
        deliveries = [
            Delivery(
                DOMAIN,
                one["topic"],
                tuple((name, value) for name, value in one["headers"]),
                one["body"].encode(),
                one["kind"],
            )
            for one in found["deliveries"]
        ]
        if told:
            report = await send_all(self.stack.webhooks_url, deliveries, _MANNERS)
            lost = [one.status for one in report.sent if one.status != 200]
            if lost:
                raise RuntimeError(f"webhooks ended with {lost}")

    async def differences(self) -> list[str]:
        """What TikTok has in any catalog that the shop does not sell, or otherwise."""
        found: list[str] = []
        market = f"shop={DOMAIN}&country=US&currency=USD&language=en"
        for place in PLACES:
            path = f"catalogs/{place.catalog_id}/against?{market}"
            verdict = await self.sandbox("GET", path)
            if not verdict["equal"]:
                listed = [*verdict["wrong_listed"], *verdict["extra_listed"]]
                what = f"{place.dialect}: {verdict['wrong']} wrong, {verdict['extra']} too many"
                found.append(f"{what} of {verdict['expected']}: {'; '.join(listed[:2])}")
        return found

    async def history(self, place: Place) -> list[dict[str, Any]]:
        """Every write request that TikTok had for a catalog."""
        found = await self.sandbox("GET", f"catalogs/{place.catalog_id}/history")
        lines: list[dict[str, Any]] = found["history"]
        return lines

    async def items(self, place: Place) -> dict[str, bytes]:
        """What TikTok has in a catalog, by id, as it was sent."""
        items: dict[str, bytes] = {}
        after: str | None = ""
        while after is not None:
            query = f"?after={after}" if after else ""
            url = f"{self.stack.sandbox_url}/_sandbox/catalogs/{place.catalog_id}/items{query}"
            async with self._http.get(url) as answer:
                page = _PAGES.decode(await answer.read())
            items |= {one.sku_id: bytes(one.item) for one in page.items}
            after = page.next
        return items

    # -- the records ---------------------------------------------------------------------------

    async def synced(self, place: Place) -> list[SyncProduct]:
        """What is recorded of each product's items in a catalog."""
        wanted = keys.syncs(SHOP, place.connection_id)
        return [
            records.sync_product(one.data) async for one in scan(self.nats, keys.STREAM, wanted)
        ]

    async def flights(self) -> list[records.Flight]:
        """The submits that the catalogs have under way."""
        lane = subjects.lane(SHOP)
        wanted = subjects.in_bucket(subjects.CATALOG_SYNC, f"flight.{lane}.*")
        found = [records.flight(one.data) async for one in scan(self.nats, keys.STREAM, wanted)]
        return [one for one in found if not one.over]

    async def run(self) -> records.Run | None:
        """The newest sync of the shop."""
        stored: list[Stored] = [one async for one in scan(self.nats, keys.STREAM, keys.run(SHOP))]
        return records.run(stored[-1].data) if stored else None

    async def ask_for_sync(self, replica: str = "catalog") -> None:
        """Asks one replica for a full sync."""
        address = Address("127.0.0.1", self.stack.ports.grpc[replica])
        async with channel(address, self.stack.operator) as opened:
            stub = catalog_service_pb2_grpc.CatalogServiceStub(opened)
            request = catalog_service_pb2.StartSyncRequest(
                shop=SHOP, kind=catalog_service_pb2.SYNC_KIND_FULL
            )
            await call(stub.StartSync, request, timeout_s=_CALL_S)

    async def owner(self) -> str:
        """By which process's id the shop's lane is owned; empty where by none."""
        name = subjects.in_bucket(subjects.LEASES, keys.lease(subjects.lane(SHOP)))
        stream = subjects.bucket_stream(subjects.LEASES)
        held = [one.data.decode() async for one in scan(self.nats, stream, name)]
        return held[-1] if held else ""


class _Held(msgspec.Struct):
    sku_id: str
    item: msgspec.Raw


class _Page(msgspec.Struct):
    items: list[_Held]
    next: str | None


_PAGES: Final = msgspec.json.Decoder(_Page)


@asynccontextmanager
async def housed(kind: Kind, directory: Path) -> AsyncIterator[CatalogHouse]:
    """A house, ready and seeded; on leaving every process of it ends."""
    cluster = NatsCluster(directory / "nats") if kind is Kind.CLUSTER else None
    tiktok = Wire(lambda: stack.ports.sandbox)
    await tiktok.open()
    stack = SiteStack(directory, os.environ, tiktok_url=f"http://{tiktok.address}", nats=cluster)
    stack.told |= _TOLD
    if kind is Kind.CLUSTER:
        stack.told["TIDEWIRE_NATS_REPLICAS"] = "3"
    stack.connections_file.write_text(connections_yaml(TOKEN), "utf-8")
    try:
        async with stack, http_session() as http:
            await stack.start_all(_FIRST)
            nats = await connected(stack.nats.url)
            try:
                house = CatalogHouse(kind, stack, nats, http, tiktok)
                plan = {"shop": DOMAIN, "variants": VARIANTS, "odd": []}
                await house.sandbox("POST", "shopify/catalog", plan)
                await stack.start("catalog")
                await stack.wait_ready("catalog")
                yield house
            finally:
                await nats.close()
    finally:
        await tiktok.shut()


def connections_yaml(token: str) -> str:
    """The connections file of the shop, whose catalogs are called with `token`."""
    catalogs: Sequence[Mapping[str, Any]] = [
        {
            "access_token": token,
            "business_center_id": "7300000000000000001",
            "catalog_id": place.catalog_id,
            "dialect": place.dialect,
            "submit_spacing_s": SPACING_S,
        }
        for place in PLACES
    ]
    shop = {
        "shop": DOMAIN,
        "country": "US",
        "currency": "USD",
        "active_since": f"{time.gmtime().tm_year - 1}-01-01T00:00:00Z",
        "shopify": {"webhook_secrets": [SECRET], "access_token": "shpat_catalog_faults"},
        "tiktok_catalog": list(catalogs),
    }
    return yaml.safe_dump({"connections": [shop]}, sort_keys=False)

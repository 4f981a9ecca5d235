"""What somebody sends to a catalog who no longer owns its lane."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest

from libs.bus.jetstream_log import JetStreamLog
from libs.connections.names import catalog_id
from libs.ids import RandomIds
from sandbox.shopify.catalog_plan import CatalogPlan
from services.catalog import keys
from services.catalog.domain.waiting import Act
from services.catalog.late import LateWords
from services.catalog.records import Flight, FlightItem
from services.catalog.store import SyncStore
from tests.integration.catalog.house import CLOCK, DOMAIN, SHOP, House
from tests.integration.ingest.harness import eventually

PLAN: Final = CatalogPlan(shop=DOMAIN, variants=20, odd=())
CONNECTION: Final = catalog_id(SHOP, "7001")


@pytest.mark.parametrize("away", [False, True], ids=["owner-at-work", "owner-away"])
async def test_an_item_that_was_overwritten_late_is_sent_again(house: House, *, away: bool) -> None:
    house.stock(PLAN)
    async with house.running() as engine:
        await house.rested(engine)
        assert await house.equal()
        flight = await _overwrite(house)
        assert not house.compared()["equal"]
        if not away:
            await _tell(house, flight)
            assert await house.equal()
            return
    await _tell(house, flight)

    async with house.running():
        assert await house.equal()


async def _overwrite(house: House) -> Flight:
    """An older version of an item reaches TikTok."""
    sku_id, raw = next(iter(house.items().items()))
    product: dict[str, Any] = msgspec.json.decode(raw)
    product["title"] = "As it was called before"
    body = {"bc_id": "1", "catalog_id": "7001", "products": [product]}
    url = f"{house.url}/open_api/v1.3/catalog/product/upload/"
    headers = {"Access-Token": "token-of-tiktok"}
    async with house.session.post(url, json=body, headers=headers) as answer:
        assert (await answer.json())["code"] == 0
    await eventually(lambda: _is_called(house, sku_id, "As it was"), "the older version is there")
    item = FlightItem(product["item_group_id"], sku_id, 1, 1)
    return Flight(act=Act.UPLOAD, items=(item,), sent_ns=CLOCK.now_ns())


async def _is_called(house: House, sku_id: str, words: str) -> bool:
    return words in msgspec.json.decode(house.items()[sku_id])["title"]


async def _tell(house: House, flight: Flight) -> None:
    log = JetStreamLog(house.nats, keys.STREAM, RandomIds(CLOCK))
    LateWords(SyncStore(house.nats, log), CLOCK).tell(SHOP, CONNECTION, flight)

    async def is_told() -> bool:
        return bool(await log.read([keys.late(SHOP, CONNECTION)]))

    await eventually(is_told, "the word is there")

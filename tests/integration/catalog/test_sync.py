"""A shop and its catalog: seeded, changed, compared."""

from __future__ import annotations

from sandbox.shopify.catalog_plan import CatalogPlan
from services.catalog.domain.states import SyncPhase
from tests.integration.catalog.house import DOMAIN, SHOP, House
from tests.integration.ingest.harness import eventually

PLAN = CatalogPlan(shop=DOMAIN, variants=60, odd=())


async def test_a_shop_with_a_new_catalog_is_seeded_by_itself(house: House) -> None:
    shop = house.stock(PLAN)

    async with house.running() as engine:

        async def rested() -> bool:
            progress = (await engine.status(SHOP)).progress
            return progress is not None and progress.phase is SyncPhase.DONE

        await eventually(rested, "the shop is seeded")
        found = await house.items()

    assert len(found) == len(shop.variants)
    assert set(found) == {one.sku for one in shop.variants.values()}

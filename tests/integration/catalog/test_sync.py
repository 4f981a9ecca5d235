"""A shop and its catalogs: seeded, changed, compared."""

from __future__ import annotations

from random import Random

import pytest

from sandbox.shopify.catalog_changes import Changes, Kind
from sandbox.shopify.catalog_plan import CatalogPlan
from sandbox.shopify_admin.access import STATIC
from services.catalog.domain.states import SyncKind, SyncPhase
from tests.integration.catalog.house import CLOCK, DOMAIN, SHOP, House, catalog_entry
from tests.integration.ingest.harness import eventually

PLAN = CatalogPlan(shop=DOMAIN, variants=60, odd=())


def now_s() -> int:
    return int(CLOCK.now_ns() / 1e9)


async def test_a_shop_with_a_new_catalog_is_seeded_by_itself(house: House) -> None:
    shop = house.stock(PLAN)

    async with house.running() as engine:
        progress = await house.rested(engine)
        assert await house.equal()
        status = await engine.status(SHOP)

    assert progress.kind is SyncKind.FULL
    assert progress.phase is SyncPhase.DONE
    assert progress.items == len(shop.variants)
    assert progress.products_done == len(shop.products)
    assert sum(status.catalogs[0].items.values()) == len(shop.variants)


async def test_a_second_full_sync_of_an_unchanged_shop_sends_nothing(house: House) -> None:
    house.stock(PLAN)
    async with house.running() as engine:
        await house.rested(engine)
        submits = len(house.submits())

        await engine.start(SHOP, SyncKind.FULL)
        progress = await house.rested(engine)

        assert progress.items_changed == 0
        assert len(house.submits()) == submits


async def test_a_full_sync_finds_what_no_webhook_told_and_sends_only_that(house: House) -> None:
    shop = house.stock(PLAN)
    async with house.running() as engine:
        await house.rested(engine)
        before = sum(one.items for one in house.submits())
        changes = Changes(shop, Random(3))
        changes.change_price(now_s())
        changes.delete_product(now_s())

        await engine.start(SHOP, SyncKind.FULL)
        progress = await house.rested(engine)
        assert await house.equal()

        after = sum(one.items for one in house.submits())
        assert progress.items_changed == after - before
        assert progress.items_deleted > 0


@pytest.mark.parametrize(
    "kind", ["price", "stock", "text", "status", "delete", "add_product", "add_variant", "item"]
)
async def test_what_a_webhook_tells_reaches_the_catalog(house: House, kind: Kind) -> None:
    shop = house.stock(PLAN)
    async with house.running() as engine:
        await house.rested(engine)
        changes = Changes(shop, Random(5))

        for _ in range(3):
            await house.told(changes.one(kind, now_s()))

        assert await house.equal()


async def test_what_is_deleted_while_the_shop_is_exported_stays_away(house: House) -> None:
    shop = house.stock(PLAN)
    # The export has the product, and is read long after it was written.
    async with house.running(bulk_poll_s=2.0) as engine:

        async def exported() -> bool:
            return any(one.is_over for one in house.shopify.bulk.of(DOMAIN, STATIC))

        await eventually(exported, "Shopify has written the export")
        await house.told(Changes(shop, Random(5)).delete_product(now_s()))
        await house.rested(engine)

        assert await house.equal()


async def test_fifty_updates_of_a_product_in_a_second_are_one_upload(house: House) -> None:
    shop = house.stock(PLAN)
    async with house.running(settle_s=1.0) as engine:
        await house.rested(engine)
        before = house.submits()
        changes = Changes(shop, Random(7))
        product = next(iter(shop.products.values()))
        for _ in range(50):
            told = changes._updated(changes._touched(product, now_s()), now_s(), "text")
            product.title += "x"
            await house.told(told)
        await house.told(changes._updated(changes._touched(product, now_s()), now_s(), "text"))

        assert await house.equal()

        after = house.submits()
        assert len(after) - len(before) == 1
        assert after[-1].items == len(product.variants)


async def test_two_catalogs_of_one_shop_have_their_own_prices_and_words(house: House) -> None:
    house.write_connections(
        catalog_entry("7001"),
        catalog_entry("7002", country="FR", currency="EUR", language="fr"),
    )
    house.make_catalog("7002", region="FR", currency="EUR")
    house.stock(PLAN)

    async with house.running() as engine:
        await house.rested(engine)

        assert await house.equal("7001")
        assert await house.equal("7002", country="FR", currency="EUR", language="fr")


async def test_the_guides_dialect_converges_too(house: House) -> None:
    house.write_connections(catalog_entry(dialect="item_batch"))
    shop = house.stock(PLAN)

    async with house.running() as engine:
        await house.rested(engine)
        assert await house.equal()
        changes = Changes(shop, Random(5))
        for kind in ("price", "stock", "delete"):
            await house.told(changes.one(kind, now_s()))

        assert await house.equal()

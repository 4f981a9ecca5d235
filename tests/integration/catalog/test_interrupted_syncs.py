"""Full syncs that were broken off, and what changes while they go."""

from __future__ import annotations

from random import Random
from typing import Final

import msgspec

from libs.bus import subjects
from libs.bus.commit_log import Entry
from libs.bus.jetstream_log import JetStreamLog
from libs.ids import RandomIds
from sandbox.shopify.catalog_changes import Changes
from sandbox.shopify.catalog_model import Product
from sandbox.shopify.catalog_plan import CatalogPlan
from services.catalog import keys, records
from services.catalog.domain.states import SyncKind, SyncPhase
from services.catalog.engine import Engine
from services.catalog.runs import queued
from tests.integration.catalog.house import CLOCK, DOMAIN, SHOP, House

PLAN: Final = CatalogPlan(shop=DOMAIN, variants=60, odd=())


def now_s() -> int:
    return int(CLOCK.now_ns() / 1e9)


async def test_an_export_begun_and_not_noted_is_not_taken_for_that_of_the_sync_before(
    house: House,
) -> None:
    shop = house.stock(PLAN)
    async with house.running() as engine:
        await house.rested(engine)
    Changes(shop, Random(3)).change_price(now_s())
    await _broken_off(house)

    async with house.running() as engine:
        progress = await house.rested(engine)
        assert await house.equal()

    assert progress.items_changed > 0
    assert len(house.shopify.bulk.operations) == 2


async def test_what_changed_just_before_a_full_sync_and_is_gone_is_read_and_taken_out(
    house: House,
) -> None:
    shop = house.stock(PLAN)
    async with house.running() as engine:
        await house.rested(engine)
        changes = Changes(shop, Random(3))
        product = next(iter(shop.products.values()))
        await house.told(changes._updated(changes._touched(product, now_s()), now_s(), "text"))
        assert await house.equal()
        shop.remove(product.number)

        await engine.start(SHOP, SyncKind.FULL)
        await house.rested(engine)

        assert await house.equal()


async def test_what_an_export_left_out_comes_back_with_the_next(house: House) -> None:
    shop = house.stock(PLAN)
    async with house.running() as engine:
        await house.rested(engine)
        lost = await _left_out(house, engine)

        shop.add(lost)
        await engine.start(SHOP, SyncKind.FULL)
        await house.rested(engine)

        assert await house.equal()


async def test_what_an_export_left_out_comes_back_when_the_shop_tells_of_it(house: House) -> None:
    shop = house.stock(PLAN)
    async with house.running() as engine:
        await house.rested(engine)
        lost = await _left_out(house, engine)

        shop.add(lost)
        changes = Changes(shop, Random(3))
        await house.told(changes._updated(changes._touched(lost, now_s() + 1), now_s(), "text"))

        assert await house.equal()


async def _left_out(house: House, engine: Engine) -> Product:
    """A product that a full sync has taken out, because the export did not have it."""
    product = next(reversed(house.shelf.products.values()))
    house.shelf.remove(product.number)
    await engine.start(SHOP, SyncKind.FULL)
    await house.rested(engine)
    assert await house.equal()
    return product


async def _broken_off(house: House) -> None:
    """A sync whose owner was lost when it had asked for an export and not noted which it is."""
    log = JetStreamLog(house.nats, keys.STREAM, RandomIds(CLOCK))
    name = keys.run(SHOP)
    before = records.run((await log.read([name]))[name].data)
    run = queued(before, SHOP, SyncKind.FULL, run_id="broken-off", now_ns=CLOCK.now_ns())
    begun = msgspec.structs.replace(run, phase=SyncPhase.EXPORTING, begun_ns=CLOCK.now_ns())
    assert subjects.CATALOG_SYNC in name
    await log.commit([Entry(name, records.encode(begun))])

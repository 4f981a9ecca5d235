"""Full syncs that were broken off, and what changes while they go."""

from __future__ import annotations

from random import Random
from typing import Final

import msgspec
import pytest

from libs import metric_names
from libs.bus import subjects
from libs.bus.commit_log import Entry
from libs.bus.jetstream_log import JetStreamLog
from libs.ids import RandomIds
from sandbox.shopify.catalog_bodies import inventory_item_body, inventory_level_body
from sandbox.shopify.catalog_changes import Changes
from sandbox.shopify.catalog_model import Product, Variant
from sandbox.shopify.catalog_plan import CatalogPlan
from sandbox.shopify_admin.access import STATIC
from sandbox.shopify_admin.bulk import Operation
from sandbox.shopify_admin.bulk_script import BulkSettings
from services.catalog import keys, records
from services.catalog.domain.states import SyncKind, SyncPhase
from services.catalog.engine import Engine
from services.catalog.runs import queued
from tests.integration.catalog.house import CLOCK, DOMAIN, SHOP, House
from tests.integration.ingest.harness import eventually

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


@pytest.mark.parametrize("restarts", [False, True])
async def test_stock_alone_that_is_told_while_a_new_shop_is_exported_is_not_lost(
    house: House, *, restarts: bool
) -> None:
    sold = next(one for one in house.stock(PLAN).variants.values() if one.quantity > 0)
    sold.inventory_policy = "DENY"
    _hold_exports(house)
    async with house.running() as engine:
        export = await _written(house)
        await _sold_out(house, sold)
        if not restarts:
            export.cancelled.set()
            await house.rested(engine)
            assert await house.equal()
    export.cancelled.set()

    async with house.running() as engine:
        await house.rested(engine)

        assert await house.equal()


async def test_that_an_item_is_no_longer_counted_is_not_lost_while_a_new_shop_is_exported(
    house: House,
) -> None:
    item, other = list(house.stock(PLAN).items.values())[:2]
    item.variant.inventory_policy = "DENY"
    for level in item.levels:
        level.available = 0
    _hold_exports(house)
    async with house.running() as engine:
        export = await _written(house)
        item.tracked, item.updated_at_s = False, now_s()
        await house.tell("inventory_items/update", inventory_item_body(item))
        # Levels are read behind it, so it has been read when they have.
        await _sold_out(house, other.variant)
        export.cancelled.set()
        await house.rested(engine)

        assert await house.equal()


def _hold_exports(house: House) -> None:
    """Exports are written at once, and end when their `cancelled` is set."""
    house.shopify.bulk.configure(DOMAIN, BulkSettings(duration_s=600.0))


async def _written(house: House) -> Operation:
    """The export of the shop when all of it is written."""
    found: list[Operation] = []

    async def written() -> bool:
        found[:] = house.shopify.bulk.of(DOMAIN, STATIC)
        return any(one.output and one.output.size_bytes for one in found)

    await eventually(written, "Shopify has written the export")
    (operation,) = found
    assert not operation.is_over
    return operation


async def _sold_out(house: House, variant: Variant) -> None:
    """Nothing is left of it, and only its levels say so; they are read, and of nothing known."""
    for level in variant.item.levels:
        level.available, level.updated_at_s = 0, now_s()
        await house.tell("inventory_levels/update", inventory_level_body(level))
    unknown = house.metrics.counter(metric_names.CATALOG_LEVELS_UNKNOWN)

    async def read() -> bool:
        return unknown.value == len(variant.item.levels)

    await eventually(read, "the levels are read, and of no product that is known")


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

"""Syncs of a whole shop: why they begin, what they must not do, and how they end."""

from __future__ import annotations

from random import Random

import pytest

from sandbox.shopify.catalog_changes import Changes
from sandbox.shopify.catalog_plan import CatalogPlan
from services.catalog.domain.states import ItemState, SyncKind, SyncPhase
from services.catalog.engine import Engine
from services.catalog.views import SyncView
from tests.integration.catalog.house import CLOCK, DOMAIN, SHOP, House, catalog_entry
from tests.integration.ingest.harness import eventually

PLAN = CatalogPlan(shop=DOMAIN, variants=40, odd=())
ID = "example.catalog.7001"


def now_s() -> int:
    return int(CLOCK.now_ns() / 1e9)


async def next_sync(house: House, engine: Engine, before: SyncView) -> SyncView:
    """The sync after that one, once it has ended."""
    found: list[SyncView] = []

    async def ended() -> bool:
        progress = (await engine.status(SHOP)).progress
        if progress is not None and progress.run_id != before.run_id and progress.phase.is_end:
            found.append(progress)
        return bool(found)

    await eventually(ended, "the next sync has ended", within_s=30)
    return found[0]


async def test_new_settings_of_a_catalog_have_everything_mapped_again(house: House) -> None:
    shop = house.stock(PLAN)
    async with house.running() as engine:
        first = await house.rested(engine)

        house.write_connections(catalog_entry(condition="used"))
        second = await next_sync(house, engine, first)

        assert second.kind is SyncKind.REMAP
        assert second.items == second.items_changed == len(shop.variants)
        assert all(b'"USED"' in one for one in house.items().values())


async def test_what_a_shop_says_of_itself_has_everything_mapped_again(house: House) -> None:
    house.stock(PLAN)
    async with house.running() as engine:
        first = await house.rested(engine)

        body = {"id": 1, "domain": "new.example.com", "currency": "USD", "country_code": "US"}
        body |= {"primary_locale": "en", "updated_at": "2026-11-28T00:00:00Z"}
        await house.tell("shop/update", body | {"plan_name": "basic", "name": "Example"})
        second = await next_sync(house, engine, first)

        assert second.kind is SyncKind.REMAP
        assert all(b"//new.example.com/" in one for one in house.items().values())


@pytest.mark.parametrize(("currency", "kind"), [("USD", None), ("GBP", SyncKind.REMAP)])
async def test_new_rates_concern_only_catalogs_that_convert(
    house: House, currency: str, kind: SyncKind | None
) -> None:
    house.write_connections(catalog_entry(currency=currency, country="GB"))
    house.make_catalog("7001", region="GB" if currency == "GBP" else "US", currency=currency)
    house.stock(PLAN)
    async with house.running(rates="2026-11-27;USD=1.08,GBP=0.83") as engine:
        first = await house.rested(engine)

    async with house.running(rates="2026-11-28;USD=1.08,GBP=0.85") as engine:
        if kind is None:
            await engine.start(SHOP, SyncKind.RESEND)
        second = await next_sync(house, engine, first)

    assert second.kind is (kind or SyncKind.RESEND)
    assert kind is None or second.items_changed > 0


async def test_a_shop_that_seems_empty_is_not_taken_out_until_somebody_says_so(
    house: House,
) -> None:
    shop = house.stock(CatalogPlan(shop=DOMAIN, variants=700, odd=()))
    assert len(shop.products) > 55
    async with house.running() as engine:
        await house.rested(engine)
        for number in list(shop.products)[1:]:
            shop.remove(number)

        await engine.start(SHOP, SyncKind.FULL)
        failed = await house.rested(engine)
        held = len(house.items())
        await engine.start(SHOP, SyncKind.FULL, take_out_many=True)
        done = await house.rested(engine)

        assert failed.phase is SyncPhase.FAILED
        assert "--take-out-many" in failed.error
        assert held == 700
        assert done.phase is SyncPhase.DONE
        assert await house.equal()


async def test_a_resend_sends_everything_once_and_leaves_the_states(house: House) -> None:
    shop = house.stock(PLAN)
    house.make_catalog("7001", review_ms=0)
    async with house.running(review_every_s=0.2) as engine:
        await house.rested(engine)
        await house.sees(engine, lambda one: one.items.get(ItemState.LIVE) == len(shop.variants))
        before = house.submits()

        await engine.start(SHOP, SyncKind.RESEND)
        progress = await house.rested(engine)

        page = await engine.page(ID, frozenset(ItemState), size=100, token="")
        assert sum(one.items for one in house.submits()[len(before) :]) == len(shop.variants)
        assert progress.items == len(shop.variants)
        assert {one.state for one in page.items} == {ItemState.LIVE}
        assert min(one.accepted_ns for one in page.items) > progress.started_ns


async def test_a_sync_ends_although_the_shop_never_comes_to_rest(house: House) -> None:
    shop = house.stock(PLAN)
    async with house.running() as engine:
        first = await house.rested(engine)
        house.behave(ingestion_ms=150)
        changes = Changes(shop, Random(1))
        await engine.start(SHOP, SyncKind.FULL)

        async def ended() -> bool:
            await house.told(changes.change_price(now_s()))
            progress = (await engine.status(SHOP)).progress
            assert progress is not None
            return progress.run_id != first.run_id and progress.phase.is_end

        await eventually(ended, "the sync has ended", within_s=20)
        assert await house.equal()


async def test_a_catalog_that_is_added_is_filled_and_one_that_is_removed_left_alone(
    house: House,
) -> None:
    shop = house.stock(PLAN)
    async with house.running() as engine:
        first = await house.rested(engine)
        house.write_connections(catalog_entry("7001"), catalog_entry("7002"))
        await next_sync(house, engine, first)
        assert await house.equal("7002")
        submits = len(house.submits("7001"))

        house.write_connections(catalog_entry("7002"))
        await house.sees(engine, lambda one: one.waiting == 0, catalog_id="7002")
        await eventually(lambda: _only(engine, "7002"), "the catalog has gone")
        await house.told(Changes(shop, Random(1)).change_price(now_s()))
        assert await house.equal("7002")

        assert len(house.submits("7001")) == submits


async def _only(engine: Engine, catalog_id: str) -> bool:
    return [one.catalog_id for one in (await engine.status(SHOP)).catalogs] == [catalog_id]

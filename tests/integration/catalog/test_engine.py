"""What the service tells of items and syncs, from what is stored, and TikTok's reviews."""

from __future__ import annotations

from copy import copy
from random import Random

import pytest

from libs.errors import ServiceError
from sandbox.shopify.catalog_changes import Changes
from sandbox.shopify.catalog_plan import CatalogPlan
from sandbox.tiktok.catalog.settings import ReviewRule
from services.catalog.domain.states import IssueSource, ItemState, SyncKind, SyncPhase
from services.catalog.engine import Engine
from services.catalog.store import SyncStore
from services.catalog.views import ItemView
from tests.integration.catalog.house import CLOCK, DOMAIN, SHOP, House
from tests.integration.ingest.harness import eventually

PLAN = CatalogPlan(shop=DOMAIN, variants=60, odd=())
ID = "example.catalog.7001"
ALL = frozenset(ItemState)


def now_s() -> int:
    return int(CLOCK.now_ns() / 1e9)


async def test_pages_hold_each_item_once_whatever_their_size(house: House) -> None:
    shop = house.stock(PLAN)
    async with house.running() as engine:
        await house.rested(engine)
        for size in (1, 7, 60, 100):
            found: list[ItemView] = []
            token = ""
            while True:
                page = await engine.page(ID, ALL, size=size, token=token)
                found += page.items
                token = page.next_token
                if not token:
                    break
            assert sorted(one.variant_id for one in found) == sorted(map(str, shop.variants))
        none = await engine.page(ID, {ItemState.REFUSED}, size=5, token="")

    assert none.items == ()


async def test_a_page_loses_nothing_when_the_product_it_broke_off_in_changes(
    house: House,
) -> None:
    shop = house.stock(PLAN)
    product = next(one for one in shop.products.values() if len(one.variants) > 3)
    async with house.running() as engine:
        await house.rested(engine)
        everything = (await engine.page(ID, ALL, size=100, token="")).items
        place = next(
            at for at, one in enumerate(everything) if one.product_id == str(product.number)
        )
        first = await engine.page(ID, ALL, size=place + 3, token="")
        product.variants[0].price = "77.00"
        changes = Changes(shop, Random(1))
        await house.told(changes._updated(changes._touched(product, now_s()), now_s(), "price"))
        assert await house.equal()

        rest = await engine.page(ID, ALL, size=100, token=first.next_token)

    told = {one.variant_id for one in (*first.items, *rest.items)}
    assert told == set(map(str, shop.variants))


@pytest.mark.parametrize("token", ["x", "1", "-1.2", "1.2.3", "9" * 50 + ".1"])
async def test_a_page_token_that_is_none_is_said_to_be_none(house: House, token: str) -> None:
    async with house.running() as engine:
        with pytest.raises(ServiceError, match="page_token_unreadable"):
            await engine.page(ID, ALL, size=5, token=token)


async def test_an_item_is_explained_by_its_id_its_sku_and_its_variant(house: House) -> None:
    shop = house.stock(PLAN)
    variant = next(iter(shop.variants.values()))
    draft = list(shop.products.values())[-1]
    draft.status, draft.published_at_s = "DRAFT", None
    async with house.running() as engine:
        await house.rested(engine)
        stories = [
            await engine.explain(SHOP, name, "")
            for name in (variant.sku or "", f"{variant.number}")
        ]
        drafted = await engine.explain(SHOP, draft.variants[0].sku or "", ID)
        with pytest.raises(ServiceError, match="item_not_found"):
            await engine.explain(SHOP, "no such thing", "")
        with pytest.raises(ServiceError, match="catalog_not_found"):
            await engine.explain(SHOP, variant.sku or "", "example.catalog.1")

    assert stories[0] == stories[1]
    (told,) = stories[0].explanations
    assert told.is_current
    assert told.status.sku_id == variant.sku
    assert told.item_json.encode() == house.items()[variant.sku or ""]
    assert drafted.explanations[0].excluded == "not_active"
    assert drafted.explanations[0].fields == ()


async def test_an_item_is_found_without_a_search_by_the_owner_of_its_lane(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = list(house.stock(PLAN).variants.values())[:2]
    async with house.running() as engine:
        await house.rested(engine)
        searched = await elsewhere(engine).items(ID, [second.sku or "", "no such thing"])
        monkeypatch.setattr(SyncStore, "every_sync", None)
        looked_up = await engine.items(ID, [second.sku or "", "no such thing"])
        story = await engine.explain(SHOP, first.sku or "", ID)

    assert looked_up == searched
    assert [one.variant_id for one in looked_up] == [str(second.number)]
    assert story.variant_id == str(first.number)


def elsewhere(engine: Engine) -> Engine:
    """The engine of a process that owns no lane."""
    other = copy(engine)
    other._owners = lambda _: None
    return other


async def test_a_refused_item_is_explained_with_what_it_would_have_been_made_of(
    house: House,
) -> None:
    variant = next(iter(house.stock(PLAN).variants.values()))
    variant.product.vendor = ""
    async with house.running() as engine:
        await house.rested(engine)
        story = await engine.explain(SHOP, variant.sku or "", ID)

    (told,) = story.explanations
    fields = {one.field: one for one in told.fields}
    assert told.status.state is ItemState.REFUSED
    assert [one.code for one in told.issues if one.is_error] == ["brand_missing"]
    assert (fields["title"].source_value, fields["title"].value) == (variant.product.title, "")
    assert fields["brand"].value == ""


async def test_what_became_of_a_missing_and_of_a_repeated_sku_is_explained(house: House) -> None:
    without, first, second = list(house.stock(PLAN).variants.values())[:3]
    without.sku, second.sku = "", first.sku
    async with house.running() as engine:
        await house.rested(engine)
        stories = [
            await engine.explain(SHOP, f"{one.number}", ID) for one in (without, first, second)
        ]

    told = [one.explanations[0] for one in stories]
    assert [[one.code for one in each.issues] for each in told] == [
        ["sku_missing"],
        [],
        ["sku_repeated"],
    ]
    assert not any(one.is_error for each in told for one in each.issues)
    assert told[2].status.sku_id == f"{first.sku}-{second.number}"


async def test_a_shop_without_a_catalog_and_a_catalog_without_a_shop_are_not_found(
    house: House,
) -> None:
    async with house.running() as engine:
        with pytest.raises(ServiceError, match="shop_not_found"):
            await engine.start("stranger", SyncKind.FULL)
        with pytest.raises(ServiceError, match="catalog_not_found"):
            await engine.pause("stranger.catalog.1", "")
        assert engine.shops() == [SHOP]


async def test_whoever_watches_is_told_of_each_phase_and_then_let_go(house: House) -> None:
    house.stock(PLAN)
    async with house.running() as engine:
        await house.rested(engine)
        started = await engine.start(SHOP, SyncKind.FULL)
        joined = await engine.start(SHOP, SyncKind.REMAP)
        seen = [one.progress async for one in engine.watch(SHOP)]

    assert not started.joined
    assert joined.joined
    assert joined.progress.run_id == started.progress.run_id
    assert seen[-1] is not None
    assert seen[-1].phase is SyncPhase.DONE
    assert {one.run_id for one in seen if one} == {started.progress.run_id}


async def test_reviews_are_followed_to_their_end_with_the_reasons(house: House) -> None:
    shop = house.stock(PLAN)
    bad = next(iter(shop.variants.values())).sku or ""
    rule = ReviewRule(sku=bad, reason="Prohibited content")
    house.make_catalog("7001", review_ms=3_600_000, review_rules=(rule,))
    async with house.running(review_every_s=0.1) as engine:
        await eventually(lambda: _is_in_review(engine), "the reviews are read")
        house.behave("7001", review_ms=0)
        await house.sees(
            engine, lambda one: one.items.get(ItemState.LIVE) == len(shop.variants) - 1
        )
        (rejected,) = (await engine.page(ID, {ItemState.REJECTED}, size=5, token="")).items

    assert rejected.sku_id == bad
    assert rejected.issues[0].source is IssueSource.REVIEW
    assert "Prohibited content" in rejected.issues[0].text
    assert rejected.in_catalog


async def _is_in_review(engine: Engine) -> bool:
    return bool((await engine.page(ID, {ItemState.IN_REVIEW}, size=1, token="")).items)

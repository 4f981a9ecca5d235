"""Changes of a catalog: the shop becomes another, and webhooks tell of it as Shopify's do."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from sandbox.shopify.catalog_bodies import VARIANTS_SHOWN, product_body
from sandbox.shopify.catalog_changes import KINDS, Changes, Kind
from sandbox.shopify.catalog_model import CatalogShop, truths
from sandbox.shopify.catalog_plan import CatalogPlan
from sandbox.shopify.catalog_shop import Maker, make_catalog
from sandbox.shopify.wire import Told

NOW_S = 1_790_000_000
RECORDED = {
    "products/update": "products_update/shopifydocs_2026-07.json",
    "inventory_levels/update": "inventory_levels_update/shopifydocs_2026-07.json",
    "inventory_items/update": "inventory_items_update/shopifydocs_2026-07.json",
}


def shop_of(variants: int = 60) -> CatalogShop:
    plan = CatalogPlan(shop="made.myshopify.com", variants=variants, odd=())
    return make_catalog(plan, NOW_S - 100_000)


def truth(shop: CatalogShop) -> dict[int, Any]:
    return {one["id"]: one for one in truths(shop, 0, 10**9)}


def changed(kind: Kind, count: int = 1, seed: int = 1) -> tuple[dict[int, Any], Any, list[Told]]:
    """The truth before and after, and what was told."""
    shop = shop_of()
    before = truth(shop)
    changes = Changes(shop, Random(seed))
    told = [one for _ in range(count) for one in changes.one(kind, NOW_S)]
    return before, truth(shop), told


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_is_of_one_product_which_becomes_newer(kind: Kind) -> None:
    before, after, told = changed(kind)

    differing = [one for one in {*before, *after} if before.get(one) != after.get(one)]
    assert len(differing) == 1
    assert all(one.at.timestamp() == NOW_S for one in told)
    if kind != "delete":
        assert after[differing[0]]["updated_at"] == "2026-09-21T14:13:20Z"


@pytest.mark.parametrize(
    ("kind", "topics"),
    [
        ("price", ["products/update"]),
        ("stock", ["inventory_levels/update", "products/update"]),
        ("text", ["products/update"]),
        ("status", ["products/update"]),
        ("delete", ["products/delete"]),
        ("add_product", ["products/create"]),
        ("add_variant", ["products/update"]),
        ("item", ["inventory_items/update", "products/update"]),
        ("image", ["products/update"]),
    ],
)
def test_shopify_tells_of_a_change_by_these_topics(kind: Kind, topics: list[str]) -> None:
    _, after, told = changed(kind)

    assert [one.topic for one in told] == topics
    assert len({one.event_id for one in told}) == 1
    for one in told:
        if one.topic in {"products/update", "products/create"}:
            assert one.body["updated_at"] == "2026-09-21T09:13:20-05:00"
            assert one.body["title"] == after[one.body["id"]]["title"]


def test_another_price_is_another_price_and_other_stock_is_other_stock() -> None:
    kinds: list[tuple[Kind, str]] = [("price", "price"), ("stock", "inventory_quantity")]
    for kind, field in kinds:
        before, after, _ = changed(kind)
        old, new = (
            {one["id"]: one[field] for product in truth_.values() for one in product["variants"]}
            for truth_ in (before, after)
        )
        assert sum(old[id_] != new[id_] for id_ in old) == 1


def test_the_same_seed_changes_the_same_things() -> None:
    first, again, other = (changed("price", 5, seed)[2] for seed in (1, 1, 2))

    assert first == again
    assert first != other


def test_changes_within_one_second_still_follow_each_other() -> None:
    shop = shop_of(1)
    changes = Changes(shop, Random(1))

    stamps = [one.body["updated_at"] for _ in range(3) for one in changes.one("price", NOW_S)]

    assert [datetime.fromisoformat(str(one)).timestamp() - NOW_S for one in stamps] == [0, 1, 2]


def test_a_body_tells_of_no_more_than_a_hundred_variants_and_names_them_all() -> None:
    shop = shop_of(1)
    giant = Maker(shop, Random(1), NOW_S).product(2048)

    body = msgspec.to_builtins(product_body(giant))

    assert len(body["variants"]) == VARIANTS_SHOWN == 100
    assert len(body["variant_gids"]) == 2048
    assert body["variant_gids"][0]["updated_at"].endswith(".000Z")
    assert [one["name"] for one in body["options"]] == ["Colour", "Size", "Material"]


def test_a_deleted_product_is_told_of_by_its_number_alone() -> None:
    before, after, told = changed("delete", 3)

    assert [set(one.body) for one in told] == [{"id"}] * 3
    assert {one.body["id"] for one in told} == set(before) - set(after)


def test_stock_that_is_not_tracked_is_told_of_as_nothing() -> None:
    shop = shop_of(1)
    next(iter(shop.items.values())).tracked = False

    told = Changes(shop, Random(1)).one("stock", NOW_S)

    assert told[0].body["available"] is None


def test_a_shop_that_is_empty_cannot_change() -> None:
    shop = shop_of(1)
    changes = Changes(shop, Random(1))
    changes.one("delete", NOW_S)

    with pytest.raises(LookupError):
        changes.one("price", NOW_S)
    assert changes.one("add_product", NOW_S)
    assert changes.one("price", NOW_S)


@pytest.mark.parametrize("topic", RECORDED)
def test_bodies_have_the_fields_of_recorded_ones(topic: str, corpus_dir: Path) -> None:
    file = corpus_dir / "data" / "webhooks" / RECORDED[topic]
    if not file.is_file():
        pytest.skip("no recorded webhooks")
    recorded = json.loads(file.read_text(encoding="utf-8"))
    told = [one for kind in ("stock", "item") for one in changed(kind)[2]]

    body = next(msgspec.to_builtins(one.body) for one in told if one.topic == topic)

    assert set(body) == set(recorded)
    if topic == "products/update":
        assert set(body["variants"][0]) == set(recorded["variants"][0])
        assert set(body["variant_gids"][0]) == set(recorded["variant_gids"][0])

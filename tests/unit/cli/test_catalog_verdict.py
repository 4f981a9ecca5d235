"""Each check of catalogs passes on a world that agrees with itself, and fails on its one fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cli.demo.catalog_evidence import seed_s, waits_s
from cli.demo.catalog_verdict import CatalogEvidence, ShopEvidence, judge_catalogs
from cli.demo.catalogs import Told
from cli.demo.shelves import VARIANTS_MIN, plan_shelves
from tidewire.catalog.v1 import catalog_service_pb2 as pb

SHELF = plan_shelves(VARIANTS_MIN, 1)[0]
CHOICE = SHELF.catalogs[0]
NAME = CHOICE.connection_id
ITEM = {"sku_id": "TW-1", "title": "Basalt Lantern"}

Change = Callable[[ShopEvidence], ShopEvidence]


def _catalog() -> CatalogEvidence:
    """Nine items taken; a tenth is refused, and TikTok still has what it was before."""
    refused = pb.ItemStatus(sku_id="TW-10", state=pb.ITEM_STATE_REFUSED, in_catalog=True)
    refused.issues.add(source=pb.ISSUE_SOURCE_MAPPING, is_error=True, code="price_zero")
    items: dict[int, int] = {
        pb.ITEM_STATE_ACCEPTED: 7,
        pb.ITEM_STATE_WARNED: 2,
        pb.ITEM_STATE_REFUSED: 1,
    }
    return CatalogEvidence(
        choice=CHOICE,
        status=pb.CatalogStatus(connection_id=NAME, items=items),
        refused=[refused],
        summary={
            "items": 10,
            "submits": 2,
            "items_submitted": 10,
            "overlapping_submits": 0,
            "spacing_violations": 0,
            "silent_submits": 0,
            "refusals": {},
        },
        against={
            "equal": True,
            "expected": 9,
            "items": 10,
            "wrong": 0,
            "extra": 0,
            "wrong_listed": [],
            "extra_listed": [],
        },
        waits_s=[0.5, 1.0, 3.0],
    )


def _world() -> ShopEvidence:
    done = pb.SyncProgress(phase=pb.SYNC_PHASE_DONE)
    story = pb.ExplainItemResponse()
    told = story.explanations.add(
        is_current=True, item_json='{"title":"Basalt Lantern","sku_id":"TW-1"}'
    )
    told.status.connection_id = NAME
    return ShopEvidence(
        shelf=SHELF,
        progress=done,
        seed=done,
        catalogs=[_catalog()],
        item="TW-1",
        story=story,
        held={NAME: ITEM},
    )


def _with(**changes: Any) -> Change:
    """The catalog with other evidence; `summary` and `against` are added to what is there."""

    def change(world: ShopEvidence) -> ShopEvidence:
        catalog = world.catalogs[0]
        for name in ("summary", "against"):
            if name in changes:
                changes[name] = {**getattr(catalog, name), **changes[name]}
        return replace(world, catalogs=[replace(catalog, **changes)])

    return change


def _status(**fields: Any) -> Change:
    items = {pb.ITEM_STATE_ACCEPTED: 9, pb.ITEM_STATE_REFUSED: 1}
    return _with(status=pb.CatalogStatus(connection_id=NAME, **{"items": items, **fields}))


def _refused(issue: pb.Issue | None) -> Change:
    item = pb.ItemStatus(sku_id="TW-10", state=pb.ITEM_STATE_REFUSED, in_catalog=True)
    item.issues.extend([issue] if issue else [])
    return _with(refused=[item])


def _story(**fields: Any) -> Change:
    def change(world: ShopEvidence) -> ShopEvidence:
        story = pb.ExplainItemResponse()
        told = {"is_current": True, "item_json": '{"sku_id":"TW-1"}', **fields}
        story.explanations.add(status=pb.ItemStatus(connection_id=NAME), **told)
        return replace(world, story=story)

    return change


def _failed(world: ShopEvidence, **options: Any) -> list[str]:
    return [check.name for check in judge_catalogs([world], **options) if not check.passed]


EQUAL = "catalogs at TikTok are what the shops sell"
STATUS = "catalog status says what TikTok holds"
APART = "submits to a catalog keep apart"
REFUSED = "TikTok refused no item"
STORY = "an item's story ends in what TikTok holds"

BROKEN: list[tuple[str, str, Change]] = [
    (
        "an item differs",
        EQUAL,
        _with(against={"equal": False, "wrong": 1, "wrong_listed": ["TW-2: missing"]}),
    ),
    (
        "an item too many",
        EQUAL,
        _with(against={"equal": False, "extra": 1, "extra_listed": ["TW-9"]}),
    ),
    ("the shop is empty", EQUAL, _with(against={"expected": 0})),
    ("TikTok has one item less", STATUS, _with(summary={"items": 9})),
    ("items wait", STATUS, _status(waiting=3)),
    ("the catalog is held", STATUS, _status(held_by="credentials")),
    (
        "the sync has failed",
        STATUS,
        lambda world: replace(world, progress=pb.SyncProgress(phase=pb.SYNC_PHASE_FAILED)),
    ),
    ("submits overlap", APART, _with(summary={"overlapping_submits": 1})),
    ("a submit too soon", APART, _with(summary={"spacing_violations": 1})),
    ("a submit was ignored", APART, _with(summary={"silent_submits": 1})),
    ("a request was refused", REFUSED, _with(summary={"refusals": {"40002": 1}})),
    (
        "TikTok refused an item",
        REFUSED,
        _refused(pb.Issue(source=pb.ISSUE_SOURCE_TIKTOK, is_error=True, text="no")),
    ),
    ("an item is refused for no reason", REFUSED, _refused(None)),
    ("nothing is told", STORY, lambda world: replace(world, story=pb.ExplainItemResponse())),
    ("something older is told", STORY, _story(is_current=False)),
    ("something else is told", STORY, _story(item_json='{"sku_id":"TW-1","title":"Vase"}')),
    ("TikTok does not have it", STORY, lambda world: replace(world, held={NAME: None})),
]


def test_all_checks_pass_on_a_world_that_agrees_with_itself() -> None:
    assert _failed(_world()) == []


@pytest.mark.parametrize(
    ("name", "change"), [(name, change) for _, name, change in BROKEN], ids=[b[0] for b in BROKEN]
)
def test_a_check_fails_on_what_it_is_about(name: str, change: Change) -> None:
    assert _failed(change(_world())) == [name]


def test_what_was_played_is_no_refusal() -> None:
    world = _with(summary={"refusals": {"http_503": 1}})(_world())

    assert _failed(world, played=frozenset({"http_503"})) == []


def test_waits_are_told_by_their_share() -> None:
    found = _catalog()

    assert (found.wait_s(0.5), found.wait_s(0.99)) == (1.0, 3.0)
    assert replace(found, waits_s=[]).wait_s(0.5) is None


def _item(variant: str, changed_s: float, log: str) -> dict[str, Any]:
    link = f"https://www.example.com/products/x?variant={variant}"
    return {"sku_id": variant, "item": {"link": link}, "changed_at": changed_s, "feed_log_id": log}


def test_a_change_took_until_the_submit_that_carried_it() -> None:
    told = Told("x", "1", frozenset({"11", "12"}), 100.0)
    lines = [{"feed_log_id": "a", "at": 90.0}, {"feed_log_id": "b", "at": 102.5}]
    items = [_item("11", 102.9, "b"), _item("12", 91.0, "a"), _item("99", 103.0, "b")]

    assert waits_s(items, lines, [told]) == [2.5]


def test_of_a_product_that_changed_twice_nothing_is_measured() -> None:
    twice = [Told("x", "1", frozenset({"11"}), at_s) for at_s in (100.0, 101.0)]

    assert waits_s([_item("11", 102.9, "b")], [{"feed_log_id": "b", "at": 102.5}], twice) == []


def _seed(began_s: int, ended_s: int) -> pb.SyncProgress:
    seed = pb.SyncProgress()
    seed.started_at.FromSeconds(began_s)
    seed.ended_at.FromSeconds(ended_s)
    return seed


def test_a_seed_lasts_until_tiktok_is_through_with_its_last_submit() -> None:
    lines = [
        {"feed_log_id": "a", "at": 101.0, "ended_at": 102.0},
        {"feed_log_id": "", "at": 103.0},
        {"feed_log_id": "b", "at": 104.0, "ended_at": 104.5},
        {"feed_log_id": "c", "at": 190.0, "ended_at": 191.0},
    ]

    assert seed_s(lines, _seed(100, 105)) == 4.5


def test_a_seed_that_tiktok_is_not_through_with_has_no_time() -> None:
    assert seed_s([], _seed(100, 105)) is None
    assert seed_s([{"feed_log_id": "a", "at": 101.0, "ended_at": None}], _seed(100, 105)) is None


def test_a_shop_of_next_to_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 50 variants"):
        plan_shelves(VARIANTS_MIN - 1, 1)

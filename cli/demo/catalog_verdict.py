"""The verdict on catalogs: what the service says of them against what the simulators hold. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Final

from cli.catalog_words import state_word
from cli.demo.shelves import CatalogChoice, Shelf
from cli.demo.verdict import Check
from tidewire.catalog.v1 import catalog_service_pb2 as pb

TAKEN: Final = (
    pb.ITEM_STATE_ACCEPTED,
    pb.ITEM_STATE_WARNED,
    pb.ITEM_STATE_IN_REVIEW,
    pb.ITEM_STATE_LIVE,
)
"""States of items that TikTok has as they should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogEvidence:
    """One catalog, as both sides know it."""

    choice: CatalogChoice
    status: pb.CatalogStatus
    """What the suite says."""

    refused: Sequence[pb.ItemStatus]
    """Items that it calls refused."""

    summary: Mapping[str, Any]
    """What the simulated TikTok has counted."""

    against: Mapping[str, Any]
    """How its items differ from what the shop sells."""

    history: Sequence[Mapping[str, Any]] = ()
    """Each request that wrote."""

    seed_s: float | None = None
    waits_s: Sequence[float] = ()
    """From a change in the shop to the submit that carried it, in order."""

    def taken(self) -> int:
        """Items that TikTok has as they should be, by the suite's words."""
        return sum(self.status.items.get(state, 0) for state in TAKEN)

    def wait_s(self, share: float) -> float | None:
        """What `share` (0.5 is the median) of the waits kept; None where none was measured."""
        if not self.waits_s:
            return None
        return self.waits_s[min(len(self.waits_s) - 1, math.ceil(share * len(self.waits_s)) - 1)]

    def as_dict(self) -> dict[str, Any]:
        """What the suite says, as data."""
        found = self.status
        return {
            "dialect": self.choice.dialect,
            "country": self.choice.country,
            "currency": self.choice.currency,
            "language": self.choice.language,
            "items": {state_word(state): n for state, n in sorted(found.items.items())},
            "waiting": found.waiting,
            "held_by": found.held_by,
            "seed_s": _rounded(self.seed_s),
            "changes_measured": len(self.waits_s),
            "change_to_submit_p50_s": _rounded(self.wait_s(0.5)),
            "change_to_submit_p99_s": _rounded(self.wait_s(0.99)),
        }

    def seen_as_dict(self) -> dict[str, Any]:
        """What the simulators have seen, as data."""
        counts = {name: value for name, value in self.summary.items() if name != "settings"}
        return {**counts, "against_shop": dict(self.against)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopEvidence:
    """One shop that sells through catalogs."""

    shelf: Shelf
    progress: pb.SyncProgress
    seed: pb.SyncProgress
    """The first sync."""

    catalogs: Sequence[CatalogEvidence]
    item: str = ""
    """The one that is explained."""

    story: pb.ExplainItemResponse
    held: Mapping[str, Mapping[str, Any] | None]
    """What TikTok holds of it, by connection."""


def judge_catalogs(
    shops: Sequence[ShopEvidence], played: AbstractSet[str] = frozenset()
) -> list[Check]:
    """Every check; `played` is what TikTok was made to answer, as it labels it."""
    catalogs = [one for shop in shops for one in shop.catalogs]
    return [
        catalogs_are_equal(catalogs),
        statuses_agree(shops),
        submits_kept_apart(catalogs),
        nothing_was_refused(catalogs, played),
        stories_are_true(shops),
    ]


def catalogs_are_equal(catalogs: Sequence[CatalogEvidence]) -> Check:
    """Each item that a shop sells is at TikTok as it is sold, and nothing else is."""
    wrong: list[str] = []
    for one in catalogs:
        name, found = one.choice.connection_id, one.against
        wrong += (f"{name}: {line}" for line in found["wrong_listed"])
        wrong += (f"{name}: {sku} is not sold" for sku in found["extra_listed"])
        hidden = found["wrong"] + found["extra"]
        hidden -= len(found["wrong_listed"]) + len(found["extra_listed"])
        if hidden or (not found["equal"] and not wrong):
            wrong.append(f"{name}: {hidden} more")
        if not found["expected"]:
            wrong.append(f"{name}: the shop sells nothing")
    judged = sum(one.against["expected"] for one in catalogs)
    numbers = f"{judged:,} items in {len(catalogs)} catalogs"
    return Check("catalogs at TikTok are what the shops sell", numbers, tuple(wrong))


def statuses_agree(shops: Sequence[ShopEvidence]) -> Check:
    """`tidewire catalog status` counts what TikTok holds; nothing waits, nothing is held."""
    wrong: list[str] = []
    taken = 0
    for shop in shops:
        if shop.progress.phase != pb.SYNC_PHASE_DONE:
            wrong.append(f"{shop.shelf.handle}: the sync has not ended well: {shop.progress.error}")
        for one in shop.catalogs:
            taken += one.taken()
            wrong += (f"{one.choice.connection_id}: {line}" for line in _disagreeing(one))
    return Check("catalog status says what TikTok holds", f"{taken:,} items taken", tuple(wrong))


def _disagreeing(catalog: CatalogEvidence) -> Iterator[str]:
    found = catalog.status
    # What is refused since it changed leaves the version before it where it was.
    older = sum(one.in_catalog for one in catalog.refused)
    if catalog.taken() + older != catalog.summary["items"]:
        yield (
            f"{catalog.taken()} items taken and {older} of an older version,"
            f" {catalog.summary['items']} at TikTok"
        )
    if found.waiting:
        yield f"{found.waiting} items wait"
    if found.held_by:
        yield f"held by {found.held_by}: {found.held_note}"


def submits_kept_apart(catalogs: Sequence[CatalogEvidence]) -> Check:
    """No submit came while another ran, or sooner than TikTok lets it, and none was ignored."""
    wrong = [
        f"{one.choice.connection_id}: {one.summary[name]} {words}"
        for one in catalogs
        for name, words in (
            ("overlapping_submits", "submits overlapped another"),
            ("spacing_violations", "submits came too soon"),
            ("silent_submits", "submits were ignored"),
        )
        if one.summary[name]
    ]
    submits = sum(one.summary["submits"] for one in catalogs)
    return Check("submits to a catalog keep apart", f"{submits:,} submits", tuple(wrong))


def nothing_was_refused(catalogs: Sequence[CatalogEvidence], played: AbstractSet[str]) -> Check:
    """What TikTok would refuse is caught before it is sent."""
    wrong: list[str] = []
    ours = 0
    for one in catalogs:
        name = one.choice.connection_id
        ours += len(one.refused)
        wrong += (
            f"{name}: {count} requests were refused with {label}"
            for label, count in one.summary["refusals"].items()
            if label not in played
        )
        wrong += (
            f"{name}: {item.sku_id}: {issue.text}"
            for item in one.refused
            for issue in item.issues
            if issue.is_error and issue.source == pb.ISSUE_SOURCE_TIKTOK
        )
        wrong += (f"{name}: {i.sku_id}: refused for no reason" for i in one.refused if not i.issues)
    numbers = f"{ours:,} items refused before sending, each with the reason"
    return Check("TikTok refused no item", numbers, tuple(wrong))


def stories_are_true(shops: Sequence[ShopEvidence]) -> Check:
    """`tidewire catalog explain` shows what TikTok holds of an item, in each catalog."""
    wrong: list[str] = []
    for shop in shops:
        told = {one.status.connection_id: one for one in shop.story.explanations}
        for catalog in shop.catalogs:
            name = catalog.choice.connection_id
            story = told.get(name)
            if story is None:
                wrong.append(f"{name}: nothing is told of {shop.item or 'any item'}")
            elif not story.is_current:
                wrong.append(f"{name}: {shop.item} is not what would be sent")
            elif json.loads(story.item_json or "null") != shop.held.get(name):
                wrong.append(f"{name}: {shop.item} differs from what TikTok holds")
    numbers = ", ".join(shop.item or "no item" for shop in shops)
    return Check("an item's story ends in what TikTok holds", numbers, tuple(wrong))


def catalogs_as_dict(shops: Sequence[ShopEvidence], kinds: Mapping[str, int]) -> dict[str, Any]:
    """What the suite says of its catalogs, as data, and what was changed in the shops."""
    return {
        "shops": {
            shop.shelf.handle: {
                "products": shop.seed.products_done,
                "items_in_seed": shop.seed.items,
                "seed_s": _rounded(_seconds(shop.seed)),
            }
            for shop in shops
        },
        "catalogs": {
            one.choice.connection_id: one.as_dict() for shop in shops for one in shop.catalogs
        },
        "changes": dict(sorted(kinds.items())),
    }


def catalogs_seen(shops: Sequence[ShopEvidence]) -> dict[str, Any]:
    """What the simulators have seen of each catalog, by its id at TikTok."""
    return {one.choice.catalog_id: one.seen_as_dict() for shop in shops for one in shop.catalogs}


def _seconds(sync: pb.SyncProgress) -> float | None:
    if not sync.HasField("ended_at"):
        return None
    return (sync.ended_at.ToNanoseconds() - sync.started_at.ToNanoseconds()) / 1e9


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)

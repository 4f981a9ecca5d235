"""Reads everything that the verdict on catalogs is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from cli.demo.catalog_verdict import CatalogEvidence, ShopEvidence
from cli.demo.catalogs import CatalogPlay, Told
from cli.demo.shelves import CatalogChoice, Shelf
from libs.errors import Kind, ServiceError
from tidewire.catalog.v1 import catalog_service_pb2 as pb

_PAGE: Final = 1000
_ITEMS: Final = 5000
_TURNED_DOWN: Final = (pb.ITEM_STATE_REFUSED, pb.ITEM_STATE_REJECTED)


async def gather_catalogs(play: CatalogPlay) -> list[ShopEvidence]:
    """What the catalog service says of each shop, beside what the simulators hold.

    Raises:
        ServiceError: the service or the simulators do not answer.
    """
    statuses = await play.statuses()
    return [await _of_shop(play, shelf, statuses.get(shelf.handle)) for shelf in play.shelves]


async def _of_shop(play: CatalogPlay, shelf: Shelf, status: pb.ShopStatus | None) -> ShopEvidence:
    known = {one.connection_id: one for one in status.catalogs} if status else {}
    seed = play.seeds.get(shelf.handle, pb.SyncProgress())
    catalogs: list[CatalogEvidence] = []
    all_items: dict[str, Mapping[str, Any]] = {}
    item = ""
    for choice in shelf.catalogs:
        items = await _items(play, choice)
        found = known.get(choice.connection_id, pb.CatalogStatus())
        catalogs.append(await _of_catalog(play, shelf, choice, found, items, seed))
        all_items[choice.connection_id] = {one["sku_id"]: one["item"] for one in items}
        item = _newest(items) if len(all_items) == 1 else item
    story = await _story(play, shelf, item)
    held = {
        one.status.connection_id: all_items[one.status.connection_id].get(one.status.sku_id)
        for one in story.explanations
    }
    return ShopEvidence(
        shelf=shelf,
        progress=status.progress if status else pb.SyncProgress(),
        seed=seed,
        catalogs=catalogs,
        item=item,
        story=story,
        held=held,
    )


async def _of_catalog(
    play: CatalogPlay,
    shelf: Shelf,
    choice: CatalogChoice,
    status: pb.CatalogStatus,
    items: Sequence[Mapping[str, Any]],
    seed: pb.SyncProgress,
) -> CatalogEvidence:
    path = f"/_sandbox/catalogs/{choice.catalog_id}"
    lines = (await play.judge.get(f"{path}/history"))["history"]
    refused = [one async for one in _refused(play, choice)]
    changes = [one for one in play.changed.at_rest if one.shop == choice.shop]
    return CatalogEvidence(
        choice=choice,
        status=status,
        refused=refused,
        summary=await play.judge.get(path),
        against=await play.judge.against(shelf, choice),
        history=lines,
        seed_s=seed_s(lines, seed),
        waits_s=waits_s(items, lines, changes),
    )


async def _items(play: CatalogPlay, choice: CatalogChoice) -> list[Mapping[str, Any]]:
    """All that a catalog at TikTok holds."""
    path = f"/_sandbox/catalogs/{choice.catalog_id}/items"
    found: list[Mapping[str, Any]] = []
    query: dict[str, str] = {}
    while True:
        page = await play.judge.get(path, limit=str(_ITEMS), **query)
        found += page["items"]
        if page["next"] is None:
            return found
        query = {"after": page["next"]}


async def _refused(play: CatalogPlay, choice: CatalogChoice) -> Any:
    token = ""
    while True:
        request = pb.ListItemsRequest(
            connection_id=choice.connection_id,
            states=_TURNED_DOWN,
            page_size=_PAGE,
            page_token=token,
        )
        page = await play.ask("ListItems", request)
        for one in page.items:
            yield one
        token = page.next_page_token
        if not token:
            return


async def _story(play: CatalogPlay, shelf: Shelf, item: str) -> pb.ExplainItemResponse:
    """What the service says of an item; nothing where it does not know it."""
    if not item:
        return pb.ExplainItemResponse()
    request = pb.ExplainItemRequest(shop=shelf.handle, item=item)
    try:
        found: pb.ExplainItemResponse = await play.ask("ExplainItem", request)
    except ServiceError as error:
        if error.kind is not Kind.PERMANENT:
            raise
        return pb.ExplainItemResponse()
    return found


def _newest(items: Sequence[Mapping[str, Any]]) -> str:
    """The SKU of the item that has changed last, of the bargains if there are any."""
    # A merchant's own SKU tells more than the number of a variant without one.
    named = [one for one in items if not str(one["sku_id"]).isdigit()]
    bargains = [one for one in named if "sale_price" in one["item"].get("price_info", {})]
    found = bargains or named or items
    newest = max(found, key=lambda one: float(one["changed_at"]), default=None)
    return str(newest["sku_id"]) if newest else ""


def seed_s(lines: Sequence[Mapping[str, Any]], seed: pb.SyncProgress) -> float | None:
    """From the beginning of a shop's first sync until TikTok had taken the last submit of it.

    None where there was no submit, or TikTok has not ended one.
    """
    began_s, over_s = _unix_s(seed.started_at), _unix_s(seed.ended_at)
    of_seed = [one for one in lines if one["feed_log_id"] and one["at"] <= over_s]
    ends = [float(one["ended_at"]) for one in of_seed if one.get("ended_at") is not None]
    return max(ends) - began_s if ends and len(ends) == len(of_seed) else None


def waits_s(
    items: Sequence[Mapping[str, Any]],
    lines: Sequence[Mapping[str, Any]],
    changes: Sequence[Told],
) -> list[float]:
    """How long it took from a change in the shop to the submit that carried it, for each item.

    Only products that changed once are looked at: of others nobody can tell which change it was.
    """
    written_s = {one["feed_log_id"]: float(one["at"]) for one in lines}
    once: dict[str, Told | None] = {}
    for change in changes:
        once[change.product_id] = None if change.product_id in once else change
    of_variant = {v: one for one in once.values() if one is not None for v in one.variant_ids}
    return sorted(_waited(items, written_s, of_variant))


def _waited(
    items: Sequence[Mapping[str, Any]],
    written_s: Mapping[str, float],
    of_variant: Mapping[str, Told],
) -> Iterator[float]:
    for one in items:
        change = of_variant.get(link_of(one["item"]).rpartition("variant=")[2])
        if change is not None and float(one["changed_at"]) >= change.at_s:
            yield max(0.0, written_s[one["feed_log_id"]] - change.at_s)


def link_of(item: Mapping[str, Any]) -> str:
    """Where an item leads, in either dialect."""
    return str(item.get("link") or item.get("landing_page", {}).get("landing_page_url") or "")


def _unix_s(stamp: Any) -> float:
    return float(stamp.seconds) + float(stamp.nanos) / 1e9

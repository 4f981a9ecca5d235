"""What the catalogs were sent, for tests; and how each behaves.

GET    /_sandbox/catalogs                      the summary of each; POST changes the defaults of
                                               those to come, DELETE forgets all but the told ones
GET    /_sandbox/catalogs/<id>                 summary and settings; POST changes or makes it
                                               (settings.py); DELETE empties it, settings stay
GET    /_sandbox/catalogs/<id>/items?after=&limit=    what it holds, as sent, in order of SKU
GET    /_sandbox/catalogs/<id>/history?start=  every write request, and what became of it
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from aiohttp import web

from sandbox.tiktok.catalog.book import CatalogBook
from sandbox.tiktok.catalog.feedlog import Now
from sandbox.tiktok.catalog.settings import changed
from sandbox.tiktok.catalog.shelf import LIST_MAX, Catalog, Line

PAGE: Final = 1000


class CatalogJudge:
    """The judge's paths."""

    def __init__(self, book: CatalogBook, now: Callable[[], Now]) -> None:
        self._book = book
        self._now = now

    def add_routes(self, app: web.Application) -> None:
        root = "/_sandbox/catalogs"
        app.router.add_get(root, self._show_all)
        app.router.add_post(root, self._change_defaults)
        app.router.add_delete(root, self._forget_all)
        app.router.add_get(root + "/{id}", self._show)
        app.router.add_post(root + "/{id}", self._change)
        app.router.add_delete(root + "/{id}", self._empty)
        app.router.add_get(root + "/{id}/items", self._show_items)
        app.router.add_get(root + "/{id}/history", self._show_history)

    async def _show_all(self, _request: web.Request) -> web.Response:
        now = self._now()
        shown = {catalog.id: _summary(catalog, now) for catalog in self._book}
        return _json({"catalogs": shown})

    async def _change_defaults(self, request: web.Request) -> web.Response:
        try:
            self._book.defaults = changed(self._book.defaults, await request.read())
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return _json({"error": str(error)}, 400)
        return _json(self._book.defaults)

    async def _forget_all(self, _request: web.Request) -> web.Response:
        self._book.reset()
        return _json({"catalogs": {}})

    async def _show(self, request: web.Request) -> web.Response:
        catalog = self._book.get(request.match_info["id"])
        if catalog is None:
            return _unknown()
        return _json(_summary(catalog, self._now()) | {"settings": catalog.settings})

    async def _change(self, request: web.Request) -> web.Response:
        catalog_id = request.match_info["id"]
        catalog = self._book.get(catalog_id)
        before = catalog.settings if catalog is not None else self._book.defaults
        try:
            settings = changed(before, await request.read())
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return _json({"error": str(error)}, 400)
        if catalog is None:
            catalog = self._book.make(catalog_id, settings)
        catalog.change(settings)
        return _json(settings)

    async def _empty(self, request: web.Request) -> web.Response:
        catalog = self._book.get(request.match_info["id"])
        if catalog is None:
            return _unknown()
        catalog.reset()
        return _json(_summary(catalog, self._now()))

    async def _show_items(self, request: web.Request) -> web.Response:
        catalog = self._book.get(request.match_info["id"])
        if catalog is None:
            return _unknown()
        limit = request.query.get("limit", str(PAGE))
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= LIST_MAX):
            return _json({"error": f"limit is not between 1 and {LIST_MAX}"}, 400)
        catalog.settle(self._now())
        skus = catalog.ordered(request.query.get("after"), int(limit))
        more = len(skus) == int(limit) and bool(catalog.ordered(skus[-1], 1))
        items = [_item_shown(catalog, sku) for sku in skus]
        return _json({"items": items, "next": skus[-1] if more else None})

    async def _show_history(self, request: web.Request) -> web.Response:
        catalog = self._book.get(request.match_info["id"])
        if catalog is None:
            return _unknown()
        start = request.query.get("start", "0")
        if not (start.isascii() and start.isdigit()):
            return _json({"error": "start is not a whole number"}, 400)
        now = self._now()
        catalog.settle(now)
        lines = list(catalog.history)[int(start) :]
        return _json({"history": [_line_shown(catalog, line, now) for line in lines]})


def _summary(catalog: Catalog, now: Now) -> dict[str, Any]:
    catalog.settle(now)
    counts = catalog.counts
    return {
        "items": len(catalog.items),
        "requests": counts["requests"],
        "items_received": counts["items_received"],
        "submits": counts["submits"],
        "uploads": counts["submits_upload"],
        "updates": counts["submits_update"],
        "item_batches": counts["submits_item_batch"],
        "deletes": counts["submits_delete"],
        "items_submitted": counts["items_submitted"],
        "items_added": counts["items_added"],
        "items_updated": counts["items_updated"],
        "items_deleted": counts["items_deleted"],
        "peak_submits_per_minute": catalog.peak_per_minute,
        "refused": sum(catalog.refusals.values()),
        "refusals": dict(catalog.refusals),
        "overlapping_submits": counts["overlapping"],
        "spacing_violations": counts["outcome_too_soon"],
        "silent_submits": counts["outcome_silent"],
        "running": len(catalog.running),
        "notes": dict(catalog.notes),
    }


def _item_shown(catalog: Catalog, sku: str) -> dict[str, Any]:
    item = catalog.items[sku]
    return {
        "sku_id": sku,
        "item": msgspec.Raw(item.raw),
        "product_id": item.product_id,
        "accepted_at": item.accepted_s,
        "changed_at": item.changed_s,
        "feed_log_id": item.feed_log_id,
        "kind": item.kind,
    }


def _line_shown(catalog: Catalog, line: Line, now: Now) -> dict[str, Any]:
    log = catalog.logs.get(line.feed_log_id)
    found = {
        "at": line.at_s,
        "kind": line.kind,
        "count": line.items,
        "outcome": line.outcome,
        "feed_log_id": line.feed_log_id,
        "overlapping": line.overlapping,
    }
    if log is not None:
        over = log.is_over(now)
        counts = {"added": log.added, "updated": log.updated, "deleted": log.deleted}
        found |= {"status": log.status(now), "ended_at": log.ended_wall_s if over else None}
        found |= counts
    return found


def _unknown() -> web.Response:
    return _json({"error": "no such catalog"}, 404)


def _json(found: object, status: int = 200) -> web.Response:
    body = msgspec.json.encode(found)
    return web.Response(body=body, status=status, content_type="application/json")

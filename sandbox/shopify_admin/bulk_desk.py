"""What only a test or a demo does to bulk operations.

GET    /_sandbox/shopify/bulk?shop=…     the operations; POST sets their pace (bulk_script.py)
GET    /_sandbox/shopify/bulk/faults     what goes wrong; POST adds (bulk_script.py), DELETE ends
"""

from __future__ import annotations

import msgspec
from aiohttp import web

from sandbox.oauth.desk import json_response
from sandbox.shopify_admin.bulk import Bulk, Operation
from sandbox.shopify_admin.bulk_script import BulkSettings

_BASE = "/_sandbox/shopify/bulk"


class Pace(BulkSettings, forbid_unknown_fields=True, frozen=True):
    """The settings of a shop; without one of all that have none of their own."""

    shop: str = ""


class BulkDesk:
    """The operator's paths of bulk operations."""

    def __init__(self, bulk: Bulk) -> None:
        self._bulk = bulk

    def add_routes(self, app: web.Application) -> None:
        """Serves them, and the outputs."""
        self._bulk.files.add_routes(app)
        app.router.add_get(_BASE, self._list)
        app.router.add_post(_BASE, self._configure)
        app.router.add_get(f"{_BASE}/faults", self._show_faults)
        app.router.add_post(f"{_BASE}/faults", self._post_faults)
        app.router.add_delete(f"{_BASE}/faults", self._end_faults)

    async def _list(self, request: web.Request) -> web.Response:
        shop = request.query.get("shop")
        found = [each for each in self._bulk.operations if shop in {None, each.domain}]
        return json_response([_line(each) for each in found])

    async def _configure(self, request: web.Request) -> web.Response:
        try:
            pace = msgspec.json.decode(await request.read(), type=Pace)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return json_response({"error": str(error)}, 400)
        self._bulk.configure(pace.shop, pace)
        return json_response(pace)

    async def _show_faults(self, _request: web.Request) -> web.Response:
        return json_response(self._bulk.faults.listing())

    async def _post_faults(self, request: web.Request) -> web.Response:
        try:
            posted = self._bulk.faults.post(await request.read())
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return json_response({"error": str(error)}, 400)
        return json_response({"posted": posted})

    async def _end_faults(self, _request: web.Request) -> web.Response:
        self._bulk.faults.clear()
        return json_response([])


def _line(operation: Operation) -> dict[str, object]:
    return {
        "id": operation.id,
        "shop": operation.domain,
        "app": operation.app_id,
        "status": operation.status,
        "error_code": operation.error_code,
        "objects": operation.objects,
        "roots": operation.roots,
        "bytes": operation.output.size_bytes if operation.output else 0,
        "export_s": round(operation.took_s, 3),
    }

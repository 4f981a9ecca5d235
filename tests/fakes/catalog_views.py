"""A catalog service without an engine: `CatalogViews` over what a test puts in, really served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from libs.clock import SystemClock
from libs.errors import Kind, ServiceError, permanent
from libs.lifecycle import Readiness
from libs.rpc.server import RpcServer, RpcService
from libs.settings import Address
from services.catalog.domain.states import IssueSource, ItemState, SyncKind, SyncPhase
from services.catalog.server import FILTERS, SERVICE, CatalogServer
from services.catalog.views import (
    CATALOG_NOT_FOUND,
    ITEM_NOT_FOUND,
    PAGE_TOKEN_UNREADABLE,
    SHOP_NOT_FOUND,
    CatalogView,
    CatalogViews,
    ExplanationView,
    FieldView,
    IssueView,
    ItemPage,
    ItemStory,
    ItemView,
    ShopSync,
    Started,
    SyncView,
)
from tests.fakes import callers
from tidewire.catalog.v1 import catalog_service_pb2_grpc

US, CA, OTHER = "acme.catalog.70", "acme.catalog.71", "other.catalog.80"
NOW_NS = 1_795_000_000_123_456_789

OURS = IssueView(
    source=IssueSource.MAPPING,
    is_error=True,
    text="The product has no vendor, and TikTok wants a brand.",
    code="brand_missing",
    field="vendor",
    fix="Give the product a vendor, or the connection a brand.",
)
THEIRS = IssueView(
    source=IssueSource.TIKTOK,
    is_error=True,
    text="Image link [red] is too small",
    field="image_url",
    fix="Use an image of 500x500 or more",
)


def item(number: int, state: ItemState, *issues: IssueView, of: str = US) -> ItemView:
    """One item of a catalog."""
    return ItemView(
        connection_id=of,
        sku_id=f"SKU-{number}",
        product_id=f"{100 + number // 10}",
        variant_id=f"{1000 + number}",
        state=state,
        issues=issues,
        accepted_ns=NOW_NS if state is not ItemState.REFUSED else 0,
        changed_ns=NOW_NS + number,
        in_catalog=state is not ItemState.REFUSED,
    )


def catalog(connection_id: str, **more: object) -> CatalogView:
    """One catalog that is at rest."""
    view = CatalogView(
        connection_id=connection_id,
        catalog_id=connection_id.rpartition(".")[2],
        dialect="product_upload",
        country="US",
        currency="USD",
        language="en",
        items={ItemState.LIVE: 7, ItemState.REFUSED: 2},
        last_submit_ns=NOW_NS,
        next_resend_ns=NOW_NS + 1,
    )
    return replace(view, **more)  # type: ignore[arg-type]  # fields by name


def sync(phase: SyncPhase, **more: object) -> SyncView:
    """A sync of twenty products."""
    view = SyncView(
        run_id="r1",
        kind=SyncKind.FULL,
        phase=phase,
        products_total=20,
        products_done=20,
        items=40,
        items_changed=4,
        items_deleted=1,
        started_ns=NOW_NS,
        ended_ns=NOW_NS + 5 if phase.is_end else 0,
    )
    return replace(view, **more)  # type: ignore[arg-type]  # fields by name


STORY = ItemStory(
    product_id="100",
    variant_id="1001",
    updated_ns=NOW_NS,
    explanations=(
        ExplanationView(
            status=item(1, ItemState.REFUSED, THEIRS),
            fields=(
                FieldView(
                    field="price_info.price",
                    value="19.5",
                    source="variants.price",
                    source_value="19.50",
                    rule="as it is",
                ),
            ),
            item_json='{"sku_id": "SKU-1"}',
            issues=(OURS,),
            is_current=True,
        ),
        ExplanationView(status=item(1, ItemState.DELETING, of=CA), excluded="not_active"),
    ),
)


class FakeCatalogViews:
    """What is asked of it is written down in `calls`."""

    def __init__(self) -> None:
        self.catalogs: dict[str, CatalogView] = {one: catalog(one) for one in (US, CA, OTHER)}
        self.progress: dict[str, SyncView] = {}
        self.held = [item(1, ItemState.REFUSED, THEIRS), item(2, ItemState.REFUSED, OURS)]
        self.held += [item(number, ItemState.LIVE) for number in range(3, 10)]
        self.story = STORY
        self.upcoming: list[ShopSync] = []
        """What a watch tells, one after another."""
        self.endless = False
        """A watch goes on after that."""
        self.breaks = 0
        """So many watches break off at once."""
        self.left = asyncio.Event()
        self.refused: ServiceError | None = None
        self.calls: list[tuple[object, ...]] = []

    def shops(self) -> Sequence[str]:
        return sorted({one.partition(".")[0] for one in self.catalogs})

    async def status(self, shop: str) -> ShopSync:
        found = [one for name, one in self.catalogs.items() if name.startswith(f"{shop}.")]
        if not found:
            raise permanent(SHOP_NOT_FOUND, "connect a catalog first", path="shop")
        return ShopSync(shop=shop, catalogs=tuple(found), progress=self.progress.get(shop))

    async def items(self, connection_id: str, sku_ids: Sequence[str]) -> Sequence[ItemView]:
        self._catalog(connection_id)
        return [one for one in self._items(connection_id) if one.sku_id in sku_ids]

    async def page(
        self, connection_id: str, states: AbstractSet[ItemState], *, size: int, token: str
    ) -> ItemPage:
        self.calls.append(("page", connection_id, frozenset(states), size, token))
        self._catalog(connection_id)
        if token and not token.isdigit():
            raise permanent(PAGE_TOKEN_UNREADABLE, "begin anew without it", path="page_token")
        found = [one for one in self._items(connection_id) if one.state in states]
        first = int(token or 0)
        more = first + size < len(found)
        return ItemPage(tuple(found[first : first + size]), str(first + size) if more else "")

    async def explain(self, shop: str, item: str, connection_id: str) -> ItemStory:
        self.calls.append(("explain", shop, item, connection_id))
        if item not in {"SKU-1", "1001"}:
            raise permanent(ITEM_NOT_FOUND, f"{shop} has no such item: try its SKU", path="item")
        return self.story

    async def start(self, shop: str, kind: SyncKind, *, take_out_many: bool = False) -> Started:
        self.calls.append(("start", shop, kind, *(["take_out_many"] if take_out_many else [])))
        await self.status(shop)
        if self.refused is not None:
            raise self.refused
        return Started(progress=sync(SyncPhase.QUEUED, kind=kind), joined=shop in self.progress)

    async def watch(self, shop: str) -> AsyncIterator[ShopSync]:
        try:
            await self.status(shop)
            if self.breaks:
                self.breaks -= 1
                raise ServiceError(Kind.RETRYABLE, "nats_away", "again")
            for one in self.upcoming or [await self.status(shop)]:
                yield one
            if self.endless:
                await asyncio.Event().wait()
        finally:
            self.left.set()

    async def pause(self, connection_id: str, note: str) -> CatalogView:
        self.calls.append(("pause", connection_id, note))
        return self._changed(connection_id, held_by="operator", held_note=note)

    async def resume(self, connection_id: str) -> CatalogView:
        self.calls.append(("resume", connection_id))
        return self._changed(connection_id, held_by="", held_note="")

    async def bind_event_source(
        self, connection_id: str, *, advertiser_id: str, pixel_code: str
    ) -> None:
        self._catalog(connection_id)
        if self.refused is not None:
            raise self.refused
        self.calls.append(("bind", connection_id, advertiser_id, pixel_code))

    def _items(self, connection_id: str) -> list[ItemView]:
        return [one for one in self.held if one.connection_id == connection_id]

    def _catalog(self, connection_id: str) -> CatalogView:
        if connection_id not in self.catalogs:
            raise permanent(CATALOG_NOT_FOUND, "it is no catalog's", path="connection_id")
        return self.catalogs[connection_id]

    def _changed(self, connection_id: str, **more: object) -> CatalogView:
        self.catalogs[connection_id] = replace(self._catalog(connection_id), **more)  # type: ignore[arg-type]  # fields by name
        return self.catalogs[connection_id]


@dataclass(frozen=True, slots=True)
class ServedCatalogs:
    """The server, and what it shows."""

    port: int
    views: FakeCatalogViews


@asynccontextmanager
async def served_catalogs(policy: Path | None = None) -> AsyncIterator[ServedCatalogs]:
    """The service on a port of this machine, to whom the policy lets in."""
    views = FakeCatalogViews()
    port_views: CatalogViews = views
    add = partial(
        catalog_service_pb2_grpc.add_CatalogServiceServicer_to_server, CatalogServer(port_views)
    )
    server = RpcServer(
        address=Address("127.0.0.1", 0),
        services=[RpcService(SERVICE, add, filters=FILTERS)],
        guard=callers.guard(policy),
        readiness=Readiness(),
        clock=SystemClock(),
    )
    ready = asyncio.Event()
    running = asyncio.create_task(server.run(ready.set))
    await asyncio.wait_for(ready.wait(), 10)
    try:
        yield ServedCatalogs(server.port, views)
    finally:
        server.stop()
        await asyncio.wait_for(running, 10)

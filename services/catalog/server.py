"""gRPC in: `CatalogService`. Checks, translates, decides nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp
from grpc.aio import ServicerContext

from libs.connections import shop_handle
from libs.errors import permanent
from libs.rpc.callers import Caller, current_caller
from services.catalog.domain.states import ItemState, SyncKind
from services.catalog.views import (
    SHOP_NOT_FOUND,
    CatalogView,
    CatalogViews,
    ExplanationView,
    FieldView,
    IssueView,
    ItemView,
    ShopSync,
    SyncView,
)
from tidewire.catalog.v1 import catalog_service_pb2 as pb
from tidewire.catalog.v1 import catalog_service_pb2_grpc

Context = ServicerContext[Any, Any]

SERVICE: Final = "tidewire.catalog.v1.CatalogService"
FILTERS: Final = frozenset({"GetStatus"})
"""Methods that tell a caller only of what it may have, so that it need not name it."""

_PAGE: Final = 100


class CatalogServer(catalog_service_pb2_grpc.CatalogServiceServicer):
    """What `views` shows and does, for callers of other processes."""

    def __init__(self, views: CatalogViews) -> None:
        self._views = views

    async def StartSync(  # noqa: N802
        self, request: pb.StartSyncRequest, context: Context
    ) -> pb.StartSyncResponse:
        """The sync that is under way now, begun by this or before."""
        kind = SyncKind(request.kind or pb.SYNC_KIND_FULL)
        started = await self._views.start(
            _handle(request.shop), kind, take_out_many=request.take_out_many
        )
        return pb.StartSyncResponse(progress=_progress(started.progress), joined=started.joined)

    async def WatchSync(  # noqa: N802
        self, request: pb.WatchSyncRequest, context: Context
    ) -> AsyncIterator[pb.WatchSyncResponse]:
        """How the shop is, until its sync has come to rest or the caller leaves."""
        async for seen in self._views.watch(_handle(request.shop)):
            yield pb.WatchSyncResponse(
                progress=_progress(seen.progress), catalogs=map(_catalog, seen.catalogs)
            )

    async def GetStatus(  # noqa: N802
        self, request: pb.GetStatusRequest, context: Context
    ) -> pb.GetStatusResponse:
        """One shop, or all that the caller may see, with those of its catalogs that it may see."""
        caller = current_caller.get()
        if request.shop:
            return pb.GetStatusResponse(shops=[await self._shop(_handle(request.shop), caller)])
        found = [await self._shop(shop, caller) for shop in self._views.shops()]
        return pb.GetStatusResponse(shops=[one for one in found if one.catalogs])

    async def GetItems(  # noqa: N802
        self, request: pb.GetItemsRequest, context: Context
    ) -> pb.GetItemsResponse:
        """Those items that are known."""
        found = await self._views.items(request.connection_id, tuple(request.sku_ids))
        return pb.GetItemsResponse(items=map(_item, found))

    async def ListItems(  # noqa: N802
        self, request: pb.ListItemsRequest, context: Context
    ) -> pb.ListItemsResponse:
        """A page of items."""
        page = await self._views.page(
            request.connection_id,
            _states(request.states),
            size=request.page_size or _PAGE,
            token=request.page_token,
        )
        return pb.ListItemsResponse(items=map(_item, page.items), next_page_token=page.next_token)

    async def ExplainItem(  # noqa: N802
        self, request: pb.ExplainItemRequest, context: Context
    ) -> pb.ExplainItemResponse:
        """The whole story of one item."""
        story = await self._views.explain(
            _handle(request.shop), request.item, request.connection_id
        )
        return pb.ExplainItemResponse(
            product_id=story.product_id,
            variant_id=story.variant_id,
            updated_at=_stamp(story.updated_ns),
            explanations=map(_explanation, story.explanations),
        )

    async def SetPaused(  # noqa: N802
        self, request: pb.SetPausedRequest, context: Context
    ) -> pb.SetPausedResponse:
        """Stops a catalog, or lets it go on."""
        if request.paused:
            seen = await self._views.pause(request.connection_id, request.note)
        else:
            seen = await self._views.resume(request.connection_id)
        return pb.SetPausedResponse(catalog=_catalog(seen))

    async def BindEventSource(  # noqa: N802
        self, request: pb.BindEventSourceRequest, context: Context
    ) -> pb.BindEventSourceResponse:
        """Has TikTok match the catalog with the events of a pixel."""
        await self._views.bind_event_source(
            request.connection_id,
            advertiser_id=request.advertiser_id,
            pixel_code=request.pixel_code,
        )
        return pb.BindEventSourceResponse()

    async def _shop(self, shop: str, caller: Caller) -> pb.ShopStatus:
        seen: ShopSync = await self._views.status(shop)
        shown = [one for one in seen.catalogs if caller.may(connection_id=one.connection_id)]
        return pb.ShopStatus(
            shop=seen.shop, progress=_progress(seen.progress), catalogs=map(_catalog, shown)
        )


def _handle(text: str) -> str:
    found = shop_handle(text, bare=True)
    if found is None:
        raise permanent(
            SHOP_NOT_FOUND, "give the shop's handle, or its myshopify.com domain", path="shop"
        )
    return found


def _states(named: Iterable[int]) -> frozenset[ItemState]:
    known = frozenset(ItemState)
    wanted = frozenset(named) or known
    if not wanted <= known:
        listed = ", ".join(one.name for one in ItemState)
        raise permanent("request_invalid", f"an item is one of {listed}", path="states")
    return frozenset(map(ItemState, wanted))


def _stamp(ns: int) -> Timestamp | None:
    if not ns:
        return None
    stamp = Timestamp()
    stamp.FromNanoseconds(ns)
    return stamp


def _progress(sync: SyncView | None) -> pb.SyncProgress | None:
    if sync is None:
        return None
    return pb.SyncProgress(
        run_id=sync.run_id,
        kind=pb.SyncKind.ValueType(sync.kind),
        phase=pb.SyncPhase.ValueType(sync.phase),
        products_total=sync.products_total,
        products_done=sync.products_done,
        items=sync.items,
        items_changed=sync.items_changed,
        items_deleted=sync.items_deleted,
        started_at=_stamp(sync.started_ns),
        ended_at=_stamp(sync.ended_ns),
        error=sync.error,
    )


def _catalog(seen: CatalogView) -> pb.CatalogStatus:
    return pb.CatalogStatus(
        connection_id=seen.connection_id,
        catalog_id=seen.catalog_id,
        dialect=seen.dialect,
        country=seen.country,
        currency=seen.currency,
        language=seen.language,
        items={int(state): count for state, count in seen.items.items()},
        waiting=seen.waiting,
        next_submit_at=_stamp(seen.next_submit_ns),
        last_submit_at=_stamp(seen.last_submit_ns),
        in_flight=seen.in_flight,
        held_by=seen.held_by,
        held_note=seen.held_note,
        next_resend_at=_stamp(seen.next_resend_ns),
    )


def _item(seen: ItemView) -> pb.ItemStatus:
    return pb.ItemStatus(
        connection_id=seen.connection_id,
        sku_id=seen.sku_id,
        product_id=seen.product_id,
        variant_id=seen.variant_id,
        state=pb.ItemState.ValueType(seen.state),
        issues=map(_issue, seen.issues),
        accepted_at=_stamp(seen.accepted_ns),
        changed_at=_stamp(seen.changed_ns),
        in_catalog=seen.in_catalog,
    )


def _issue(seen: IssueView) -> pb.Issue:
    return pb.Issue(
        source=pb.IssueSource.ValueType(seen.source),
        is_error=seen.is_error,
        code=seen.code,
        field=seen.field,
        text=seen.text,
        fix=seen.fix,
    )


def _explanation(seen: ExplanationView) -> pb.Explanation:
    return pb.Explanation(
        status=_item(seen.status),
        fields=map(_field, seen.fields),
        item_json=seen.item_json,
        issues=map(_issue, seen.issues),
        excluded=seen.excluded,
        is_current=seen.is_current,
    )


def _field(seen: FieldView) -> pb.ExplainedField:
    return pb.ExplainedField(
        field=seen.field,
        value=seen.value,
        source=seen.source,
        source_value=seen.source_value,
        rule=seen.rule,
    )

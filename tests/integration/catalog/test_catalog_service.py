"""`CatalogService` over real gRPC: what is told, what is refused, and who sees what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from libs.errors import Kind, ServiceError
from libs.rpc.client import call, stream
from services.catalog.domain.states import ItemState, SyncKind, SyncPhase
from services.catalog.server import SERVICE
from services.catalog.views import ShopSync
from tests.fakes import callers
from tests.fakes.catalog_views import (
    CA,
    NOW_NS,
    OTHER,
    OURS,
    US,
    FakeCatalogViews,
    catalog,
    served_catalogs,
    sync,
)
from tests.integration.libs.called import policy_at
from tidewire.catalog.v1 import catalog_service_pb2 as pb
from tidewire.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub

POLICY = Path(__file__).resolve().parents[3] / "deploy" / "policy.yaml"

# One loop for all: grpc.aio has one queue of events for the process.
pytestmark = pytest.mark.asyncio(loop_scope="module")


class Desk:
    """The service, called as an operator."""

    def __init__(self, stub: Any, views: FakeCatalogViews) -> None:
        self.stub = stub
        self.views = views

    async def ask(self, method: str, request: Any) -> Any:
        return await call(getattr(self.stub, method), request, timeout_s=10)

    async def refusal(self, method: str, request: Any) -> ServiceError:
        with pytest.raises(ServiceError) as caught:
            await self.ask(method, request)
        return caught.value


@pytest_asyncio.fixture(loop_scope="module")
async def desk() -> AsyncIterator[Desk]:
    async with served_catalogs() as served, callers.channel_to(served.port) as channel:
        yield Desk(CatalogServiceStub(channel), served.views)


# -- what is told ----------------------------------------------------------------------------------


async def test_a_catalog_is_told_with_every_figure(desk: Desk) -> None:
    desk.views.catalogs[US] = catalog(
        US, waiting=5, in_flight=3, next_submit_ns=NOW_NS + 2, held_by="outage", held_note="wait"
    )

    answer = await desk.ask("GetStatus", pb.GetStatusRequest(shop="acme.myshopify.com"))

    [shop] = answer.shops
    us = shop.catalogs[0]
    wanted = pb.CatalogStatus(
        connection_id=US,
        catalog_id="70",
        dialect="product_upload",
        country="US",
        currency="USD",
        language="en",
        items={pb.ITEM_STATE_LIVE: 7, pb.ITEM_STATE_REFUSED: 2},
        waiting=5,
        in_flight=3,
        held_by="outage",
        held_note="wait",
    )
    wanted.next_submit_at.FromNanoseconds(NOW_NS + 2)
    wanted.last_submit_at.FromNanoseconds(NOW_NS)
    wanted.next_resend_at.FromNanoseconds(NOW_NS + 1)
    assert (shop.shop, len(shop.catalogs), us) == ("acme", 2, wanted)
    assert not shop.HasField("progress")


async def test_a_time_that_there_is_none_of_is_absent(desk: Desk) -> None:
    desk.views.catalogs[US] = catalog(US, last_submit_ns=0, next_resend_ns=0)

    answer = await desk.ask("GetStatus", pb.GetStatusRequest(shop="acme"))

    us = answer.shops[0].catalogs[0]
    times = ("last_submit_at", "next_resend_at", "next_submit_at")
    assert not any(us.HasField(name) for name in times)


async def test_a_sync_is_told_with_every_figure(desk: Desk) -> None:
    desk.views.progress["acme"] = sync(SyncPhase.FAILED, error="Shopify refused: grant a scope")

    answer = await desk.ask("GetStatus", pb.GetStatusRequest(shop="acme"))

    wanted = pb.SyncProgress(
        run_id="r1",
        kind=pb.SYNC_KIND_FULL,
        phase=pb.SYNC_PHASE_FAILED,
        products_total=20,
        products_done=20,
        items=40,
        items_changed=4,
        items_deleted=1,
        error="Shopify refused: grant a scope",
    )
    wanted.started_at.FromNanoseconds(NOW_NS)
    wanted.ended_at.FromNanoseconds(NOW_NS + 5)
    assert answer.shops[0].progress == wanted


async def test_a_sync_that_says_no_kind_is_a_full_one_and_one_under_way_is_joined(
    desk: Desk,
) -> None:
    first = await desk.ask("StartSync", pb.StartSyncRequest(shop="acme"))
    desk.views.progress["acme"] = sync(SyncPhase.COMPARING)
    second = await desk.ask("StartSync", pb.StartSyncRequest(shop="acme", kind=pb.SYNC_KIND_RESEND))

    assert (first.joined, first.progress.kind) == (False, pb.SYNC_KIND_FULL)
    assert first.progress.phase == pb.SYNC_PHASE_QUEUED
    assert second.joined
    assert desk.views.calls == [
        ("start", "acme", SyncKind.FULL),
        ("start", "acme", SyncKind.RESEND),
    ]


async def test_that_most_of_a_shop_may_be_taken_out_is_passed_on(desk: Desk) -> None:
    await desk.ask("StartSync", pb.StartSyncRequest(shop="acme", take_out_many=True))

    assert desk.views.calls == [("start", "acme", SyncKind.FULL, "take_out_many")]


async def test_a_watch_tells_each_change_and_ends_with_the_sync(desk: Desk) -> None:
    phases = (SyncPhase.EXPORTING, SyncPhase.COMPARING, SyncPhase.DONE)
    desk.views.upcoming = [
        ShopSync(shop="acme", catalogs=(catalog(US, waiting=1),), progress=sync(phase))
        for phase in phases
    ]

    told = [
        one
        async for one in stream(desk.stub.WatchSync, pb.WatchSyncRequest(shop="acme"), timeout_s=10)
    ]

    assert [one.progress.phase for one in told] == list(phases)
    assert [one.catalogs[0].waiting for one in told] == [1, 1, 1]


async def test_who_stops_watching_is_let_go(desk: Desk) -> None:
    desk.views.endless = True
    watch = stream(desk.stub.WatchSync, pb.WatchSyncRequest(shop="acme"), timeout_s=10)

    await anext(watch)
    await watch.aclose()  # type: ignore[attr-defined]  # it is a generator

    await asyncio.wait_for(desk.views.left.wait(), 5)
    assert desk.views.left.is_set()


async def test_an_item_is_told_with_what_is_wrong_with_it(desk: Desk) -> None:
    request = pb.GetItemsRequest(connection_id=US, sku_ids=["SKU-2", "SKU-3", "unknown"])

    refused, live = (await desk.ask("GetItems", request)).items

    issue = pb.Issue(
        source=pb.ISSUE_SOURCE_MAPPING,
        is_error=True,
        code="brand_missing",
        field="vendor",
        text=OURS.text,
        fix=OURS.fix,
    )
    wanted = pb.ItemStatus(
        connection_id=US,
        sku_id="SKU-2",
        product_id="100",
        variant_id="1002",
        state=pb.ITEM_STATE_REFUSED,
        issues=[issue],
    )
    wanted.changed_at.FromNanoseconds(NOW_NS + 2)
    assert refused == wanted
    assert (live.state, live.in_catalog) == (pb.ITEM_STATE_LIVE, True)
    assert live.accepted_at.ToNanoseconds() == NOW_NS


async def test_items_are_listed_by_state_page_by_page(desk: Desk) -> None:
    seen: list[str] = []
    token = ""
    while True:
        request = pb.ListItemsRequest(
            connection_id=US, states=[pb.ITEM_STATE_LIVE], page_size=3, page_token=token
        )
        page = await desk.ask("ListItems", request)
        seen += [one.sku_id for one in page.items]
        token = page.next_page_token
        if not token:
            break

    assert seen == [f"SKU-{number}" for number in range(3, 10)]


async def test_a_list_that_says_nothing_is_of_all_states_by_the_hundred(desk: Desk) -> None:
    await desk.ask("ListItems", pb.ListItemsRequest(connection_id=US))

    assert desk.views.calls == [("page", US, frozenset(ItemState), 100, "")]


async def test_an_item_is_explained_field_by_field_in_each_catalog(desk: Desk) -> None:
    request = pb.ExplainItemRequest(shop="acme", item="1001", connection_id=US)

    story = await desk.ask("ExplainItem", request)

    assert desk.views.calls == [("explain", "acme", "1001", US)]
    assert (story.product_id, story.variant_id) == ("100", "1001")
    assert story.updated_at.ToNanoseconds() == NOW_NS
    refused, excluded = story.explanations
    assert refused.fields[0] == pb.ExplainedField(
        field="price_info.price",
        value="19.5",
        source="variants.price",
        source_value="19.50",
        rule="as it is",
    )
    assert (refused.item_json, refused.is_current) == ('{"sku_id": "SKU-1"}', True)
    assert refused.status.issues[0].source == pb.ISSUE_SOURCE_TIKTOK
    assert refused.issues[0].code == "brand_missing"
    assert (excluded.excluded, excluded.status.state) == ("not_active", pb.ITEM_STATE_DELETING)


async def test_a_catalog_is_paused_with_a_note_and_resumed(desk: Desk) -> None:
    request = pb.SetPausedRequest(connection_id=US, paused=True, note="stocktaking")
    paused = await desk.ask("SetPaused", request)
    resumed = await desk.ask("SetPaused", pb.SetPausedRequest(connection_id=US))

    assert (paused.catalog.held_by, paused.catalog.held_note) == ("operator", "stocktaking")
    assert resumed.catalog.held_by == ""
    assert desk.views.calls == [("pause", US, "stocktaking"), ("resume", US)]


async def test_a_pixel_is_bound_and_tiktoks_no_is_passed_on(desk: Desk) -> None:
    request = pb.BindEventSourceRequest(connection_id=US, advertiser_id="71", pixel_code="C1")
    await desk.ask("BindEventSource", request)
    desk.views.refused = ServiceError(Kind.AUTH, "upstream_40001", "No permission to the pixel")

    refusal = await desk.refusal("BindEventSource", request)

    assert desk.views.calls == [("bind", US, "71", "C1")]
    assert (refusal.kind, refusal.code) == (Kind.AUTH, "upstream_40001")
    assert refusal.message == "No permission to the pixel"


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "request_", "path"),
    [
        ("StartSync", pb.StartSyncRequest(), "shop"),
        ("StartSync", pb.StartSyncRequest(shop="acme", kind=9), "kind"),  # type: ignore[arg-type]
        ("StartSync", pb.StartSyncRequest(shop="two words"), "shop"),
        ("GetStatus", pb.GetStatusRequest(shop="acme.example"), "shop"),
        ("GetItems", pb.GetItemsRequest(connection_id=US), "sku_ids"),
        ("GetItems", pb.GetItemsRequest(sku_ids=["a"]), "connection_id"),
        ("ListItems", pb.ListItemsRequest(connection_id=US, page_size=1001), "page_size"),
        ("ListItems", pb.ListItemsRequest(connection_id=US, states=[99]), "states"),  # type: ignore[list-item]
        ("ListItems", pb.ListItemsRequest(connection_id=US, page_token="x"), "page_token"),
        ("ExplainItem", pb.ExplainItemRequest(shop="acme"), "item"),
        ("ExplainItem", pb.ExplainItemRequest(shop="acme", item="x" * 256), "item"),
        ("ExplainItem", pb.ExplainItemRequest(shop="acme", item="SKU-99"), "item"),
        ("SetPaused", pb.SetPausedRequest(connection_id="acme.events.C1"), "connection_id"),
        ("SetPaused", pb.SetPausedRequest(connection_id=US, note="x" * 501), "note"),
        ("BindEventSource",
         pb.BindEventSourceRequest(connection_id=US, advertiser_id="a", pixel_code="C1"),
         "advertiser_id"),
    ],
)  # fmt: skip
async def test_a_refusal_names_the_field(desk: Desk, method: str, request_: Any, path: str) -> None:
    refusal = await desk.refusal(method, request_)

    assert (refusal.kind, refusal.path) == (Kind.PERMANENT, path)
    assert refusal.message


# -- who sees what ---------------------------------------------------------------------------------


def limited(directory: Path, to: str) -> Path:
    return policy_at(directory, f"  - {{callers: [orders], methods: ['{SERVICE}/*'], {to}}}\n")


@pytest.mark.parametrize(
    ("to", "seen"),
    [
        (f"connections: [{CA}]", [("acme", [CA])]),
        ("shops: [other]", [("other", [OTHER])]),
        (f"shops: [other], connections: [{US}]", [("acme", [US]), ("other", [OTHER])]),
        ("shops: [stranger]", []),
    ],
)
async def test_status_of_all_shops_shows_what_the_caller_may_see(
    tmp_path: Path, to: str, seen: list[tuple[str, list[str]]]
) -> None:
    async with (
        served_catalogs(limited(tmp_path, to)) as served,
        callers.channel_to(served.port, "orders") as channel,
    ):
        stub: Any = CatalogServiceStub(channel)
        answer = await call(stub.GetStatus, pb.GetStatusRequest(), timeout_s=10)

    shown = [(one.shop, [each.connection_id for each in one.catalogs]) for one in answer.shops]
    assert shown == seen


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("GetStatus", pb.GetStatusRequest(shop="other")),
        ("StartSync", pb.StartSyncRequest(shop="other")),
        ("ExplainItem", pb.ExplainItemRequest(shop="acme", item="SKU-1")),
        ("ExplainItem", pb.ExplainItemRequest(shop="other", item="SKU-1", connection_id=CA)),
        ("ListItems", pb.ListItemsRequest(connection_id=US)),
        ("SetPaused", pb.SetPausedRequest(connection_id=US, paused=True)),
    ],
)
async def test_who_may_have_one_catalog_has_no_other(
    tmp_path: Path, method: str, request_: Any
) -> None:
    async with (
        served_catalogs(limited(tmp_path, f"connections: [{CA}]")) as served,
        callers.channel_to(served.port, "orders") as channel,
    ):
        with pytest.raises(ServiceError) as caught:
            await call(getattr(CatalogServiceStub(channel), method), request_, timeout_s=10)

    assert caught.value.code == "rpc_connection_denied"
    assert served.views.calls == []


async def test_the_shipped_policy_lets_operators_in_and_no_service(desk: Desk) -> None:
    async with served_catalogs(POLICY) as served:
        async with callers.channel_to(served.port) as channel:
            stub: Any = CatalogServiceStub(channel)
            answer = await call(stub.GetStatus, pb.GetStatusRequest(), timeout_s=10)
        async with callers.channel_to(served.port, "events") as channel:
            stub = CatalogServiceStub(channel)
            with pytest.raises(ServiceError) as caught:
                await call(stub.GetStatus, pb.GetStatusRequest(), timeout_s=10)

    assert [one.shop for one in answer.shops] == ["acme", "other"]
    assert caught.value.code == "rpc_method_denied"

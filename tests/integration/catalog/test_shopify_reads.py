"""What the catalog service reads of Shopify, against scripted answers over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from libs.clock import FakeClock
from libs.errors import Kind, ServiceError
from libs.http.session import http_session
from libs.telemetry import Metrics
from services.catalog.adapters.bulk_download import BulkDownload
from services.catalog.adapters.shopify import ShopifyReads
from services.catalog.domain.model import Money, Product
from services.catalog.ports import BulkState, ShopFacts, Wanted
from tests.integration.catalog.shopify_fake import FakeShopify, Json, fake_shopify, refused
from tests.integration.reconcile.shopify import (
    TOKEN,
    RecordingLimiter,
    admin_of,
    connections_file,
)
from tests.unit.catalog.shopify_lines import gid, level, medium, product, variant

SHOP = "example"
OPERATION = gid("BulkOperation", 7)
STATE: Json = {
    "id": OPERATION,
    "status": "COMPLETED",
    "errorCode": None,
    "url": "https://storage.example.com/x",
    "partialDataUrl": None,
    "objectCount": "1456",
    "rootObjectCount": "12",
    "fileSize": "99999",
    "createdAt": "2026-11-22T10:00:00Z",
    "type": "QUERY",
}
GRANTED: Json = {
    "currentAppInstallation": {
        "accessScopes": [{"handle": "read_products"}, {"handle": "read_inventory"}]
    }
}
FULL = Wanted(languages=("fr",), countries=("FR",), metafields=("custom.material",))


@dataclass
class Desk:
    fake: FakeShopify
    reads: ShopifyReads


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with AsyncExitStack() as stack:
        fake = await stack.enter_async_context(fake_shopify())
        yield Desk(fake, await reads_of(fake, stack, tmp_path))


async def reads_of(
    fake: FakeShopify, stack: AsyncExitStack, folder: Path, *, api_version: str = "2026-10"
) -> ShopifyReads:
    session = await stack.enter_async_context(http_session())
    connections = connections_file(folder / "c.yaml", {SHOP: TOKEN})
    admin = admin_of(
        fake.template, session, connections, RecordingLimiter(), Metrics(), api_version=api_version
    )
    return ShopifyReads(admin, BulkDownload(session=session, clock=FakeClock()), folder / "spool")


async def error_of(awaited: Any) -> ServiceError:
    with pytest.raises(ServiceError) as raised:
        await awaited
    return raised.value


# -- the shop --------------------------------------------------------------------------------------

SHOP_TOLD: Json = {
    "shop": {
        "currencyCode": "EUR",
        "primaryDomain": {"host": "shop.example.com"},
        "billingAddress": {"countryCodeV2": "DE"},
    }
}


async def test_a_shop_tells_its_currency_domain_country_and_language(desk: Desk) -> None:
    desk.fake.on("CatalogShop", SHOP_TOLD)
    locales = [{"locale": "en", "primary": False}, {"locale": "de", "primary": True}]
    desk.fake.on("CatalogLocales", {"shopLocales": locales})

    assert await desk.reads.shop(SHOP) == ShopFacts(
        currency="EUR", primary_domain="shop.example.com", country="DE", language="de"
    )


async def test_without_the_scope_for_locales_only_the_language_is_missing(desk: Desk) -> None:
    desk.fake.on("CatalogShop", SHOP_TOLD)
    desk.fake.on("CatalogLocales", refused("ACCESS_DENIED", path=["shopLocales"]))

    told = await desk.reads.shop(SHOP)

    assert (told.currency, told.language) == ("EUR", "")


# -- bulk operations -------------------------------------------------------------------------------


def started(*errors: Json, operation: Json | None = None) -> Json:
    return {"bulkOperationRunQuery": {"bulkOperation": operation, "userErrors": list(errors)}}


async def test_an_export_is_started_with_what_is_wanted(desk: Desk) -> None:
    desk.fake.on("CatalogScopes", GRANTED)
    desk.fake.on("CatalogExport", started(operation={"id": OPERATION, "status": "CREATED"}))

    assert await desk.reads.start_bulk(SHOP, FULL) == OPERATION

    (asked,) = desk.fake.asked("CatalogExport")
    assert all(word in asked["query"] for word in ('locale: "fr"', "country: FR", "material"))
    assert "inventoryLevels" in asked["query"]


async def test_without_the_scope_for_stock_an_export_leaves_it_out(desk: Desk) -> None:
    scopes = [{"handle": "read_products"}]
    desk.fake.on("CatalogScopes", {"currentAppInstallation": {"accessScopes": scopes}})
    desk.fake.on("CatalogExport", started(operation={"id": OPERATION, "status": "CREATED"}))

    await desk.reads.start_bulk(SHOP, Wanted())

    assert "inventoryLevels" not in desk.fake.asked("CatalogExport")[0]["query"]


@pytest.mark.parametrize("code", ["LIMIT_REACHED", "OPERATION_IN_PROGRESS"])
async def test_a_shop_with_as_many_operations_as_it_may_run_is_to_be_waited_for(
    desk: Desk, code: str
) -> None:
    desk.fake.on("CatalogScopes", GRANTED)
    desk.fake.on("CatalogExport", started({"field": None, "message": "Busy", "code": code}))

    error = await error_of(desk.reads.start_bulk(SHOP, Wanted()))

    assert (error.kind, error.code) == (Kind.THROTTLED, "bulk_busy")
    assert error.retry_after_s


async def test_a_refused_export_says_so_in_shopify_s_words(desk: Desk) -> None:
    desk.fake.on("CatalogScopes", GRANTED)
    words = "Bulk queries cannot contain more than 5 connections."
    desk.fake.on(
        "CatalogExport", started({"field": ["query"], "message": words, "code": "INVALID"})
    )

    error = await error_of(desk.reads.start_bulk(SHOP, Wanted()))

    assert (error.kind, error.code, error.message) == (Kind.PERMANENT, "bulk_refused", words)


async def test_a_state_is_told_in_lower_case_and_in_numbers(desk: Desk) -> None:
    desk.fake.on("BulkState", {"bulkOperation": STATE})

    assert await desk.reads.bulk(SHOP, OPERATION) == BulkState(
        operation_id=OPERATION,
        status="completed",
        url="https://storage.example.com/x",
        objects=1456,
        roots=12,
        bytes_total=99999,
    )


async def test_a_failed_operation_tells_why_and_what_came_before(desk: Desk) -> None:
    failed = {"status": "FAILED", "errorCode": "ACCESS_DENIED", "url": None, "fileSize": None}
    partial = {"partialDataUrl": "https://storage.example.com/part"}
    desk.fake.on("BulkState", {"bulkOperation": {**STATE, **failed, **partial}})

    told = await desk.reads.bulk(SHOP, OPERATION)

    assert (told.status, told.error_code, told.url) == ("failed", "access_denied", "")
    assert told.partial_url == "https://storage.example.com/part"


async def test_an_operation_that_shopify_does_not_know_is_an_error(desk: Desk) -> None:
    desk.fake.on("BulkState", {"bulkOperation": None})

    error = await error_of(desk.reads.bulk(SHOP, OPERATION))

    assert (error.kind, error.code) == (Kind.PERMANENT, "bulk_unknown")


async def test_only_queries_since_then_are_found_newest_first(desk: Desk) -> None:
    nodes = [
        {**STATE, "id": "old", "createdAt": "2026-11-22T09:59:59Z"},
        {**STATE, "id": "first", "createdAt": "2026-11-22T10:00:00Z"},
        {**STATE, "id": "latest", "createdAt": "2026-11-22T11:00:00Z"},
        {**STATE, "id": "import", "createdAt": "2026-11-22T11:00:00Z", "type": "MUTATION"},
    ]
    desk.fake.on("BulkStates", {"bulkOperations": {"nodes": nodes}})
    since_ns = 1_795_341_600_400_000_000  # 2026-11-22T10:00:00.4Z

    found = await desk.reads.find_bulk(SHOP, since_ns)

    assert [one.operation_id for one in found] == ["latest", "first"]
    (asked,) = desk.fake.asked("BulkStates")
    assert asked["query"] == "operation_type:query"


async def test_none_are_found_where_there_are_none(desk: Desk) -> None:
    desk.fake.on("BulkStates", {"bulkOperations": {"nodes": []}})

    assert await desk.reads.find_bulk(SHOP, 0) == []


async def test_a_version_that_lists_no_operations_is_asked_for_the_current_one(
    tmp_path: Path,
) -> None:
    async with AsyncExitStack() as stack:
        fake = await stack.enter_async_context(fake_shopify())
        reads = await reads_of(fake, stack, tmp_path, api_version="2025-10")
        fake.on("BulkStates", {"currentBulkOperation": STATE})

        found = await reads.find_bulk(SHOP, 0)

    assert [one.operation_id for one in found] == [OPERATION]


# -- one product -----------------------------------------------------------------------------------


def page(nodes: list[Json], cursor: str | None = None) -> Json:
    return {"nodes": nodes, "pageInfo": {"hasNextPage": bool(cursor), "endCursor": cursor}}


def head(**changes: Any) -> Json:
    node = product(1, **{"media": page([medium(5)]), **changes})
    return {"shop": {"currencyCode": "USD"}, "product": node}


def in_pages(count: int) -> Any:
    """Answers pages of a product's variants, as large as they are asked for."""

    def resolve(variables: Mapping[str, Any]) -> Json:
        begin, size = int(variables["after"] or 0), variables["variants"]
        end = begin + size
        nodes = [with_levels(11 + each) for each in range(begin, min(end, count))]
        cursor = str(end) if end < count else None
        return {"product": {"id": gid("Product", 1), "variants": page(nodes, cursor)}}

    return resolve


def with_levels(number: int, *levels: Json, cursor: str | None = None) -> Json:
    node = variant(number, media=page([medium(5)]))
    node["inventoryItem"]["inventoryLevels"] = page(list(levels) or [level(1, 3)], cursor)
    return node


async def read(desk: Desk, wanted: Wanted = FULL) -> Product:
    found = await desk.reads.product(SHOP, "1", wanted)
    assert found is not None
    return found


async def test_all_2048_variants_of_a_product_are_read(desk: Desk) -> None:
    desk.fake.on("CatalogProduct", head())
    desk.fake.on("CatalogVariants", in_pages(2048))

    found = await read(desk)

    assert [one.variant_id for one in found.variants] == [str(11 + each) for each in range(2048)]
    assert found.variants[2047].price == Money(1250, "USD")
    assert found.variants[2047].image_url == "https://cdn.example.com/5.jpg"


async def test_pages_shrink_until_a_query_may_be_asked_and_stay_so(desk: Desk) -> None:
    def resolve(variables: Mapping[str, Any]) -> Json:
        if variables["variants"] > 30:
            return refused("MAX_COST_EXCEEDED", "Query cost is 2402, which exceeds the limit")
        answer: Json = in_pages(60)(variables)
        return answer

    desk.fake.on("CatalogProduct", head())
    desk.fake.on("CatalogVariants", resolve)

    assert len((await read(desk)).variants) == 60
    assert len((await read(desk)).variants) == 60

    sizes = [one["variants"] for one in desk.fake.asked("CatalogVariants")]
    assert sizes == [100, 50, 25, 25, 25, 25, 25, 25]


async def test_no_more_variants_are_asked_for_than_a_product_may_have(desk: Desk) -> None:
    desk.fake.on("CatalogProduct", head(variantsCount={"count": 3}))
    desk.fake.on("CatalogVariants", in_pages(3))

    await desk.reads.product(SHOP, "1", Wanted())

    (asked,) = desk.fake.asked("CatalogVariants")
    assert asked["variants"] == 5


async def test_levels_beyond_the_first_page_are_read_too(desk: Desk) -> None:
    many = with_levels(11, *(level(each, each) for each in range(1, 11)), cursor="ten")
    desk.fake.on("CatalogProduct", head())
    desk.fake.on("CatalogVariants", {"product": {"variants": page([many, with_levels(21)])}})
    pages = [page([level(11, 11)], "eleven"), page([level(12, 12)])]
    desk.fake.on("CatalogLevels", *({"inventoryItem": {"inventoryLevels": one}} for one in pages))

    first, second = (await read(desk)).variants

    assert {one.available for one in first.levels} == set(range(1, 13))
    assert len(second.levels) == 1
    asked = [(one["id"], one["after"]) for one in desk.fake.asked("CatalogLevels")]
    assert asked == [(gid("InventoryItem", 12), "ten"), (gid("InventoryItem", 12), "eleven")]


async def test_media_beyond_the_first_page_are_read_too(desk: Desk) -> None:
    more = {"product": {"media": page([medium(6)])}, "shop": {"currencyCode": "USD"}}
    desk.fake.on("CatalogProduct", head(media=page([medium(5)], "more")), more)
    desk.fake.on("CatalogVariants", in_pages(1))

    assert [one.image_id for one in (await read(desk)).images] == ["5", "6"]


async def test_a_product_that_is_gone_is_none_before_and_between_pages(desk: Desk) -> None:
    desk.fake.on("CatalogProduct", {"shop": {"currencyCode": "USD"}, "product": None}, head())
    desk.fake.on("CatalogVariants", {"product": None})

    assert await desk.reads.product(SHOP, "1", Wanted()) is None
    assert await desk.reads.product(SHOP, "1", Wanted()) is None
    assert len(desk.fake.asked("CatalogVariants")) == 1


async def test_what_the_app_may_not_see_is_left_out_and_the_rest_is_read(desk: Desk) -> None:
    def resolve_head(_: Mapping[str, Any]) -> Json:
        if "translations" in desk.fake.told[-1].query:
            return refused("ACCESS_DENIED", data={"product": None}, path=["product", "t_fr"])
        return head()

    def resolve_variants(variables: Mapping[str, Any]) -> Json:
        if "inventoryLevels" in desk.fake.told[-1].query:
            return refused("ACCESS_DENIED", data={"product": None}, path=["product", "variants"])
        answer: Json = in_pages(2)(variables)
        return answer

    desk.fake.on("CatalogProduct", resolve_head)
    desk.fake.on("CatalogVariants", resolve_variants)

    found = await read(desk)

    assert (found.title, len(found.variants)) == ("Product 1", 2)
    assert found.texts == {}


async def test_fields_that_came_as_null_because_they_are_denied_are_absent(desk: Desk) -> None:
    node = head(category=None)
    denied = refused("ACCESS_DENIED", data=node, path=["product", "category"])
    desk.fake.on("CatalogProduct", denied)
    desk.fake.on("CatalogVariants", in_pages(1))

    assert (await read(desk)).category == ""


async def test_a_product_that_may_not_be_read_at_all_is_an_error(desk: Desk) -> None:
    desk.fake.on("CatalogProduct", refused("ACCESS_DENIED", path=["product"]))

    error = await error_of(desk.reads.product(SHOP, "1", FULL))

    assert (error.kind, error.code) == (Kind.AUTH, "access_denied")
    assert len(desk.fake.told) == 3

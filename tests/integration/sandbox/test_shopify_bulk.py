"""Bulk operations of the Shopify simulator: what they export, and how they live and end."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from graphql import parse, validate

from sandbox.shopify_admin.bulk import LIFE_MAX_S
from sandbox.shopify_admin.bulk_script import URL_VALID_S
from sandbox.shopify_admin.schema import SUPPORTED, schema_of
from tests.integration.sandbox.bulk_rig import (
    CANCEL,
    LIST,
    POLL,
    PRODUCTS,
    START,
    Bulk,
    bulk_shop,
)
from tests.integration.sandbox.oauth_rig import Client

EXPORT = """
{ products { edges { node {
  id title descriptionHtml
  fr: translations(locale: "fr") { key value }
  media { edges { node { id ... on MediaImage { image { url } } } } }
  variants { edges { node {
    id price us: contextualPricing(context: {country: US}) { price { amount currencyCode } }
    fr: contextualPricing(context: {country: FR}) { price { amount currencyCode } }
    media { edges { node { id } } }
    inventoryItem { id tracked
      inventoryLevels { edges { node { id quantities(names: ["available"]) { quantity } } } } }
  } } }
} } } }"""
LAMP = "gid://shopify/Product/11"
SMALL = "gid://shopify/ProductVariant/51"


@pytest.fixture
async def bulk() -> AsyncIterator[Bulk]:
    async with bulk_shop() as served:
        yield served


def by_id(lines: list[dict[str, Any]], *tails: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["id"].removeprefix("gid://shopify/") in tails]


# -- what is exported ----------------------------------------------------------------------------


async def test_every_object_is_a_line_with_its_connections_node_as_its_parent(bulk: Bulk) -> None:
    lines = await bulk.lines(EXPORT)

    assert len(lines) == 15
    [lamp] = by_id(lines, "Product/11")
    assert "__parentId" not in lamp
    assert lamp["fr"][0] == {"key": "title", "value": "Lampe"}
    [small] = by_id(lines, "ProductVariant/51")
    assert small["__parentId"] == LAMP
    assert small["us"]["price"] == {"amount": "19.50", "currencyCode": "USD"}
    assert small["fr"]["price"] == {"amount": "18.00", "currencyCode": "EUR"}
    assert small["inventoryItem"] == {"id": "gid://shopify/InventoryItem/1051", "tracked": True}
    levels = by_id(
        lines,
        "InventoryLevel/71?inventory_item_id=1051",
        "InventoryLevel/72?inventory_item_id=1051",
    )
    assert [(one["quantities"], one["__parentId"]) for one in levels] == [
        ([{"quantity": 3}], SMALL),
        ([{"quantity": 5}], SMALL),
    ]


async def test_a_picture_comes_under_its_product_and_again_under_each_variant(bulk: Bulk) -> None:
    lines = await bulk.lines(EXPORT)

    parents = [line["__parentId"].rpartition("/")[2] for line in by_id(lines, "MediaImage/31")]
    assert sorted(parents) == ["11", "51", "52"]
    assert by_id(lines, "MediaImage/32")[0]["image"] is None
    assert set(by_id(lines, "Video/33")[0]) == {"id", "__parentId"}


async def test_bytes_are_those_that_were_recorded_of_shopify(bulk: Bulk, corpus_dir: Path) -> None:
    recorded = sorted((corpus_dir / "data" / "bulk_jsonl").glob("*cold*.jsonl"))
    if not recorded:
        pytest.skip("no recorded export")
    title = json.loads(recorded[0].read_bytes())["title"]
    bulk.shop.remove(12)
    bulk.shop.products[11].number, bulk.shop.products[11].title = 10243910041906, title

    found = await bulk.until(await bulk.started(PRODUCTS), "COMPLETED")

    assert await bulk.fetch(found["url"]) == recorded[0].read_bytes()
    assert found["fileSize"] == str(recorded[0].stat().st_size)


async def test_children_follow_their_parents_only_where_they_are_to_be_grouped(bulk: Bulk) -> None:
    loose = await bulk.lines(EXPORT)
    grouped = await bulk.lines(EXPORT, grouped=True)

    def tails(lines: list[dict[str, Any]]) -> list[str]:
        return [line["id"].removeprefix("gid://shopify/").partition("?")[0] for line in lines]

    small = ["ProductVariant/51", "MediaImage/31", "InventoryLevel/71", "InventoryLevel/72"]
    large = ["ProductVariant/52", "MediaImage/31", "InventoryLevel/71", "InventoryLevel/72"]
    assert tails(grouped)[:1] + tails(grouped)[4:] == [
        *("Product/11", *small, *large),
        *("Product/12", "ProductVariant/61", "InventoryLevel/71"),
    ]
    assert tails(loose)[:2] == ["Product/11", "Product/12"]
    assert sorted(map(str, loose)) == sorted(map(str, grouped))


async def test_lines_may_come_in_a_disorder_that_the_seed_decides(bulk: Bulk) -> None:
    ordered = await bulk.lines(EXPORT)
    await bulk.pace(shuffle=True, seed=3, window=6)
    first, again = await bulk.lines(EXPORT), await bulk.lines(EXPORT)
    await bulk.pace(shuffle=True, seed=4, window=6)
    other = await bulk.lines(EXPORT)

    seen: set[str] = set()
    orphans = 0
    for line in first:
        orphans += "__parentId" in line and line["__parentId"] not in seen
        seen.add(line["id"])
    assert orphans > 0
    assert first == again
    assert first != other
    assert sorted(map(str, first)) == sorted(map(str, ordered))


async def test_orders_that_webhooks_told_of_can_be_exported_too(bulk: Bulk) -> None:
    body = {"id": 5, "currency": "USD", "line_items": [], "created_at": "2026-09-01T00:00:00Z"}
    body["updated_at"] = body["created_at"]
    await bulk.post("/_sandbox/shopify/orders", {"shop": "example.myshopify.com", "orders": [body]})

    lines = await bulk.lines("{ orders { edges { node { id totalPriceSet { shopMoney {amount}}}}}}")

    assert lines == [
        {"id": "gid://shopify/Order/5", "totalPriceSet": {"shopMoney": {"amount": "0.0"}}}
    ]


async def test_what_the_shop_does_not_have_is_refused_and_not_left_out(bulk: Bulk) -> None:
    payload = await bulk.start('{ products(query: "tag:x") { edges { node { id } } } }')

    assert payload["bulkOperation"] is None
    assert "searches by updated_at alone" in payload["userErrors"][0]["message"]


# -- how an operation lives ----------------------------------------------------------------------


async def test_an_operation_is_created_runs_and_completes_by_the_clock(bulk: Bulk) -> None:
    await bulk.pace(created_s=10, duration_s=60)
    id_ = await bulk.started(PRODUCTS)
    created = await bulk.poll(id_)
    bulk.clock.advance(11)
    running = await bulk.until(id_, "RUNNING")
    bulk.clock.advance(59)
    still = await bulk.poll(id_)
    bulk.clock.advance(2)
    done = await bulk.until(id_, "COMPLETED")

    assert (created["status"], created["objectCount"], created["url"]) == ("CREATED", "0", None)
    assert created["query"] == PRODUCTS
    assert (running["fileSize"], running["completedAt"]) == (None, None)
    assert still["status"] == "RUNNING"
    assert (done["objectCount"], done["rootObjectCount"], done["errorCode"]) == ("2", "2", None)
    assert done["fileSize"] == str(len(await bulk.fetch(done["url"])))


async def test_what_matches_nothing_completes_without_an_address(bulk: Bulk) -> None:
    query = "{ products(query: \"updated_at:>'2099-01-01T00:00:00Z'\") { edges { node { id } } } }"

    done = await bulk.until(await bulk.started(query), "COMPLETED")

    assert (done["url"], done["objectCount"]) == (None, "0")


async def test_five_run_at_once_and_the_sixth_is_told_of_them(bulk: Bulk) -> None:
    await bulk.pace(duration_s=60)
    ids = [await bulk.started() for _ in range(5)]
    sixth = await bulk.start()
    await bulk.pace(duration_s=60, limit_code="LIMIT_REACHED")
    other_words = await bulk.start()
    await bulk.ask(CANCEL, {"id": ids[0]})
    await bulk.until(ids[0], "CANCELED")

    assert sixth["bulkOperation"] is None
    assert sixth["userErrors"] == [
        {
            "field": None,
            "message": "A bulk query operation for this app and shop is already in progress: "
            f"{', '.join(ids)}.",
            "code": "OPERATION_IN_PROGRESS",
        }
    ]
    assert other_words["userErrors"][0]["code"] == "LIMIT_REACHED"
    assert (await bulk.start())["userErrors"] == []


async def test_a_version_before_2026_runs_one_and_knows_no_operation_by_its_id(bulk: Bulk) -> None:
    await bulk.pace(duration_s=60)
    await bulk.post(
        "/_sandbox/shopify/version", {"shop": "example.myshopify.com", "serves": "2025-10"}
    )
    first = await bulk.started()
    second = await bulk.start()
    by_id_ = await bulk.ask(POLL, {"id": first})
    current = await bulk.ask("{ currentBulkOperation { id status } }")

    assert second["userErrors"][0]["code"] == "OPERATION_IN_PROGRESS"
    assert second["userErrors"][0]["message"].endswith(f"in progress: {first}.")
    assert "bulkOperation" in by_id_["errors"][0]["message"]
    assert current["data"]["currentBulkOperation"]["id"] == first


async def test_a_cancelled_operation_keeps_what_it_had_written(bulk: Bulk) -> None:
    await bulk.pace(duration_s=60)
    id_ = await bulk.started()
    await bulk.until(id_, "RUNNING")
    answer = await bulk.ask(CANCEL, {"id": id_})
    ended = await bulk.until(id_, "CANCELED")
    again = await bulk.ask(CANCEL, {"id": id_})
    missing = await bulk.ask(CANCEL, {"id": "gid://shopify/BulkOperation/1"})

    payload = answer["data"]["bulkOperationCancel"]
    assert payload == {"bulkOperation": {"id": id_, "status": "CANCELING"}, "userErrors": []}
    assert (ended["completedAt"], ended["fileSize"], ended["objectCount"]) == (None, None, "2")
    assert len((await bulk.fetch(ended["url"])).splitlines()) == 2
    assert again["data"]["bulkOperationCancel"]["userErrors"] == [
        {"field": None, "message": "A bulk operation cannot be canceled when it is canceled"}
    ]
    assert missing["data"]["bulkOperationCancel"]["userErrors"] == [
        {"field": ["id"], "message": "Bulk operation does not exist"}
    ]


async def test_operations_are_listed_newest_first_and_by_status(bulk: Bulk) -> None:
    first = await bulk.started()
    await bulk.until(first, "COMPLETED")
    await bulk.pace(duration_s=60)
    second = await bulk.started()
    await bulk.until(second, "RUNNING")

    async def listed(**variables: Any) -> list[str]:
        body = await bulk.ask(LIST, variables)
        return [node["id"] for node in body["data"]["bulkOperations"]["nodes"]]

    assert await listed() == [second, first]
    assert await listed(reverse=True) == [first, second]
    assert await listed(query="status:running") == [second]
    assert await listed(query="operation_type:mutation") == []
    windowless = await bulk.ask("{ bulkOperations { nodes { id } } }")
    assert windowless["errors"][0]["message"] == "you must provide one of first or last"


async def test_starting_costs_ten_points_and_polling_one(bulk: Bulk) -> None:
    started = await bulk.ask(START, {"q": PRODUCTS})
    polled = await bulk.ask(
        POLL, {"id": started["data"]["bulkOperationRunQuery"]["bulkOperation"]["id"]}
    )

    assert started["extensions"]["cost"]["actualQueryCost"] == 10
    assert polled["extensions"]["cost"]["actualQueryCost"] == 1


@pytest.mark.parametrize("version", [SUPPORTED[0], SUPPORTED[-1]])
def test_what_is_asked_here_is_valid_by_shopifys_own_schema(version: str, corpus_dir: Path) -> None:
    folder = corpus_dir / "data" / "schema" / "admin"
    if not (folder / f"admin_{version}.introspection.json.gz").is_file():
        pytest.skip(f"no Admin schema of Shopify's under {folder}")
    for document in (START, POLL, CANCEL, LIST, EXPORT):
        assert validate(schema_of(version, folder), parse(document)) == []


# -- how an operation ends badly -----------------------------------------------------------------


@pytest.mark.parametrize("code", ["TIMEOUT", "INTERNAL_SERVER_ERROR"])
async def test_a_failed_operation_shows_what_it_had_before(bulk: Bulk, code: str) -> None:
    await bulk.fault(kind="fail", error_code=code, after_lines=4, times=1)

    failed = await bulk.until(await bulk.started(EXPORT), "FAILED")
    next_one = await bulk.until(await bulk.started(EXPORT), "COMPLETED")

    assert (failed["errorCode"], failed["url"], failed["objectCount"]) == (code, None, "4")
    whole = await bulk.fetch(next_one["url"])
    assert whole.startswith(await bulk.fetch(failed["partialDataUrl"]))
    assert len((await bulk.fetch(failed["partialDataUrl"])).splitlines()) == 4


async def test_a_failed_operation_may_have_nothing_to_show(bulk: Bulk) -> None:
    await bulk.fault(kind="fail", error_code="ACCESS_DENIED", partial=False, times=1)

    failed = await bulk.until(await bulk.started(EXPORT), "FAILED")

    assert (failed["errorCode"], failed["partialDataUrl"]) == ("ACCESS_DENIED", None)


async def test_a_caller_without_the_scope_for_stock_ends_with_access_denied(oauth: Client) -> None:
    token = (await oauth.installed("read_products"))["access_token"]
    statuses = {}
    for query in (PRODUCTS, EXPORT):
        _, body = await oauth.admin(token, START, {"q": query})
        id_ = body["data"]["bulkOperationRunQuery"]["bulkOperation"]["id"]
        for _ in range(250):
            _, body = await oauth.admin(token, POLL, {"id": id_})
            found = body["data"]["bulkOperation"]
            if found["completedAt"] or found["errorCode"]:
                break
            await asyncio.sleep(0.01)
        statuses[query] = (found["status"], found["errorCode"])

    assert statuses[PRODUCTS] == ("COMPLETED", None)
    assert statuses[EXPORT] == ("FAILED", "ACCESS_DENIED")


async def test_an_operation_that_never_ends_fails_after_ten_days(bulk: Bulk) -> None:
    await bulk.fault(kind="stuck", times=1)
    id_ = await bulk.started()
    await bulk.until(id_, "RUNNING")
    bulk.clock.advance(LIFE_MAX_S + 1)

    assert (await bulk.until(id_, "FAILED"))["errorCode"] == "TIMEOUT"


async def test_an_address_is_signed_and_ends_after_seven_days(bulk: Bulk) -> None:
    id_ = await bulk.started()
    url = (await bulk.until(id_, "COMPLETED"))["url"]

    async def status_of(address: str) -> int:
        async with bulk.session.get(address) as answer:
            return answer.status

    assert await status_of(url) == 200
    assert await status_of(url.replace("Signature=", "Signature=A")) == 403
    assert await status_of(url.replace("Expires=1", "Expires=2")) == 403
    assert await status_of(url.replace("-final", "-other")) == 404
    bulk.clock.advance(URL_VALID_S + 1)
    assert await status_of(url) == 400
    expired = await bulk.poll(id_)
    assert (expired["status"], expired["url"]) == ("EXPIRED", None)


async def test_a_download_may_go_on_where_it_broke(bulk: Bulk) -> None:
    url = (await bulk.until(await bulk.started(EXPORT), "COMPLETED"))["url"]
    whole = await bulk.fetch(url)
    await bulk.fault(kind="truncate", after_bytes=700, times=1)
    await bulk.fault(kind="http_status", status=503, times=1)

    got = b""
    async with bulk.session.get(url) as unavailable:
        assert unavailable.status == 503
    async with bulk.session.get(url) as answer:
        assert answer.content_length == len(whole)
        with contextlib.suppress(aiohttp.ClientPayloadError):
            async for piece in answer.content.iter_any():
                got += piece
    async with bulk.session.get(url, headers={"Range": f"bytes={len(got)}-"}) as rest:
        assert rest.status == 206
        tail = await rest.read()

    assert 0 < len(got) <= 700
    assert got + tail == whole


# -- who is told ---------------------------------------------------------------------------------


@pytest.fixture
async def inbox(bulk: Bulk) -> AsyncIterator[asyncio.Queue[tuple[str, Any]]]:
    """What is posted to the webhook address of the shop."""
    taken: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()

    async def take(request: web.Request) -> web.Response:
        taken.put_nowait((request.headers["X-Shopify-Topic"], await request.json()))
        return web.Response()

    app = web.Application()
    app.router.add_post("/hooks", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    await bulk.pace(webhook_url=f"http://127.0.0.1:{runner.addresses[0][1]}/hooks")
    try:
        yield taken
    finally:
        await runner.cleanup()


async def test_the_end_is_told_to_who_subscribed_to_it(
    bulk: Bulk, inbox: asyncio.Queue[tuple[str, Any]]
) -> None:
    uri = bulk.sandbox.bulk.settings("").webhook_url
    await bulk.pace()
    await bulk.ask(
        """mutation Subscribe($uri: String!) {
          webhookSubscriptionCreate(topic: BULK_OPERATIONS_FINISH, webhookSubscription: {uri: $uri})
          { userErrors { message } }
        }""",
        {"uri": uri},
    )
    id_ = await bulk.started()

    _, body = await asyncio.wait_for(inbox.get(), 2)
    assert body["admin_graphql_api_id"] == id_


async def test_the_end_is_told_in_lower_case_and_without_an_address(
    bulk: Bulk, inbox: asyncio.Queue[tuple[str, Any]]
) -> None:
    await bulk.fault(kind="no_webhook", times=1)
    await bulk.until(await bulk.started(), "COMPLETED")
    await bulk.fault(kind="fail", error_code="TIMEOUT", skip=1, times=1)
    good = await bulk.started()
    told = await asyncio.wait_for(inbox.get(), 2)
    await bulk.started()
    told_of_failure = await asyncio.wait_for(inbox.get(), 2)

    assert told[0] == "bulk_operations/finish"
    assert told[1] == {
        "admin_graphql_api_id": good,
        "completed_at": told[1]["created_at"],
        "created_at": "2026-09-22T13:00:00-05:00",
        "error_code": None,
        "status": "completed",
        "type": "query",
    }
    assert (told_of_failure[1]["status"], told_of_failure[1]["error_code"]) == ("failed", "timeout")

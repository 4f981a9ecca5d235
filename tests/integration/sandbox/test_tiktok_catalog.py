"""The catalogs of the TikTok sandbox over real HTTP: writes, logs and who may touch what."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.sandbox.catalog_rig import IDS, ROOT, Client, catalogs
from tests.unit.sandbox_catalog.samples import CATALOG, GONE, TOKEN, flat, product, spoiled


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with catalogs() as found:
        yield found


async def test_an_upload_is_held_as_it_was_sent(client: Client) -> None:
    log = await client.log(await client.uploaded("b", "a"))

    _, found = await client.raw("GET", f"/_sandbox/catalogs/{CATALOG}/items")
    assert [item["item"] for item in found["items"]] == [product("a"), product("b")]
    assert found["items"][0]["changed_at"] == client.clock.now_s
    assert (log["process_status"], log["add_count"], log["error_count"]) == ("SUCCESS", 2, 0)
    assert log["update_mode"] == "INCREASE"


async def test_a_second_upload_replaces_and_a_delete_removes(client: Client) -> None:
    await client.uploaded("a", "b")
    assert await client.skus() == ["a", "b"]

    changed = await client.log_of(await client.upload(spoiled(product("a"), "title", "New")))
    deleted = await client.log_of(await client.delete("b", "never there"))

    assert (changed["add_count"], changed["update_count"]) == (0, 1)
    assert deleted["delete_count"] == 1
    assert await client.skus() == ["a"]


async def test_items_are_listed_page_by_page_in_the_order_of_their_skus(client: Client) -> None:
    await client.uploaded("c", "a", "b")
    path = f"/_sandbox/catalogs/{CATALOG}/items"

    _, first = await client.raw("GET", path, params={"limit": "2"})
    _, rest = await client.raw("GET", path, params={"limit": "2", "after": first["next"]})

    assert [item["sku_id"] for item in first["items"] + rest["items"]] == ["a", "b", "c"]
    assert (first["next"], rest["next"]) == ("b", None)


async def test_the_path_needs_its_trailing_slash(client: Client) -> None:
    status, _ = await client.raw("POST", f"{ROOT}product/upload", json=IDS)

    assert status == 404


@pytest.mark.parametrize(("token", "code"), [("", 40104), ("stranger", 40105), (TOKEN, 0)])
async def test_a_token_is_asked_for(client: Client, token: str, code: int) -> None:
    found = await client.post("product/upload/", token=token, products=[product()])

    assert found["code"] == code


async def test_a_foreign_catalog_or_business_center_is_not_touched(client: Client) -> None:
    await client.uploaded("a")

    catalog = await client.upload(product(), catalog_id="8")
    center = await client.upload(product(), bc_id="8")

    assert (catalog["code"], center["code"]) == (40001, 40001)
    assert catalog["message"] == "You don't have permission to operate this catalog:8."


@pytest.mark.parametrize(
    ("path", "name", "most"),
    [
        ("product/upload/", "products", 5000),
        ("product/update/", "products", 5000),
        ("product/delete/", "sku_ids", 1000),
        ("item/batch/", "items", 1000),
    ],
)
async def test_a_request_over_the_limit_is_refused(
    client: Client, path: str, name: str, most: int
) -> None:
    items: dict[str, Any] = {name: [{}] * (most + 1)}

    found = await client.post(path, **items)

    assert (found["code"], name in found["message"]) == (40002, True)
    assert str(most) in found["message"]
    assert (await client.summary())["items_received"] == most + 1


async def test_one_product_without_a_required_field_refuses_the_request(client: Client) -> None:
    found = await client.upload(product("a"), spoiled(product("b"), "brand", GONE))

    assert found["code"] == 40002
    assert found["message"] == ("products.1.brand: Missing data for required field. (sku_id: b)")
    assert await client.skus() == []
    assert await client.outcomes() == ["refused_40002"]


async def test_a_bad_value_becomes_a_row_of_the_log(client: Client) -> None:
    bad = spoiled(product("b"), "title", "x" * 501)

    log = await client.log_of(await client.upload(product("a"), bad, product("c")))

    assert (log["add_count"], log["error_count"], log["warn_count"]) == (2, 1, 0)
    (issue,) = log["feed_log_data"]["error_affected_products"]
    assert (issue["field"], issue["affected_product_count"]) == ("title", 1)
    assert issue["affected_product_item_list"][0]["sku_id"] == "b"
    assert issue["affected_product_item_list"][0]["index"] == 3, "2 is the first product"
    assert await client.skus() == ["a", "c"]


@pytest.mark.parametrize(
    ("refusals", "path", "value", "code"),
    [
        ("synchronous", "title", "x" * 501, 40002),
        ("asynchronous", "brand", GONE, 0),
    ],
)
async def test_which_faults_refuse_the_whole_request_can_be_switched(
    client: Client, refusals: str, path: str, value: Any, code: int
) -> None:
    await client.change(refusals=refusals)

    found = await client.upload(product("a"), spoiled(product("b"), path, value))

    assert found["code"] == code
    assert await client.skus() == ([] if code else ["a"])


async def test_the_log_shows_five_items_and_the_csv_all(client: Client) -> None:
    bad = [spoiled(product(f"s{n}"), "google_product_category", GONE) for n in range(7)]

    log = await client.log_of(await client.upload(*bad))

    (issue,) = log["feed_log_data"]["warn_affected_products"]
    assert log["feed_log_data"]["error_affected_products"] is None
    assert (log["add_count"], log["warn_count"], issue["affected_product_count"]) == (7, 7, 7)
    assert len(issue["affected_product_item_list"]) == 5
    url = log["feed_log_data"]["download_path"]["en"]
    assert url.startswith(client.url)
    _, text = await client.raw("GET", url.removeprefix(client.url))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["SKU ID"] for row in rows] == [f"s{n}" for n in range(7)]
    assert (rows[0]["Line"], rows[0]["Severity"]) == ("2", "Warning")
    assert list(rows[0])[:3] == ["SKU ID", "Line", "Severity"]
    assert list(rows[0])[-1] == "Feed Upload Time"


async def test_a_sku_twice_in_a_request_is_refused_or_one_is_kept(client: Client) -> None:
    two = [product("a"), spoiled(product("a"), "title", "Second")]

    refused = await client.upload(*two)
    assert (refused["code"], "Duplicate" in refused["message"]) == (40002, True)
    assert (await client.delete("a", "a"))["code"] == 40002

    await client.change(duplicates="last")
    assert (await client.log_of(await client.upload(*two)))["update_count"] == 0
    _, found = await client.raw("GET", f"/_sandbox/catalogs/{CATALOG}/items")
    assert [item["item"]["title"] for item in found["items"]] == ["Second"]


async def test_an_update_changes_the_fields_that_it_has(client: Client) -> None:
    await client.uploaded("a")
    part = {"sku_id": "a", "price_info": {"price": 130, "sale_price": 7}, "title": "New"}
    await client.change(update_ignores=["price_info.sale_price"])

    log = await client.log_of(
        await client.post("product/update/", products=[part, {"sku_id": "b"}])
    )

    _, found = await client.raw("GET", f"/_sandbox/catalogs/{CATALOG}/items")
    expected = spoiled(spoiled(product("a"), "title", "New"), "price_info.price", 130)
    assert [item["item"] for item in found["items"]] == [expected]
    assert (log["update_count"], log["error_count"]) == (1, 1)


async def test_the_guides_item_is_taken_at_once_or_with_a_log(client: Client) -> None:
    answer = await client.post("item/batch/", bc_id=None, items=[flat()])
    assert (answer["code"], answer["data"]) == (0, {})
    assert await client.skus() == ["SKU-12345"]

    await client.change(item_batch="feed_log")
    log = await client.log_of(await client.post("item/batch/", items=[flat(), flat("b")]))
    assert (log["add_count"], log["update_count"]) == (1, 1)


async def test_a_bad_item_of_the_guides_refuses_its_request(client: Client) -> None:
    bad = spoiled(flat(), "title", "x" * 501)

    answer = await client.post("item/batch/", items=[flat("a"), bad])

    assert (answer["code"], "items.1.title" in answer["message"]) == (40002, True)
    assert await client.skus() == []


async def test_unknown_keys_are_taken_and_noted(client: Client) -> None:
    await client.upload(product("a") | {"colour": "red"})

    assert await client.skus() == ["a"]
    assert (await client.summary())["notes"] == {"colour: unknown": 1}

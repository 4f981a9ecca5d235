"""What takes its time in the sandbox's catalogs, and what goes wrong there."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest

from tests.integration.sandbox.catalog_rig import IDS, ROOT, Client, catalogs
from tests.unit.sandbox_catalog.samples import (
    BC,
    CATALOG,
    GONE,
    QUICK,
    TOKEN,
    flat,
    product,
    spoiled,
)

SLOW = msgspec.structs.replace(
    QUICK, ingestion_ms=1000, ingestion_us_per_item=500_000, waiting_ms=200, review_ms=2000
)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with catalogs() as found:
        yield found


@pytest.fixture
async def slow() -> AsyncIterator[Client]:
    async with catalogs(SLOW) as found:
        yield found


async def test_a_log_waits_then_is_processed_then_ends(slow: Client) -> None:
    log_id = await slow.uploaded("a", "b")
    seen = []
    for by_s in (0.0, 0.3, 1.6, 0.2):
        slow.clock.advance(by_s)
        log = await slow.log(log_id)
        seen.append((log["process_status"], log["add_count"], "end_time" in log))

    assert seen == [
        ("WAITING", 0, False),
        ("PROCESSING", 0, False),
        ("PROCESSING", 0, False),
        ("SUCCESS", 2, True),
    ]


async def test_errors_are_counted_when_a_log_ends(slow: Client) -> None:
    found = await slow.upload(spoiled(product("a"), "title", "x" * 501))
    running = await slow.log_of(found)
    slow.clock.advance(1.5)
    ended = await slow.log_of(found)

    assert (running["error_count"], "feed_log_data" in running) == (0, False)
    assert ended["error_count"] == 1


async def test_what_is_sent_again_unchanged_is_not_reviewed_again(slow: Client) -> None:
    await slow.uploaded("a")
    slow.clock.advance(5)
    log_id = await slow.uploaded("a")
    slow.clock.advance(1.5)

    (item,) = (await slow.get("product/get/", sku_ids='["a"]'))["data"]["list"]
    assert item["audit"]["audit_status"] == "approved"
    assert (await slow.log(log_id))["update_count"] == 1
    _, found = await slow.raw("GET", f"/_sandbox/catalogs/{CATALOG}/items")
    assert found["items"][0]["accepted_at"] - found["items"][0]["changed_at"] == 5


async def test_nothing_is_held_before_the_ingestion_ends(slow: Client) -> None:
    await slow.uploaded("a")
    assert await slow.skus() == []

    slow.clock.advance(1.5)
    assert await slow.skus() == ["a"]


async def test_a_second_write_is_refused_while_one_runs(slow: Client) -> None:
    await slow.uploaded("a")

    refused = [await slow.upload(product("b")), await slow.delete("a")]
    slow.clock.advance(1.5)
    later = await slow.upload(product("b"))

    assert [answer["code"] for answer in refused] == [40202, 40202]
    assert later["code"] == 0
    summary = await slow.summary()
    assert (summary["overlapping_submits"], summary["submits"], summary["refused"]) == (2, 2, 2)


async def test_overlap_can_be_allowed_and_is_still_counted(slow: Client) -> None:
    await slow.change(overlap="accept")
    await slow.uploaded("a")
    await slow.uploaded("b")
    slow.clock.advance(1.5)

    assert await slow.skus() == ["a", "b"]
    assert (await slow.summary())["overlapping_submits"] == 1


async def test_a_submit_within_the_minute_is_taken_and_every_sku_is_an_error(
    client: Client,
) -> None:
    await client.change(submit_spacing_s=60)
    await client.uploaded("a")
    client.clock.advance(59.9)

    log = await client.log_of(await client.upload(*(product(f"s{n}") for n in range(6))))

    (issue,) = log["feed_log_data"]["error_affected_products"]
    assert issue["issue"] == "The number of api submit exceeds the limit (once a minute)"
    assert (issue["affected_product_count"], log["error_count"], log["add_count"]) == (6, 6, 0)
    assert await client.skus() == ["a"]
    client.clock.advance(0.1)
    await client.uploaded("b")
    assert await client.skus() == ["a", "b"]
    assert await client.outcomes() == ["accepted", "too_soon", "accepted"]
    summary = await client.summary()
    assert (summary["spacing_violations"], summary["peak_submits_per_minute"]) == (1, 2)


async def test_the_guides_batch_within_the_minute_is_throttled(client: Client) -> None:
    await client.change(submit_spacing_s=60)
    await client.post("item/batch/", items=[flat("a")])

    assert (await client.post("item/batch/", items=[flat("b")]))["code"] == 40100


async def test_a_catalog_takes_so_many_submits_an_hour(client: Client) -> None:
    await client.change(uploads_per_hour=2, deletes_per_hour=1)
    await client.uploaded("a")
    await client.uploaded("b")

    assert (await client.upload(product("c")))["code"] == 40100
    assert (await client.delete("a"))["code"] == 0
    assert (await client.delete("b"))["code"] == 40100
    client.clock.advance(3600)
    assert (await client.upload(product("c")))["code"] == 0


@pytest.mark.parametrize(
    "settings",
    [{"channel": "PARTNER"}, {"region": "US", "currency": "EUR"}, {"ingests": False}],
)
async def test_some_catalogs_take_everything_and_keep_nothing(
    client: Client, settings: dict[str, Any]
) -> None:
    await client.change(**settings)
    item = spoiled(product("a"), "price_info.currency", GONE)

    log = await client.log_of(await client.upload(item))

    assert log["process_status"] == "SUCCESS"
    assert {log[f"{name}_count"] for name in ("add", "update", "error", "warn")} == {0}
    assert await client.skus() == []
    assert await client.outcomes() == ["silent"]


@pytest.mark.parametrize(
    ("name", "key"), [("process_status", "process_status"), ("status", "status"), ("none", None)]
)
async def test_the_log_names_its_state_in_three_ways(
    client: Client, name: str, key: str | None
) -> None:
    await client.change(log_status=name, sparse_counts=True)

    log = await client.log(await client.uploaded("a"))

    assert {"process_status", "status"} & set(log) == ({key} if key else set())
    assert (log["add_count"], "error_count" in log, "end_time" in log) == (1, False, True)


async def test_review_takes_its_time_and_turns_down_what_a_rule_names(slow: Client) -> None:
    rules = [{"field": "title", "value": "*weapon*", "reason": "Weapons"}]
    images = [{"url": "*/small.jpg"}]
    await slow.change(review_rules=rules, image_rules=images)
    weapon = spoiled(product("b"), "title", "A weapon")
    small = spoiled(product("c"), "image_url", "https://cdn.example.com/small.jpg")
    await slow.upload(product("a"), weapon, small)
    seen = []
    for by_s in (2.6, 1.9, 60):
        slow.clock.advance(by_s)
        found = await slow.get("product/get/", sku_ids=json.dumps(["a", "b", "c"]))
        overview = await slow.get("overview/")
        seen.append([item["audit"]["audit_status"] for item in found["data"]["list"]])
        assert sum(overview["data"].values()) == 3

    assert seen == [
        ["processing"] * 3,
        ["approved", "rejected", "processing"],
        ["approved", "rejected", "processing"],
    ]
    assert overview["data"] == {"approved": 1, "rejected": 1, "processing": 1}
    listed = {item["sku_id"]: item for item in found["data"]["list"]}
    assert listed["a"]["ad_creation_eligible"] == "AVAILABLE"
    assert listed["a"]["profession"]["condition"] == "NEW"
    assert listed["b"]["audit"]["rejected_info"][0]["reason"] == "Weapons"
    assert listed["b"]["ad_creation_eligible"] == "NOT_AVAILABLE"
    assert listed["c"]["image_status"] == "FILTERED"


async def test_products_are_listed_by_page_and_by_both_ids(client: Client) -> None:
    await client.uploaded("a", "b", "c")
    await client.post("item/batch/", items=[flat("d")])

    page = (await client.get("product/get/", page="2", page_size="3"))["data"]
    assert [item["sku_id"] for item in page["list"]] == ["d"]
    assert page["list"][0]["profession"] == {"condition": "NEW"}
    assert page["page_info"] == {"page": 2, "page_size": 3, "total_number": 4, "total_page": 2}
    ids = json.dumps([page["list"][0]["product_id"]])
    again = (await client.get("product/get/", product_ids=ids))["data"]
    assert [item["sku_id"] for item in again["list"]] == ["d"]


@pytest.mark.parametrize(
    "query",
    [
        {"page_size": "501"},
        {"page": "201", "page_size": "500"},
        {"sku_ids": "a,b"},
        {"sku_ids": json.dumps(["a"] * 1001)},
        {"sku_ids": '["a"]', "product_ids": '["1"]'},
    ],
)
async def test_a_list_that_asks_too_much_is_refused(client: Client, query: dict[str, str]) -> None:
    await client.uploaded("a")

    assert (await client.get("product/get/", **query))["code"] == 40002


UPLOAD = {"path": f"{ROOT}product/upload/"}


async def test_a_fault_strikes_the_items_that_its_pattern_fits(client: Client) -> None:
    effect = {"kind": "item_issue", "field": "image_url", "issue": "Image under 500x500"}
    await client.fault(match={"catalog_id": CATALOG, "sku": "b*"}, effect=effect)

    log = await client.log_of(await client.upload(product("a"), product("b1")))

    (issue,) = log["feed_log_data"]["error_affected_products"]
    assert (issue["issue"], log["add_count"]) == ("Image under 500x500", 1)
    assert await client.skus() == ["a"]
    assert (await client.log_of(await client.upload(product("c"))))["error_count"] == 0


@pytest.mark.parametrize(
    ("effect", "kept"),
    [
        ({"kind": "code", "code": 40100}, []),
        ({"kind": "code", "code": 50002, "accepted": True}, ["a"]),
        ({"kind": "http_status", "status": 503}, []),
        ({"kind": "reset"}, []),
        ({"kind": "accept_then_reset"}, ["a"]),
        ({"kind": "truncate"}, ["a"]),
        ({"kind": "malformed"}, []),
        ({"kind": "expired_token"}, []),
        ({"kind": "failed_log"}, []),
        ({"kind": "not_ingested"}, []),
        ({"kind": "stuck_log"}, []),
        ({"kind": "stuck_log", "ingests": True}, ["a"]),
    ],
)
async def test_the_faults_of_events_strike_catalogs_too(
    client: Client, effect: dict[str, Any], kept: list[str]
) -> None:
    await client.fault(match=UPLOAD, times=1, effect=effect)

    try:
        await client.upload(product("a"))
    except aiohttp.ClientError:
        assert effect["kind"] in {"reset", "accept_then_reset", "truncate"}

    assert await client.skus() == kept
    await client.uploaded("b")
    assert await client.skus() == [*kept, "b"]


async def test_a_stuck_log_never_ends_and_may_block_for_a_while(client: Client) -> None:
    await client.fault(match=UPLOAD, times=1, effect={"kind": "stuck_log"})
    stuck = (await client.upload(product("a")))["data"]["feed_log_id"]
    client.clock.advance(1e6)
    assert (await client.log(stuck))["process_status"] == "PROCESSING"

    late = {"kind": "stuck_log", "for_s": 10}
    await client.fault(match=UPLOAD, times=1, effect=late)
    await client.uploaded("d")
    assert (await client.delete("d"))["code"] == 0, "a stuck log holds nobody up"
    assert await client.skus() == []
    client.clock.advance(10)
    assert await client.skus() == ["d"]

    blocks = {"kind": "stuck_log", "blocks": True, "for_s": 10}
    await client.fault(match=UPLOAD, times=1, effect=blocks)
    await client.uploaded("b")
    assert (await client.upload(product("c")))["code"] == 40202
    client.clock.advance(10)
    assert await client.skus() == ["b", "d"]
    assert (await client.upload(product("c")))["code"] == 0


async def test_a_failed_log_says_so(client: Client) -> None:
    await client.fault(match=UPLOAD, times=1, effect={"kind": "failed_log"})

    log = await client.log_of(await client.upload(product("a")))

    assert (log["process_status"], log["add_count"]) == ("FAILED", 0)


async def test_a_catalog_that_is_created_keeps_its_currency(client: Client) -> None:
    conf = {"region_code": "DE", "currency": "EUR"}
    body: dict[str, Any] = {
        "bc_id": BC,
        "name": "Shoes",
        "catalog_type": "ECOM",
        "catalog_conf": conf,
    }
    async with catalogs(QUICK, allow_any_catalog=True) as owner:
        catalog_id = (await owner.post("create/", **body))["data"]["catalog_id"]
        listed = (await owner.get("get/", catalog_id=catalog_id))["data"]["list"]
        dollars = await owner.upload(product("a"), catalog_id=catalog_id)
        log = await owner.get("product/log/", catalog_id=catalog_id, **dollars["data"])

    assert listed[0]["catalog_conf"] == {"country": "DE", "currency": "EUR", "channel": "CLIENT"}
    issues = log["data"]["product_feed_log"]["feed_log_data"]["error_affected_products"]
    assert [issue["field"] for issue in issues] == ["price_info.currency"]


async def test_an_unknown_country_has_no_catalog(client: Client) -> None:
    conf = {"region_code": "AQ", "currency": "EUR"}

    found = await client.post("create/", name="Shoes", catalog_type="ECOM", catalog_conf=conf)

    assert found["code"] == 40002
    assert "Invalid or unsupported country" in found["message"]
    places = (await client.get("location_currency/get/"))["data"]["list"]
    assert {"location": "DK", "currency": ["DKK", "EUR"]} in places
    assert "DE" in (await client.get("available_country/get/"))["data"]["region_codes"]


async def test_an_event_source_is_bound_and_let_go(client: Client) -> None:
    source = {"advertiser_id": "7", "pixel_code": "C1"}
    assert (await client.post("eventsource/bind/", **source))["code"] == 0
    bound = (await client.get("eventsource_bind/get/"))["data"]
    assert [each["pixel_code"] for each in bound["event_sources"]] == ["C1"]

    foreign = await client.post("eventsource/bind/", advertiser_id="7", pixel_code="C2")
    assert foreign["code"] == 40001
    assert (await client.post("eventsource/bind/", advertiser_id="7"))["code"] == 40002
    assert (await client.post("eventsource/unbind/", **source))["code"] == 0
    assert (await client.get("eventsource_bind/get/"))["data"]["event_sources"] == []


async def test_a_reset_empties_the_catalog_and_keeps_its_settings(client: Client) -> None:
    await client.change(log_status="status")
    log_id = await client.uploaded("a")

    await client.raw("DELETE", f"/_sandbox/catalogs/{CATALOG}")

    assert (await client.summary())["submits"] == 0
    assert await client.skus() == []
    assert (await client.get("product/log/", feed_log_id=log_id))["code"] == 40007
    assert "status" in await client.log(await client.uploaded("a"))


async def test_a_setting_that_there_is_not_is_refused(client: Client) -> None:
    status, found = await client.raw("POST", f"/_sandbox/catalogs/{CATALOG}", json={"ingestion": 1})

    assert (status, "ingestion" in found["error"]) == (400, True)
    status, _ = await client.raw("POST", f"{ROOT}product/log/", json=IDS)
    assert status == 405
    headers = {"Access-Token": TOKEN, "Content-Type": "text/plain"}
    _, found = await client.raw("POST", f"{ROOT}product/upload/", data="{}", headers=headers)
    assert found["code"] == 40002

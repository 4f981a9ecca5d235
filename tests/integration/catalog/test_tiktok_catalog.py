"""The catalog adapter against a TikTok of scripted answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable

import msgspec
import pytest

from libs import metric_names
from libs.clock import SystemClock
from libs.errors import Kind, ServiceError
from libs.http.session import http_session
from libs.limits import Priority
from libs.telemetry import Metrics
from services.catalog.adapters.tiktok import TikTokCatalogApi
from services.catalog.domain.answers import RefusedError
from services.catalog.domain.feed_log import CatalogFacts, Issue, Submitted
from services.catalog.domain.verdicts import Fate, SubmitKind, judge
from tests.integration.catalog.tiktok_fake import (
    CATALOG,
    TOKEN,
    UPLOAD_LIMITS,
    Answer,
    Bench,
    ListingLimiter,
    OneToken,
    bench_of,
    no,
    ok,
    upload,
)
from tests.unit.catalog.log_shapes import issue, log, rows

_APP = ("tiktok.catalog.app",)
_ITEM_BATCH = "/open_api/v1.3/catalog/item/batch/"


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with bench_of() as ready:
        yield ready


async def failure(call: Awaitable[object]) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        await call
    return caught.value


# -- submit --------------------------------------------------------------------------------------


async def test_a_submit_is_sent_as_the_dialect_has_built_it(bench: Bench) -> None:
    bench.tiktok.script("upload/", ok(feed_log_id="99"))

    found = await bench.api.submit(CATALOG, upload(b'{"products":[]}'))

    assert found == Submitted("99", "r-1")
    [asked] = bench.tiktok.asked
    assert (asked.method, asked.path, asked.body) == ("POST", upload().path, b'{"products":[]}')
    assert asked.headers["Access-Token"] == TOKEN
    assert asked.headers["Content-Type"] == "application/json"
    assert bench.limiter.turns == [(UPLOAD_LIMITS, Priority.LIVE, "example")]


async def test_a_log_may_be_named_by_a_number_beyond_53_bits(bench: Bench) -> None:
    bench.tiktok.script("upload/", ok(feed_log_id=7_305_555_555_555_555_555))

    assert (await bench.api.submit(CATALOG, upload())).feed_log_id == "7305555555555555555"


@pytest.mark.parametrize("data", [{}, {"feed_log_id": ""}, {"feed_log_id": 0}])
async def test_an_upload_without_a_log_is_no_success(bench: Bench, data: dict[str, object]) -> None:
    bench.tiktok.script("upload/", ok(**data))

    error = await failure(bench.api.submit(CATALOG, upload()))

    assert (error.kind, error.code) == (Kind.RETRYABLE, "submit_unconfirmed")


async def test_the_guides_dialect_may_be_answered_for_good(bench: Bench) -> None:
    failed = {"item_id": "B-1", "message": "bad"}
    bench.tiktok.script("batch/", ok(), ok(errors=[failed]), ok(feed_log_id="5"))

    answers = [await bench.api.submit(CATALOG, upload(path=_ITEM_BATCH)) for _ in range(3)]

    assert [one.feed_log_id for one in answers] == ["", "", "5"]
    assert [[issue.sku_id for issue in one.issues] for one in answers] == [[], ["B-1"], []]


@pytest.mark.parametrize(
    ("body", "kind", "code", "wait_s"),
    [
        (no(40100), Kind.THROTTLED, "upstream_40100", None),
        (no(40202), Kind.THROTTLED, "catalog_busy", 10.0),
        (no(40002, "another upload task is running"), Kind.THROTTLED, "catalog_busy", 10.0),
        (no(40002, "api submit exceeds the limit (once a minute)"), Kind.THROTTLED,
         "submit_too_soon", 60.0),
        (no(40050), Kind.RETRYABLE, "submit_unconfirmed", 60.0),
        (no(40002), Kind.PERMANENT, "upstream_40002", None),
        (no(40001), Kind.AUTH, "upstream_40001", None),
        (no(40105), Kind.AUTH, "upstream_40105", None),
        (no(50002), Kind.RETRYABLE, "upstream_50002", None),
        (b'{"code":"0","data":{"feed_log_id":"1"}}', Kind.RETRYABLE,
         "upstream_answer_unreadable", None),
        (b'{"code":0,"code":40002,"data":{"feed_log_id":"1"}}', Kind.RETRYABLE,
         "upstream_answer_unreadable", None),
        (b"<html></html>", Kind.RETRYABLE, "upstream_answer_unreadable", None),
        (b"", Kind.RETRYABLE, "upstream_answer_unreadable", None),
    ],
)  # fmt: skip
async def test_a_refusal_under_http_200_is_none_the_less_one(
    bench: Bench, body: bytes, kind: Kind, code: str, wait_s: float | None
) -> None:
    bench.tiktok.script("upload/", body)

    error = await failure(bench.api.submit(CATALOG, upload()))

    assert (error.kind, error.code, error.retry_after_s) == (kind, code, wait_s)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(ok(feed_log_id="1"), 502), Kind.RETRYABLE),
        (Answer(no(40100), 400), Kind.THROTTLED),
        (Answer(b"slow down", 429), Kind.THROTTLED),
        (Answer(b"too large", 413), Kind.PERMANENT),
        (Answer(b"", 302, {"Location": "https://elsewhere.example/"}), Kind.RETRYABLE),
        (Answer(b"404 page not found", 404), Kind.PERMANENT),
    ],
)
async def test_a_failing_status_is_no_success_whatever_the_body(
    bench: Bench, answer: Answer, kind: Kind
) -> None:
    bench.tiktok.script("upload/", answer)

    assert (await failure(bench.api.submit(CATALOG, upload()))).kind is kind
    assert len(bench.tiktok.asked) == 1


async def test_a_refusal_keeps_tiktoks_words(bench: Bench) -> None:
    bench.tiktok.script("upload/", no(40002, "products.17.title: length must be <= 500"))

    error = await failure(bench.api.submit(CATALOG, upload()))

    assert isinstance(error, RefusedError)
    assert error.words == "products.17.title: length must be <= 500"
    assert (error.divisible, error.request_id) == (True, "r-2")


@pytest.mark.parametrize("code", [40105, 40002, 50000])
async def test_a_token_that_tiktok_quotes_is_not_repeated(bench: Bench, code: int) -> None:
    bench.tiktok.script("upload/", no(code, f"bad request by {TOKEN} today"))

    error = await failure(bench.api.submit(CATALOG, upload()))

    assert "bad request by" in str(error)
    assert TOKEN not in f"{error!s} {error!r} {error.message} {error.args}"
    assert error.__suppress_context__


@pytest.mark.parametrize("code", [40102, 40105])
async def test_a_token_that_is_refused_as_dead_is_reported(bench: Bench, code: int) -> None:
    bench.tiktok.script("upload/", no(code))
    await failure(bench.api.submit(CATALOG, upload()))

    assert bench.token.reported == [f"{CATALOG.connection_id} {TOKEN}"]


@pytest.mark.parametrize("code", [40001, 40104, 40202, 50000])
async def test_another_failure_says_nothing_of_the_token(bench: Bench, code: int) -> None:
    bench.tiktok.script("upload/", no(code))
    await failure(bench.api.submit(CATALOG, upload()))

    assert bench.token.reported == []


async def test_who_has_no_token_costs_no_turn(bench: Bench) -> None:
    bench.token.trouble = ServiceError(Kind.AUTH, "access_token_missing")

    error = await failure(bench.api.submit(CATALOG, upload()))

    assert (error.code, bench.limiter.turns, bench.tiktok.asked) == ("access_token_missing", [], [])


@pytest.mark.parametrize(
    ("answer", "reports"),
    [
        (Answer(no(40100), 200, {"Retry-After": "7"}), [(UPLOAD_LIMITS, 7.0)]),
        (Answer(b"", 429, {"Retry-After": "3"}), [(UPLOAD_LIMITS, 3.0)]),
        (Answer(no(40133)), [(("tiktok.catalog.upload.7001",), None)]),
        (Answer(no(40202)), []),
        (Answer(no(50000)), []),
    ],
)
async def test_all_replicas_slow_as_far_as_a_throttle_reaches(
    bench: Bench, answer: Answer, reports: list[object]
) -> None:
    bench.tiktok.script("upload/", answer)
    await failure(bench.api.submit(CATALOG, upload()))

    assert bench.limiter.reports == reports


async def test_a_connection_that_cannot_be_made_is_not_taken_for_an_arrival() -> None:
    async with http_session() as session:
        api = TikTokCatalogApi(
            "http://127.0.0.1:9", session, OneToken(), ListingLimiter(), SystemClock(), Metrics()
        )

        error = await failure(api.submit(CATALOG, upload()))

    assert (error.kind, error.code) == (Kind.RETRYABLE, "upstream_unreachable")


# -- the log -------------------------------------------------------------------------------------


async def test_a_log_is_asked_for_by_its_catalog_and_id(bench: Bench) -> None:
    bench.tiktok.script("log/", ok(**log(add_count=2)))

    found = await bench.api.feed_log(CATALOG, "99")

    assert (found.ended, found.added, found.complete) == (True, 2, True)
    [asked] = bench.tiktok.asked
    assert asked.path == "/open_api/v1.3/catalog/product/log/"
    assert asked.query == {
        "bc_id": "6001", "catalog_id": "7001", "feed_log_id": "99", "language": "en",
    }  # fmt: skip
    assert bench.limiter.turns == [(_APP, Priority.LIVE, "example")]


async def test_the_rest_of_a_log_is_read_from_its_file_without_the_token(bench: Bench) -> None:
    skus = [f"S-{number}" for number in range(1, 8)]
    url = f"{bench.tiktok.url}/files/99.csv?sig=a%2Fb"
    shown = issue("Title is too long", *skus[:5], count=7)
    bench.tiktok.script("log/", ok(**log([shown], url=url, add_count=1, error_count=7)))
    file = rows(
        *(f"{sku},{at + 2},Error,Title is too long,Cut,title" for at, sku in enumerate(skus))
    )
    bench.tiktok.script("99.csv", b"\xef\xbb\xbf" + file)

    found = await bench.api.feed_log(CATALOG, "99")

    assert found.complete
    assert [one.sku_id for one in found.issues] == skus
    assert found.issues[6] == Issue(
        "S-7", is_error=True, field="title", text="Title is too long", fix="Cut", place=6
    )
    assert "Access-Token" not in bench.tiktok.asked[1].headers
    assert bench.tiktok.asked[1].query == {"sig": "a/b"}


async def test_a_large_file_is_read_whole(bench: Bench) -> None:
    skus = [f"S-{number}" for number in range(5000)]
    url = f"{bench.tiktok.url}/files/99.csv"
    bench.tiktok.script("log/", ok(**log(None, url=url, error_count=5000)))
    lines = rows(*(f"{sku},,Error,Title is too long,Cut,title,{'x' * 100}" for sku in skus))
    bench.tiktok.script("99.csv", lines)

    found = await bench.api.feed_log(CATALOG, "99")

    assert {one.sku_id for one in found.issues} == set(skus)


@pytest.mark.parametrize(
    "file",
    [
        Answer(b"gone", 404),
        Answer(b"", 302, {"Location": "/files/other.csv"}),
        Answer(b"<html></html>"),
        Answer(b""),
        Answer(b"x" * (33 * 1024 * 1024)),
    ],
    ids=["gone", "moved", "html", "empty", "endless"],
)
async def test_a_file_that_cannot_be_read_leaves_the_log_incomplete(
    bench: Bench, file: Answer
) -> None:
    url = f"{bench.tiktok.url}/files/99.csv"
    shown = issue("Bad", "S-1", count=2)
    bench.tiktok.script("log/", ok(**log([shown], url=url, add_count=1, error_count=2)))
    bench.tiktok.script("99.csv", file)

    found = await bench.api.feed_log(CATALOG, "99")

    assert (found.ended, found.complete) == (True, False)
    assert [one.sku_id for one in found.issues] == ["S-1"]


@pytest.mark.parametrize(
    "url",
    ["http://192.0.2.7/99.csv", "file:///etc/passwd", "https://user@files.example/99.csv", "://"],
)
async def test_a_file_is_fetched_from_nowhere_but_a_safe_address(bench: Bench, url: str) -> None:
    bench.tiktok.script("log/", ok(**log(None, url=url, add_count=1, error_count=2)))

    assert not (await bench.api.feed_log(CATALOG, "99")).complete


async def test_a_log_that_shows_all_costs_one_request(bench: Bench) -> None:
    url = f"{bench.tiktok.url}/files/99.csv"
    bench.tiktok.script("log/", ok(**log([issue("Bad", "S-1")], url=url, error_count=1)))

    found = await bench.api.feed_log(CATALOG, "99")

    assert found.complete
    assert len(bench.tiktok.asked) == 1


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (no(40007), "feed_log_unknown"),
        (no(40002, "feed_log_id: Invalid value"), "feed_log_unknown"),
        (no(40002, "language: Invalid value"), "upstream_40002"),
    ],
)
async def test_a_log_that_tiktok_does_not_have_is_told_apart(
    bench: Bench, body: bytes, code: str
) -> None:
    bench.tiktok.script("log/", body)

    error = await failure(bench.api.feed_log(CATALOG, "99"))

    assert (error.kind, error.code) == (Kind.PERMANENT, code)


async def test_a_log_that_is_not_ready_has_not_ended(bench: Bench) -> None:
    bench.tiktok.script("log/", no(40201))

    assert not (await bench.api.feed_log(CATALOG, "99")).ended


async def test_a_log_read_over_the_wire_judges_its_items(bench: Bench) -> None:
    bench.tiktok.script("log/", ok(**log([issue("Bad", "S-2")], add_count=1, error_count=1)))

    found = judge(SubmitKind.UPLOAD, ["S-1", "S-2"], await bench.api.feed_log(CATALOG, "99"))

    assert [one.fate for one in found.verdicts.values()] == [Fate.ACCEPTED, Fate.REFUSED]


# -- reviews, facts, event sources ---------------------------------------------------------------


def product(sku_id: str, status: str = "approved", **more: object) -> dict[str, object]:
    """A product as `/catalog/product/get/` shows it."""
    return {
        "sku_id": sku_id,
        "audit": {"audit_status": status},
        "active_status": "ACTIVATED",
        "ad_creation_eligible": "AVAILABLE" if status == "approved" else "NOT_AVAILABLE",
        "availability": "IN_STOCK",
        **more,
    }


async def test_reviews_are_asked_for_in_urls_below_8_kib(bench: Bench) -> None:
    skus = [f"größe-{'ü' * 20}-{number}" for number in range(450)]
    bench.tiktok.script("get/", ok(list=[], page_info={"total_page": 1}))

    await bench.api.reviews(CATALOG, skus)

    asked = [msgspec.json.decode(one.query["sku_ids"]) for one in bench.tiktok.asked]
    assert [sku for part in asked for sku in part] == skus
    assert max(map(len, asked)) <= 200
    assert max(one.url_bytes for one in bench.tiktok.asked) < 8000
    assert {turn[1] for turn in bench.limiter.turns} == {Priority.BACKFILL}


async def test_reviews_are_read_page_by_page_and_strangers_left_out(bench: Bench) -> None:
    pages = {"total_page": 2}
    bench.tiktok.script(
        "get/",
        ok(list=[product("a"), product("z")], page_info=pages),
        ok(list=[product("b", "rejected")], page_info=pages),
    )

    found = await bench.api.reviews(CATALOG, ["a", "b", "c"])

    assert [(one.sku_id, one.status, one.is_usable) for one in found] == [
        ("a", "approved", True),
        ("b", "rejected", False),
    ]
    assert [one.query["page"] for one in bench.tiktok.asked] == ["1", "2"]


async def test_no_ids_are_no_request(bench: Bench) -> None:
    assert await bench.api.reviews(CATALOG, []) == []
    assert bench.tiktok.asked == []


@pytest.mark.parametrize("name", ["country", "region_code"])
async def test_what_a_catalog_is_comes_under_either_name(bench: Bench, name: str) -> None:
    conf = {name: "DE", "currency": "EUR", "channel": "CLIENT"}
    other = {"catalog_id": "1", "catalog_conf": {"country": "US"}}
    ours = {"catalog_id": "7001", "catalog_name": "Shop", "catalog_conf": conf}
    bench.tiktok.script("catalog/get/", ok(list=[other, ours]))

    assert await bench.api.facts(CATALOG) == CatalogFacts("DE", "EUR", "CLIENT", "Shop")


@pytest.mark.parametrize("body", [ok(list=[]), ok(list=[{"catalog_id": "1"}]), no(40007)])
async def test_a_catalog_of_somebody_else_is_unknown(bench: Bench, body: bytes) -> None:
    bench.tiktok.script("catalog/get/", body)

    error = await failure(bench.api.facts(CATALOG))

    assert (error.kind, error.code) == (Kind.PERMANENT, "catalog_unknown")


@pytest.mark.parametrize("body", [ok(), no(40050, "it is bound already")])
async def test_an_event_source_is_bound_once_or_twice(bench: Bench, body: bytes) -> None:
    bench.tiktok.script("bind/", body)

    await bench.api.bind_event_source(CATALOG, advertiser_id="42", pixel_code="C1")

    [asked] = bench.tiktok.asked
    assert asked.path == "/open_api/v1.3/catalog/eventsource/bind/"
    assert msgspec.json.decode(asked.body) == {
        "bc_id": "6001", "advertiser_id": "42", "catalog_id": "7001", "pixel_code": "C1",
    }  # fmt: skip


async def test_calls_are_counted_by_how_they_end(bench: Bench) -> None:
    bench.tiktok.script("upload/", no(50000), ok(feed_log_id="1"))
    await failure(bench.api.submit(CATALOG, upload()))
    await bench.api.submit(CATALOG, upload())

    calls = bench.metrics.counter
    name = metric_names.UPSTREAM_CALLS
    assert calls(name, upstream="tiktok", result="ok").value == 1
    assert calls(name, upstream="tiktok", result="retryable").value == 1

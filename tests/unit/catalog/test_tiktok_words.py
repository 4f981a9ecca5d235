"""Edges of reading TikTok: answers, files, products, that no whole log shows."""

from __future__ import annotations

import msgspec
import pytest

from libs.errors import Kind, ServiceError
from libs.tiktok import Scope
from services.catalog.adapters.plain_hosts import PlainHosts
from services.catalog.adapters.tiktok_files import is_safe_address
from services.catalog.domain.answers import (
    RefusedError,
    refused,
    said,
    scope_of,
    submitted,
    words_of,
)
from services.catalog.domain.csv_log import UnreadableError, issues_of
from services.catalog.domain.feed_log import Issue
from services.catalog.domain.log_reading import log_page
from services.catalog.domain.reading import reviews_of
from tests.unit.catalog.log_shapes import HEADER, URL, issue, log

_TIKTOK = "https://business-api.tiktok.com"
_HERE = "http://127.0.0.1:8080"
_THERE = "http://sandbox:9300"
_ROW = b"S-1,2,Error,Bad,Mend it,title"
_ISSUE = Issue("S-1", is_error=True, field="title", text="Bad", fix="Mend it", place=0)


# -- answers -------------------------------------------------------------------------------------


def body(code: int, message: str) -> bytes:
    return msgspec.json.encode({"code": code, "message": message, "data": {}})


@pytest.mark.parametrize(
    ("message", "divisible"),
    [
        ("products.17.title: too long", True),
        ("Parameter error", True),
        ("catalog_id: Invalid value", False),
        ("bc_id: Missing data for required field.", False),
        ("products.3: sku_id belongs to another feed_id", True),
    ],
)
def test_what_all_products_share_is_not_looked_for_in_one(message: str, *, divisible: bool) -> None:
    error = refused(200, body(40002, message))

    assert isinstance(error, RefusedError)
    assert error.divisible is divisible


@pytest.mark.parametrize("code", [40006, 40007, 40008, 40001, 40100, 50000])
def test_a_code_that_no_product_causes_is_not_divisible(code: int) -> None:
    error = refused(200, body(code, "products.1.title"))

    assert isinstance(error, RefusedError)
    assert not error.divisible


def test_secrets_that_are_called_so_are_not_kept() -> None:
    error = refused(
        200, body(40002, "access_token=0123456789abcdef is odd; secret: hunter2hunter2")
    )

    assert isinstance(error, RefusedError)
    assert error.words == "access_token=… is odd; secret: …"


def test_a_token_in_a_refusal_of_credentials_is_not_kept() -> None:
    error = refused(200, body(40105, f"no such token {'a1' * 20}"))

    assert isinstance(error, RefusedError)
    assert error.words == "no such token …"


def test_words_are_one_line_of_bounded_length() -> None:
    assert words_of("a\r\nb\x00c") == "a b c"
    assert len(words_of("x" * 10_000)) == 500
    assert words_of(["no text"]) == ""


def test_code_0_with_no_data_is_a_yes_without_anything() -> None:
    assert said(200, b'{"code":0,"data":null}').data == {}


@pytest.mark.parametrize(
    ("answer", "complete", "skus"),
    [
        ({"code": 0, "data": {}}, True, []),
        ({"code": 20001, "data": {}}, False, []),
        ({"code": 20001, "data": {"failed_items": [{"item_id": "a", "reason": "x"}]}}, True, ["a"]),
        ({"code": 0, "data": {"errors": ["a is bad"]}}, False, []),
        ({"code": 0, "data": {"error_count": 1}}, False, []),
        ({"code": 0, "data": {"error_count": 0, "errors": []}}, True, []),
    ],
)
def test_a_final_answer_that_names_nobody_is_not_taken_for_a_yes_to_all(
    answer: dict[str, object], *, complete: bool, skus: list[str]
) -> None:
    found = submitted(said(200, msgspec.json.encode(answer)), may_be_final=True)

    assert (found.complete, [one.sku_id for one in found.issues]) == (complete, skus)


@pytest.mark.parametrize(
    ("error", "scope"),
    [
        (ServiceError(Kind.RETRYABLE, "upstream_timeout"), Scope.UPSTREAM),
        (ServiceError(Kind.THROTTLED, "upstream_status_429"), Scope.APP),
        (ServiceError(Kind.AUTH, "upstream_status_401"), Scope.CONNECTION),
        (ServiceError(Kind.PERMANENT, "upstream_status_404"), Scope.ENVELOPE),
        (ServiceError(Kind.THROTTLED, "limit_busy"), None),
    ],
)
def test_trouble_reaches_as_far_as_its_kind_says(error: ServiceError, scope: Scope | None) -> None:
    assert scope_of(error) is scope


# -- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "file",
    [
        HEADER.encode() + _ROW,
        b"\xef\xbb\xbf" + HEADER.encode() + _ROW,
        (HEADER + _ROW.decode()).encode("utf-16"),
        HEADER.replace("\n", "\r\n").encode() + _ROW + b"\r\n\r\n",
        HEADER.lower().encode() + _ROW,
        (HEADER.encode() + _ROW).replace(b",", b"\t"),
        (HEADER.encode() + _ROW).replace(b",", b";"),
        b"Feed report\n\n" + HEADER.encode() + _ROW,
        b"Severity,sku_id,Issue,Suggestion,Field,Row\nERROR,S-1,Bad,Mend it,title,2\n",
        HEADER.encode() + b'"S-1","2","Error","Bad","Mend it","title","a\nb ""c"", d"\n',
    ],
    ids=[
        "plain",
        "bom",
        "utf16",
        "crlf",
        "lower",
        "tabs",
        "semicolons",
        "title",
        "other",
        "quoted",
    ],
)
def test_a_file_is_read_whatever_its_dress(file: bytes) -> None:
    assert issues_of(file, has_errors=True) == [_ISSUE]


@pytest.mark.parametrize(
    "file",
    [
        b"",
        b"\n\n\n",
        b"<!doctype html><html></html>",
        b'{"code":40001}',
        b"Name,Age\nS-1,2\n",
        HEADER.encode() + b'S-1,2,Error,"' + b"x" * 200_000 + b'"\n',
        HEADER.encode() + b"S,,Error,x\n" * 11,
    ],
    ids=["empty", "blank", "html", "json", "columns", "cell", "rows"],
)
def test_a_file_that_cannot_be_read_to_its_end_says_nothing(file: bytes) -> None:
    with pytest.raises(UnreadableError):
        issues_of(file, has_errors=True, rows_max=10)


@pytest.mark.parametrize(
    ("severity", "has_errors", "is_error"),
    [
        ("Error", False, True),
        ("ERROR ", False, True),
        ("Critical", True, True),
        ("Warning", True, False),
        ("Notice", True, False),
        ("", True, True),
        ("", False, False),
        ("Fehler", True, True),
    ],
)
def test_a_severity_that_nobody_knows_is_what_the_counts_allow(
    severity: str, *, has_errors: bool, is_error: bool
) -> None:
    file = HEADER.encode() + f"S-1,2,{severity},Bad,,title".encode()

    assert issues_of(file, has_errors=has_errors)[0].is_error is is_error


# -- where the file is ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place",
    [
        {"download_path": {"en": URL}},
        {"download_path": {"de": URL}},
        {"download_path": {"de": "https://files.example/de.csv", "en": URL}},
        {"download_path": URL},
        {"en": URL},
        {"zh-CN": "https://files.example/zh.csv", "en": URL},
    ],
)
def test_the_file_is_found_where_it_stands(place: dict[str, object]) -> None:
    shown = issue("Bad", "S-1", count=9)
    data = log(error_count=9)
    data["product_feed_log"]["feed_log_data"] = {"error_affected_products": [shown], **place}

    page = log_page(data)

    assert (page.file_url, page.lacks_rest) == (URL, True)


def test_a_log_with_nothing_to_say_has_no_file() -> None:
    page = log_page(log(add_count=1))

    assert (page.file_url, page.lacks_rest) == ("", False)


@pytest.mark.parametrize(
    ("url", "api", "is_safe"),
    [
        ("https://files.example/log.csv?sig=a%2Fb", _TIKTOK, True),
        ("https://files.example/log.csv", _HERE, True),
        ("http://files.example/log.csv", _TIKTOK, False),
        ("http://files.example/log.csv", _HERE, False),
        ("http://127.0.0.1:8080/log.csv", _TIKTOK, False),
        ("http://127.0.0.1:8080/log.csv", _HERE, True),
        ("http://localhost/log.csv", _HERE, True),
        ("http://sandbox:9300/log.csv", _THERE, True),
        ("http://sandbox:9301/log.csv", _THERE, False),
        ("http://sandbox/log.csv", _THERE, False),
        ("http://sandbox/log.csv", "http://sandbox", True),
        ("http://sandbox:9300/log.csv", _HERE, False),
        ("http://other:9300/log.csv", _THERE, False),
        ("http://127.0.0.1:9300/log.csv", _THERE, False),
        ("http://sandbox:9300/log.csv", "https://sandbox:9300", False),
        ("http://me:secret@sandbox:9300/log.csv", _THERE, False),
        ("http://sandbox:93000/log.csv", _THERE, False),
        ("https://me:secret@files.example/log.csv", _TIKTOK, False),
        ("https://files.example/log.csv\r\nHost: b", _TIKTOK, False),
        ("ftp://files.example/log.csv", _HERE, False),
        ("file:///etc/passwd", _HERE, False),
        ("https://", _TIKTOK, False),
        ("http://[::1", _HERE, False),
    ],
)
def test_a_file_is_fetched_over_tls_or_from_a_simulator(
    url: str, api: str, *, is_safe: bool
) -> None:
    assert is_safe_address(url, PlainHosts.of(api)) is is_safe


# -- reviews -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "status", "is_usable", "reasons"),
    [
        ({"audit": {"audit_status": "approved"}, "active_status": "ACTIVATED",
          "availability": "IN_STOCK"}, "approved", True, ()),
        ({"audit": {"audit_status": "approved"}, "ad_creation_eligible": "AVAILABLE"},
         "approved", True, ()),
        ({"audit": {"audit_status": "approved"}, "availability": "IN_STOCK"},
         "approved", False, ()),
        ({"audit": {"audit_status": "approved"}, "active_status": "DEACTIVATED",
          "ad_creation_eligible": "AVAILABLE", "availability": "IN_STOCK"},
         "approved", False, ()),
        ({"audit": {"audit_status": "approved"}, "active_status": "ACTIVATED",
          "availability": "OUT_OF_STOCK"}, "approved", False, ()),
        ({"audit": {"audit_status": "APPROVED"}, "active_status": "ACTIVATED",
          "availability": "in stock"}, "approved", True, ()),
        ({"audit": {"audit_status": "rejected", "rejected_info": [
            {"reason": "Alcohol", "suggestion": "Take it out"}]}},
         "rejected", False, ("Alcohol: Take it out",)),
        ({"audit": {"audit_status": "rejected"}, "reject_info": [{"reason": "Alcohol"}]},
         "rejected", False, ("Alcohol",)),
        ({"audit": {"audit_status": "processing"}, "image_status": "SUCCESS"},
         "processing", False, ()),
        ({"audit": {"audit_status": "processing", "suggestion": "Use a larger image"},
          "image_status": "FILTERED"}, "processing", False,
         ("Use a larger image",
          "the image is FILTERED: it is too small, of another format, or cannot be fetched")),
        ({"audit": None}, "", False, ()),
    ],
)  # fmt: skip
def test_a_review_says_what_came_of_an_item_and_why(
    row: dict[str, object], status: str, *, is_usable: bool, reasons: tuple[str, ...]
) -> None:
    [found] = reviews_of(["a"], [{"sku_id": "a", **row}])

    assert (found.status, found.is_usable, found.reasons) == (status, is_usable, reasons)

"""What TikTok's answers mean, over the rows that others have seen and over shapes of our own."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from libs.errors import Kind, ServiceError
from libs.http.classify import asked_wait_s, status_error
from services.events.domain.answers import (
    Answered,
    Meaning,
    RefusedError,
    answered,
    refused,
    scope_of,
    unreadable,
)
from tests.unit.events_service.answer_shapes import SHAPES, Shape, verdict_on

PERSON: Final = "alice.smith@example.com"
NOW: Final = datetime(2026, 11, 22, tzinfo=UTC)

TRUTHS: Final = {
    "success": Meaning.DELIVERED,
    "success_partial": Meaning.UNCERTAIN,
    "permanent": Kind.PERMANENT,
    "permanent_payload": Kind.PERMANENT,
    "permanent_credentials": Kind.AUTH,
    "retry": Kind.RETRYABLE,
    "retry_throttled": Kind.THROTTLED,
    "unknown: treat as retry, log": Kind.RETRYABLE,
}
# Rows on which those who saw them disagree, and what we do: 40016 is frequency control by its
# name; of 40700 only the words tell, and these name no passing trouble.
DISPUTED: Final = {40016: Kind.THROTTLED, 40700: Kind.PERMANENT}


def body_of(code: object, message: str = "", **more: object) -> bytes:
    return json.dumps({"code": code, "message": message, **more}).encode()


def verdict(status: int, body: bytes) -> Meaning | Kind:
    """As the HTTP client judges: the body first, then the status, then the body of a success."""
    error = refused(status, body) or status_error("tiktok", status, {}, NOW)
    if error is not None:
        return error.kind
    return answered(status, body).meaning


def row_body(row: dict[str, Any]) -> bytes:
    body = row["body"]
    if body is None:
        return b""
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def test_every_answer_that_others_have_seen_means_to_us_what_it_means(corpus_dir: Path) -> None:
    text = (corpus_dir / "data/tiktok-events/response_classification.json").read_text()
    rows = [row for row in json.loads(text)["rows"] if row["http"]]

    found = [(row["http"], row["body"], verdict(row["http"], row_body(row))) for row in rows]

    wanted = [
        (row["http"], row["body"], TRUTHS.get(row["truth"]) or DISPUTED[row["body"]["code"]])
        for row in rows
    ]
    assert found == wanted
    assert len(rows) >= 28


@pytest.mark.parametrize("code", [20001, 40050])
def test_a_yes_in_part_and_a_repetition_are_uncertain_and_not_sent_again(code: int) -> None:
    assert answered(200, body_of(code, request_id="R1")) == Answered(Meaning.UNCERTAIN, code, "R1")


NO_SUCCESS: Final = [
    (200, b""),
    (200, b"null"),
    (200, b"0"),
    (200, b'"OK"'),
    (200, b"[]"),
    (200, b'[{"code":0}]'),
    (200, b"{}"),
    (200, b'{"message":"OK"}'),
    (200, b'{"code":null,"message":"OK"}'),
    (200, b'{"code":"0","message":"OK"}'),
    (200, b'{"code":false,"message":"OK"}'),
    (200, b'{"code":0.0,"message":"OK"}'),
    (200, b'{"code":NaN}'),
    (200, b'{"code":[0]}'),
    (200, b'{"code":{"code":0}}'),
    (200, b'{"Code":0,"message":"OK"}'),
    (200, b'{"data":{"code":0}}'),
    (200, b'{"code":0,"message":"OK","data":{'),
    (200, b'{"code":0'),
    (200, b'{"code":0} and more'),
    (200, b"\xff\xfe"),
    (200, b'{"code":0,"message":"\xff"}'),
    (200, b"<html><body>OK</body></html>"),
    (200, b"OK"),
    (200, b"[" * 100_000),
    (200, body_of(40000)),
    (200, body_of(40002, "data.0.event_id")),
    (200, body_of(40100)),
    (200, body_of(40105)),
    (200, body_of(50000)),
    (200, body_of(1)),
    (200, body_of(-1)),
    (200, body_of(200, "OK")),
    (200, body_of(2**40, "OK")),
    (200, body_of(2**70, "OK")),
    (204, b""),
    (301, body_of(0, "OK")),
    (304, b""),
    (400, body_of(0, "OK")),
    (401, body_of(0, "OK")),
    (404, b"404 page not found"),
    (429, body_of(0, "OK")),
    (500, body_of(0, "OK")),
    (502, b"<html>bad gateway</html>"),
    (503, b""),
    (503, body_of(0, "OK")),
]


@pytest.mark.parametrize(("status", "body"), NO_SUCCESS, ids=[str(n) for n in range(46)])
def test_no_shape_of_an_answer_passes_for_a_success(status: int, body: bytes) -> None:
    # The body alone may say yes; then the status must say no.
    assert isinstance(verdict(status, body), Kind)


@pytest.mark.parametrize(("status", "body"), [row for row in NO_SUCCESS if row[0] == 200])
def test_under_http_200_only_tiktoks_own_refusal_condemns_an_event(
    status: int, body: bytes
) -> None:
    error = refused(status, body)

    assert error is not None
    assert isinstance(error, RefusedError) or error.kind is Kind.RETRYABLE


@pytest.mark.parametrize("code", [2**31, 2**70, -(2**31) - 1])
def test_a_code_that_no_record_could_hold_is_unreadable(code: int) -> None:
    error = refused(200, body_of(code))

    assert error is not None
    assert error.code == unreadable(200).code


@pytest.mark.parametrize(
    ("message", "at", "field"),
    [
        ("Batch.0.properties.contents.0.content_id: Not a valid string", 0,
         "properties.contents.0.content_id"),
        ("Invalid value for data.17.event_id", 17, "event_id"),
        ("data[3].user.email is wrong", 3, "user.email"),
        ("data.999", 999, ""),
        ("Invalid value for event_id: not a valid string.", None, "event_id"),
        ("data.12345.event_id", None, ""),
        ("Something else", None, ""),
    ],
)  # fmt: skip
def test_a_refusal_names_the_event_and_the_field(message: str, at: int | None, field: str) -> None:
    error = refused(200, body_of(40002, message))

    assert isinstance(error, RefusedError)
    assert (error.at, error.path or "") == (at, field)


@pytest.mark.parametrize(
    "message",
    [
        f"Invalid value for {PERSON}",
        f"Invalid value for email: {PERSON}",
        f"Invalid value for data.0.{PERSON}",
        f"data.0.user.email: {PERSON} is not hashed",
        f"Batch[0]{PERSON}",
        f"batch.0.user.{PERSON}",
        f"for {PERSON.upper()}",
        PERSON,
    ],
)
def test_what_a_message_quotes_is_not_kept(message: str) -> None:
    error = refused(200, body_of(40002, message, request_id=PERSON))

    assert isinstance(error, RefusedError)
    kept = " ".join(
        [str(error), repr(error), error.message, error.path or "", error.request_id, *error.args]
    )
    assert "alice" not in kept.lower()
    assert "smith" not in kept.lower()


def test_the_request_id_of_an_answer_is_kept_for_those_who_ask_tiktok() -> None:
    request_id = "20230314130039" + "0" * 20

    error = refused(200, body_of(40002, request_id=request_id))

    assert isinstance(error, RefusedError)
    assert (error.upstream_code, error.request_id) == (40002, request_id)


@pytest.mark.parametrize(
    "shape", [shape for shape in SHAPES if shape.pure], ids=lambda shape: shape.name
)
def test_every_shape_of_an_answer_means_what_it_should(shape: Shape) -> None:
    headers = dict(shape.headers)
    asked_s = asked_wait_s(headers, NOW)

    error = refused(shape.status, shape.body, asked_s)
    error = error or status_error("tiktok", shape.status, headers, NOW)

    found = error or answered(shape.status, shape.body)
    assert verdict_on(found) == shape.verdict


def test_the_table_of_shapes_is_wide_and_names_each_once() -> None:
    assert len(SHAPES) >= 40
    assert len({shape.name for shape in SHAPES}) == len(SHAPES)


def test_trouble_that_is_not_tiktoks_concerns_none_of_its_scopes() -> None:
    error = ServiceError(Kind.RETRYABLE, "nats_unavailable")

    assert scope_of(error) is None

from __future__ import annotations

import gzip
import zlib
from decimal import Decimal

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from libs.encodings import BODY_BYTES_MAX, decoded
from libs.errors import Kind, ServiceError
from services.ingest.normalize import (
    DeliveryMeta,
    Normalized,
    ShopContext,
    normalize,
    parse_body,
)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b'{"a": NaN}', "not_json"),
        (b'{"a": 1} trailing', "not_json"),
        (b'{"a": "\xff"}', "not_utf8"),
        (b"\xff\xfe{\x00}\x00", "not_utf8"),
        (b"[" * 100_000, "too_deep"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "too_deep"),
        (b"[1]", "not_an_object"),
        (b"null", "not_an_object"),
        (b'"text"', "not_an_object"),
    ],
)
def test_what_is_no_json_object_is_refused_by_name(body: bytes, code: str) -> None:
    with pytest.raises(ServiceError) as refused:
        parse_body(body)

    assert (refused.value.kind, refused.value.code, refused.value.path) == (
        Kind.PERMANENT,
        code,
        "$",
    )


def test_numbers_keep_every_digit() -> None:
    read = parse_body(
        b'{"id": 820982911946154508, "big": 123456789012345678901234567890, "m": 1.10}'
    )

    assert read == {
        "id": 820982911946154508,
        "big": 123456789012345678901234567890,
        "m": Decimal("1.10"),
    }
    assert str(read["m"]) == "1.10"


def test_half_a_surrogate_pair_does_not_lose_the_body() -> None:
    body = rb'{"note": "cut \ud83d", "whole": "\ud83d\ude00", "path": "C:\\ud83d"}'

    assert parse_body(body) == {"note": "cut \ufffd", "whole": "😀", "path": "C:\\ud83d"}


def test_a_byte_order_mark_and_a_number_of_5000_digits_do_not_lose_the_body() -> None:
    read = parse_body(b'\xef\xbb\xbf{"n": ' + b"1" * 5000 + b', "id": 7}')

    assert read["id"] == 7


def test_of_a_repeated_key_the_last_counts() -> None:
    assert parse_body(b'{"a": 1, "a": 2}') == {"a": 2}


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("", b'{"id": 1}'),
        ("identity", b'{"id": 1}'),
        ("gzip", gzip.compress(b'{"id": 1}', mtime=0)),
        ("GZIP", gzip.compress(b'{"id": 1}', mtime=0)),
        ("deflate", zlib.compress(b'{"id": 1}')),
        ("deflate", zlib.compress(b'{"id": 1}', wbits=-15)),
    ],
)
def test_an_encoded_body_is_unfolded(encoding: str, packed: bytes) -> None:
    assert decoded(packed, encoding) == b'{"id": 1}'


@pytest.mark.parametrize(
    ("encoding", "packed", "code"),
    [
        ("br", b"x", "encoding_unsupported"),
        ("gzip", b"not gzip", "encoding_broken"),
        ("deflate", b"not deflate", "encoding_broken"),
        ("gzip", gzip.compress(b"x" * 9999, mtime=0)[:-9], "encoding_broken"),
        ("gzip", gzip.compress(bytes(BODY_BYTES_MAX + 1), mtime=0), "body_too_large"),
    ],
)
def test_a_body_that_does_not_unfold_is_refused_by_name(
    encoding: str, packed: bytes, code: str
) -> None:
    with pytest.raises(ServiceError, match=code):
        decoded(packed, encoding)


def test_a_body_of_exactly_the_limit_unfolds() -> None:
    assert len(decoded(gzip.compress(bytes(BODY_BYTES_MAX)), "gzip")) == BODY_BYTES_MAX


@given(st.binary(max_size=200))
def test_any_bytes_give_an_object_or_a_reason(body: bytes) -> None:
    assert verdict_on(body) in {"object", "not_json", "not_utf8", "too_deep", "not_an_object"}


def verdict_on(body: bytes) -> str:
    try:
        read = parse_body(body)
    except ServiceError as refused:
        return refused.code
    return "object" if isinstance(read, dict) else type(read).__name__


def test_a_number_beyond_all_bounds_in_a_text_field_loses_no_order() -> None:
    body = (
        b'{"id": 7, "updated_at": "2026-11-22T10:00:00Z", "financial_status": "paid",'
        b' "currency": "USD", "line_items": [], "note_attributes": [], "name": 1e9999999}'
    )
    meta = DeliveryMeta(body_hash=1, received_at=Timestamp(seconds=1_790_000_000))

    said = normalize("orders/paid", body, ShopContext("example", "US", "USD"), meta)

    assert isinstance(said, Normalized)
    assert said.resource_id == "7"

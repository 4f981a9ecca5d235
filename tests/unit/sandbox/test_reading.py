from __future__ import annotations

import json

import msgspec
import pytest

from sandbox.tiktok.reading import strict_json
from sandbox.tiktok.verdict import Refused
from tests.unit.sandbox.samples import track_body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1e999}',
        b'{"a": "\xff"}',
        b"[" * 100_000,
        b'{"a":1,"a":2}',
        b'{"a":1,"a" :2}',
        b'{"a":1,"a"\t:2}',
        b'{"a":1,"a"\n:2}',
        b'{"a":1,"a"\r:2}',
        b'{"a" : 1, "a"\t:\n2}',
        b'{"b":[{"c":1,"c":1}]}',
        # The text adds a quote and a colon for the one that the repeated key takes away.
        b'{"a":"x\\":","b":1,"b":2}',
        b'{"a":"\\":","\\u0061":1}',
        # Written again, the text would have the quote and the colon that it hides here.
        b'{"a":"\\u0022:","b":1,"b":2}',
        b'{"a":"\\"\\u003a","b":1,"b":2}',
    ],
)
def test_what_two_parsers_could_read_in_two_ways_is_refused(body: bytes) -> None:
    with pytest.raises(Refused) as refused:
        strict_json(body)

    assert (refused.value.code, refused.value.path) == (40002, "")


@pytest.mark.parametrize(
    "body",
    [
        msgspec.json.encode(track_body()),
        json.dumps(track_body(), indent=2).encode(),
        b'{"a":"x\\":","b":[1,{"a":2}],"c":{"a":"\\" : "}}',
        b"[]",
        b"null",
    ],
)
def test_json_without_a_repeated_key_is_read_as_it_is(body: bytes) -> None:
    assert strict_json(body) == json.loads(body)

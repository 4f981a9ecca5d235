"""Bytes to JSON, refusing what two parsers could read in two ways."""

from __future__ import annotations

import json

import msgspec

from sandbox.tiktok.verdict import Problem, Refused

NOT_JSON = Problem(40002, "the body is not valid JSON")
REPEATED_KEY = Problem(40002, "the body repeats a key")

_UNUSUAL = (b"\t", b"\n", b"\r", b" :", b"\\u")


def strict_json(body: bytes) -> object:
    """The JSON in `body`. NaN, Infinity, bad UTF-8, repeated keys and deep nests are refused.

    Raises:
        Refused: 40002 with an empty path.
    """
    try:
        found = msgspec.json.decode(body)
        may_repeat = _may_repeat_a_key(body, found)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused(NOT_JSON, "") from None
    if may_repeat:
        _refuse_repeated_keys(body)
    return found


def _may_repeat_a_key(body: bytes, found: object) -> bool:
    """False when no key is repeated, by counting; true when only the slow parser can tell.

    Where no colon follows a space and no letter is written by its number, a key ends in a quote and
    a colon, and text that holds the two reads the same when it is written again. So a key that was
    dropped for being repeated leaves fewer of them.
    """
    if any(mark in body for mark in _UNUSUAL):
        return True
    return body.count(b'":') != msgspec.json.encode(found).count(b'":')


def _refuse_repeated_keys(body: bytes) -> None:
    try:
        json.loads(body, object_pairs_hook=_refuse_repeated)
    except (ValueError, RecursionError):
        raise Refused(NOT_JSON, "") from None


def _refuse_repeated(pairs: list[tuple[str, object]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        raise Refused(REPEATED_KEY, "")

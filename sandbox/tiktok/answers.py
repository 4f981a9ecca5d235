"""Answers as they leave: bodies, headers, and the ways in which a body may fail to arrive."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from enum import Enum, auto
from typing import NamedTuple

import msgspec

from sandbox.tiktok.verdict import Event

JSON_TYPE = "application/json"

MESSAGES = {
    0: "OK",
    20001: "Partial success",
    40000: "Invalid parameters",
    40001: "No permission to operate this pixel code",
    40002: "Invalid parameter",
    40007: "Not exist",
    40010: "Unsupported domain",
    40011: "Too many ids",
    40016: "Too frequent",
    40050: "Duplicated request",
    40051: "API version is invalid",
    40061: "Invalid batch size",
    40062: "PII is not hashed",
    40063: "Invalid partner name",
    40100: "Too many requests. Please retry in some time.",
    40102: "access token expired",
    40104: "empty access token",
    40105: "Invalid or incorrect access token",
    40132: "Request frequency limited",
    40133: "Requests made too frequently",
    40202: "Write conflict",
    40700: "Internal validation error",
    41000: "Blocked",
    41001: "Interface offline",
    50000: "System error",
    50002: "System timeout",
    51010: "Internal service timeout",
    51012: "Pixel service error",
    60001: "Under maintenance",
    61000: "Too many requests",
}
"""What a code says of itself when nobody names a field. Codes: the official SDK 1.1.3."""


class Sending(Enum):
    """How an answer travels."""

    WHOLE = auto()
    CUT = auto()
    """Half of the body under the full Content-Length, then the connection closes."""

    SILENT = auto()
    """Nothing, until the client goes away."""

    RESET = auto()
    """Nothing, and the connection is torn down."""


class Reply(NamedTuple):
    """An answer, and what the service did before it gave it."""

    label: str
    """What the ledger counts it as: a body code, `http_503`, `silent`, `malformed`, …"""

    status: int
    body: bytes
    recorded: tuple[Event, ...] = ()
    sending: Sending = Sending.WHOLE
    content_type: str = JSON_TYPE
    retry_after_s: int | None = None
    keep: float = 0.5
    """The part of the body that is sent when it is CUT."""


class RequestIds:
    """Ids in TikTok's form, the time to the second and 20 hex digits, each one new."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def next(self, now_s: float) -> str:
        """An id for a request that came at the Unix time `now_s`."""
        return f"{datetime.fromtimestamp(now_s, UTC):%Y%m%d%H%M%S}{next(self._numbers):020X}"


def envelope(code: int, message: str, request_id: str, data: object = None) -> bytes:
    """The body of every answer that TikTok's own layer gives."""
    return msgspec.json.encode(
        {
            "code": code,
            "message": message,
            "request_id": request_id,
            "data": {} if data is None else data,
        }
    )

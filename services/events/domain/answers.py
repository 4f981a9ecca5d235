"""What TikTok's answer means: decided by the body's code, never by HTTP 200 alone. Pure.

Codes and their meaning: TikTok API for Business, appendix of return codes (1737172488964097) and
the contract of the Events API, section 9. Messages are not kept: they may quote a shopper's data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from libs.errors import Kind, ServiceError


class Meaning(StrEnum):
    """What an accepted request amounts to for each of its events."""

    DELIVERED = "delivered"
    UNCERTAIN = "delivered_uncertain"
    """Accepted in part, or refused as a repetition of what had arrived."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer that was understood."""

    meaning: Meaning
    code: int
    request_id: str


class RefusedError(ServiceError):
    """A refusal, with the code and, where TikTok names it, the position of the event at fault."""

    def __init__(self, kind: Kind, code: int, request_id: str, at: int | None, field: str) -> None:
        super().__init__(
            kind,
            f"upstream_{code}",
            f"TikTok refused with code {code}" + (f" for the field {field}" if field else ""),
            path=field or None,
        )
        self.upstream_code = code
        self.request_id = request_id
        self.at = at


_OK: Final = 0
_UNCERTAIN: Final = frozenset({20001, 40050})
_THROTTLED: Final = frozenset({40016, 40100, 40132, 40133, 61000})
_CREDENTIALS: Final = frozenset(
    {40001, 40101, 40102, 40104, 40105, 40106, 40113, 40118, 40124, 40125, 41000, 41001}
)
_RETRYABLE: Final = frozenset({40200, 40201, 40202, 60001})
_SERVER_SIDE_FROM: Final = 50_000
_TOO_FREQUENT: Final = re.compile(r"too\s+(many|frequent)|frequen", re.IGNORECASE)
_TRANSIENT: Final = re.compile(r"timeout|redis|internal", re.IGNORECASE)

# `data.0.event_id`, `Batch.3.properties.contents.0.content_id`: which event, which field.
_NAMED: Final = re.compile(
    r"\b(?:data|batch)[.\[](\d{1,4})\]?\.?([A-Za-z_][\w.\[\]]{0,100})?", re.IGNORECASE
)
_NAMED_FIELD: Final = re.compile(r"\bfor ([a-z_][a-z_.]{0,60})\b", re.IGNORECASE)


def kind_of(code: int, message: str) -> Kind:
    """What to do about a refusal. Codes from 50000 up are the server's own trouble."""
    if code in _THROTTLED or (code == 40000 and _TOO_FREQUENT.search(message)):
        return Kind.THROTTLED
    if code in _CREDENTIALS:
        return Kind.AUTH
    if code in _RETRYABLE or code >= _SERVER_SIDE_FROM:
        return Kind.RETRYABLE
    # 40700 is used for broken input and for inner time-outs alike; only the words tell.
    if code == 40700 and _TRANSIENT.search(message):
        return Kind.RETRYABLE
    return Kind.PERMANENT


def answered(status: int, body: bytes) -> Answered:
    """What a body says that came with an HTTP status below 300.

    Raises:
        RefusedError: TikTok said no; its kind says what to do.
        ServiceError: RETRYABLE, `upstream_answer_unreadable`: the events may have arrived.
    """
    found = _body(body)
    if found is None:
        raise unreadable(status)
    code, message, request_id = found
    if code == _OK:
        return Answered(Meaning.DELIVERED, code, request_id)
    if code in _UNCERTAIN:
        return Answered(Meaning.UNCERTAIN, code, request_id)
    at, field = _place(message)
    raise RefusedError(kind_of(code, message), code, request_id, at, field)


def refused(status: int, body: bytes) -> ServiceError | None:
    """The error that an answer amounts to, whatever its status; None where it says yes.

    The code outranks the status, with one exception: a yes under a failing status is no yes.
    """
    try:
        answered(status, body)
    except RefusedError as error:
        return error
    except ServiceError as error:
        # Without a readable body the status is all there is; 200 alone is no success.
        return error if status < 300 else None
    return None


def unreadable(status: int) -> ServiceError:
    """The error of an answer whose body cannot be read."""
    return ServiceError(
        Kind.RETRYABLE,
        "upstream_answer_unreadable",
        f"TikTok answered {status} with a body that is not its own; the events may have arrived",
    )


def _body(body: bytes) -> tuple[int, str, str] | None:
    try:
        decoded: object = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(decoded, Mapping):
        return None
    code = decoded.get("code")
    if not isinstance(code, int) or isinstance(code, bool):
        return None
    return code, str(decoded.get("message") or ""), str(decoded.get("request_id") or "")[:100]


def _place(message: str) -> tuple[int | None, str]:
    """Which event and which field a message names."""
    named = _NAMED.search(message)
    if named:
        return int(named[1]), named[2] or ""
    field = _NAMED_FIELD.search(message)
    return None, field[1] if field else ""

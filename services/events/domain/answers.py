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

    @property
    def divisible(self) -> bool:
        """Whether smaller requests may fare better: not where the envelope is at fault."""
        return self.kind is Kind.PERMANENT and self.upstream_code not in _ENVELOPE


_OK: Final = 0
_UNCERTAIN: Final = frozenset({20001, 40050})
_THROTTLED: Final = frozenset({40016, 40100, 40132, 40133, 61000})
# Whatever is wrong with token, app, account or standing: a person mends it, no event is at fault.
_CREDENTIALS: Final = frozenset(
    {40001, 40101, 40102, 40103, 40104, 40105, 40106, 40107, 40110, 40113, 40115, 40116, 40118,
     40119, 40124, 40125, 41000, 41001}
)  # fmt: skip
_RETRYABLE: Final = frozenset({40200, 40201, 40202, 60001})
_ENVELOPE: Final = frozenset({40007, 40010, 40051, 40063})
"""Event source, host, version or partner: the same in every request, so none is worth dividing."""
_SERVER_SIDE_FROM: Final = 50_000
# "Too many items" is no throttle: it never passes by waiting.
_TOO_FREQUENT: Final = re.compile(r"too\s+many\s+requests|frequen", re.IGNORECASE)
_TRANSIENT: Final = re.compile(r"timeout|redis|internal", re.IGNORECASE)

# `data.0.event_id`, `Batch.3.properties.contents.0.content_id`: which event, which field.
_NAMED: Final = re.compile(
    r"\b(?:data|batch)[.\[](\d{1,4})\b\]?\.?([A-Za-z_][\w.\[\]]{0,100})?", re.IGNORECASE
)
_NAMED_FIELD: Final = re.compile(r"\bfor ([a-z_][a-z_.]{0,60})\b", re.IGNORECASE)
_SEPARATOR: Final = re.compile(r"[.\[\]]+")
_REQUEST_ID: Final = re.compile(r"[0-9A-Za-z_-]{1,100}")
_CODES: Final = range(-(2**31), 2**31)
"""Records keep a code in 32 bits; what does not fit is none of TikTok's."""

# A message may say "invalid value for alice.smith@…": only words of the wire shapes are kept.
_FIELDS: Final = frozenset(
    {
        "ad", "app", "batch", "brand", "callback", "city", "content_category", "content_id",
        "content_ids", "content_name", "content_type", "contents", "context", "country",
        "currency", "data", "description", "email", "emails", "event", "event_id",
        "event_source", "event_source_id", "event_time", "external_id", "first_name", "ip",
        "last_name", "limited_data_use", "locale", "num_items", "order_id", "page",
        "partner_name", "phone", "phone_number", "phone_numbers", "pixel_code", "price",
        "properties", "quantity", "query", "referrer", "search_string", "shop_id", "state",
        "status", "test_event_code", "timestamp", "ttclid", "ttp", "type", "url", "user",
        "user_agent", "value", "zip_code",
    }
)  # fmt: skip


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
    if code not in _CODES:
        return None
    request_id = str(decoded.get("request_id") or "")
    known_id = request_id if _REQUEST_ID.fullmatch(request_id) else ""
    return code, str(decoded.get("message") or ""), known_id


def _place(message: str) -> tuple[int | None, str]:
    """Which event and which field a message names."""
    named = _NAMED.search(message)
    if named:
        return int(named[1]), _field(named[2] or "")
    field = _NAMED_FIELD.search(message)
    return None, _field(field[1]) if field else ""


def _field(path: str) -> str:
    """`path` as far as it consists of names that we know and of positions."""
    known: list[str] = []
    for part in _SEPARATOR.split(path):
        if part.lower() not in _FIELDS and not (known and part.isdecimal() and len(part) < 4):
            break
        known.append(part)
    return ".".join(known)

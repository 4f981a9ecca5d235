"""What TikTok's answer means: decided by the body's code, never by HTTP 200 alone. Pure.

Codes and what to do about them: `libs.tiktok.return_codes`. Messages are not kept: they may quote a
shopper's data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from libs.errors import Kind, ServiceError
from libs.tiktok import Action, Scope, return_code


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
    """A refusal, with the code and, where TikTok names it, the position of the event at fault.

    The code is the HTTP status where the answer has none of TikTok's. `scope` says who else would
    be told the same now, `divisible` whether smaller requests may fare better; both follow from the
    code unless given.
    """

    def __init__(
        self,
        kind: Kind,
        code: int,
        request_id: str,
        at: int | None,
        field: str,
        *,
        scope: Scope | None = None,
        divisible: bool | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(
            kind,
            f"upstream_{code}",
            f"TikTok refused with code {code}" + (f" for the field {field}" if field else ""),
            path=field or None,
            retry_after_s=retry_after_s,
        )
        row = return_code(code)
        self.upstream_code = code
        self.request_id = request_id
        self.at = at
        self.scope = row.scope if scope is None else scope
        self.divisible = row.action is Action.PERMANENT if divisible is None else divisible


_MEANINGS: Final = {Action.DELIVERED: Meaning.DELIVERED, Action.UNCERTAIN: Meaning.UNCERTAIN}
_STATUSES_OF_CONTENT: Final = frozenset({400, 413, 422})
"""One bad or large event may be why; without it the others may pass."""

_BOM: Final = b"\xef\xbb\xbf"
_NAMES_A_FAILURE: Final = re.compile("fail|error", re.IGNORECASE)

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


def answered(status: int, body: bytes, retry_after_s: float | None = None) -> Answered:
    """What a body says that came with an HTTP status below 300.

    `retry_after_s` is the wait that the answer's headers ask for, where they ask for one.

    Raises:
        RefusedError: TikTok said no; its kind says what to do.
        ServiceError: RETRYABLE, `upstream_answer_unreadable`: the events may have arrived.
    """
    found = _body(body)
    if found is None:
        raise unreadable(status, retry_after_s)
    row = return_code(found.code, found.message)
    kind = row.action.kind
    if kind is None:
        meaning = Meaning.UNCERTAIN if found.lists_failures else _MEANINGS[row.action]
        return Answered(meaning, found.code, found.request_id)
    at, field = _place(found.message)
    raise RefusedError(
        kind,
        found.code,
        found.request_id,
        at,
        field,
        scope=row.scope,
        divisible=row.action is Action.PERMANENT,
        # A date on a refusal that no wait mends must not make anybody wait.
        retry_after_s=retry_after_s if row.action.is_worth_retrying else None,
    )


def refused(status: int, body: bytes, retry_after_s: float | None = None) -> ServiceError | None:
    """The error that an answer amounts to, whatever its status.

    None where it says yes, or where nothing is to be said beyond its failing status. The code
    outranks the status, with one exception: a yes under a failing status is no yes.
    """
    try:
        answered(status, body, retry_after_s)
    except RefusedError as error:
        return error
    except ServiceError as error:
        # Without a readable body the status is all there is; 200 alone is no success.
        if status < 300:
            return error
    if 300 <= status < 400:
        # Somebody between us and TikTok: we follow nobody, and no event is at fault.
        return unreadable(status, retry_after_s)
    if status in _STATUSES_OF_CONTENT:
        return RefusedError(Kind.PERMANENT, status, "", None, "", scope=Scope.ENVELOPE)
    return None


def scope_of(error: ServiceError) -> Scope | None:
    """How far trouble with TikTok reaches, at most; None where TikTok is not what failed.

    Without a code the kind of trouble tells: a time-out or a 503 may be everybody's, a 401 is of
    the token that was sent.
    """
    if isinstance(error, RefusedError):
        return error.scope
    if not error.code.startswith("upstream_"):
        return None
    match error.kind:
        case Kind.RETRYABLE:
            return Scope.UPSTREAM
        case Kind.THROTTLED:
            return Scope.APP
        case Kind.AUTH:
            return Scope.CONNECTION
        case Kind.PERMANENT:
            return Scope.ENVELOPE


def unreadable(status: int, retry_after_s: float | None = None) -> ServiceError:
    """The error of an answer whose body cannot be read."""
    return ServiceError(
        Kind.RETRYABLE,
        "upstream_answer_unreadable",
        f"TikTok answered {status} with a body that is not its own; the events may have arrived",
        retry_after_s=retry_after_s,
    )


@dataclass(frozen=True, slots=True)
class _Said:
    """What a readable body says. The message is for deciding only: it may quote a person."""

    code: int
    message: str
    request_id: str
    lists_failures: bool


def _body(body: bytes) -> _Said | None:
    """What `body` says, where it can be but one thing."""
    text = body.removeprefix(_BOM)
    try:
        decoded: object = msgspec.json.decode(text)
        if not isinstance(decoded, Mapping) or _says_twice(text, "code"):
            return None
    except (ValueError, RecursionError):
        return None
    code = decoded.get("code")
    if not isinstance(code, int) or isinstance(code, bool) or code not in _CODES:
        return None
    request_id = str(decoded.get("request_id") or "")
    return _Said(
        code,
        str(decoded.get("message") or ""),
        request_id if _REQUEST_ID.fullmatch(request_id) else "",
        _lists_failures(decoded) or _lists_failures(decoded.get("data")),
    )


def _says_twice(text: bytes, name: str) -> bool:
    """Whether the outermost object has `name` more than once: readers then differ on which counts.

    Raises:
        ValueError: it cannot be read.
    """
    pairs: tuple[tuple[str, object], ...] = json.loads(text, object_pairs_hook=tuple)
    return sum(found == name for found, _ in pairs) > 1


def _lists_failures(part: object) -> bool:
    """Whether a yes has something beside it that says no. No source shows such an answer."""
    return isinstance(part, Mapping) and any(
        value and _NAMES_A_FAILURE.search(str(name)) for name, value in part.items()
    )


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

"""What TikTok's answers on catalogs mean: by the body's code, never by HTTP 200 alone. Pure.

Codes and what to do about them: `libs.tiktok.return_codes`. Messages are kept, unlike those of
events: they name fields of products, the merchant is shown them, and no shopper is in them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from libs.errors import Kind, ServiceError
from libs.tiktok import Action, ReturnCode, Scope, return_code
from services.catalog.domain.feed_log import Issue, Submitted

CATALOG_BUSY: Final = "catalog_busy"
"""THROTTLED: another write to the catalog has not ended; TikTok takes one at a time."""

SUBMIT_TOO_SOON: Final = "submit_too_soon"
"""THROTTLED: the last submit to the catalog is less than a minute ago."""

SUBMIT_UNCONFIRMED: Final = "submit_unconfirmed"
"""RETRYABLE: taken, or taken before, without a log to read: no item's fate can be told."""

BUSY_S: Final = 10.0
ONCE_A_MINUTE_S: Final = 60.0
WORDS_MAX: Final = 500
"""Characters of one text of TikTok's that are kept."""

_UNREADABLE: Final = "upstream_answer_unreadable"
_BOM: Final = b"\xef\xbb\xbf"
_STATUSES_OF_CONTENT: Final = frozenset({400, 413, 422})
"""One bad or large product may be why; without it the others may pass."""

_ASYNC_CONFLICT: Final = 40202
REPEATED: Final = 40050
_CODES: Final = range(-(2**31), 2**31)
"""What does not fit into 32 bits is no code of TikTok's."""

_CODES_OF_A_BUSY_CATALOG: Final = frozenset({40000, 40002, 40200, 40201, 40700})
_BUSY: Final = re.compile(
    r"\b(?:another|previous|last|other)\b.{0,60}"
    r"\b(?:running|in progress|in process|processing|processed|not (?:yet )?(?:finished|complete))",
    re.IGNORECASE,
)
_TOO_SOON: Final = re.compile(r"once (?:a|per) minute|api submit exceeds", re.IGNORECASE)

# What all products of a request have in common: to divide it would find no culprit.
_OF_THE_WHOLE: Final = re.compile(
    r"\b(?:bc_id|catalog_id|feed_id|advertiser_id|pixel_code|business center)\b", re.IGNORECASE
)
_OF_AN_ITEM: Final = re.compile(r"\b(?:products?|items?|sku_ids?)\b", re.IGNORECASE)

_REQUEST_ID: Final = re.compile(r"[0-9A-Za-z_-]{1,100}")
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_NAMED_SECRET: Final = re.compile(
    r"((?:access[-_ ]?token|refresh[-_ ]?token|auth[-_ ]?code|secret)\W{1,4})[\w.~-]{8,}",
    re.IGNORECASE,
)
_LIKE_A_TOKEN: Final = re.compile(r"[0-9A-Za-z_-]{32,}")
_NAMES_A_FAILURE: Final = re.compile("fail|error|invalid|reject", re.IGNORECASE)


class RefusedError(ServiceError):
    """A refusal in TikTok's own words.

    `scope` says who else would be told the same now, `divisible` whether smaller requests may fare
    better, `words` is TikTok's message. The code is the HTTP status where the answer has none of
    TikTok's.
    """

    def __init__(
        self,
        kind: Kind,
        upstream_code: int,
        words: str,
        request_id: str = "",
        *,
        code: str = "",
        scope: Scope = Scope.ENVELOPE,
        divisible: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(
            kind,
            code or f"upstream_{upstream_code}",
            f"TikTok refused with code {upstream_code}" + (f": {words}" if words else ""),
            retry_after_s=retry_after_s,
        )
        self.upstream_code = upstream_code
        self.words = words
        self.request_id = request_id
        self.scope = scope
        self.divisible = divisible

    def hiding(self, secret: str) -> RefusedError:
        """The same without `secret`, which TikTok may quote."""
        if not secret or secret not in self.words:
            return self
        return RefusedError(
            self.kind,
            self.upstream_code,
            self.words.replace(secret, "…"),
            self.request_id,
            code=self.code,
            scope=self.scope,
            divisible=self.divisible,
            retry_after_s=self.retry_after_s,
        )


@dataclass(frozen=True, slots=True)
class Said:
    """A yes, and what came with it."""

    code: int
    request_id: str
    data: Mapping[str, object]


def said(status: int, body: bytes, retry_after_s: float | None = None) -> Said:
    """What a body says that came with an HTTP status below 300.

    `retry_after_s` is the wait that the answer's headers ask for, where they ask for one.

    Raises:
        RefusedError: TikTok said no; its kind says what to do. THROTTLED, `catalog_busy` and
            `submit_too_soon`, where the catalog takes no write now; RETRYABLE,
            `submit_unconfirmed`, where it calls the request a repetition.
        ServiceError: RETRYABLE, `upstream_answer_unreadable`: it may have arrived.
    """
    decoded = _object(body)
    code = None if decoded is None else decoded.get("code")
    if decoded is None or not isinstance(code, int) or isinstance(code, bool) or code not in _CODES:
        raise unreadable(status, retry_after_s)
    words = str(decoded.get("message") or "")
    request_id = str(decoded.get("request_id") or "")
    request_id = request_id if _REQUEST_ID.fullmatch(request_id) else ""
    row = return_code(code, words)
    if row.action.kind is None and code != REPEATED:
        data = decoded.get("data")
        return Said(code, request_id, data if isinstance(data, Mapping) else {})
    raise _refusal(row, code, words, request_id, retry_after_s)


def refused(status: int, body: bytes, retry_after_s: float | None = None) -> ServiceError | None:
    """The error that an answer amounts to, whatever its status.

    None where it says yes, or where nothing is to be said beyond its failing status. The code
    outranks the status, with one exception: a yes under a failing status is no yes.
    """
    try:
        said(status, body, retry_after_s)
    except RefusedError as error:
        return error
    except ServiceError as error:
        # Without a readable body the status is all there is; 200 alone is no success.
        if status < 300:
            return error
    if 300 <= status < 400:
        # Somebody between us and TikTok: we follow nobody, and no product is at fault.
        return unreadable(status, retry_after_s)
    if status in _STATUSES_OF_CONTENT:
        return RefusedError(Kind.PERMANENT, status, "", divisible=True)
    return None


def submitted(answer: Said, *, may_be_final: bool) -> Submitted:
    """What an accepted submit is known by.

    `may_be_final` says that the endpoint may answer without a log. Where it may not, an answer
    without one is no success that anybody could prove.

    Raises:
        ServiceError: RETRYABLE, `submit_unconfirmed`.
    """
    feed_log_id = id_of(answer.data.get("feed_log_id"))
    if feed_log_id:
        return Submitted(feed_log_id, answer.request_id)
    if not may_be_final:
        raise ServiceError(
            Kind.RETRYABLE,
            SUBMIT_UNCONFIRMED,
            f"TikTok said yes with code {answer.code}, without the log of the submit",
        )
    issues, complete = _failures(answer.data)
    in_part = answer.code != 0 and not issues
    return Submitted("", answer.request_id, issues, complete and not in_part)


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


def is_too_soon(text: str) -> bool:
    """Whether TikTok's words say that a catalog was written to twice within a minute."""
    return _TOO_SOON.search(text) is not None


def unreadable(status: int, retry_after_s: float | None = None) -> ServiceError:
    """The error of an answer whose body cannot be read."""
    return ServiceError(
        Kind.RETRYABLE,
        _UNREADABLE,
        f"TikTok answered {status} with a body that is not its own; the request may have arrived",
        retry_after_s=retry_after_s,
    )


def words_of(value: object) -> str:
    """A text of TikTok's on one line, cut to `WORDS_MAX`; empty for what is no text."""
    if not isinstance(value, str):
        return ""
    line = _CONTROLS.sub(" ", value[: 4 * WORDS_MAX]).strip()
    return line if len(line) <= WORDS_MAX else line[: WORDS_MAX - 1] + "…"


def id_of(value: object) -> str:
    """An id, which TikTok writes as text or as a number; empty where there is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if value > 0 else ""
    return value.strip() if isinstance(value, str) and value.strip() != "0" else ""


def _refusal(
    row: ReturnCode, code: int, words: str, request_id: str, retry_after_s: float | None
) -> RefusedError:
    kept = _public(words, is_about_credentials=row.action is Action.CREDENTIALS)
    if is_too_soon(words):
        kind, ours, wait_s = Kind.THROTTLED, SUBMIT_TOO_SOON, ONCE_A_MINUTE_S
    elif code == _ASYNC_CONFLICT or (code in _CODES_OF_A_BUSY_CATALOG and _BUSY.search(words)):
        kind, ours, wait_s = Kind.THROTTLED, CATALOG_BUSY, BUSY_S
    elif code == REPEATED:
        kind, ours, wait_s = Kind.RETRYABLE, SUBMIT_UNCONFIRMED, ONCE_A_MINUTE_S
    else:
        return RefusedError(
            row.action.kind or Kind.RETRYABLE,
            code,
            kept,
            request_id,
            scope=row.scope,
            divisible=row.action is Action.PERMANENT and not _is_of_the_whole(words),
            # A date on a refusal that no wait mends must not make anybody wait.
            retry_after_s=retry_after_s if row.action.is_worth_retrying else None,
        )
    asked_s = wait_s if retry_after_s is None else retry_after_s
    return RefusedError(
        kind, code, kept, request_id, code=ours, scope=Scope.CONNECTION, retry_after_s=asked_s
    )


def _is_of_the_whole(words: str) -> bool:
    return bool(_OF_THE_WHOLE.search(words)) and not _OF_AN_ITEM.search(words)


def _public(words: str, *, is_about_credentials: bool) -> str:
    """What of a message a merchant and a log may see."""
    text = _NAMED_SECRET.sub(r"\1…", words[: 4 * WORDS_MAX])
    if is_about_credentials:
        text = _LIKE_A_TOKEN.sub("…", text)
    return words_of(text)


def _object(body: bytes) -> Mapping[str, object] | None:
    """The body's object, where it can be read in but one way."""
    text = body.removeprefix(_BOM)
    try:
        decoded: object = msgspec.json.decode(text)
        if not isinstance(decoded, Mapping) or _says_twice(text, "code"):
            return None
    except (ValueError, RecursionError):
        return None
    return decoded


def _says_twice(text: bytes, name: str) -> bool:
    """Whether the outermost object has `name` more than once: readers then differ on which counts.

    Raises:
        ValueError: it cannot be read.
    """
    if text.count(f'"{name}"'.encode()) < 2:
        return False
    pairs: tuple[tuple[str, object], ...] = json.loads(text, object_pairs_hook=tuple)
    return sum(found == name for found, _ in pairs) > 1


def _failures(data: Mapping[str, object]) -> tuple[tuple[Issue, ...], bool]:
    """What a final answer says against single items, and whether all that it says was understood.

    No source shows such an answer; the shape is that of lists under a name that says failure.
    """
    issues: list[Issue] = []
    complete = True
    for name, value in data.items():
        if not value or not _NAMES_A_FAILURE.search(name):
            continue
        entries = value if isinstance(value, list) else [value]
        for entry in entries:
            issue = _issue(entry) if isinstance(entry, Mapping) else None
            if issue is None:
                complete = False
            else:
                issues.append(issue)
    return tuple(issues), complete


def _issue(entry: Mapping[str, object]) -> Issue | None:
    sku_id = next((id_of(entry[name]) for name in ("sku_id", "item_id", "id") if name in entry), "")
    if not sku_id:
        return None
    named = ("message", "reason", "issue", "error", "error_message", "description")
    text = next((words_of(entry[name]) for name in named if words_of(entry.get(name))), "")
    fix = words_of(entry.get("suggestion"))
    return Issue(sku_id, is_error=True, field=words_of(entry.get("field")), text=text, fix=fix)

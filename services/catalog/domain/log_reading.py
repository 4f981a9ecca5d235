"""Reads a feed log as TikTok answers it, and says whether its file is needed as well. Pure.

What is documented and what is seen live differ: the status may be missing or have another name, the
lists may be null, the file's address may stand one level higher. TikTok shows five items an issue;
the rest is in the file only. Positions count from 2: 2 is the first product of the request.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from services.catalog.domain.answers import id_of, words_of
from services.catalog.domain.feed_log import FeedLog, Issue

INDEX_FIRST: Final = 2
_LANGUAGE: Final = "en"
_SHOWN_MAX: Final = 5
_ENDED: Final = frozenset({"SUCCESS", "SUCCEEDED", "FAILED", "FAIL"})
_UNDER_WAY: Final = frozenset({"WAITING", "PROCESSING", "PENDING", "RUNNING", "QUEUED"})
_NO_TIMES: Final = ("0000", "1970-01-01 00:00:00", "0001")


@dataclass(frozen=True, slots=True)
class LogPage:
    """What TikTok's answer says of a submit."""

    log: FeedLog
    """With the issues that are shown; `complete` as if there were no file."""
    file_url: str
    """Of the file with all issues; empty where none is named."""
    lacks_rest: bool
    """Whether there is more in the file than is shown, warnings included."""


def log_page(data: Mapping[str, object]) -> LogPage:
    """The `data` of an answer of `/catalog/product/log/`.

    It has ended where the status says so; without a status where it has an end time. A log that
    nothing can be read of has not ended.
    """
    log = _mapping(data.get("product_feed_log")) or data
    detail = _mapping(log.get("feed_log_data"))
    status = words_of(log.get("process_status") or log.get("status")).upper()
    errors, is_rest_of_errors = _shown(detail.get("error_affected_products"), is_error=True)
    warnings, is_rest_of_warnings = _shown(detail.get("warn_affected_products"), is_error=False)
    error_count = _count(log.get("error_count"))
    warn_count = _count(log.get("warn_count"))
    is_rest_of_errors = is_rest_of_errors or error_count > len(set(errors))
    is_rest_of_warnings = is_rest_of_warnings or warn_count > len(set(warnings))
    read = FeedLog(
        ended=_has_ended(status, log.get("end_time")),
        failed=status in ("FAILED", "FAIL"),
        added=_count(log.get("add_count")),
        updated=_count(log.get("update_count")),
        deleted=_count(log.get("delete_count")),
        errors=error_count,
        warnings=warn_count,
        issues=tuple(dict.fromkeys((*errors, *warnings))),
        complete=not is_rest_of_errors,
    )
    return LogPage(read, _file_url(log, detail), is_rest_of_errors or is_rest_of_warnings)


def with_file(page: LogPage, in_file: Iterable[Issue]) -> FeedLog:
    """The log with what its file says; shown items that the file does not name stay."""
    issues = tuple(dict.fromkeys(in_file))
    named = {(one.sku_id, one.place if not one.sku_id else None, one.is_error) for one in issues}
    more = (
        one
        for one in page.log.issues
        if (one.sku_id, one.place if not one.sku_id else None, one.is_error) not in named
    )
    return replace(page.log, issues=(*issues, *more), complete=True)


def place_of(index: object) -> int | None:
    """Position in the request, from 0, of what TikTok numbers from 2."""
    number = _count(index)
    return number - INDEX_FIRST if number >= INDEX_FIRST else None


def _has_ended(status: str, end_time: object) -> bool:
    if status in _ENDED:
        return True
    if status in _UNDER_WAY:
        return False
    if isinstance(end_time, int) and not isinstance(end_time, bool):
        return end_time > 0
    text = words_of(end_time)
    return any(one.isdigit() for one in text) and text != "0" and not text.startswith(_NO_TIMES)


def _shown(listed: object, *, is_error: bool) -> tuple[list[Issue], bool]:
    """The issues of items that are shown, and whether some are not."""
    issues: list[Issue] = []
    is_rest = False
    for entry in listed if isinstance(listed, list) else []:
        said = _mapping(entry)
        items = said.get("affected_product_item_list")
        found = [_mapping(one) for one in items] if isinstance(items, list) else []
        for item in found:
            issue = Issue(
                id_of(item.get("sku_id")),
                is_error,
                words_of(said.get("field")),
                words_of(said.get("issue")),
                words_of(said.get("suggestion")),
                place_of(item.get("index")),
            )
            issues.append(issue)
        is_rest = is_rest or not _shows_all(len(found), said.get("affected_product_count"))
    return issues, is_rest


def _shows_all(shown: int, affected: object) -> bool:
    """Whether an issue names all that it affects; one that names nobody does not."""
    if affected is None:
        return 0 < shown < _SHOWN_MAX
    return 0 < shown >= _count(affected)


def _file_url(log: Mapping[str, object], detail: Mapping[str, object]) -> str:
    """The file's address: under its own name, or languages directly in its place."""
    for place in (detail.get("download_path"), log.get("download_path"), detail):
        if isinstance(place, str) and "://" in place:
            return place
        by_language = _mapping(place)
        for name in (_LANGUAGE, *sorted(by_language)):
            url = by_language.get(name)
            if isinstance(url, str) and "://" in url:
                return url
    return ""


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _count(value: object) -> int:
    """A count as a number or as text; 0 where there is none."""
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        return int(value.strip()[:18])
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e15:
        return int(value)
    return 0

"""Reads the file of a feed log: all issues of a submit, one item and issue a row. Pure.

Columns are found by name and not by position, because the only header that was seen was seen once:
`SKU ID,Line,Severity,Issue,How to fix,Property name,…`.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import islice
from typing import Final

from services.catalog.domain.answers import words_of
from services.catalog.domain.feed_log import Issue
from services.catalog.domain.log_reading import place_of

ROWS_MAX: Final = 100_000
"""Of one file: a submit has at most 5,000 items, and few have twenty issues."""

_HEADER_WITHIN: Final = 5
"""Rows among which the header is looked for."""

_NAMES: Final[Mapping[str, frozenset[str]]] = {
    "sku_id": frozenset({"skuid", "sku", "itemid", "id"}),
    "line": frozenset({"line", "linenumber", "row", "rownumber", "index"}),
    "severity": frozenset({"severity", "level", "issuetype", "issuelevel"}),
    "text": frozenset({"issue", "issues", "error", "message", "reason"}),
    "fix": frozenset({"howtofix", "fix", "suggestion", "suggestions", "solution"}),
    "field": frozenset({"propertyname", "property", "field", "fieldname", "attribute"}),
}  # fmt: skip
_NO_LETTERS: Final = re.compile(r"[^a-z]+")
_ERRORS: Final = frozenset({"error", "errors", "critical", "fatal", "failed", "failure"})
_WARNINGS: Final = frozenset(
    {"warning", "warnings", "warn", "notice", "info", "information", "suggestion", "diagnostic"}
)
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class UnreadableError(Exception):
    """The file is not one that can be read to its end."""


def issues_of(body: bytes, *, has_errors: bool, rows_max: int = ROWS_MAX) -> list[Issue]:
    """The issues of a file, in its order.

    `has_errors` decides what rows are whose severity is missing or unknown.

    Raises:
        UnreadableError: it has no such columns, is no CSV, or has more rows than `rows_max`: then
            nothing can be said of items that it might not name.
    """
    encoding = next((name for bom, name in _BOMS if body.startswith(bom)), "utf-8")
    text = io.TextIOWrapper(io.BytesIO(body), encoding, errors="replace", newline="")
    try:
        delimiter = _delimiter(text)
        rows = csv.reader(text, delimiter=delimiter)
        columns = _columns(rows)
        issues = list(islice(_read(rows, columns, has_errors=has_errors), rows_max + 1))
    except (csv.Error, UnicodeError) as error:
        raise UnreadableError(str(error)) from error
    if len(issues) > rows_max:
        raise UnreadableError(f"it has more than {rows_max} rows")
    return issues


def _delimiter(text: io.TextIOWrapper) -> str:
    first = text.readline()
    text.seek(0)
    return max((",", "\t", ";"), key=first.count)


def _columns(rows: Iterator[list[str]]) -> Mapping[str, int]:
    """Where each column is.

    Raises:
        UnreadableError: there is no header that names items and issues.
    """
    for _ in range(_HEADER_WITHIN):
        names = [_NO_LETTERS.sub("", name.casefold()) for name in next(rows, [])]
        found = {
            ours: next(at for at, name in enumerate(names) if name in theirs)
            for ours, theirs in _NAMES.items()
            if not theirs.isdisjoint(names)
        }
        if found.keys() & {"sku_id", "line"} and found.keys() & {"text", "severity"}:
            return found
    raise UnreadableError("no header names items and issues")


def _read(
    rows: Iterator[list[str]], columns: Mapping[str, int], *, has_errors: bool
) -> Iterator[Issue]:
    # A submit repeats few texts many times: each is made and kept once.
    words = cache(words_of)
    is_error = cache(partial(_is_error, has_errors=has_errors))
    sku_at, line_at, severity_at, *texts_at = (columns.get(name, -1) for name in _NAMES)
    for row in rows:
        sku_id = _cell(row, sku_at).strip()
        text, fix, field = (words(_cell(row, at)) for at in texts_at)
        if not sku_id and not text and not any(row):
            continue
        severity, line = _cell(row, severity_at), _cell(row, line_at)
        yield Issue(sku_id, is_error(severity), field, text, fix, place_of(line))


def _cell(row: Sequence[str], at: int) -> str:
    """A cell; empty where the row has none there."""
    return row[at] if 0 <= at < len(row) else ""


def _is_error(severity: str, *, has_errors: bool) -> bool:
    word = _NO_LETTERS.sub("", severity.casefold())
    if word in _ERRORS:
        return True
    return has_errors and word not in _WARNINGS

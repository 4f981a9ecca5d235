"""What became of each item of a submit, by the log of it. Pure.

A success is claimed only where TikTok named no error of the item and nothing hints that it named
fewer than there are; a failure only where TikTok named one. What is neither is sent again: an
upload replaces and a delete repeats, so that sending again does no harm.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from services.catalog.domain.answers import ONCE_A_MINUTE_S, is_too_soon
from services.catalog.domain.feed_log import FeedLog, Issue, Submitted


class SubmitKind(StrEnum):
    """What a submit does to its items."""

    UPLOAD = "upload"
    DELETE = "delete"


class Fate(StrEnum):
    """What became of an item."""

    ACCEPTED = "accepted"
    """TikTok has it as it was sent; of a delete: it is gone."""

    WARNED = "warned"
    """As accepted, with something that TikTok would rather have otherwise."""

    REFUSED = "refused"
    """Not taken, for what TikTok says of it."""

    AGAIN = "again"
    """Nobody can tell, or the time was wrong: it is to be sent again."""

    NOT_INGESTED = "not_ingested"
    """Taken in silence and dropped: something is wrong with the catalog, not with the item."""


class Reason(StrEnum):
    """Why an item is to be sent again."""

    TOO_SOON = "too_soon"
    """The catalog was written to within the last minute; costs no attempt."""

    NOT_ENDED = "not_ended"
    """The log has not come to an end."""

    SUBMIT_FAILED = "submit_failed"
    """TikTok failed with the submit as a whole."""

    LOG_INCOMPLETE = "log_incomplete"
    """The file with the rest of the issues could not be read."""

    ERRORS_UNNAMED = "errors_unnamed"
    """TikTok counts more errors than it names items, or names items that were not sent."""

    NOTHING_TAKEN = "nothing_taken"
    """Some have errors and nothing was counted as taken."""

    NOTHING_THERE = "nothing_there"
    """Nothing of what was to be taken out was counted, and nothing said of it: it was not there, or
    the catalog drops what it is sent."""

    COUNTED_SHORT = "counted_short"
    """TikTok counts fewer as taken than have no error, and does not say which are missing."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one item, with what TikTok said of it, errors first."""

    fate: Fate
    issues: tuple[Issue, ...] = ()
    reason: Reason | None = None
    """For `AGAIN` only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What became of a submit."""

    verdicts: Mapping[str, Verdict]
    """Of each item that was sent, by its id."""
    spacing_s: float = 0.0
    """The least time between submits to this catalog that TikTok has shown; 0: nothing new."""
    advice: str = ""
    """What is wrong with the catalog and what to do about it; empty where nothing is."""


NOT_INGESTED_ADVICE: Final = (
    "TikTok took the submit and none of its items, without an error. This happens to catalogs that"
    " were not made through its API (`channel` other than CLIENT) and where region or currency are"
    " not those of the items: compare them with what TikTok says of the catalog."
)

# "SKU not found", "The product does not exist", "unknown sku_id": it is gone, as was wanted.
_THING: Final = r"\b(?:skus?|sku[ _]?ids?|products?|items?|ids?)\b"
_NOT_A_CONTAINER: Final = r"(?:(?!catalog|feed|business|advertiser)[^.;]){0,60}?"
_GONE: Final = re.compile(
    rf"{_THING}{_NOT_A_CONTAINER}\b(?:not (?:be )?found|(?:does|do) ?(?:not|n['\u2019]t) exist"
    r"|not exist(?:ing|ent)?|non-?existent|no longer exists?|already (?:been )?(?:deleted|removed))"
    rf"|\b(?:no such|unknown|cannot find(?: the)?|non-?existent) {_THING}",
    re.IGNORECASE,
)


@dataclass(slots=True)
class _Rows:
    """The log's rows by the item they are of."""

    of_item: dict[str, list[Issue]] = field(default_factory=dict)
    stranger_errors: set[str] = field(default_factory=set)
    nameless_errors: int = 0
    errors: int = 0

    def items_with_errors(self) -> int:
        return sum(any(one.is_error for one in found) for found in self.of_item.values())


def judge(kind: SubmitKind, sku_ids: Sequence[str], log: FeedLog) -> Judgement:
    """What became of the items of a submit, in the order in which they were sent.

    Decided in this order: a log without an end tells nothing; "once a minute" on any row means that
    the whole was dropped; an error row is a refusal, unless a delete was told that the item is gone
    already; a submit that failed tells nothing of the rest; no row and no count is silence; else
    who has no error row was taken, if TikTok has named all errors and counts enough as taken. What
    a delete that counts others does not count was not there; one that counts nothing may have been
    dropped in silence, and tells nothing.
    """
    if not log.ended:
        return _all_again(sku_ids, Reason.NOT_ENDED)
    if any(is_too_soon(one.text) or is_too_soon(one.fix) for one in log.issues):
        return _all_again(sku_ids, Reason.TOO_SOON, spacing_s=ONCE_A_MINUTE_S)
    rows = _sorted_rows(sku_ids, log.issues)
    verdicts: dict[str, Verdict] = {}
    for sku_id in sku_ids:
        found = rows.of_item.get(sku_id, ())
        if any(one.is_error for one in found):
            verdicts[sku_id] = _named(kind, found)
    rest = [sku_id for sku_id in dict.fromkeys(sku_ids) if sku_id not in verdicts]
    taken = log.added + log.updated + (log.deleted if kind is SubmitKind.DELETE else 0)
    others = _of_the_rest(kind, log, rows, rest=len(rest), taken=taken)
    for sku_id in rest:
        verdicts[sku_id] = _with_issues(others, rows.of_item.get(sku_id, ()), kind)
    is_silent = bool(rest) and others.fate is Fate.NOT_INGESTED
    return Judgement(
        verdicts={sku_id: verdicts[sku_id] for sku_id in sku_ids},
        advice=NOT_INGESTED_ADVICE if is_silent else "",
    )


def judge_answer(kind: SubmitKind, sku_ids: Sequence[str], answer: Submitted) -> Judgement:
    """What became of the items of a submit whose answer was final, so that there is no log."""
    errors = {one.sku_id for one in answer.issues if one.is_error}
    taken = max(0, len(set(sku_ids)) - len(errors)) if answer.complete else 0
    log = FeedLog(
        ended=True,
        added=0 if kind is SubmitKind.DELETE else taken,
        deleted=taken if kind is SubmitKind.DELETE else 0,
        errors=len(errors) if answer.complete else len(errors) + 1,
        issues=answer.issues,
        complete=answer.complete,
    )
    return judge(kind, sku_ids, log)


def _of_the_rest(kind: SubmitKind, log: FeedLog, rows: _Rows, *, rest: int, taken: int) -> Verdict:
    """The verdict on items without an error row."""
    if log.failed:
        return Verdict(Fate.AGAIN, reason=Reason.SUBMIT_FAILED)
    known = rows.items_with_errors() + len(rows.stranger_errors) + rows.nameless_errors
    is_upload = kind is SubmitKind.UPLOAD
    if taken == 0 and log.errors == 0 and known == 0:
        if is_upload:
            return Verdict(Fate.NOT_INGESTED)
        return Verdict(Fate.AGAIN, reason=Reason.NOTHING_THERE)
    # TikTok may count rows instead of items: believed where all are known and no item is missing.
    counts_rows = log.complete and log.errors <= rows.errors and taken >= rest
    explained = log.errors <= known or counts_rows
    if not explained:
        reason = Reason.ERRORS_UNNAMED if log.complete else Reason.LOG_INCOMPLETE
        return Verdict(Fate.AGAIN, reason=reason)
    if taken >= rest:
        return Verdict(Fate.ACCEPTED)
    if not log.complete:
        return Verdict(Fate.AGAIN, reason=Reason.LOG_INCOMPLETE)
    if rows.stranger_errors or rows.nameless_errors:
        return Verdict(Fate.AGAIN, reason=Reason.ERRORS_UNNAMED)
    if is_upload:
        reason = Reason.COUNTED_SHORT if taken else Reason.NOTHING_TAKEN
        return Verdict(Fate.AGAIN, reason=reason)
    return Verdict(Fate.ACCEPTED)


def _named(kind: SubmitKind, issues: Sequence[Issue]) -> Verdict:
    ordered = _errors_first(issues)
    if kind is SubmitKind.DELETE and all(_GONE.search(one.text) for one in issues if one.is_error):
        return Verdict(Fate.ACCEPTED, ordered)
    return Verdict(Fate.REFUSED, ordered)


def _with_issues(verdict: Verdict, issues: Sequence[Issue], kind: SubmitKind) -> Verdict:
    if not issues:
        return verdict
    fate = verdict.fate
    if fate is Fate.ACCEPTED and kind is SubmitKind.UPLOAD:
        fate = Fate.WARNED
    return Verdict(fate, _errors_first(issues), verdict.reason)


def _all_again(sku_ids: Sequence[str], reason: Reason, *, spacing_s: float = 0.0) -> Judgement:
    # What TikTok said of the hurry is no issue of the item, and says nothing to a merchant.
    again = Verdict(Fate.AGAIN, reason=reason)
    return Judgement(
        verdicts=dict.fromkeys(sku_ids, again),
        spacing_s=spacing_s,
    )


def _errors_first(issues: Iterable[Issue]) -> tuple[Issue, ...]:
    return tuple(sorted(issues, key=lambda one: not one.is_error))


def _sorted_rows(sku_ids: Sequence[str], issues: Iterable[Issue]) -> _Rows:
    """Each row once, under the item that it is of."""
    exact = frozenset(sku_ids)
    loose: dict[str, str | None] = {}
    for sku_id in exact:
        key = _loose(sku_id)
        # Two items that differ in case only cannot be told apart by a name in another case.
        loose[key] = None if key in loose else sku_id
    rows = _Rows()
    seen: set[tuple[str, bool, str, str]] = set()
    for issue in issues:
        item = _item_of(issue, sku_ids, exact, loose)
        name = item or issue.sku_id or f"\0{issue.place}"
        row = (name, issue.is_error, issue.field, issue.text)
        if row in seen:
            continue
        seen.add(row)
        rows.errors += issue.is_error
        if item is not None:
            rows.of_item.setdefault(item, []).append(issue)
        elif issue.sku_id:
            if issue.is_error:
                rows.stranger_errors.add(issue.sku_id)
        else:
            rows.nameless_errors += issue.is_error
    return rows


def _item_of(
    issue: Issue, sku_ids: Sequence[str], exact: frozenset[str], loose: Mapping[str, str | None]
) -> str | None:
    """The item that a row is of; None where it is of none that was sent.

    A name that was sent counts before its place, and a place only where there is no name: a name
    that was not sent may belong to another submit, and to blame the item in its place would be
    wrong.
    """
    if issue.sku_id:
        if issue.sku_id in exact:
            return issue.sku_id
        return loose.get(_loose(issue.sku_id))
    if issue.place is not None and 0 <= issue.place < len(sku_ids):
        return sku_ids[issue.place]
    return None


def _loose(sku_id: str) -> str:
    """The name as far as spelling on the way may change it: case, width, spaces."""
    return " ".join(unicodedata.normalize("NFKC", sku_id).casefold().split())

"""Shapes of feed logs, as TikTok may answer them, with what TikTok really did with each item.

Items are called `S-1`, `S-2`, … in the order in which they were sent. `truth` has a letter for
each: `y` TikTok holds it as sent (of a delete: it is gone), `n` it does not. `fates` has a letter
for each: Accepted, Warned, Refused, aGain, Not ingested.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from services.catalog.domain.csv_log import UnreadableError, issues_of
from services.catalog.domain.feed_log import FeedLog
from services.catalog.domain.log_reading import log_page, with_file
from services.catalog.domain.verdicts import Fate, Judgement, Reason, SubmitKind, judge

FATES: Final = {
    "A": Fate.ACCEPTED,
    "W": Fate.WARNED,
    "R": Fate.REFUSED,
    "G": Fate.AGAIN,
    "N": Fate.NOT_INGESTED,
}
HEADER: Final = (
    "SKU ID,Line,Severity,Issue,How to fix,Property name,Value in feed,Sample value,"
    "Feed ID,Feed Name,Feed Upload Time\n"
)
ENDED: Final = "2026-11-27 10:00:09"
TOO_SOON: Final = "The number of api submit exceeds the limit (once a minute)"
URL: Final = "https://files.example/log.csv"


def issue(
    text: str, *skus: str, count: int | None = -1, name: str = "title", fix: str = ""
) -> dict[str, Any]:
    """An issue that names `skus`; `count` -1 stands for as many, None for no count."""
    shown = [{"index": int(sku.partition("-")[2]) + 1, "sku_id": sku} for sku in skus]
    affected = len(skus) if count == -1 else count
    return {
        "field": name,
        "issue": text,
        "suggestion": fix,
        "affected_product_item_list": shown,
    } | ({} if affected is None else {"affected_product_count": affected})


def log(
    errors: list[dict[str, Any]] | None = None,
    warns: list[dict[str, Any]] | None = None,
    url: str = "",
    **fields: Any,
) -> dict[str, Any]:
    """The data of an answer; `fields` of None are left out."""
    detail: dict[str, Any] = {"error_affected_products": errors, "warn_affected_products": warns}
    if url:
        detail["download_path"] = {"en": url}
    whole: dict[str, Any] = {"process_status": "SUCCESS", "end_time": ENDED, **fields}
    said = {name: value for name, value in whole.items() if value is not None}
    return {"product_feed_log": {**said, "feed_log_data": detail}}


def rows(*lines: str) -> bytes:
    """A file with the header that was seen."""
    return (HEADER + "".join(f"{line}\n" for line in lines)).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A log, its file, what is true and what is to be made of it."""

    name: str
    data: Mapping[str, Any]
    file: bytes | None = None
    """None: it cannot be fetched."""
    truth: str
    fates: str
    kind: SubmitKind = SubmitKind.UPLOAD
    reason: Reason | None = None
    spacing_s: float = 0.0
    advised: bool = False
    skus: tuple[str, ...] = field(default=())

    @property
    def sent(self) -> tuple[str, ...]:
        return self.skus or tuple(f"S-{number + 1}" for number in range(len(self.truth)))

    def read(self) -> FeedLog:
        """The log as the adapter hands it out."""
        page = log_page(self.data)
        if not page.log.ended or not page.lacks_rest or not page.file_url or self.file is None:
            return page.log
        has_errors = page.log.errors > 0 or not page.log.complete
        try:
            return with_file(page, issues_of(self.file, has_errors=has_errors))
        except UnreadableError:
            return page.log

    def judged(self) -> Judgement:
        return judge(self.kind, self.sent, self.read())


_DELETE: Final = SubmitKind.DELETE
_SIX: Final = tuple(f"S-{number}" for number in range(1, 7))
_TITLE: Final = "Title is too long"
_GENDER: Final = "Invalid value: gender"

SHAPES: Final = (
    # All is well.
    Shape(name="all_added", data=log(add_count=3), truth="yyy", fates="AAA"),
    Shape(name="all_updated", data=log(add_count=0, update_count=2), truth="yy", fates="AA"),
    Shape(name="added_and_updated", data=log(add_count=1, update_count=1), truth="yy", fates="AA"),
    Shape(name="counts_as_text", data=log(add_count="2", error_count="0"), truth="yy", fates="AA"),
    Shape(name="no_process_status", data=log(process_status=None, add_count=2), truth="yy",
          fates="AA"),
    Shape(name="status_under_its_other_name",
          data=log(process_status=None, status="success", end_time=None, add_count=1),
          truth="y", fates="A"),
    Shape(name="log_without_its_wrapper", data=log(add_count=1)["product_feed_log"], truth="y",
          fates="A"),
    Shape(name="counts_of_unchanged_items_are_short", data=log(add_count=0, update_count=1),
          truth="yyy", fates="GGG", reason=Reason.COUNTED_SHORT),
    Shape(name="some_are_dropped_in_silence", data=log(add_count=2), truth="yny", fates="GGG",
          reason=Reason.COUNTED_SHORT),
    Shape(name="one_refused_and_one_dropped_in_silence", truth="nyn", fates="RGG",
          reason=Reason.COUNTED_SHORT,
          data=log([issue(_TITLE, "S-1")], add_count=1, error_count=1)),
    # One item has something.
    Shape(name="one_refused", truth="nyy", fates="RAA",
          data=log([issue(_TITLE, "S-1")], add_count=2, error_count=1)),
    Shape(name="one_warned", truth="yy", fates="AW",
          data=log(None, [issue(_GENDER, "S-2")], add_count=2, warn_count=1)),
    Shape(name="error_and_warning_for_one", truth="ny", fates="RA",
          data=log([issue(_TITLE, "S-1")], [issue(_GENDER, "S-1")], add_count=1, error_count=1,
                   warn_count=1)),
    Shape(name="two_errors_for_one_counted_as_rows", truth="nyy", fates="RAA",
          data=log([issue(_TITLE, "S-1"), issue("Brand is missing", "S-1")], add_count=2,
                   error_count=2)),
    Shape(name="two_errors_for_one_and_an_item_short", truth="nny", fates="RGG",
          reason=Reason.ERRORS_UNNAMED,
          data=log([issue(_TITLE, "S-1"), issue("Brand is missing", "S-1")], add_count=1,
                   error_count=2)),
    Shape(name="error_rows_without_a_count", truth="ny", fates="RA",
          data=log([issue(_TITLE, "S-1")], add_count=1)),
    Shape(name="duplicated_rows", truth="nyy", fates="RAA",
          data=log([issue(_TITLE, "S-1"), issue(_TITLE, "S-1")], add_count=2, error_count=1)),
    Shape(name="all_refused", truth="nn", fates="RR",
          data=log([issue(_TITLE, "S-1", "S-2")], add_count=0, error_count=2)),
    Shape(name="named_in_another_case", truth="ny", fates="RA",
          data=log([issue(_TITLE, "s-1")], add_count=1, error_count=1)),
    Shape(name="case_is_all_that_tells_two_apart", skus=("ab-1", "AB-1"), truth="ny", fates="RA",
          data=log([issue(_TITLE, "ab-1")], add_count=1, error_count=1)),
    Shape(name="named_by_place_only", truth="yny", fates="ARA", data=log([{
        "issue": _TITLE, "affected_product_count": 1,
        "affected_product_item_list": [{"index": 3}]}], add_count=2, error_count=1)),
    Shape(name="sku_as_a_number", skus=("12345", "12346"), truth="ny", fates="RA", data=log([{
        "issue": _TITLE, "affected_product_count": 1,
        "affected_product_item_list": [{"index": 2, "sku_id": 12345}]}],
        add_count=1, error_count=1)),
    # More than is shown.
    Shape(name="the_rest_is_in_the_file", truth="nnnnnny", fates="RRRRRRA",
          data=log([issue(_TITLE, *_SIX[:5], count=6)], url=URL, add_count=1, error_count=6),
          file=rows(*(f"{sku},{at + 2},Error,{_TITLE},Cut it,title,x,,," for at, sku in
                      enumerate(_SIX)))),
    Shape(name="warnings_in_the_file", truth="yyyyyy", fates="WWWWWW",
          data=log(None, [issue(_GENDER, *_SIX[:5], count=6)], url=URL, add_count=6, warn_count=6),
          file=rows(*(f"{sku},,Warning,{_GENDER},,gender,,,,," for sku in _SIX))),
    Shape(name="five_shown_and_no_count", truth="nnnnnny", fates="RRRRRRA",
          data=log([issue(_TITLE, *_SIX[:5], count=None)], url=URL, add_count=1, error_count=6),
          file=rows(*(f"{sku},,Error,{_TITLE},,title" for sku in _SIX))),
    Shape(name="counted_and_not_shown_at_all", truth="nyy", fates="RAA",
          data=log(None, url=URL, add_count=2, error_count=1),
          file=rows(f"S-1,2,Error,{_TITLE},,title")),
    Shape(name="the_file_is_gone", truth="nnnnnny", fates="RRRRRGG", reason=Reason.LOG_INCOMPLETE,
          data=log([issue(_TITLE, *_SIX[:5], count=6)], url=URL, add_count=1, error_count=6)),
    Shape(name="no_file_is_named", truth="nnnnnny", fates="RRRRRGG", reason=Reason.LOG_INCOMPLETE,
          data=log([issue(_TITLE, *_SIX[:5], count=6)], add_count=1, error_count=6)),
    Shape(name="the_file_is_a_page_of_somebody", truth="ny", fates="GG",
          reason=Reason.LOG_INCOMPLETE, data=log(None, url=URL, add_count=1, error_count=1),
          file=b"<html><body>Sign in</body></html>"),
    Shape(name="the_file_names_fewer_than_are_counted", truth="nny", fates="RGG",
          reason=Reason.ERRORS_UNNAMED, data=log(None, url=URL, add_count=1, error_count=2),
          file=rows(f"S-1,2,Error,{_TITLE},,title")),
    Shape(name="the_file_has_no_rows", truth="ny", fates="GG", reason=Reason.ERRORS_UNNAMED,
          data=log(None, url=URL, add_count=1, error_count=1), file=rows()),
    Shape(name="warnings_whose_file_is_gone_keep_nobody_out", truth="yyyyyyy", fates="WWWWWAA",
          data=log(None, [issue(_GENDER, *_SIX[:5], count=6)], url=URL, add_count=7,
                   warn_count=6)),
    Shape(name="shown_items_that_the_file_leaves_out", truth="nn", fates="RR",
          data=log([issue(_TITLE, "S-1", count=2)], url=URL, error_count=2),
          file=rows(f"S-2,3,Error,{_TITLE},,title")),
    # Contradictions.
    Shape(name="more_errors_than_named", truth="nny", fates="RGG", reason=Reason.LOG_INCOMPLETE,
          data=log([issue(_TITLE, "S-1")], add_count=1, error_count=2)),
    Shape(name="more_affected_than_shown_and_no_count", truth="nny", fates="RGG",
          reason=Reason.LOG_INCOMPLETE,
          data=log([issue(_TITLE, "S-1", count=2)], add_count=1)),
    Shape(name="a_stranger_is_named_and_counts_vouch", truth="yy", fates="AA",
          data=log([issue(_TITLE, "Z-9")], add_count=2, error_count=1)),
    Shape(name="a_stranger_is_named_and_one_is_missing", truth="ny", fates="GG",
          reason=Reason.ERRORS_UNNAMED,
          data=log([issue(_TITLE, "Z-1")], add_count=1, error_count=1)),
    Shape(name="a_warning_about_a_stranger", truth="yy", fates="AA",
          data=log(None, [issue(_GENDER, "Z-9")], add_count=2, warn_count=1)),
    Shape(name="some_refused_and_nothing_taken", truth="nnn", fates="RGG",
          reason=Reason.NOTHING_TAKEN,
          data=log([issue(_TITLE, "S-1")], add_count=0, error_count=1)),
    Shape(name="an_error_of_nobody", truth="ny", fates="GG", reason=Reason.ERRORS_UNNAMED,
          data=log(None, url=URL, add_count=1, error_count=1), file=rows(",,Error,Bad feed,,")),
    # The whole.
    Shape(name="silence", truth="nn", fates="NN", advised=True,
          data=log(add_count=0, error_count=0)),
    Shape(name="silence_without_a_status", truth="nn", fates="NN", advised=True,
          data=log(process_status=None, add_count=0, error_count=0)),
    Shape(name="silence_with_warnings", truth="nn", fates="NN", advised=True,
          data=log(None, [issue(_GENDER, "S-1")], add_count=0, warn_count=1)),
    Shape(name="failed", truth="nn", fates="GG", reason=Reason.SUBMIT_FAILED,
          data=log(process_status="FAILED")),
    Shape(name="failed_over_one_item", truth="nnn", fates="RGG", reason=Reason.SUBMIT_FAILED,
          data=log([issue(_TITLE, "S-1")], process_status="FAILED", error_count=1)),
    Shape(name="failed_after_some_were_taken", truth="yn", fates="GG",
          reason=Reason.SUBMIT_FAILED, data=log(process_status="FAILED", add_count=1)),
    Shape(name="once_a_minute", truth="nn", fates="GG", reason=Reason.TOO_SOON, spacing_s=60.0,
          data=log([issue(TOO_SOON, "S-1", "S-2", name="")], error_count=2)),
    Shape(name="once_a_minute_and_the_file_is_gone", truth="nnnnnnn", fates="GGGGGGG",
          reason=Reason.TOO_SOON, spacing_s=60.0,
          data=log([issue(TOO_SOON, *_SIX[:5], count=7)], url=URL, error_count=7)),
    Shape(name="once_a_minute_in_the_file_only", truth="nn", fates="GG", reason=Reason.TOO_SOON,
          spacing_s=60.0, data=log(None, url=URL, error_count=2),
          file=rows(f"S-1,2,Error,{TOO_SOON},wait a minute,", f"S-2,3,Error,{TOO_SOON},,")),
    Shape(name="once_a_minute_beside_an_error", truth="nn", fates="GG", reason=Reason.TOO_SOON,
          spacing_s=60.0,
          data=log([issue(_TITLE, "S-1"), issue(TOO_SOON, "S-1", "S-2")], error_count=2)),
    # No end yet.
    Shape(name="waiting", truth="nn", fates="GG", reason=Reason.NOT_ENDED,
          data=log(process_status="WAITING", end_time=None)),
    Shape(name="processing_with_counts", truth="yn", fates="GG", reason=Reason.NOT_ENDED,
          data=log(process_status="PROCESSING", end_time="", add_count=1)),
    Shape(name="processing_with_an_end", truth="yn", fates="GG", reason=Reason.NOT_ENDED,
          data=log(process_status="PROCESSING", add_count=1)),
    Shape(name="neither_status_nor_end", truth="nn", fates="GG", reason=Reason.NOT_ENDED,
          data=log(process_status=None, end_time=None)),
    Shape(name="an_end_that_is_none", truth="nn", fates="GG", reason=Reason.NOT_ENDED,
          data=log(process_status=None, end_time="0000-00-00 00:00:00")),
    Shape(name="nothing_at_all", truth="nn", fates="GG", reason=Reason.NOT_ENDED, data={}),
    # Deletes.
    Shape(name="all_deleted", kind=_DELETE, data=log(delete_count=2), truth="yy", fates="AA"),
    Shape(name="one_was_not_there", kind=_DELETE, truth="yy", fates="AA",
          data=log([issue("SKU not found", "S-1", name="sku_id")], delete_count=1,
                   error_count=1)),
    Shape(name="none_was_there", kind=_DELETE, truth="yy", fates="AA",
          data=log([issue("The product does not exist in the catalog", "S-1", "S-2")],
                   error_count=2)),
    Shape(name="a_delete_is_refused", kind=_DELETE, truth="ny", fates="RA",
          data=log([issue("SKU belongs to another feed", "S-1")], delete_count=1,
                   error_count=1)),
    Shape(name="the_catalog_of_a_delete_is_gone", kind=_DELETE, truth="n", fates="R",
          data=log([issue("Product catalog not found", "S-1")], error_count=1)),
    Shape(name="not_there_and_refused", kind=_DELETE, truth="n", fates="R",
          data=log([issue("SKU not found", "S-1"), issue("Feed is locked", "S-1")],
                   error_count=2)),
    Shape(name="none_was_there_and_nothing_is_said", kind=_DELETE, truth="yy", fates="GG",
          reason=Reason.NOTHING_THERE, data=log()),
    Shape(name="one_is_refused_and_the_other_was_not_there", kind=_DELETE, truth="ny", fates="RA",
          data=log([issue("SKU belongs to another feed", "S-1")], error_count=1)),
    Shape(name="a_delete_with_an_error_of_nobody", kind=_DELETE, truth="ny", fates="GG",
          reason=Reason.LOG_INCOMPLETE, data=log(None, delete_count=1, error_count=1)),
    Shape(name="a_delete_too_soon", kind=_DELETE, truth="nn", fates="GG", reason=Reason.TOO_SOON,
          spacing_s=60.0, data=log([issue(TOO_SOON, "S-1", "S-2")], error_count=2)),
    Shape(name="an_upload_is_not_done_because_an_image_is_not_found", truth="ny", fates="RA",
          data=log([issue("Item image not found", "S-1")], add_count=1, error_count=1)),
)  # fmt: skip

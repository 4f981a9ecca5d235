"""A submit's log, as `/catalog/product/log/` and its CSV show it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from sandbox.tiktok.catalog.issues import ERRORS, FIRST_INDEX, Group, Issues, Level
from sandbox.tiktok.catalog.settings import CatalogSettings

_LANGUAGES: Final = "en zh-CN ja-JP de es fr hi-IN id it ko ms ru th tr vi"
LANGUAGES: Final = tuple(_LANGUAGES.split())
CSV_HEADER: Final = (
    "SKU ID",
    "Line",
    "Severity",
    "Issue",
    "How to fix",
    "Property name",
    "Value in feed",
    "Sample value",
    "Feed ID",
    "Feed Name",
    "Feed Upload Time",
)


class Now(NamedTuple):
    """One moment on both clocks."""

    wall_s: float
    monotonic_s: float


class Write(NamedTuple):
    """One item that a submit will change; `raw` is None where it is deleted."""

    sku: str
    raw: bytes | None


@dataclass(slots=True)
class FeedLog:
    """One submit, from its arrival until after its end."""

    id: str
    feed_id: str
    kind: str
    started: Now
    waits_until_s: float
    """Monotonic, like the next."""

    ends_at_s: float
    """Infinity for one that never ends."""

    writes: list[Write] = field(default_factory=list)
    """What it will change at its end; empty afterwards."""

    issues: Issues = field(default_factory=Issues)
    blocks: bool = True
    """Whether another write has to wait for its end."""

    fails: bool = False
    added: int = 0
    updated: int = 0
    deleted: int = 0

    def is_over(self, now: Now) -> bool:
        return now.monotonic_s >= self.ends_at_s

    @property
    def ended_wall_s(self) -> float:
        return self.started.wall_s + self.ends_at_s - self.started.monotonic_s

    def status(self, now: Now) -> str:
        """WAITING, PROCESSING, SUCCESS or FAILED."""
        if self.is_over(now):
            return "FAILED" if self.fails else "SUCCESS"
        return "WAITING" if now.monotonic_s < self.waits_until_s else "PROCESSING"

    def shown(
        self, catalog_id: str, settings: CatalogSettings, now: Now, csv_url: str, language: str
    ) -> dict[str, Any]:
        """The JSON of the log: at most five items an issue, and the address of the whole list."""
        is_over = self.is_over(now)
        counts = self._counts() if is_over else dict.fromkeys(_COUNTS, 0)
        if settings.sparse_counts:
            counts = {name: count for name, count in counts.items() if count}
        state: dict[str, Any] = {settings.log_status: self.status(now)}
        if settings.log_status == "none":
            state = {}
        found: dict[str, Any] = {
            "catalog_id": catalog_id,
            "feed_id": self.feed_id,
            "update_mode": "INCREASE",
            **state,
            **counts,
            "start_time": _time_text(self.started.wall_s),
        }
        if is_over:
            found["end_time"] = _time_text(self.ended_wall_s)
            found["feed_log_data"] = self._data(settings, csv_url, language)
        return found

    def _counts(self) -> dict[str, int]:
        return {
            "add_count": self.added,
            "update_count": self.updated,
            "delete_count": self.deleted,
            "error_count": self.issues.items(*ERRORS),
            "warn_count": self.issues.items(Level.WARNING),
        }

    def _data(self, settings: CatalogSettings, csv_url: str, language: str) -> dict[str, Any]:
        errors, warnings = self.issues.of(*ERRORS), self.issues.of(Level.WARNING)
        paths = {language: csv_url} if errors or warnings else {}
        shown: dict[str, Any] = {
            "error_affected_products": [_group_shown(group) for group in errors] or None,
            "warn_affected_products": [_group_shown(group) for group in warnings] or None,
        }
        return shown | (paths if settings.download_path == "flat" else {"download_path": paths})

    def csv(self) -> str:
        """Every row of every issue."""
        out = io.StringIO()
        lines = csv.writer(out)
        lines.writerow(CSV_HEADER)
        lines.writerows(self._csv_rows())
        return out.getvalue()

    def _csv_rows(self) -> Iterator[tuple[object, ...]]:
        when = _time_text(self.started.wall_s)
        for group in self.issues.of(*ERRORS, Level.WARNING):
            fault = group.fault
            severity = "Warning" if fault.level is Level.WARNING else "Error"
            for index, sku, value in group.rows:
                line = index + FIRST_INDEX
                about = (sku, line, severity, fault.text, fault.fix, fault.field, value)
                yield (*about, "", self.feed_id, "Default feed", when)


_COUNTS: Final[tuple[str, ...]] = (
    "add_count",
    "update_count",
    "delete_count",
    "error_count",
    "warn_count",
)
NEVER: Final = math.inf


def _group_shown(group: Group) -> dict[str, Any]:
    fault = group.fault
    return {
        "field": fault.field,
        "issue": fault.text,
        "suggestion": fault.fix,
        "affected_product_count": len(group.rows),
        "affected_product_item_list": [
            {
                "index": index + FIRST_INDEX,
                "sku_id": sku,
                "title": sample.title,
                "description": sample.description,
                "product_url": sample.url,
                "value": value,
            }
            for (index, sku, value), sample in zip(group.rows, group.samples, strict=False)
        ],
    }


def _time_text(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M:%S}"

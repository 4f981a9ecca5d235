"""One catalog: its items, the submit that runs, and what the judge counts of it.

Nothing runs in the background: what has come to its end by the sandbox's clock is carried out when
somebody looks (`settle`).
"""

from __future__ import annotations

import bisect
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from sandbox.tiktok.catalog.feedlog import NEVER, FeedLog, Now, Write
from sandbox.tiktok.catalog.issues import TOO_SOON, Found, Issues, Sample
from sandbox.tiktok.catalog.places import belong_together
from sandbox.tiktok.catalog.rules import Rules
from sandbox.tiktok.catalog.settings import CatalogSettings
from sandbox.tiktok.effects import FailedLog, NotIngested, StuckLog

LOGS_MAX: Final = 200
HISTORY_MAX: Final = 100_000
NOTES_MAX: Final = 200
MINUTE_S: Final = 60.0
HOUR_S: Final = 3600.0
LIST_MAX: Final = 10_000


class Item(NamedTuple):
    """What TikTok holds of one SKU."""

    raw: bytes
    """The object as it was sent."""

    product_id: str
    accepted_s: float
    """Unix time of the last submit that held it, whether it changed or not."""

    changed_s: float
    changed_monotonic_s: float
    feed_log_id: str
    kind: str


class Line(NamedTuple):
    """One write request, in the history."""

    at_s: float
    kind: str
    items: int
    outcome: str
    """`accepted`, `too_soon`, `silent`, `refused_<code>`, or the name of a fault's answer."""

    feed_log_id: str = ""
    overlapping: bool = False


class Catalog:
    """One catalog of the sandbox; ids of logs and products come from `next_id`."""

    def __init__(
        self,
        catalog_id: str,
        settings: CatalogSettings,
        created_s: float,
        next_id: Callable[[], str],
    ) -> None:
        self.id = catalog_id
        self.created_s = created_s
        self.feed_id = next_id()
        self._next_id = next_id
        self.change(settings)
        self.bound: dict[tuple[str, str, str], None] = {}
        """Event sources: advertiser, pixel, app."""

        self.reset()

    def change(self, settings: CatalogSettings) -> None:
        """Behaves as `settings` say from now on."""
        self.settings = settings
        self._rules: dict[str, Rules] = {}

    def reset(self) -> None:
        """Forgets items, logs and counts; the settings stay."""
        self.items: dict[str, Item] = {}
        self._order: list[str] | None = None
        self.logs: OrderedDict[str, FeedLog] = OrderedDict()
        self.running: list[FeedLog] = []
        self.counts: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()
        self.history: deque[Line] = deque(maxlen=HISTORY_MAX)
        self.peak_per_minute = 0
        self.last_submit_s: float | None = None
        self._minute: deque[float] = deque()
        self._hour: dict[str, deque[float]] = {"upload": deque(), "delete": deque()}

    def rules(self, dialect: str) -> Rules:
        """The rules of `dialect` here."""
        rules = self._rules.get(dialect)
        if rules is None:
            rules = self._rules[dialect] = Rules(self.settings, dialect=dialect)
        return rules

    def is_silent(self) -> bool:
        """Whether what is sent is taken and never kept."""
        told = self.settings
        fits = belong_together(told.region, told.currency)
        return not told.ingests or told.channel != "CLIENT" or not fits

    def is_busy(self, now: Now) -> bool:
        """Whether a write still runs that another has to wait for."""
        self.settle(now)
        return any(log.blocks for log in self.running)

    def is_used_up(self, kind: str, now: Now) -> bool:
        """Whether the submits of this hour are spent; deletes have their own number."""
        times = self._hour["delete" if kind == "delete" else "upload"]
        while times and times[0] <= now.monotonic_s - HOUR_S:
            times.popleft()
        told = self.settings
        return len(times) >= (told.deletes_per_hour if kind == "delete" else told.uploads_per_hour)

    def is_too_soon(self, now: Now) -> bool:
        """Whether the last submit is less than the spacing ago. One too soon counts as none."""
        last_s = self.last_submit_s
        return last_s is not None and now.monotonic_s - last_s < self.settings.submit_spacing_s

    def submit(
        self,
        kind: str,
        skus: Sequence[str],
        writes: list[Write],
        issues: Issues,
        now: Now,
        effect: object = None,
        *,
        at_once: bool = False,
    ) -> FeedLog:
        """Takes a submit in; `writes` are kept when it ends. `at_once` ends it here and now."""
        overlapping = self.is_busy(now)
        outcome = "accepted"
        if self.is_too_soon(now):
            outcome, writes, issues = "too_soon", [], _all_too_soon(skus)
        else:
            self.last_submit_s = now.monotonic_s
            if self.is_silent() or isinstance(effect, NotIngested):
                outcome, writes, issues = "silent", [], Issues()
        log = self._opened(kind, len(skus), now, effect, at_once=at_once)
        if log.ends_at_s != NEVER or (isinstance(effect, StuckLog) and effect.ingests):
            log.writes = [] if log.fails else writes
            log.issues = issues
        self._take_down(kind, len(skus), outcome, log.id, now, overlapping=overlapping)
        if isinstance(effect, StuckLog) and effect.ingests:
            self._carry_out(log, now.wall_s, now.monotonic_s)
        self.running.append(log)
        self.settle(now)
        return log

    def _opened(self, kind: str, count: int, now: Now, effect: object, *, at_once: bool) -> FeedLog:
        told = self.settings
        lasts_s = told.ingestion_ms / 1e3 + told.ingestion_us_per_item * count / 1e6
        ends_at_s = now.monotonic_s + (0.0 if at_once else lasts_s)
        blocks = True
        if told.never_ends:
            ends_at_s, blocks = NEVER, False
        elif isinstance(effect, StuckLog):
            blocks = effect.blocks
            ends_at_s = NEVER if effect.for_s is None else now.monotonic_s + effect.for_s
        waits_s = now.monotonic_s + told.waiting_ms / 1e3
        log = FeedLog(self._next_id(), self.feed_id, kind, now, waits_s, ends_at_s, blocks=blocks)
        log.fails = isinstance(effect, FailedLog)
        self.logs[log.id] = log
        while len(self.logs) > LOGS_MAX:
            self.logs.popitem(last=False)
        return log

    def _take_down(
        self, kind: str, count: int, outcome: str, log_id: str, now: Now, *, overlapping: bool
    ) -> None:
        self.counts["submits"] += 1
        self.counts[f"submits_{kind}"] += 1
        self.counts["items_submitted"] += count
        self.counts[f"outcome_{outcome}"] += 1
        self.counts["overlapping"] += overlapping
        self.history.append(Line(now.wall_s, kind, count, outcome, log_id, overlapping))
        self._hour["delete" if kind == "delete" else "upload"].append(now.monotonic_s)
        minute = self._minute
        minute.append(now.monotonic_s)
        while minute[0] <= now.monotonic_s - MINUTE_S:
            minute.popleft()
        self.peak_per_minute = max(self.peak_per_minute, len(minute))

    def put_down_failure(self, kind: str, count: int, outcome: str, now: Now) -> None:
        """Counts a write that was not taken."""
        overlapping = outcome == f"refused_{self.settings.overlap_code}" and self.is_busy(now)
        self.counts["overlapping"] += overlapping
        self.history.append(Line(now.wall_s, kind, count, outcome, "", overlapping))

    def note(self, text: str) -> None:
        """Counts something that is tolerated."""
        if text in self.notes or len(self.notes) < NOTES_MAX:
            self.notes[text] += 1

    def settle(self, now: Now) -> None:
        """Carries out what has ended."""
        if not self.running:
            return
        for log in self.running:
            if log.is_over(now):
                self._carry_out(log, log.ended_wall_s, log.ends_at_s)
        self.running = [
            log
            for log in self.running
            if not log.is_over(now) and (log.blocks or log.ends_at_s != NEVER)
        ]

    def _carry_out(self, log: FeedLog, wall_s: float, monotonic_s: float) -> None:
        if not log.writes:
            return
        writes, log.writes = log.writes, []
        items, added, updated, deleted = self.items, 0, 0, 0
        for sku, raw in writes:
            old = items.get(sku)
            if raw is None:
                deleted += items.pop(sku, None) is not None
                continue
            new = raw
            if old is not None and log.kind == "update":
                new = _merged(old.raw, raw, self.settings.update_ignores)
            updated += old is not None
            added += old is None
            if old is not None and old.raw == new:
                items[sku] = old._replace(accepted_s=wall_s, feed_log_id=log.id)
                continue
            product_id = old.product_id if old is not None else self._next_id()
            items[sku] = Item(new, product_id, wall_s, wall_s, monotonic_s, log.id, log.kind)
        log.added, log.updated, log.deleted = added, updated, deleted
        self.counts.update(items_added=added, items_updated=updated, items_deleted=deleted)
        if added or deleted:
            self._order = None

    def ordered(self, after: str | None = None, limit: int | None = None) -> list[str]:
        """The next `limit` SKUs after one, or all, in the order of their text."""
        if self._order is None:
            self._order = sorted(self.items)
        start = 0 if after is None else bisect.bisect_right(self._order, after)
        return self._order[start : None if limit is None else start + limit]


def _all_too_soon(skus: Sequence[str]) -> Issues:
    issues, found, sample = Issues(), Found(TOO_SOON), Sample()
    for index, sku in enumerate(skus):
        issues.add(index, sku, found, sample)
    return issues


def _merged(old: bytes, patch: bytes, ignored: Sequence[str]) -> bytes:
    """The product with the fields of the patch; an object in it is merged in the same way."""
    product: dict[str, Any] = msgspec.json.decode(old)
    for key, value in msgspec.json.decode(patch).items():
        if key in ignored:
            continue
        if isinstance(value, dict) and isinstance(product.get(key), dict):
            product[key] |= {k: v for k, v in value.items() if f"{key}.{k}" not in ignored}
        else:
            product[key] = value
    return msgspec.json.encode(product)

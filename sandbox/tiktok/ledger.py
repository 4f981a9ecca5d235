"""What the sandbox was sent: the judge in tests.

events_received = events_accepted + events_test + events_refused + events_dropped, where
events_accepted = events_unique + events_duplicate, and dropped events are those that a fault kept
from being stored without a code of TikTok's. The dedup key and its 48 hours are TikTok's: an
event that comes again later counts as a new conversion.
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sandbox.tiktok.answers import Reply
from sandbox.tiktok.verdict import MATCH_KEYS, Event, Judgement
from sandbox.tiktok.windows import SlidingWindow

DEDUP_WINDOW_S = 48 * 3600
REFUSALS_LISTED_MAX = 1000
ARRIVALS_LISTED_MAX = 200_000
NOTES_MAX = 200
NAMES_MAX = 1000
SOURCES_MAX = 10_000
MORE = "(more)"
"""Stands for every name beyond a limit, so that what callers invent cannot fill the memory."""

NOTE_LENGTH_MAX = 120

_INDEX = re.compile(r"\.\d+")
_PARTIAL = "20001"


class Arrival(NamedTuple):
    """When and where a request came."""

    path: str
    received_at_s: float
    """Unix time."""

    monotonic_s: float


class Line(NamedTuple):
    """An accepted event. Kept as a plain tuple, which the garbage collector need not visit."""

    source_id: str
    name: str
    event_id: str
    event_time_s: int
    value: float | None
    currency: str | None
    match: int
    received_at_s: float
    request: int
    is_test: bool
    is_duplicate: bool


class Refusal(NamedTuple):
    """A request that was not accepted, as it is kept."""

    request: int
    received_at_s: float
    path: str
    label: str
    field: str
    events: int


@dataclass(slots=True)
class _Source:
    """What came for one pixel."""

    accepted: int = 0
    unique: int = 0
    events: SlidingWindow = field(default_factory=SlidingWindow)
    requests: SlidingWindow = field(default_factory=SlidingWindow)
    arrivals: deque[tuple[float, int]] = field(
        default_factory=lambda: deque(maxlen=ARRIVALS_LISTED_MAX)
    )


class Ledger:
    """Counts of everything, and the accepted events one by one up to `events_listed_max`."""

    def __init__(self, events_listed_max: int = 1_000_000) -> None:
        self._events_listed_max = events_listed_max
        self.reset()

    def reset(self) -> None:
        """Forgets everything, the events seen in the last 48 hours too."""
        self._counts: Counter[str] = Counter()
        self._answers: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._notes: Counter[str] = Counter()
        self._names: Counter[str] = Counter()
        self._sources: dict[str, _Source] = {}
        self._all = _Source()
        self._first_seen_s: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        self._lines: list[tuple[Any, ...]] = []
        self._refusals: deque[Refusal] = deque(maxlen=REFUSALS_LISTED_MAX)

    def record(self, arrival: Arrival, judgement: Judgement, reply: Reply) -> None:
        """Takes down one request: what came, what was kept of it, what was answered."""
        sent, kept = len(judgement.event_ids), len(reply.recorded)
        self._counts["requests"] += 1
        self._counts["events_received"] += sent
        self._answers[reply.label] += 1
        self._count_arrival(arrival, judgement.source_id, sent)
        for note in judgement.claim.notes if judgement.claim is not None else ():
            self._note(note)
        if kept < sent or (not kept and reply.label != "0"):
            self._refuse(arrival, judgement, reply, sent - kept)
        is_test = judgement.claim is not None and judgement.claim.is_test
        for event in reply.recorded:
            self._accept(arrival, judgement.source_id, event, is_test=is_test)

    def _count_arrival(self, arrival: Arrival, source_id: str, sent: int) -> None:
        for source in (self._all, self._source(source_id)):
            source.events.add(arrival.monotonic_s, sent)
            source.requests.add(arrival.monotonic_s, 1)
            source.arrivals.append((arrival.monotonic_s, sent))

    def _source(self, source_id: str) -> _Source:
        source = self._sources.get(source_id)
        if source is None:
            known = source_id if len(self._sources) < SOURCES_MAX else MORE
            source = self._sources.setdefault(known, _Source())
        return source

    def _note(self, note: str) -> None:
        """Warnings are counted by their text, without the events' indexes."""
        _count(self._notes, _INDEX.sub(".*", note)[:NOTE_LENGTH_MAX], NOTES_MAX)

    def _refuse(self, arrival: Arrival, judgement: Judgement, reply: Reply, lost: int) -> None:
        has_code = reply.label.isdigit()
        self._counts["events_refused" if has_code else "events_dropped"] += lost
        if has_code and reply.label != _PARTIAL:
            self._refused[reply.label] += 1
        at_fault = judgement.path if reply.label == str(judgement.code) else ""
        self._refusals.append(
            Refusal(
                self._counts["requests"],
                arrival.received_at_s,
                arrival.path,
                reply.label,
                at_fault,
                lost,
            )
        )

    def _accept(self, arrival: Arrival, source_id: str, event: Event, *, is_test: bool) -> None:
        is_duplicate = not is_test and self._seen(arrival.received_at_s, source_id, event)
        if is_test:
            self._counts["events_test"] += 1
        else:
            self._count_accepted(source_id, event, is_duplicate=is_duplicate)
        if len(self._lines) >= self._events_listed_max:
            self._counts["events_not_listed"] += 1
            return
        request = self._counts["requests"]
        line = (*event, arrival.received_at_s, request, is_test, is_duplicate)
        self._lines.append((source_id, *line))

    def _count_accepted(self, source_id: str, event: Event, *, is_duplicate: bool) -> None:
        self._counts["events_accepted"] += 1
        self._counts["events_duplicate" if is_duplicate else "events_unique"] += 1
        _count(self._names, event.name, NAMES_MAX)
        source = self._source(source_id)
        source.accepted += 1
        source.unique += not is_duplicate

    def has(self, source_id: str, event: Event, now_s: float) -> bool:
        """Whether the event's key was accepted within the dedup window before `now_s`."""
        first_s = self._first_seen_s.get((source_id, event.name, event.event_id))
        return first_s is not None and first_s > now_s - DEDUP_WINDOW_S

    def events(self, start: int = 0) -> list[dict[str, object]]:
        """The accepted events from the `start`th on, in order of arrival: a look at what is new."""
        return [_shown(Line(*line)) for line in self._lines[max(start, 0) :]]

    def _seen(self, now_s: float, source_id: str, event: Event) -> bool:
        """Whether the event came before within the window; an event without an id never did."""
        first_seen_s = self._first_seen_s
        while first_seen_s and next(iter(first_seen_s.values())) <= now_s - DEDUP_WINDOW_S:
            first_seen_s.popitem(last=False)
        if not event.event_id:
            return False
        known = len(first_seen_s)
        first_seen_s.setdefault((source_id, event.name, event.event_id), now_s)
        return len(first_seen_s) == known

    def summary(self) -> dict[str, object]:
        """The counts: what `GET /_sandbox/ledger` shows."""
        return {name: self._counts[name] for name in COUNTS} | {
            "refused": dict(self._refused),
            "answers": dict(self._answers),
            "warnings": dict(self._notes),
            "by_event": dict(self._names),
            "peak_per_s": _peak_of(self._all),
            "by_pixel": {
                source_id: {"accepted": source.accepted, "unique": source.unique}
                | {"peak_per_s": _peak_of(source)}
                for source_id, source in self._sources.items()
                if source_id
            },
        }

    def full(self) -> dict[str, object]:
        """The counts, each accepted event, the last refusals and when requests came."""
        return self.summary() | {
            "events": self.events(),
            "refusals": [refusal._asdict() for refusal in self._refusals],
            "arrivals": {
                source_id: list(source.arrivals) for source_id, source in self._sources.items()
            },
        }


COUNTS = (
    "requests",
    "events_received",
    "events_accepted",
    "events_unique",
    "events_duplicate",
    "events_test",
    "events_refused",
    "events_dropped",
    "events_not_listed",
)


def _count(counts: Counter[str], name: str, names_max: int) -> None:
    counts[name if name in counts or len(counts) < names_max else MORE] += 1


def _peak_of(source: _Source) -> dict[str, int]:
    return {"requests": source.requests.peak, "events": source.events.peak}


def _shown(line: Line) -> dict[str, object]:
    return {
        "key": [line.source_id, line.name, line.event_id],
        "event_time": line.event_time_s,
        "value": line.value,
        "currency": line.currency,
        "received_at": line.received_at_s,
        "request": line.request,
        "is_test": line.is_test,
        "is_duplicate": line.is_duplicate,
        "match": {key: bool(line.match >> bit & 1) for bit, key in enumerate(MATCH_KEYS)},
    }

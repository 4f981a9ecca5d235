"""`tidewire trace ID`: the waterfall of whatever carries that id, drawn from the trace files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from libs.telemetry import ID_ATTRIBUTES, SpanRecord, SpanRef

TRACES_SHOWN: Final = 12
BAR_CELLS: Final = 28
INDENTS_MAX: Final = 16
PIPED_CELLS: Final = 200
LINKED_ROWS_MAX: Final = 40
"""Spans taken in from beyond a trace: a batch call may be linked with a thousand others."""

_decoder = msgspec.json.Decoder(SpanRecord)


@dataclass(frozen=True, slots=True)
class Row:
    """A span and how deep it stands. `linked`: it, or the span above it, came in by a link."""

    span: SpanRecord
    depth: int
    linked: bool = False


@dataclass(frozen=True, slots=True)
class Waterfall:
    """One trace, its spans in tree order."""

    trace_id: str
    rows: tuple[Row, ...]

    @property
    def start_ns(self) -> int:
        return min(row.span.start_ns for row in self.rows)

    @property
    def end_ns(self) -> int:
        return max(row.span.end_ns for row in self.rows)


def load_spans(directory: Path) -> list[SpanRecord]:
    """Every span in the directory's `.jsonl` files; lines cut off or of another shape are skipped.

    A directory that is not there has none.
    """
    return [span for path in sorted(directory.glob("*.jsonl")) for span in _spans_of(path)]


def _spans_of(path: Path) -> Iterator[SpanRecord]:
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:  # set aside or removed since it was listed
        return
    for line in lines:
        try:
            yield _decoder.decode(line)
        except msgspec.DecodeError:
            continue


def arrange(spans: Sequence[SpanRecord], id_text: str) -> list[Waterfall]:
    """The traces that `id_text` names, by start; each with the spans one link away from it.

    It names a trace by its id or a `traceparent`, and by the value of an id attribute on any of
    its spans. A linked span brings what happened beneath it, and stands under its partner.
    """
    known = _Index(spans)
    found = [_waterfall(trace_id, known) for trace_id in _matching(spans, id_text)]
    return sorted(found, key=lambda one: (one.start_ns, one.trace_id))


def _matching(spans: Iterable[SpanRecord], id_text: str) -> set[str]:
    text = id_text.strip()
    parsed = SpanRef.parse(text.lower())
    trace_id = parsed.trace_hex if parsed else text.lower()
    # An id as Shopify's GraphQL writes it: gid://shopify/Order/450789469.
    wanted = {text, text.rpartition("/")[2]}
    return {
        span.trace_id
        for span in spans
        if span.trace_id == trace_id
        or any(
            key in ID_ATTRIBUTES and str(value) in wanted for key, value in span.attributes.items()
        )
    }


class _Index:
    """The spans, findable by trace, by parent, and by link in both directions."""

    def __init__(self, spans: Sequence[SpanRecord]) -> None:
        self.by_id: dict[tuple[str, str], SpanRecord] = {}
        self.by_trace: defaultdict[str, list[SpanRecord]] = defaultdict(list)
        self._children: defaultdict[tuple[str, str], list[SpanRecord]] = defaultdict(list)
        self._linking: defaultdict[tuple[str, str], list[SpanRecord]] = defaultdict(list)
        for span in sorted(spans, key=lambda one: (one.start_ns, -one.end_ns)):
            self._add(span)

    def _add(self, span: SpanRecord) -> None:
        # A delivery that was handled twice may tell of the same span twice.
        if (span.trace_id, span.span_id) in self.by_id:
            return
        self.by_id[span.trace_id, span.span_id] = span
        self.by_trace[span.trace_id].append(span)
        if span.parent_id:
            self._children[span.trace_id, span.parent_id].append(span)
        for link in span.links:
            self._linking[link].append(span)

    def children(self, span: SpanRecord) -> Sequence[SpanRecord]:
        return self._children.get((span.trace_id, span.span_id), ())

    def is_root(self, span: SpanRecord) -> bool:
        return not span.parent_id or (span.trace_id, span.parent_id) not in self.by_id

    def partners(self, span: SpanRecord) -> list[SpanRecord]:
        """Spans of other traces that this one is linked to, and those linked to it."""
        there = [self.by_id[link] for link in span.links if link in self.by_id]
        here = self._linking.get((span.trace_id, span.span_id), [])
        return [one for one in [*there, *here] if one.trace_id != span.trace_id]


def _waterfall(trace_id: str, known: _Index) -> Waterfall:
    spans = known.by_trace[trace_id]
    walk = _Walk(known)
    # After the roots, all once more: parents that form a ring have no root.
    for span in [*filter(known.is_root, spans), *spans]:
        walk.take_from(Row(span, 0))
    return Waterfall(trace_id, tuple(walk.rows))


class _Walk:
    """Collects rows depth first, each span once."""

    def __init__(self, known: _Index) -> None:
        self._known = known
        self._seen: set[tuple[str, str]] = set()
        self._linked = 0
        self.rows: list[Row] = []

    def take_from(self, top: Row) -> None:
        # A list instead of recursion: nothing limits how deep a trace is.
        waiting = [top]
        while waiting:
            row = waiting.pop()
            if self._takes(row):
                self.rows.append(row)
                waiting += reversed(self._below(row))

    def _takes(self, row: Row) -> bool:
        key = (row.span.trace_id, row.span.span_id)
        if key in self._seen or (row.linked and self._linked >= LINKED_ROWS_MAX):
            return False
        self._seen.add(key)
        self._linked += row.linked
        return True

    def _below(self, row: Row) -> list[Row]:
        partners = () if row.linked else self._known.partners(row.span)
        return [Row(one, row.depth + 1, linked=True) for one in partners] + [
            Row(one, row.depth + 1, row.linked) for one in self._known.children(row.span)
        ]


def render(waterfalls: Sequence[Waterfall], id_text: str) -> RenderableType:
    """The traces as tables under one another, the first `TRACES_SHOWN` of them."""
    shown = [_table(one) for one in waterfalls[:TRACES_SHOWN]]
    hidden = len(waterfalls) - len(shown)
    if not hidden:
        return Group(*shown)
    more = f"{hidden} more traces carry {id_text}; name one by its trace id to see it."
    return Group(*shown, Text(more, style="yellow"))


def _table(waterfall: Waterfall) -> Table:
    span_ns = waterfall.end_ns - waterfall.start_ns
    errors = sum(row.span.error is not None for row in waterfall.rows)
    title = f"trace {waterfall.trace_id}   {len(waterfall.rows)} spans   {_duration(span_ns)}"
    table = Table(
        title=Text(title + (f"   {errors} failed" if errors else ""), style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("span", no_wrap=True)
    table.add_column("service", no_wrap=True, style="cyan")
    table.add_column("took", no_wrap=True, justify="right")
    table.add_column("when", no_wrap=True, width=BAR_CELLS)
    # The only column that may shrink: its cells say for themselves that they do not wrap.
    table.add_column("what")
    for row in waterfall.rows:
        table.add_row(*_cells(row, waterfall.start_ns, span_ns))
    return table


def _cells(row: Row, start_ns: int, span_ns: int) -> Iterator[Text]:
    span, failed = row.span, row.span.error is not None
    style = "red" if failed else ("magenta" if row.linked else "")
    mark = "⇢ " if row.linked else ""
    yield Text(f"{'  ' * min(row.depth, INDENTS_MAX)}{mark}{span.name}", style=style)
    yield Text(span.service)
    yield Text(_duration(span.end_ns - span.start_ns), style=style)
    yield Text(bar(span, start_ns, span_ns), style=style or "green")
    yield _what(span)


def bar(span: SpanRecord, start_ns: int, span_ns: int) -> str:
    """Where the span lies in the trace, in `BAR_CELLS` characters; never without a mark."""
    per_cell = max(span_ns, 1) / BAR_CELLS
    first = min(max(int((span.start_ns - start_ns) / per_cell), 0), BAR_CELLS - 1)
    cells = max(round((span.end_ns - span.start_ns) / per_cell), 0)
    marks = "▏" if cells == 0 else "█" * min(cells, BAR_CELLS - first)
    return (" " * first + marks).ljust(BAR_CELLS)


def _what(span: SpanRecord) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    if span.error is not None:
        text.append(f"{span.error}  ", style="bold red")
    text.append("  ".join(f"{key}={value}" for key, value in _shown(span).items()), style="dim")
    if span.links:
        text.append(f"  links={len(span.links) + span.links_dropped}", style="dim")
    return text


def _shown(span: SpanRecord) -> Mapping[str, object]:
    """The attributes, those that name things first."""
    ids = {key: span.attributes[key] for key in ID_ATTRIBUTES if key in span.attributes}
    return ids | span.attributes


def _duration(duration_ns: int) -> str:
    if duration_ns < 1_000_000:
        return f"{duration_ns / 1e3:.0f} µs"
    if duration_ns < 1_000_000_000:
        return f"{duration_ns / 1e6:.1f} ms"
    return f"{duration_ns / 1e9:.2f} s"


def not_found(id_text: str, directory: Path, span_count: int) -> str:
    """Why there may be nothing to show, and what to do about it."""
    if not span_count:
        return (
            f"There are no trace files in {directory}. Services write them to their state directory"
            " while no OTEL_EXPORTER_OTLP_ENDPOINT is set; where one is, ask the collector instead."
            " If they run elsewhere, name their directory."
        )
    return (
        f"None of {span_count} spans in {directory} carries {id_text}.\n"
        "  - It takes a whole id: of a trace, webhook, resource (order, product) or event.\n"
        "  - A span appears up to a second after its end: try once more.\n"
        "  - Above TIDEWIRE_TRACE_FULL_PER_S traces a second (200) only TIDEWIRE_TRACE_RATIO of"
        " them (0.01) are kept, and what failed: raise either to see more.\n"
        "  - Files are limited: the oldest spans are gone."
    )


def _console() -> Console:
    """Stdout; into a file or a pipe as wide as the attributes need, which has no edge to fit."""
    console = Console()
    return console if console.is_terminal else Console(width=PIPED_CELLS)


def trace_command(id_text: str, directory: Path, console: Console | None = None) -> int:
    """Draws what carries `id_text`; the exit code is 1 when nothing does."""
    console = console or _console()
    spans = load_spans(directory)
    waterfalls = arrange(spans, id_text)
    if not waterfalls:
        console.print(Text(not_found(id_text, directory, len(spans)), style="yellow"))
        return 1
    console.print(render(waterfalls, id_text))
    return 0

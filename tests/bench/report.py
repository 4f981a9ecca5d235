"""What a run found, as data, as text for the terminal and as Markdown for the docs. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from tests.bench.figures import Goal, goal_text

BEGIN = "<!-- results: begin (written by python -m tests.bench --write-docs) -->"
END = "<!-- results: end -->"


class Table(msgspec.Struct, frozen=True):
    """Rows of cells that are already text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Section(msgspec.Struct, frozen=True):
    """One benchmark. `raw` holds every round, so that nothing is only a median."""

    name: str
    title: str
    goals: tuple[Goal, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    raw: dict[str, list[dict[str, float]]] = {}


class Report(msgspec.Struct, frozen=True):
    """A whole run."""

    machine: dict[str, str]
    options: dict[str, str]
    warnings: tuple[str, ...]
    sections: tuple[Section, ...]


def section_text(section: Section) -> str:
    """A section for the terminal: goals first, then tables, then what to know about them."""
    return "\n".join(_section_lines(section))


def heading_text(report: Report) -> str:
    """What the run stood on."""
    lines = [f"{name}: {value}" for name, value in (report.machine | report.options).items()]
    return "\n".join([*lines, *(f"WARNING: {text}" for text in report.warnings)])


def markdown(report: Report) -> str:
    """The whole report for the docs."""
    lines = [f"- {name}: {value}" for name, value in (report.machine | report.options).items()]
    lines += [f"- **{text}**" for text in report.warnings]
    for section in report.sections:
        lines += ["", f"### {section.title}", ""]
        lines += [f"- {goal_text(goal)}" for goal in section.goals]
        for table in section.tables:
            lines += ["", f"{table.title}:", "", *_markdown_table(table)]
        if section.notes:
            lines += ["", *(f"- {note}" for note in section.notes)]
    return "\n".join(lines) + "\n"


def with_results(document: str, results: str) -> str:
    """`document` with `results` between its two markers, whatever stood there.

    Raises:
        ValueError: a marker is missing.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("the document has no markers for the results")
    return f"{before}{BEGIN}\n\n{results}\n{END}{after}"


def _section_lines(section: Section) -> Iterator[str]:
    yield f"== {section.title}"
    yield from (f"  {goal_text(goal)}" for goal in section.goals)
    for table in section.tables:
        yield ""
        yield f"  {table.title}"
        yield from (f"    {line}" for line in _aligned(table))
    if section.notes:
        yield ""
    yield from (f"  {note}" for note in section.notes)


def _aligned(table: Table) -> list[str]:
    """The columns side by side: the first to the left, figures to the right."""
    rows = [table.columns, *table.rows]
    widths = [max(len(row[place]) for row in rows) for place in range(len(table.columns))]
    return ["  ".join(_cells(row, widths)).rstrip() for row in rows]


def _cells(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.rjust(width) if place else cell.ljust(width)


def _markdown_table(table: Table) -> list[str]:
    dashes = ["---", *["---:"] * (len(table.columns) - 1)]
    rows = [table.columns, tuple(dashes), *table.rows]
    return [f"| {' | '.join(row)} |" for row in rows]

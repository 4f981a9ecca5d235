"""The index of the decision records: writes `docs/adr/README.md`, or checks it with `--check`."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "adr"
STATUSES = ("Proposed", "Accepted", "Superseded by ADR ")
SECTIONS = ("Problem", "Decision", "Consequences")
HEAD = """\
# Decision records

Why the suite is as it is, one page a decision. An accepted record is not edited: a new one
supersedes it, and only its status changes. Code cites a record as "ADR 4". To add one, copy
[the template](0000-template.md) and run `make gen`, which writes this page.

| ADR | Decision | Status |
| --- | --- | --- |
"""


class Record(NamedTuple):
    """One decision record, as the index shows it."""

    number: int
    title: str
    status: str
    file: str


def record(name: str, text: str) -> Record:
    """The record in the file called `name`.

    Raises:
        ValueError: the file lacks its title, status or one of the sections.
    """
    title = re.match(r"# ADR (\d+): (.+)\n", text)
    status = re.search(r"^Status: (.+)$", text, re.MULTILINE)
    if title is None or status is None or int(title[1]) != int(name[:4]):
        message = f"{name} must begin with `# ADR {int(name[:4])}: …` and have a `Status:` line"
        raise ValueError(message)
    if not status[1].startswith(STATUSES):
        message = f"{name}: status must begin with one of {', '.join(STATUSES)}"
        raise ValueError(message)
    for section in SECTIONS:
        if f"\n## {section}\n" not in text:
            message = f"{name} has no section `## {section}`"
            raise ValueError(message)
    return Record(int(title[1]), title[2], status[1], name)


def index(records: list[Record]) -> str:
    """The page that lists `records`, the template left out."""
    rows = (
        f"| {found.number} | [{found.title}]({found.file}) | {found.status} |\n"
        for found in sorted(records)
        if found.number
    )
    return HEAD + "".join(rows)


def current() -> str:
    """The page as the records in the repository make it."""
    files = sorted(FOLDER.glob("[0-9][0-9][0-9][0-9]-*.md"))
    return index([record(path.name, path.read_text()) for path in files])


def main() -> int:
    """`python -m tools.adr_index [--check]`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    page = FOLDER / "README.md"
    if not parser.parse_args().check:
        page.write_text(current())
        return 0
    if page.is_file() and page.read_text() == current():
        return 0
    print("docs/adr/README.md does not match the records; run `make gen`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())

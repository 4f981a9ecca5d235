"""Faults of the delivery of catalogs, in the long form.

    python -m tests.faults.catalogs [--only NAME …] [--list] [--doc FILE] [--json FILE]

`make faults` runs it after the matrix.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
from rich.console import Console

from libs.errors import ServiceError
from tests.bench import machine
from tests.faults import report
from tests.faults.catalog_house import housed
from tests.faults.catalog_judge import Row
from tests.faults.catalog_processes import PROCESSES
from tests.faults.catalog_scene import CatalogFault, seeded, undergone
from tests.faults.catalog_upstreams import UPSTREAMS
from tests.faults.site import Kind

FAULTS: Final[Sequence[CatalogFault]] = (*PROCESSES, *UPSTREAMS)

SHORT: Final = ("catalogs.catalog.kill", "catalogs.tiktok.cut")
"""The most telling ones, for every run of the tests."""

_SHOWN: Final = 6


def chosen(names: Sequence[str]) -> list[CatalogFault]:
    """The faults whose name is given or begins with one that is given; all where none is.

    Raises:
        ValueError: a name fits none.
    """
    for name in names:
        if not any(_fits(fault, name) for fault in FAULTS):
            raise ValueError(f"no fault is called {name}: see --list")
    return [fault for fault in FAULTS if not names or any(_fits(fault, one) for one in names)]


def _fits(fault: CatalogFault, name: str) -> bool:
    return fault.name.removeprefix("catalogs.").startswith(name.removeprefix("catalogs."))


async def run(faults: Sequence[CatalogFault], directory: Path) -> AsyncIterator[Row]:
    """A row for each fault. Those of one kind share a house until one fails or spoils it."""
    for kind in Kind:
        left = [fault for fault in faults if fault.kind is kind]
        number = 0
        while left:
            number += 1
            place = directory / f"{kind}-{number}"
            passed = True
            async for row in _in_one_house(kind, left, place):
                passed = passed and row.passed
                yield row
            if passed:
                shutil.rmtree(place, ignore_errors=True)


async def _in_one_house(kind: Kind, left: list[CatalogFault], place: Path) -> AsyncIterator[Row]:
    """Takes from `left` what it inflicts: all of it, or up to the first that ends the house."""
    try:
        async with housed(kind, place) as house:
            await seeded(house)
            is_fit = True
            while left and is_fit:
                fault = left.pop(0)
                row = await undergone(fault, house)
                is_fit = row.passed and not fault.spoils
                yield row
    except (ServiceError, RuntimeError) as error:
        # As `Stack` says that something did not come up, with the end of its log.
        if left:
            yield _not_played(left.pop(0), str(error))


def _not_played(fault: CatalogFault, why: str) -> Row:
    return Row(
        name=fault.name,
        what=fault.what,
        expected=fault.expected,
        equal_s=None,
        within_s=fault.within_s,
        submits=0,
        seconds=0.0,
        complaints=(f"no house for it: {why}",),
    )


async def rows(
    faults: Sequence[CatalogFault], directory: Path, say: Callable[[str], None]
) -> list[Row]:
    """Inflicts faults one after the other and tells of each.

    SIGTERM ends it as a cancellation, so that no process of a house is left behind.
    """
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    found = []
    async for row in run(faults, directory):
        found.append(row)
        say(line(row))
        if not row.passed:
            say(details(row))
    return found


def line(row: Row) -> str:
    """What came of a fault."""
    word = "holds" if row.passed else "FAILS"
    equal = "never" if row.equal_s is None else f"{row.equal_s:4.1f} s"
    return (
        f"{word}  {row.name:<42} equal after {equal}, {row.submits} submits,"
        f" took {row.seconds:.0f} s"
    )


def details(row: Row) -> str:
    """What was seen of a fault that failed."""
    lines = [f"  {one}" for one in row.complaints[:_SHOWN]]
    if len(row.complaints) > _SHOWN:
        lines.append(f"  {len(row.complaints) - _SHOWN} more")
    return "\n".join([*lines, row.tails])


def as_dicts(found: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows as data."""
    return [{**msgspec.to_builtins(row), "passed": row.passed} for row in found]


def main(arguments: Sequence[str]) -> int:
    """Inflicts all or some; 0 where all holds, 1 where something does not, 2 for a wrong name."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.catalogs", description=__doc__)
    add = parser.add_argument
    add("--only", nargs="+", default=[], metavar="NAME", help="how a name begins")
    add("--list", action="store_true", help="show the faults and inflict none")
    add("--doc", type=Path, metavar="FILE", help="the page whose rows are renewed")
    add("--json", type=Path, metavar="FILE", help="write everything as JSON")
    asked = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    console = Console()

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    try:
        faults = chosen(asked.only)
    except ValueError as error:
        say(str(error))
        return 2
    if asked.list:
        for fault in faults:
            say(f"{fault.name:<42} {fault.what}")
        return 0
    directory = Path(tempfile.mkdtemp(prefix="tidewire-catalogs-"))
    try:
        found = asyncio.run(rows(faults, directory, say))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    if asked.json is not None:
        asked.json.write_bytes(msgspec.json.format(msgspec.json.encode(as_dicts(found))) + b"\n")
    if asked.doc is not None:
        text = asked.doc.read_text("utf-8")
        page = report.with_catalogs(text, found, [one.name for one in FAULTS], machine.words())
        asked.doc.write_text(page, "utf-8")
    if all(row.passed for row in found):
        shutil.rmtree(directory, ignore_errors=True)
        return 0
    say(f"Logs and streams of what failed stay in {directory}")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

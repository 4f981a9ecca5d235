"""The command line of the fault matrix."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import structlog
from rich.console import Console

from tests.bench import machine
from tests.bench.options import ROOT
from tests.faults import catalog_judge, catalogs, report, tokens
from tests.faults.matrix import FAULTS, chosen
from tests.faults.run import run
from tests.faults.token_judge import Row
from tests.faults.trial import Fault, Result

PAGE: Final = ROOT / "docs" / "fault-matrix.md"


def main(arguments: Sequence[str]) -> int:
    """Runs the matrix; 0 where everything holds, 1 where something does not, 2 for a wrong name."""
    asked = _parser().parse_args(arguments)
    # That NATS goes away is what is asked for here.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    console = Console()
    if asked.list:
        for fault in FAULTS:
            console.print(f"{fault.name:<34} {fault.what}", markup=False, soft_wrap=True)
        return 0
    try:
        faults = chosen(asked.only)
    except ValueError as error:
        console.print(str(error), markup=False)
        return 2
    directory = Path(tempfile.mkdtemp(prefix="tidewire-faults-"))
    try:
        results, races, kept = asyncio.run(_all(asked, faults, directory, console))
    except (KeyboardInterrupt, asyncio.CancelledError):
        shutil.rmtree(directory, ignore_errors=True)
        return 130
    _write(asked, results, races, kept)
    passed = all(one.passed for one in results) and all(row.passed for row in races)
    passed = passed and all(row.passed for row in kept)
    console.print(report.table(results))
    if passed:
        shutil.rmtree(directory, ignore_errors=True)
    else:
        console.print(f"Logs and streams of what failed stay in {directory}", markup=False)
    return 0 if passed else 1


async def _all(
    asked: argparse.Namespace, faults: Sequence[Fault], directory: Path, console: Console
) -> tuple[list[Result], list[Row], list[catalog_judge.Row]]:
    """The matrix; where all of it is asked for, the races of tokens and the catalogs too."""
    results = await _run(faults, directory, console)
    if asked.only:
        return results, [], []

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    kept = await catalogs.rows(catalogs.FAULTS, directory / "catalogs", say)
    with _ended_by_sigterm():
        races = await tokens.rows(directory / "tokens", tokens.ROUNDS, tokens.SEED, say)
    return results, races, kept


async def _run(faults: Sequence[Fault], directory: Path, console: Console) -> list[Result]:
    results = []
    with _ended_by_sigterm():
        async for result in run(faults, directory):
            results.append(result)
            served = "never" if result.service_s is None else f"{result.service_s:4.1f} s"
            word = "holds" if result.passed else "FAILS"
            line = f"{word}  {result.fault.name:<34} served after {served}"
            console.print(f"{line}, took {result.seconds:.0f} s", markup=False, highlight=False)
            if not result.passed:
                console.print(report.details(result), markup=False, highlight=False)
    return results


def _write(
    asked: argparse.Namespace,
    results: Sequence[Result],
    races: Sequence[Row],
    kept: Sequence[catalog_judge.Row],
) -> None:
    found = machine.words()
    if asked.json is not None:
        data = report.as_dict(results, found)
        data |= {"races": tokens.as_dicts(races), "catalogs": catalogs.as_dicts(kept)}
        asked.json.write_bytes(msgspec.json.format(msgspec.json.encode(data), indent=2) + b"\n")
    # A part of the matrix is not the page of the docs, and only renews its rows where told to.
    page = asked.doc or (None if asked.only else PAGE)
    if page is None:
        return
    if asked.only and page.exists():
        order = [fault.name for fault in FAULTS]
        text = report.updated(page.read_text("utf-8"), results, order)
    else:
        text = report.page(results, found)
    text = report.with_races(text, races, found) if races else text
    if kept:
        order = [fault.name for fault in catalogs.FAULTS]
        text = report.with_catalogs(text, kept, order, found)
    page.write_text(text, "utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description="Faults inflicted on the running suite."
    )
    add = parser.add_argument
    add("--only", nargs="+", default=[], metavar="NAME", help="a name, or its part before a dot")
    add("--list", action="store_true", help="show the faults and run none")
    add("--doc", type=Path, metavar="FILE", help="the page (default, of a whole run: docs/)")
    add("--json", type=Path, metavar="FILE", help="write everything as JSON")
    return parser


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Turns SIGTERM into a cancellation, so that no process of a site is left behind."""
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    if task is not None:
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The command line of the bench."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from tests.bench import machine
from tests.bench.catalog import catalog
from tests.bench.delivery import delivery
from tests.bench.fairness import fairness
from tests.bench.ingest import ingest
from tests.bench.latency import latency
from tests.bench.limiter import limiter
from tests.bench.normalizer import normalizer
from tests.bench.options import ROOT, Options
from tests.bench.refreshes import refreshes
from tests.bench.report import Report, Section, heading_text, markdown, section_text, with_results
from tests.bench.rewrap import rewrap
from tests.bench.sources import sources
from tests.bench.tokens import tokens
from tests.bench.transform import transform

Say = Callable[[str], None]
Benchmark = Callable[[Options, Say], Awaitable[list[Section]]]

BENCHMARKS: Final[Mapping[str, Benchmark]] = {
    "ingest": ingest,
    "normalizer": normalizer,
    "transform": transform,
    "delivery": delivery,
    "latency": latency,
    "fairness": fairness,
    "catalog": catalog,
    "limiter": limiter,
    "rewrap": rewrap,
    "tokens": tokens,
    "refreshes": refreshes,
    "sources": sources,
}
DOCUMENT: Final = ROOT / "docs" / "benchmarks.md"
_SECONDS: Final = 4.0
_SECONDS_QUICK: Final = 1.0
_ROUNDS: Final = 5
_ROUNDS_QUICK: Final = 2
_BROKEN_OFF: Final = 130
"""As shells say it of a program ended by Ctrl-C."""


def main(arguments: Sequence[str]) -> int:
    """Measures and reports; the exit code.

    0: everything was measured, whether or not a goal was met. 130: broken off. 1, with a traceback:
    something could not be measured, and its logs stay.
    """
    chosen = _parser().parse_args(arguments)
    if chosen.read is not None:
        report = msgspec.json.decode(chosen.read.read_bytes(), type=Report)
        _say("\n\n".join([heading_text(report), *map(section_text, report.sections)]))
    else:
        try:
            report = _measured(chosen)
        except (KeyboardInterrupt, asyncio.CancelledError):
            return _BROKEN_OFF
    if chosen.json is not None:
        chosen.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    if chosen.write_docs:
        document = DOCUMENT.read_text(encoding="utf-8")
        DOCUMENT.write_text(with_results(document, markdown(report)), encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description="Throughput and latency, measured side by side."
    )
    add = parser.add_argument
    add("which", nargs="*", choices=[*BENCHMARKS, "all"], default="all", metavar="WHICH",
        help=f"{', '.join(BENCHMARKS)} or all (the default)")  # fmt: skip
    add("--seconds", type=float, help=f"length of a burst of webhooks (default {_SECONDS:g})")
    add("--rounds", type=int, help=f"how often all are measured in turn (default {_ROUNDS})")
    add("--quick", action="store_true", help="small and short: shows that it runs, measures little")
    add("--json", type=Path, metavar="FILE", help="write everything, each round too, as JSON")
    add("--read", type=Path, metavar="FILE", help="show an earlier run's JSON, measure nothing")
    add("--write-docs", action="store_true", help="put the results into docs/benchmarks.md")
    add("--fastapi-python", metavar="PYTHON", help="an interpreter with FastAPI and aio-pika")
    add("--amqp", metavar="URL", help="a RabbitMQ for it to publish to")
    return parser


def _measured(chosen: argparse.Namespace) -> Report:
    which = [chosen.which] if isinstance(chosen.which, str) else chosen.which
    names = list(BENCHMARKS) if "all" in which else list(dict.fromkeys(which))
    with _scratch() as directory:
        options = Options(
            seconds=chosen.seconds or (_SECONDS_QUICK if chosen.quick else _SECONDS),
            rounds=chosen.rounds or (_ROUNDS_QUICK if chosen.quick else _ROUNDS),
            quick=chosen.quick,
            directory=directory,
            now=datetime.now(UTC),
            fastapi_python=chosen.fastapi_python,
            amqp_url=chosen.amqp,
        )
        report = Report(
            machine=machine.description(directory),
            options={"measured": f"{options.now:%Y-%m-%d %H:%M} UTC", **options.as_dict()},
            warnings=machine.warnings(),
            sections=(),
        )
        _say(heading_text(report))
        sections = uvloop.run(_run(names, options))
    return msgspec.structs.replace(report, sections=tuple(sections))


async def _run(names: Sequence[str], options: Options) -> list[Section]:
    sections = []
    with _ended_by_sigterm():
        for name in names:
            _say(f"\n{name} ...")
            for section in await BENCHMARKS[name](options, _note):
                sections.append(section)
                _say(f"\n{section_text(section)}")
    return sections


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _note(text: str) -> None:
    """Progress, apart from the results."""
    sys.stderr.write(f"  {text}\n")


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A folder of our own for stores and logs; it stays if the run fails."""
    directory = Path(tempfile.mkdtemp(prefix="tidewire-bench-"))
    try:
        yield directory
    except Exception:
        _note(f"Logs and streams stay in {directory}")
        raise
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Turns SIGTERM into a cancellation, so that no process of the bench is left behind."""
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

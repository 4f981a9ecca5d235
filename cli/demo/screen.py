"""What the demo shows: live progress, then tables. On a pipe it prints plain lines instead."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

from rich import box
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from cli.demo.scenery import PixelPlan
from cli.demo.verdict import DIFFERENCES_SHOWN, Check
from cli.demo.watch import Memory, Pulse
from libs.ledger import Ledger
from sandbox.shopify.sender import SendReport

_LINE_EVERY_S: Final = 2.0
_PIPED_CELLS: Final = 160


def make_console() -> Console:
    """Stdout; wide where nobody's window limits it."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(width=_PIPED_CELLS, highlight=False)


class Board:
    """Live progress: `with Board(console) as board: board.show(pulse)`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, transient=True) if console.is_terminal else None
        self._line_due_s = 0.0

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, pulse: Pulse) -> None:
        """Shows how far everything is; plain lines come at most every 2 s."""
        if self._live is not None:
            self._live.update(_progress_table(pulse))
        elif time.monotonic() >= self._line_due_s:
            self._line_due_s = time.monotonic() + _LINE_EVERY_S
            said = ", ".join(f"{name} {value}" for name, value in _progress(pulse).items())
            self._console.print(f"  {said}", markup=False)


def _progress(pulse: Pulse) -> dict[str, str]:
    answers = ", ".join(f"{status}: {count:,}" for status, count in sorted(pulse.answers.items()))
    return {
        "sent": f"{pulse.finished:,} of {pulse.total:,}",
        "answers": f"[{answers}]",
        "stored": f"{pulse.stored:,}",
        "committed": f"{pulse.decided:,}",
        "events at TikTok": f"{pulse.at_tiktok:,}",
        "catalogs": pulse.catalogs,
        "TikTok": pulse.tiktok,
        "lag": f"{pulse.lag:,}",
    }


def _progress_table(pulse: Pulse) -> Table:
    table = Table(box=box.SIMPLE, show_header=False)
    table.add_column(style="cyan")
    table.add_column(min_width=50)
    for name, value in _progress(pulse).items():
        table.add_row(name, escape(value))
    return table


def ledger_table(ledger: Ledger, parked_deliveries: int) -> Table:
    """Units by how they ended, or where they are."""
    table = numbers_table("The ledger: units of (delivery, pixel) and how they ended", "units")
    table.add_row("received", f"{ledger.received:,}", style="bold")
    table.add_row("delivered", f"{ledger.delivered:,}")
    table.add_row("delivered, uncertain", f"{ledger.delivered_uncertain:,}")
    for kind, counts in (("ignored", ledger.ignored), ("dead", ledger.dead)):
        for reason, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
            table.add_row(f"{kind}: {escape(reason)}", f"{count:,}")
    table.add_row("in flight", f"{ledger.in_flight.total():,}")
    table.add_row("unaccounted", f"{ledger.unaccounted:,}")
    table.add_section()
    table.add_row("distinct deliveries", f"{ledger.deliveries:,}", style="dim")
    table.add_row("parked deliveries of unknown shops", f"{parked_deliveries:,}", style="dim")
    return table


def tiktok_table(sandbox: Mapping[str, Any], pixels: Sequence[PixelPlan]) -> Table:
    """What TikTok received: by pixel and event, first sightings and repetitions."""
    table = numbers_table("What TikTok received", "events", "unique", "duplicate")
    plans = {pixel.code: pixel for pixel in pixels}
    counts: dict[tuple[str, str], list[int]] = {}
    for event in sandbox["events"]:
        pixel, name, _ = event["key"]
        count = counts.setdefault((pixel, name), [0, 0])
        count[bool(event["is_duplicate"])] += 1
    for (code, name), (unique, repeated) in sorted(counts.items()):
        plan = plans.get(code)
        whose = f"{plan.shop.partition('.')[0]} ({plan.dialect})" if plan else "?"
        row = f"{code}  {whose}  {name}"
        table.add_row(row, f"{unique + repeated:,}", f"{unique:,}", f"{repeated:,}")
    table.add_section()
    accepted, unique = sandbox["events_accepted"], sandbox["events_unique"]
    whole = f"in {sandbox['requests']:,} requests, {sandbox['events_refused']:,} events refused"
    table.add_row(whole, f"{accepted:,}", f"{unique:,}", f"{accepted - unique:,}", style="bold")
    return table


def memory_table(memory: Memory) -> Table:
    """Resident memory of each process."""
    moments = ("start_mib", "middle_mib", "end_mib", "peak_mib")
    table = numbers_table("Memory in MiB", "start", "middle", "end", "peak")
    for name, sizes in memory.as_dict().items():
        table.add_row(name, *(f"{sizes.get(moment, 0.0):.0f}" for moment in moments))
    return table


def speed_line(report: SendReport, storm_s: float) -> str:
    """Throughput and latency of the answers, and how long all of it took."""
    rate = len(report.sent) / report.seconds if report.seconds else 0.0
    p50, p99 = (report.latency_s(share) * 1000 for share in (0.5, 0.99))
    return (
        f"{len(report.sent):,} deliveries answered in {report.seconds:.1f} s ({rate:,.0f}/s;"
        f" p50 {p50:.0f} ms, p99 {p99:.0f} ms), all at rest after {storm_s:.1f} s"
    )


def print_checks(console: Console, checks: Sequence[Check]) -> None:
    """The verdict: a line a check, and what differs where one fails."""
    console.print("\n[bold]The verdict[/]")
    for check in checks:
        mark = "[green]pass[/]" if check.passed else "[bold red]FAIL[/]"
        console.print(f"  {mark}  {check.name}: {escape(check.numbers)}")
        for difference in check.differences[:DIFFERENCES_SHOWN]:
            console.print(f"          {difference}", style="red", markup=False)
        hidden = len(check.differences) - DIFFERENCES_SHOWN
        if hidden > 0:
            console.print(f"          and {hidden:,} more", style="red")


def numbers_table(title: str, *numbers: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(title, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table

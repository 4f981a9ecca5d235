"""What came of a demo: as data, and on the screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from cli.demo import screen
from cli.demo.catalog_screen import catalogs_table, changes_line, print_story
from cli.demo.catalog_verdict import ShopEvidence, catalogs_as_dict, catalogs_seen
from cli.demo.scenery import PixelPlan
from cli.demo.verdict import Check, Evidence
from cli.demo.watch import Memory
from cli.trace import Waterfall, render
from sandbox.shopify.sender import SendReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A demo that came to its end."""

    evidence: Evidence
    checks: Sequence[Check]
    report: SendReport
    memory: Memory
    pixels: Sequence[PixelPlan]
    catalogs: Sequence[ShopEvidence]
    changes: Mapping[str, int]
    """How often something of each kind was changed in the shops of the catalogs."""

    waterfall: Waterfall | None
    storm_s: float
    """From the first delivery until nothing was pending."""

    waited_for: str
    """What did not come to rest in time; empty where everything did."""

    @property
    def passed(self) -> bool:
        return not self.waited_for and all(check.passed for check in self.checks)


def as_dict(result: Result, seconds: float) -> dict[str, Any]:
    """The result as data: `ledger` is what the suite says, `sandbox` what the simulators saw."""
    tiktok, report = result.evidence.sandbox, result.report
    return {
        "passed": result.passed,
        "checks": [check.as_dict() for check in result.checks],
        "waited_for": result.waited_for,
        "ledger": {
            **result.evidence.ledger.as_dict(),
            "parked_deliveries": len(result.evidence.parked),
        },
        "catalog": catalogs_as_dict(result.catalogs, result.changes),
        "sandbox": {
            "tiktok_events": {
                "requests": tiktok["requests"],
                "events_accepted": tiktok["events_accepted"],
                "events_unique": tiktok["events_unique"],
                "events_duplicate": tiktok["events_duplicate"],
                "refused": tiktok["events_refused"],
                "refused_by_code": tiktok["refused"],
                "by_event": tiktok["by_event"],
                "by_pixel": tiktok["by_pixel"],
            },
            "tiktok_catalog": catalogs_seen(result.catalogs),
        },
        "answers": {str(status): n for status, n in sorted(_finals(report).items())},
        "speed": {
            "deliveries": len(report.sent),
            "sending_s": round(report.seconds, 3),
            "deliveries_per_s": round(len(report.sent) / max(report.seconds, 1e-9), 1),
            "answer_p50_ms": round(report.latency_s(0.5) * 1000, 2),
            "answer_p99_ms": round(report.latency_s(0.99) * 1000, 2),
            "storm_s": round(result.storm_s, 3),
        },
        "memory": result.memory.as_dict(),
        "seconds": round(seconds, 3),
    }


def _finals(report: SendReport) -> dict[str, int]:
    return {str(status): count for status, count in report.final_statuses.items()}


def write_json(json_file: Path | None, result: Result, seconds: float) -> None:
    if json_file is not None:
        encoded = msgspec.json.format(msgspec.json.encode(as_dict(result, seconds)), indent=2)
        json_file.write_bytes(encoded + b"\n")


def print_result(console: Console, result: Result, seconds: float) -> None:
    evidence = result.evidence
    console.print(screen.ledger_table(evidence.ledger, len(evidence.parked)))
    if result.waterfall is None:
        console.print("No trace of a purchase was written here; a collector may have it.\n")
    else:
        console.print("[bold]One purchase, from webhook to TikTok[/]")
        console.print(render([result.waterfall], result.waterfall.trace_id))
    console.print(screen.tiktok_table(evidence.sandbox, result.pixels))
    console.print(catalogs_table(result.catalogs))
    console.print(changes_line(result.changes, result.catalogs), "\n")
    print_story(console, result.catalogs[0])
    console.print(screen.memory_table(result.memory))
    console.print(screen.speed_line(result.report, result.storm_s))
    screen.print_checks(console, result.checks)
    if result.waited_for:
        console.print(f"  Waited for it in vain: {result.waited_for}", style="red", markup=False)
    failed = sum(not check.passed for check in result.checks)
    word = "everything holds" if result.passed else f"{failed} checks failed"
    style = "bold green" if result.passed else "bold red"
    console.print(f"\n[{style}]{len(result.checks)} checks: {word}[/] ({seconds:.0f} s)")

"""The demo from beginning to end."""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Final

import aiohttp
import msgspec
from nats.aio.client import Client
from rich.console import Console

from cli.demo import screen
from cli.demo.connecting import connect_all
from cli.demo.evidence import gather_evidence
from cli.demo.outage import PLAYED, Seen, Trouble, judge_trouble
from cli.demo.purchase_trace import purchase_waterfall
from cli.demo.scenery import CORPUS_SHOP, PixelPlan, corpus_root, plan_pixels
from cli.demo.verdict import Check, Evidence, judge
from cli.demo.watch import Memory, Watch
from cli.stack import Stack
from cli.trace import Waterfall, render
from libs.clock import SystemClock
from libs.connections import shop_handle
from libs.errors import ServiceError
from libs.foundation import connected as nats_connected
from libs.http.session import http_session
from libs.telemetry import TRACES_FOLDER
from sandbox.shopify.corpus import corpus_deliveries
from sandbox.shopify.model import Delivery, Shop
from sandbox.shopify.oracle import Expected
from sandbox.shopify.sender import SendReport, send_all
from sandbox.shopify.storm import DELIVERIES_MIN, default_shops, make_storm

_CLOCK: Final = SystemClock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What was asked for."""

    corpus: Path | None
    size: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is sent, and what must come of it."""

    deliveries: Sequence[Delivery]
    expected: Expected


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A demo that came to its end."""

    evidence: Evidence
    checks: Sequence[Check]
    report: SendReport
    memory: Memory
    pixels: Sequence[PixelPlan]
    waterfall: Waterfall | None
    storm_s: float
    """From the first delivery until nothing was pending."""

    waited_for: str
    """What did not come to rest in time; empty where everything did."""

    @property
    def passed(self) -> bool:
        return not self.waited_for and all(check.passed for check in self.checks)


async def run_demo(
    environ: Mapping[str, str],
    *,
    json_file: Path | None,
    corpus: Path | None,
    size: int,
    seed: int,
    keep: Path | None = None,
) -> int:
    """Starts the suite, sends a storm and prints the verdict; the exit code.

    0: every check passed. 1: one did not, or a process ended; then all that was written stays, to
    be looked into. 2: what was asked for cannot be done.
    """
    console = screen.make_console()
    began_s = _CLOCK.monotonic_s()
    wish = Wish(corpus=corpus, size=size, seed=seed)
    code = 2
    with _scratch() as directory, _ended_by_sigterm():
        try:
            result = await _perform(directory, environ, wish, console)
        except (ServiceError, ValueError) as error:
            console.print(str(error), style="red", markup=False)
            code = 1 if _is_ours(error) else 2
        else:
            seconds = _CLOCK.monotonic_s() - began_s
            code = 0 if result.passed else 1
            _write_json(json_file, result, seconds)
            _print_result(console, result, seconds)
        if keep is not None:
            shutil.move(directory, keep)
            console.print(f"\nLogs, streams and spans are kept in {keep}", markup=False)
        elif code != 1:
            shutil.rmtree(directory, ignore_errors=True)
        else:
            console.print(f"\nLogs, streams and spans stay in {directory}", markup=False)
    return code


async def _perform(
    directory: Path, environ: Mapping[str, str], wish: Wish, console: Console
) -> Result:
    if wish.size < DELIVERIES_MIN:
        raise ValueError(f"a storm has at least {DELIVERIES_MIN} deliveries: ask for more")
    now = datetime.fromtimestamp(_CLOCK.now_ns() / 1e9, UTC)
    root = corpus_root(wish.corpus, directory)
    storm_shops = default_shops(now)
    shops = (*storm_shops, CORPUS_SHOP) if root else storm_shops
    pixels = plan_pixels(shops)
    async with Stack(directory, environ) as stack:
        console.print(f"Starting NATS, services and sandbox in {directory}", markup=False)
        making = asyncio.create_task(
            asyncio.to_thread(_make_plan, wish, storm_shops, now, root), name="plan"
        )
        # One after the other: were the plan to fail first, processes would start behind our back.
        await stack.start_all()
        connected = await connect_all(stack, shops, pixels)
        console.print(f"Connected {connected} stores and pixels by OAuth, in a browser")
        plan = await making
        console.print(f"Sending {len(plan.deliveries):,} deliveries of {len(shops)} shops")
        return await _storm(stack, plan, pixels, console)


def _make_plan(wish: Wish, shops: tuple[Shop, ...], now: datetime, root: Path | None) -> Plan:
    storm = make_storm(wish.seed, wish.size, shops, now)
    deliveries = storm.deliveries
    if root is not None:
        # Recorded once, and true for its shop for good: it would end the connection in mid-storm.
        corpus = (
            one for one in corpus_deliveries(root, CORPUS_SHOP) if one.topic != "app/uninstalled"
        )
        deliveries = [*deliveries, *corpus]
        Random(wish.seed).shuffle(deliveries)  # noqa: S311 (a shuffle that can be repeated)
    return Plan(deliveries=deliveries, expected=storm.expected)


async def _storm(stack: Stack, plan: Plan, pixels: Sequence[PixelPlan], console: Console) -> Result:
    nats = await nats_connected(stack.nats.url)
    try:
        async with http_session() as session:
            with screen.Board(console) as board:
                watch = Watch(
                    stack, nats, session, board.show, total=len(plan.deliveries), clock=_CLOCK
                )
                trouble = _trouble(stack, pixels, nats, session)
                return await _watched(stack, plan, pixels, watch, nats, trouble)
    finally:
        await nats.close()


def _trouble(
    stack: Stack, pixels: Sequence[PixelPlan], nats: Client, session: aiohttp.ClientSession
) -> Trouble:
    """Trouble at TikTok; the dead token is that of the first pixel, which is the busiest shop's."""
    unlucky = pixels[0]
    shop = shop_handle(unlucky.shop) or unlucky.shop
    return Trouble(
        stack.sandbox_url,
        nats,
        session,
        _CLOCK,
        pixel=unlucky.code,
        connection_id=f"{shop}.events.{unlucky.code}",
    )


async def _looked_at(watch: Watch, trouble: asyncio.Task[list[Seen]]) -> None:
    """Looks on until the trouble is over."""
    while not trouble.done():
        await watch.look()
        await asyncio.wait({trouble}, timeout=0.4)


async def _watched(
    stack: Stack,
    plan: Plan,
    pixels: Sequence[PixelPlan],
    watch: Watch,
    nats: Client,
    trouble_of: Trouble,
) -> Result:
    began_s = _CLOCK.monotonic_s()
    watch.memory.note(stack.rss_bytes(), "start_mib")
    trouble = asyncio.create_task(trouble_of.play(watch.note_tiktok), name="trouble")
    try:
        report = await _send(stack, plan, watch)
        await _looked_at(watch, trouble)
    finally:
        trouble.cancel()
    waited_for = await watch.until_quiet()
    storm_s = _CLOCK.monotonic_s() - began_s
    watch.memory.note(stack.rss_bytes(), "end_mib")
    evidence = await gather_evidence(
        nats,
        stack.kek_file,
        await watch.tiktok_ledger(),
        report.sent,
        plan.expected,
        [pixel for pixel in pixels if pixel.shop != CORPUS_SHOP.domain],
        pixels,
        played=PLAYED,
    )
    return Result(
        evidence=evidence,
        checks=[*judge(evidence), judge_trouble(trouble.result())],
        report=report,
        memory=watch.memory,
        pixels=pixels,
        waterfall=await purchase_waterfall(stack.state_dir / TRACES_FOLDER, _CLOCK),
        storm_s=storm_s,
        waited_for=waited_for,
    )


async def _send(stack: Stack, plan: Plan, watch: Watch) -> SendReport:
    """Sends everything while the watch looks on; a process that ends, ends the sending."""
    sending = asyncio.create_task(
        send_all(stack.webhooks_url, plan.deliveries, on_progress=watch.note_sending)
    )
    looking = asyncio.create_task(watch.run())
    try:
        await asyncio.wait({sending, looking}, return_when=asyncio.FIRST_COMPLETED)
        if looking.done():
            looking.result()
        return await sending
    finally:
        for task in (sending, looking):
            task.cancel()
        await asyncio.gather(sending, looking, return_exceptions=True)


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
            }
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


def _write_json(json_file: Path | None, result: Result, seconds: float) -> None:
    if json_file is not None:
        encoded = msgspec.json.format(msgspec.json.encode(as_dict(result, seconds)), indent=2)
        json_file.write_bytes(encoded + b"\n")


def _print_result(console: Console, result: Result, seconds: float) -> None:
    evidence = result.evidence
    console.print(screen.ledger_table(evidence.ledger, len(evidence.parked)))
    if result.waterfall is None:
        console.print("No trace of a purchase was written here; a collector may have it.\n")
    else:
        console.print("[bold]One purchase, from webhook to TikTok[/]")
        console.print(render([result.waterfall], result.waterfall.trace_id))
    console.print(screen.tiktok_table(evidence.sandbox, result.pixels))
    console.print(screen.memory_table(result.memory))
    console.print(screen.speed_line(result.report, result.storm_s))
    screen.print_checks(console, result.checks)
    if result.waited_for:
        console.print(f"  Waited for it in vain: {result.waited_for}", style="red", markup=False)
    failed = sum(not check.passed for check in result.checks)
    word = "everything holds" if result.passed else f"{failed} checks failed"
    style = "bold green" if result.passed else "bold red"
    console.print(f"\n[{style}]{len(result.checks)} checks: {word}[/] ({seconds:.0f} s)")


def _is_ours(error: Exception) -> bool:
    """Whether something failed, rather than that something impossible was asked for."""
    return isinstance(error, ServiceError) and error.code != "no_payloads"


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder of our own, gone if the demo is broken off."""
    directory = Path(tempfile.mkdtemp(prefix="tidewire-demo-"))
    try:
        yield directory
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Turns SIGTERM into a cancellation, so that no process of the stack is left behind."""
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    if task is not None:
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)

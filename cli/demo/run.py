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
from nats.aio.client import Client
from rich.console import Console

from cli.demo import screen
from cli.demo.catalog_evidence import gather_catalogs
from cli.demo.catalog_verdict import judge_catalogs
from cli.demo.catalogs import CatalogPlay
from cli.demo.connecting import connect_all, connect_catalogs
from cli.demo.evidence import gather_evidence
from cli.demo.outage import PLAYED, Seen, Trouble, judge_trouble
from cli.demo.purchase_trace import purchase_waterfall
from cli.demo.result import Result, print_result, write_json
from cli.demo.scenery import CORPUS_SHOP, PixelPlan, corpus_root, plan_pixels
from cli.demo.shelves import PACE, plan_shelves
from cli.demo.verdict import judge
from cli.demo.watch import Watch
from cli.stack import Stack
from libs.clock import SystemClock
from libs.connections import shop_handle
from libs.errors import ServiceError
from libs.foundation import connected as nats_connected
from libs.http.session import http_session
from libs.rpc.client import channel
from libs.settings import Address
from libs.telemetry import TRACES_FOLDER
from sandbox.shopify.corpus import corpus_deliveries
from sandbox.shopify.model import Delivery, Shop
from sandbox.shopify.oracle import Expected
from sandbox.shopify.sender import SendReport, send_all
from sandbox.shopify.storm import DELIVERIES_MIN, default_shops, make_storm
from tidewire.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub

_CLOCK: Final = SystemClock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What was asked for."""

    corpus: Path | None
    size: int
    seed: int
    variants: int
    """Of the larger shop that fills catalogs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is sent, and what must come of it."""

    deliveries: Sequence[Delivery]
    expected: Expected


async def run_demo(
    environ: Mapping[str, str],
    *,
    json_file: Path | None,
    corpus: Path | None,
    size: int,
    seed: int,
    variants: int,
    keep: Path | None = None,
) -> int:
    """Starts the suite, sends a storm and prints the verdict; the exit code.

    0: every check passed. 1: one did not, or a process ended; then all that was written stays, to
    be looked into. 2: what was asked for cannot be done.
    """
    console = screen.make_console()
    began_s = _CLOCK.monotonic_s()
    wish = Wish(corpus=corpus, size=size, seed=seed, variants=variants)
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
            write_json(json_file, result, seconds)
            print_result(console, result, seconds)
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
    shelves = plan_shelves(wish.variants, wish.seed, root)
    storm_shops = default_shops(now)
    shops = (*storm_shops, CORPUS_SHOP) if root else storm_shops
    pixels = plan_pixels(shops)
    async with Stack(directory, PACE | dict(environ)) as stack, http_session() as session:
        console.print(f"Starting NATS, services and sandbox in {directory}", markup=False)
        making = asyncio.create_task(
            asyncio.to_thread(_make_plan, wish, storm_shops, now, root), name="plan"
        )
        # One after the other: were the plan to fail first, processes would start behind our back.
        await stack.start_all()
        address = Address("127.0.0.1", stack.ports.grpc["catalog"])
        async with channel(address, stack.operator) as opened:
            play = CatalogPlay(stack, CatalogServiceStub(opened), shelves, session, _CLOCK)
            connected = await _connect(stack, shops, pixels, play)
            console.print(f"Connected {connected} stores, pixels, catalogs by OAuth, in a browser")
            plan = await making
            console.print(
                f"Sending {len(plan.deliveries):,} deliveries of {len(shops)} shops, while"
                f" catalogs are filled from {wish.variants:,} variants and more"
            )
            return await _storm(stack, plan, pixels, play, session, console)


async def _connect(
    stack: Stack, shops: Sequence[Shop], pixels: Sequence[PixelPlan], play: CatalogPlay
) -> int:
    """Connects everything; how many connections that makes."""
    stores = [*shops, *(shelf.shop for shelf in play.shelves)]
    connected, _ = await asyncio.gather(connect_all(stack, stores, pixels), play.prepare())
    catalogs = [one for shelf in play.shelves for one in shelf.catalogs]
    return connected + await connect_catalogs(stack, catalogs)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """Everything that plays together while the storm goes on."""

    stack: Stack
    plan: Plan
    pixels: Sequence[PixelPlan]
    nats: Client
    watch: Watch
    trouble: Trouble
    catalogs: CatalogPlay


async def _storm(
    stack: Stack,
    plan: Plan,
    pixels: Sequence[PixelPlan],
    play: CatalogPlay,
    session: aiohttp.ClientSession,
    console: Console,
) -> Result:
    nats = await nats_connected(stack.nats.url)
    try:
        with screen.Board(console) as board:
            total = len(plan.deliveries)
            stage = _Stage(
                stack=stack,
                plan=plan,
                pixels=pixels,
                nats=nats,
                watch=Watch(stack, nats, session, board.show, total=total, clock=_CLOCK),
                trouble=_trouble(stack, pixels, nats, session),
                catalogs=play,
            )
            return await _watched(stage)
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


async def _watched(stage: _Stage) -> Result:
    stack, watch = stage.stack, stage.watch
    began_s = _CLOCK.monotonic_s()
    watch.memory.note(stack.rss_bytes(), "start_mib")
    report, seen = await _played(stage)
    waited_for = await watch.until_quiet()
    storm_s = _CLOCK.monotonic_s() - began_s
    waited_for = waited_for or await stage.catalogs.until_equal(watch.note_catalogs)
    watch.memory.note(stack.rss_bytes(), "end_mib")
    evidence = await gather_evidence(
        stage.nats,
        stack.kek_file,
        await watch.tiktok_ledger(),
        [*report.sent, *stage.catalogs.changed.sent],
        stage.plan.expected,
        [pixel for pixel in stage.pixels if pixel.shop != CORPUS_SHOP.domain],
        stage.pixels,
        played=PLAYED,
    )
    catalogs = await gather_catalogs(stage.catalogs)
    checks = [*judge(evidence), judge_trouble(seen), *judge_catalogs(catalogs, PLAYED)]
    return Result(
        evidence=evidence,
        checks=checks,
        report=report,
        memory=watch.memory,
        pixels=stage.pixels,
        catalogs=catalogs,
        changes=stage.catalogs.changed.kinds,
        waterfall=await purchase_waterfall(stack.state_dir / TRACES_FOLDER, _CLOCK),
        storm_s=storm_s,
        waited_for=waited_for,
    )


async def _played(stage: _Stage) -> tuple[SendReport, list[Seen]]:
    """Sends, changes and troubles while the watch looks on; a process that ends, ends it all."""
    watch = stage.watch
    sending = asyncio.create_task(_sent(stage), name="sending")
    trouble = asyncio.create_task(stage.trouble.play(watch.note_tiktok), name="trouble")
    changing = asyncio.create_task(stage.catalogs.play(watch.note_catalogs), name="catalogs")
    playing = (sending, trouble, changing)
    looking = asyncio.create_task(watch.run(), name="looking")
    try:
        left: set[asyncio.Task[Any]] = {*playing}
        while left:
            done, left = await asyncio.wait({*left, looking}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            left.discard(looking)
        return sending.result(), trouble.result()
    finally:
        for task in (*playing, looking):
            task.cancel()
        await asyncio.gather(*playing, looking, return_exceptions=True)


async def _sent(stage: _Stage) -> SendReport:
    """Sends the storm; its last third when there is a dead token for it to meet.

    The first trouble may last until all that was sent has been delivered.
    """
    url, deliveries = stage.stack.webhooks_url, stage.plan.deliveries
    begun = len(deliveries) * 2 // 3
    note = stage.watch.note_sending
    early = await send_all(url, deliveries[:begun], on_progress=note)
    await stage.trouble.token_dies.wait()
    late = await send_all(url, deliveries[begun:], on_progress=note, progress=early.progress)
    return SendReport([*early.sent, *late.sent], late.progress, early.seconds + late.seconds)


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

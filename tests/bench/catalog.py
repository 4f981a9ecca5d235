"""A shop of 100,000 variants seeded into TikTok's catalog, then compared, changed, and followed.

Everything runs on this machine: NATS that syncs each write, the catalog service, ingest, and one
process that simulates both Shopify and TikTok and validates each item. The simulators judge.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
import yaml

from cli.stack import Stack, children_of
from libs.rpc.client import call, channel
from libs.settings import Address
from tests.bench.figures import Bound, Goal, number, percentile, spread
from tests.bench.options import Options
from tests.bench.report import Section, Table
from tidewire.catalog.v1 import catalog_service_pb2 as pb
from tidewire.catalog.v1 import catalog_service_pb2_grpc

Say = Callable[[str], None]

VARIANTS: Final = 100_000
VARIANTS_QUICK: Final = 3_000
_SHOP: Final = "bench-goods"
_DOMAIN: Final = f"{_SHOP}.myshopify.com"
_CATALOG: Final = "7400000000000000001"
_SECRET: Final = "bench-secret"  # of a shop that is made up
_FREE: Final = (
    "tiktok.catalog.app=none;tiktok.catalog.upload=none;tiktok.catalog.delete=none;"
    "tiktok.catalog.upload.*=none;tiktok.catalog.delete.*=none;shopify.*.graphql=none;"
    "shopify.*.rest=none"
)
_PROCESSES: Final = ("sandbox", "ingest-http", "ingest-normalizer", "catalog")
_CALL_S: Final = 30.0
_WITHIN_S: Final = 600.0
_CHANGES: Final = 100
_CHANGES_QUICK: Final = 5
_GOAL_ITEMS_PER_S: Final = 2_000.0
_GOAL_MIB: Final = 300.0


@dataclass
class Cpu:
    """Processor seconds of each process, and the most memory of the catalog service."""

    stack: Stack
    began: dict[str, float] = field(default_factory=dict)
    peak_mib: float = 0.0
    samples: list[float] = field(default_factory=list)

    def begin(self) -> None:
        self.began = self._seconds()
        self.peak_mib = 0.0
        self.samples = []

    def note(self) -> None:
        mib = self.stack.rss_bytes()["catalog"] / 2**20
        self.samples.append(mib)
        self.peak_mib = max(self.peak_mib, mib)

    def used(self) -> dict[str, float]:
        """Seconds since `begin`, by process."""
        return {name: now - self.began.get(name, 0.0) for name, now in self._seconds().items()}

    def _seconds(self) -> dict[str, float]:
        pids = {name: process.pid for name, process in self.stack.processes.items()}
        pids["nats"] = self.stack.nats.pid
        return {name: _cpu_s(pid) for name, pid in pids.items()}


def _cpu_s(pid: int) -> float:
    """Of a process, of those that it has begun, and of those of them that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return own + sum(map(_cpu_s, children_of(pid)))


@dataclass
class Bench:
    """The suite at work, and what is asked of it."""

    stack: Stack
    session: aiohttp.ClientSession
    stub: Any
    """Of `CatalogService`, over asyncio."""

    cpu: Cpu

    async def sandbox(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """What the simulators answer."""
        data = None if body is None else msgspec.json.encode(body)
        url = f"{self.stack.sandbox_url}/_sandbox/{path}"
        async with self.session.request(method, url, data=data) as answer:
            found: dict[str, Any] = msgspec.json.decode(await answer.read())
            if answer.status != 200:
                raise RuntimeError(f"{path}: {found}")
            return found

    async def against(self) -> dict[str, Any]:
        """How TikTok's catalog differs from the shop."""
        return await self.sandbox(
            "GET", f"catalogs/{_CATALOG}/against?shop={_DOMAIN}&country=US&currency=USD&language=en"
        )

    async def submitted(self) -> int:
        """Items that TikTok was sent so far."""
        return int((await self.sandbox("GET", f"catalogs/{_CATALOG}"))["items_submitted"])

    async def synced(self) -> pb.SyncProgress:
        """The shop's sync, once it has come to its end."""
        deadline_s = time.monotonic() + _WITHIN_S
        while time.monotonic() < deadline_s:
            self.cpu.note()
            status: pb.GetStatusResponse = await call(
                self.stub.GetStatus, pb.GetStatusRequest(shop=_SHOP), timeout_s=_CALL_S
            )
            progress = status.shops[0].progress
            if progress.phase == pb.SYNC_PHASE_FAILED:
                raise RuntimeError(f"the sync failed: {progress.error}")
            if progress.phase == pb.SYNC_PHASE_DONE:
                return progress
            await asyncio.sleep(0.5)
        raise RuntimeError("the sync has not come to its end")

    async def full(self) -> pb.SyncProgress:
        """A full sync that is asked for."""
        request = pb.StartSyncRequest(shop=_SHOP, kind=pb.SYNC_KIND_FULL)
        await call(self.stub.StartSync, request, timeout_s=_CALL_S)
        return await self.synced()


async def catalog(options: Options, say: Say) -> list[Section]:
    """Seed, compare without and with changes, and the way of a stock change."""
    variants = VARIANTS_QUICK if options.quick else VARIANTS
    async with _running(options.directory / "catalog", variants) as bench:
        say(f"  seeding {variants:,} variants")
        seed = await _seeded(bench, variants)
        say(f"  {seed['items_per_s']:,.0f} items/s, {seed['mib']:.0f} MiB")
        same = await _compared(bench)
        say(f"  compared again: {same['items_sent']:.0f} items sent in {same['seconds']:.1f} s")
        some = await _changed(bench, variants // 100)
        say(f"  1 % changed: {some['items_sent']:.0f} of {some['items_changed']:.0f} sent")
    changes = _CHANGES_QUICK if options.quick else _CHANGES
    async with _running(options.directory / "catalog-small", 300) as bench:
        await bench.synced()
        waits = await _followed(bench, changes)
    return [_section(seed, same, some, waits, variants)]


@asynccontextmanager
async def _running(directory: Path, variants: int) -> AsyncIterator[Bench]:
    stack = Stack(directory, {**os.environ, **_settings()})
    stack.connections_file.write_text(yaml.safe_dump(_connections()))
    async with stack, aiohttp.ClientSession() as session:
        await stack.start_all(_PROCESSES[:-1])
        cpu = Cpu(stack)
        address = Address("127.0.0.1", 0)
        await _filled(stack, session, variants)
        await stack.start("catalog")
        await stack.wait_ready("catalog")
        cpu.begin()
        address = Address("127.0.0.1", stack.ports.grpc["catalog"])
        async with channel(address, stack.operator) as opened:
            stub = catalog_service_pb2_grpc.CatalogServiceStub(opened)
            yield Bench(stack, session, stub, cpu)


async def _filled(stack: Stack, session: aiohttp.ClientSession, variants: int) -> None:
    plan = {"shop": _DOMAIN, "variants": variants, "odd": [], "locales": [], "markets": {}}
    url = f"{stack.sandbox_url}/_sandbox/shopify/catalog"
    async with session.post(url, json=plan) as answer:
        if answer.status != 200:
            raise RuntimeError(await answer.text())


def _settings() -> dict[str, str]:
    return {
        "TIDEWIRE_SANDBOX_CATALOG_SPACING_S": "0",
        "TIDEWIRE_SANDBOX_CATALOG_INGESTION_MS": "5",
        "TIDEWIRE_SANDBOX_CATALOG_REVIEW_MS": "0",
        "TIDEWIRE_LIMITS": _FREE,
        "TIDEWIRE_CATALOG_LOG_POLL_S": "0.05",
        "TIDEWIRE_CATALOG_BULK_POLL_S": "0.2",
        "TIDEWIRE_CATALOG_REVIEW_EVERY_S": "0",
        "TIDEWIRE_STREAM_SCALE_MIB": "1024",
    }


def _connections() -> dict[str, Any]:
    return {
        "connections": [
            {
                "shop": _DOMAIN,
                "country": "US",
                "currency": "USD",
                "active_since": "2026-01-01T00:00:00Z",
                "shopify": {"webhook_secrets": [_SECRET], "access_token": "shpat_bench"},
                "tiktok_catalog": [
                    {
                        "access_token": "bench-token-of-a-catalog",
                        "business_center_id": "7300000000000000001",
                        "catalog_id": _CATALOG,
                        "submit_spacing_s": 0,
                    }
                ],
            }
        ]
    }


async def _seeded(bench: Bench, variants: int) -> dict[str, float]:
    progress = await bench.synced()
    verdict = await bench.against()
    if not verdict["equal"] or verdict["expected"] != verdict["items"]:
        raise RuntimeError(f"TikTok has something else than the shop: {verdict}")
    seconds = (progress.ended_at.ToNanoseconds() - progress.started_at.ToNanoseconds()) / 1e9
    quarter = max(1, len(bench.cpu.samples) // 4)
    return {
        "seconds": seconds,
        "items_per_s": verdict["items"] / seconds,
        "items": verdict["items"],
        "mib": bench.cpu.peak_mib,
        "mib_second_quarter": max(bench.cpu.samples[quarter : 2 * quarter], default=0.0),
        **{f"cpu {name}": used for name, used in bench.cpu.used().items()},
    }


async def _compared(bench: Bench) -> dict[str, float]:
    before = await bench.submitted()
    progress = await bench.full()
    return {
        "items_sent": await bench.submitted() - before,
        "seconds": (progress.ended_at.ToNanoseconds() - progress.started_at.ToNanoseconds()) / 1e9,
    }


async def _changed(bench: Bench, count: int) -> dict[str, float]:
    """A full sync after changes that no webhook has told of."""
    before = await bench.submitted()
    wish = {"shop": _DOMAIN, "kind": "price", "count": count, "seed": 11}
    await bench.sandbox("POST", "shopify/mutate", wish)
    changed = (await bench.against())["wrong_items"]
    await bench.full()
    verdict = await bench.against()
    if not verdict["equal"]:
        raise RuntimeError(f"TikTok has something else than the shop: {verdict}")
    return {"items_sent": await bench.submitted() - before, "items_changed": changed}


async def _followed(bench: Bench, changes: int) -> list[float]:
    """Seconds from the webhook of a change of stock until TikTok has the item as it should."""
    waits: list[float] = []
    send = {"url": bench.stack.webhooks_url, "secret": _SECRET}
    seed = 0
    while len(waits) < changes:
        seed += 1
        wish = {"shop": _DOMAIN, "kind": "stock", "count": 1, "seed": seed, "send": send}
        began_s = time.monotonic()
        await bench.sandbox("POST", "shopify/mutate", wish)
        if (await bench.against())["equal"]:
            # Most changes of a number are none of what buyers see.
            continue
        while not (await bench.against())["equal"]:
            if time.monotonic() - began_s > _CALL_S:
                raise RuntimeError("a change of stock has not reached TikTok")
            await asyncio.sleep(0.01)
        waits.append(time.monotonic() - began_s)
    return waits


def _section(
    seed: Mapping[str, float],
    same: Mapping[str, float],
    some: Mapping[str, float],
    waits: list[float],
    variants: int,
) -> Section:
    cpu = [(name[4:], number(used)) for name, used in seed.items() if name.startswith("cpu ")]
    return Section(
        name="catalog",
        title=f"Catalog: {variants:,} variants",
        goals=(
            Goal("items seeded", Bound.AT_LEAST, _GOAL_ITEMS_PER_S, spread([seed["items_per_s"]]),
                 "items/s"),
            Goal("most memory of the catalog service", Bound.AT_MOST, _GOAL_MIB,
                 spread([seed["mib"]]), "MiB"),
            Goal("items sent with nothing changed", Bound.AT_MOST, 0, spread([same["items_sent"]])),
            Goal("items sent beyond those of 1 % that changed", Bound.AT_MOST, 0,
                 spread([some["items_sent"] - some["items_changed"]])),
            Goal("stock change to TikTok, p50", Bound.AT_MOST, 1.0,
                 spread([percentile(waits, 0.5)]), "s"),
            Goal("stock change to TikTok, p99", Bound.AT_MOST, 5.0,
                 spread([percentile(waits, 0.99)]), "s"),
        ),
        tables=(
            Table(
                "Processor seconds while it was seeded",
                ("process", "seconds"),
                tuple(sorted(cpu)),
            ),
        ),
        notes=_notes(seed, same, waits),
        raw={"seed": [dict(seed)], "changes": [{"s": wait} for wait in waits]},
    )  # fmt: skip


def _notes(
    seed: Mapping[str, float], same: Mapping[str, float], waits: list[float]
) -> tuple[str, ...]:
    seeded = (
        f"Seeded from Shopify's export to TikTok's last word in {seed['seconds']:.1f} s, on two"
        " cores with NATS (each write synced) and the validating simulators on them; no limits of"
        " TikTok's."
    )
    followed = (
        f"{len(waits)} changes of stock, one at a time, by webhook through ingest; TikTok's"
        " ingestion of 5 ms is in it."
    )
    return (
        seeded,
        f"Memory in the second quarter of the seed: {seed['mib_second_quarter']:.0f} MiB.",
        f"A comparison of everything with nothing changed takes {same['seconds']:.1f} s.",
        followed,
    )

"""Faults of the processes that stand between a shop and its catalogs, and of NATS under them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Final

from libs.bus.api import js_api
from services.catalog import keys
from services.catalog.domain.states import SyncPhase
from tests.faults.catalog_house import SPACING_S
from tests.faults.catalog_scene import CatalogFault, CatalogScene, until
from tests.faults.cluster import NatsCluster
from tests.faults.judge import SERVICE_WITHIN_S
from tests.faults.site import Kind
from tests.faults.wire import Way

Inflict = Callable[[CatalogScene], Awaitable[None]]

_OTHER: Final = "catalog#2"
_LEASE_S: Final = 15.0
_LONGER_THAN_LEASE_S: Final = 20.0
_SKEW_S: Final = 5.0
_MINUTE_S: Final = 60.0
_STUCK: Final = {"kind": "stuck_log", "ingests": False, "blocks": True, "for_s": 3.0}


def ended(name: str, how: signal.Signals) -> Inflict:
    """Ended while submits are under way, and started again."""

    async def inflict(scene: CatalogScene) -> None:
        await scene.submits()
        if name.startswith("catalog"):
            await scene.flying(lambda _: True)
        await scene.kill(name, how)
        await scene.start(name)

    return inflict


def stopped(name: str, seconds: float) -> Inflict:
    """Stopped while submits are under way, and continued: it does not know that time has passed."""

    async def inflict(scene: CatalogScene) -> None:
        await scene.submits()
        scene.stop(name)
        await asyncio.sleep(seconds)
        scene.go_on(name)

    return inflict


async def one_of_two_ended(scene: CatalogScene) -> None:
    """The other takes over; the dead one does not come back."""
    await scene.joined_by(_OTHER)
    await scene.flying(lambda _: True)
    await scene.kill("catalog")


async def zombie(scene: CatalogScene) -> None:
    """The owner is stopped until the other has its lane; then it goes on as if nothing was."""
    await scene.joined_by(_OTHER)
    await scene.flying(lambda _: True)
    await _stopped_till_taken_over(scene)
    await scene.submits(2)
    scene.go_on("catalog")


async def late_request(scene: CatalogScene) -> None:
    """What the owner has sent arrives only when another owns the lane and has sent newer."""
    # The other has a way of its own to TikTok.
    await scene.joined_by(_OTHER, TIDEWIRE_TIKTOK_API_BASE_URL=scene.stack.sandbox_url)
    await scene.submits()
    await _caught_on_its_way(scene)
    await _stopped_till_taken_over(scene)
    # What is late is older than what TikTok has by then, and nothing newer comes after it.
    scene.quiet()
    await scene.house.mutate("text", 200)
    await until(scene.is_equal, 30.0, "the other has sent all")
    # Longer than the spacing: one that came too soon would be dropped.
    await asyncio.sleep(SPACING_S + 0.5)
    await scene.house.tiktok.mend()
    await scene.submits()
    scene.go_on("catalog")


async def _caught_on_its_way(scene: CatalogScene) -> None:
    """The next submit has left catalog and does not arrive."""
    caught = scene.house.tiktok.stall_at(Way.OUT, b"POST /open_api")
    async with asyncio.timeout(15):
        await caught.wait()
    # The rest of a request that came in pieces.
    await asyncio.sleep(0.3)


async def _stopped_till_taken_over(scene: CatalogScene) -> None:
    before = await scene.house.owner()
    scene.stop("catalog")

    async def taken_over() -> bool:
        return await scene.house.owner() not in ("", before)

    await until(taken_over, _LEASE_S + 10.0, "the other owns the lane")


async def skewed(scene: CatalogScene) -> None:
    """Two whose clocks are wrong both ways own the lane in turn."""
    early, late = f"{_SKEW_S}", f"{-_SKEW_S}"
    await scene.kill("catalog", signal.SIGTERM)
    await scene.start("catalog", TIDEWIRE_CLOCK_OFFSET_S=early)
    await scene.stack.wait_ready("catalog")
    await scene.submits(2)
    await scene.joined_by(_OTHER, TIDEWIRE_CLOCK_OFFSET_S=late)
    await scene.kill("catalog", signal.SIGTERM)
    await scene.submits(2)
    await scene.start("catalog", TIDEWIRE_CLOCK_OFFSET_S=early)
    await scene.stack.wait_ready("catalog")
    await scene.kill(_OTHER)
    await scene.submits(2, _LEASE_S + 10.0)


async def killed_before_the_request(scene: CatalogScene) -> None:
    """Killed when it has recorded what it sends; the request is lost with it."""
    await scene.submits()
    await _caught_on_its_way(scene)
    await scene.kill("catalog")
    await scene.house.tiktok.cut()
    await scene.house.tiktok.mend()
    await scene.start("catalog")


async def killed_after_the_request(scene: CatalogScene) -> None:
    """Killed when TikTok has taken it; the answer is lost with it."""
    await scene.submits()
    scene.house.tiktok.stall(Way.BACK)
    await scene.submits()
    await scene.kill("catalog")
    await scene.house.tiktok.cut()
    await scene.house.tiktok.mend()
    await scene.start("catalog")


async def killed_before_the_log(scene: CatalogScene) -> None:
    async with scene.scripted(_STUCK):
        await scene.flying(lambda one: bool(one.feed_log_id))
        await scene.kill("catalog")
    await scene.start("catalog")


async def killed_during_export(scene: CatalogScene) -> None:
    await scene.house.sandbox("POST", "shopify/bulk", {"duration_s": 4.0})
    await scene.full_sync()
    await scene.syncing(lambda run: run.phase == SyncPhase.EXPORTING and bool(run.operation_id))
    await scene.kill("catalog")
    await scene.start("catalog")


async def killed_before_export_is_noted(scene: CatalogScene) -> None:
    await scene.house.sandbox("POST", "shopify/bulk", {"duration_s": 4.0})
    await scene.full_sync()
    await scene.syncing(lambda run: bool(run.begun_ns))
    await scene.kill("catalog")
    await scene.start("catalog")


async def killed_during_compare(scene: CatalogScene) -> None:
    cut = [{"kind": "truncate", "after_bytes": 40_000, "times": 3}]
    await scene.house.sandbox("POST", "shopify/bulk/faults", cut)
    await scene.full_sync()
    await scene.syncing(lambda run: run.phase == SyncPhase.COMPARING)
    await scene.kill("catalog")
    await scene.start("catalog")


async def all_in_turn(scene: CatalogScene) -> None:
    """Nobody waits for anybody: the next one dies while the one before is still starting."""
    await scene.submits()
    for name in ("ingest-normalizer", "catalog", "nats", "auth", "ingest-http"):
        await scene.kill(name)
        await scene.start(name)
        await asyncio.sleep(0.7)


# -- NATS ----------------------------------------------------------------------------------------


def nats_down(seconds: float, how: signal.Signals) -> Inflict:
    async def inflict(scene: CatalogScene) -> None:
        await scene.submits()
        await scene.kill("nats", how)
        await asyncio.sleep(seconds)
        await scene.start("nats")

    return inflict


def nats_paused(seconds: float) -> Inflict:
    async def inflict(scene: CatalogScene) -> None:
        await scene.submits()
        server = scene.stack.nats
        os.kill(server.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            os.kill(server.pid, signal.SIGCONT)

    return inflict


async def leader_killed(scene: CatalogScene) -> None:
    await scene.submits()
    node = _cluster(scene).node(await _leader(scene))
    await asyncio.to_thread(node.kill)


async def leader_stopped(scene: CatalogScene) -> None:
    await scene.submits()
    node = _cluster(scene).node(await _leader(scene))
    os.kill(node.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(12.0)
    finally:
        os.kill(node.pid, signal.SIGCONT)


async def quorum_lost(scene: CatalogScene) -> None:
    await scene.submits()
    nodes = _cluster(scene).nodes[:2]
    for node in nodes:
        await asyncio.to_thread(node.kill)
    await asyncio.sleep(8.0)
    await asyncio.gather(*(asyncio.to_thread(node.start) for node in nodes))


async def _leader(scene: CatalogScene) -> str:
    info = await js_api(scene.house.nats, f"STREAM.INFO.{keys.STREAM}")
    return str(info["cluster"]["leader"])


def _cluster(scene: CatalogScene) -> NatsCluster:
    cluster = scene.stack.nats
    assert isinstance(cluster, NatsCluster)
    return cluster


def _each(name: str) -> list[CatalogFault]:
    return [
        CatalogFault(
            name=f"catalogs.{name}.kill",
            what=f"`kill -9` of {name} with submits under way, then a restart",
            inflict=ended(name, signal.SIGKILL),
        ),
        CatalogFault(
            name=f"catalogs.{name}.stop-20s",
            what=f"SIGSTOP of {name} for 20 s, longer than a lease, then SIGCONT",
            expected="it goes on without a restart",
            inflict=stopped(name, _LONGER_THAN_LEASE_S),
        ),
    ]


PROCESSES: Final = (
    *_each("catalog"),
    CatalogFault(
        name="catalogs.catalog.drain",
        what="SIGTERM of catalog with submits under way, then a restart",
        inflict=ended("catalog", signal.SIGTERM),
    ),
    CatalogFault(
        name="catalogs.catalog.stop-3s",
        what="SIGSTOP of catalog for 3 s, then SIGCONT",
        expected="it goes on without a restart",
        inflict=stopped("catalog", 3.0),
    ),
    CatalogFault(
        name="catalogs.catalog.two-one-killed",
        what="two catalog processes, the one at work killed and not restarted",
        expected="the other takes its lanes over",
        inflict=one_of_two_ended,
    ),
    CatalogFault(
        name="catalogs.catalog.two-one-zombie",
        what="two catalog processes, the one at work stopped until the other has its lanes,"
        " then continued",
        inflict=zombie,
    ),
    CatalogFault(
        name="catalogs.catalog.late-request",
        what="as above, and what it had sent reaches TikTok after what the other has sent",
        expected="it says so, and the other sends those items again, a minute later where TikTok"
        " has dropped a submit for the late one",
        inflict=late_request,
        within_s=2 * _MINUTE_S + SERVICE_WITHIN_S,
        crowded=True,
        lasts_s=300.0,
        spoils=True,
    ),
    CatalogFault(
        name="catalogs.catalog.skew",
        what="two catalog processes whose clocks are 5 s early and 5 s late own the lanes in turn",
        inflict=skewed,
    ),
    CatalogFault(
        name="catalogs.catalog.kill-before-request",
        what="`kill -9` between the record of a submit and its request, which is lost",
        inflict=killed_before_the_request,
    ),
    CatalogFault(
        name="catalogs.catalog.kill-after-request",
        what="`kill -9` when TikTok has taken a submit, whose answer is lost",
        inflict=killed_after_the_request,
    ),
    CatalogFault(
        name="catalogs.catalog.kill-before-log",
        what="`kill -9` between a submit and the end of its log",
        inflict=killed_before_the_log,
    ),
    CatalogFault(
        name="catalogs.catalog.kill-during-export",
        what="`kill -9` of catalog while Shopify exports for a full sync",
        inflict=killed_during_export,
    ),
    CatalogFault(
        name="catalogs.catalog.kill-before-export-noted",
        what="`kill -9` of catalog before it has noted which export it began",
        inflict=killed_before_export_is_noted,
    ),
    CatalogFault(
        name="catalogs.catalog.kill-during-compare",
        what="`kill -9` of catalog while it compares an export with its records",
        inflict=killed_during_compare,
    ),
    *_each("ingest-http"),
    *_each("ingest-normalizer"),
    *_each("auth"),
    CatalogFault(
        name="catalogs.all.kill-in-turn",
        what="`kill -9` of normalizer, catalog, NATS, auth and ingest, each while others start",
        inflict=all_in_turn,
    ),
    CatalogFault(
        name="catalogs.nats.kill",
        what="`kill -9` of NATS and a restart on the same store",
        inflict=nats_down(0.5, signal.SIGKILL),
    ),
    CatalogFault(
        name="catalogs.nats.restart",
        what="NATS restarted in good order",
        inflict=nats_down(0.5, signal.SIGTERM),
    ),
    CatalogFault(
        name="catalogs.nats.down-20s",
        what="NATS killed and away for 20 s, longer than a lease",
        inflict=nats_down(_LONGER_THAN_LEASE_S, signal.SIGKILL),
    ),
    CatalogFault(
        name="catalogs.nats.stop-5s",
        what="SIGSTOP of NATS for 5 s: connections stay open and nothing answers",
        inflict=nats_paused(5.0),
    ),
    CatalogFault(
        name="catalogs.nats.stop-20s",
        what="SIGSTOP of NATS for 20 s, longer than a lease",
        inflict=nats_paused(_LONGER_THAN_LEASE_S),
    ),
    CatalogFault(
        name="catalogs.cluster.leader-kill",
        what="three NATS servers, R3: `kill -9` of the leader of the records, which stays away",
        inflict=leader_killed,
        kind=Kind.CLUSTER,
    ),
    CatalogFault(
        name="catalogs.cluster.leader-stop",
        what="three NATS servers, R3: SIGSTOP of the leader of the records for 12 s",
        inflict=leader_stopped,
        kind=Kind.CLUSTER,
    ),
    CatalogFault(
        name="catalogs.cluster.quorum-lost",
        what="three NATS servers, R3: two of them killed, restarted after 8 s",
        inflict=quorum_lost,
        kind=Kind.CLUSTER,
    ),
)

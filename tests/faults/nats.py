"""Faults of NATS, of the wire to it, of its disk, and of a cluster's leader."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Final

from cli.nats_server import NatsServer
from libs.bus import subjects
from tests.faults.cluster import NatsCluster
from tests.faults.scene import Scene
from tests.faults.site import Kind
from tests.faults.trial import Fault
from tests.faults.wire import Way, Wire

Inflict = Callable[[Scene], Awaitable[None]]

_DOOR: Final = "every webhook is answered within 2.5 s, 200 or 503 with Retry-After"
_ROOM_BYTES: Final = 24_000


def down(seconds: float, how: signal.Signals) -> Inflict:
    """Ended, away for a while, and started again on its store."""

    async def inflict(scene: Scene) -> None:
        await scene.reaches(0.3)
        async with scene.door_watched():
            await scene.kill("nats", how)
            await asyncio.sleep(seconds)
            await scene.start("nats")
            scene.over()

    return inflict


async def paused(scene: Scene) -> None:
    await scene.reaches(0.3)
    server = scene.stack.nats
    async with scene.door_watched():
        os.kill(server.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(5)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        scene.over()


async def gone_during_connect(scene: Scene) -> None:
    """Services that start find no NATS, then one that goes away again while they set up."""
    await scene.reaches(0.3)
    for name in ("events", "ingest-normalizer"):
        await scene.kill(name)
    await scene.kill("nats")
    for name in ("events", "ingest-normalizer"):
        await scene.start(name)
    await asyncio.sleep(2)
    pids = {name: scene.stack.processes[name].pid for name in ("events", "ingest-normalizer")}
    for _ in range(2):
        await scene.start("nats")
        await asyncio.sleep(0.3)
        await scene.kill("nats")
        await asyncio.sleep(1)
    await scene.start("nats")
    scene.over()
    for name, pid in pids.items():
        await scene.stack.wait_ready(name)
        assert scene.stack.processes[name].pid == pid


# -- the wire ------------------------------------------------------------------------------------


def spoiled(spoil: Callable[[Wire], None], seconds: float) -> Inflict:
    """The wire to NATS is bad for a while."""

    async def inflict(scene: Scene) -> None:
        wire = _wire(scene)
        await scene.reaches(0.3)
        async with scene.door_watched():
            spoil(wire)
            await asyncio.sleep(seconds)
            await wire.mend()
            scene.over()

    return inflict


async def cut_again_and_again(scene: Scene) -> None:
    wire = _wire(scene)
    await scene.reaches(0.2)
    async with scene.door_watched():
        for _ in range(6):
            await wire.cut()
            await asyncio.sleep(1)
        scene.over()


async def refused(scene: Scene) -> None:
    wire = _wire(scene)
    await scene.reaches(0.3)
    async with scene.door_watched():
        await wire.shut()
        await asyncio.sleep(10)
        await wire.open()
        scene.over()


def _wire(scene: Scene) -> Wire:
    wire = scene.site.nats_wire
    assert wire is not None
    return wire


def _slow(latency_s: float) -> Callable[[Wire], None]:
    def spoil(wire: Wire) -> None:
        wire.latency_s = latency_s

    return spoil


# -- the disk ------------------------------------------------------------------------------------


def full(stream: str, seconds: float) -> Inflict:
    """The stream meets its bound in the middle of the storm; later it is given more room."""

    async def inflict(scene: Scene) -> None:
        await scene.reaches(0.2)
        async with scene.door_watched():
            before = await scene.leave_room(stream, _ROOM_BYTES)
            try:
                await asyncio.sleep(seconds)
            finally:
                await scene.bound(stream, before)
            scene.over()

    return inflict


# -- the cluster ---------------------------------------------------------------------------------


async def leader_killed(scene: Scene) -> None:
    """The one dies that the door needs; the third stays away until all is judged."""
    leader = await _leader(scene)
    await scene.reaches(0.3)
    async with scene.door_watched():
        await asyncio.to_thread(leader.kill)
        # Two of three are left: whatever comes now must work without the third.
        scene.over()
        await asyncio.sleep(8)


async def leader_paused(scene: Scene) -> None:
    leader = await _leader(scene)
    await scene.reaches(0.3)
    async with scene.door_watched():
        leader.pause()
        try:
            await asyncio.sleep(12)
        finally:
            leader.resume()
        scene.over()


async def quorum_lost(scene: Scene) -> None:
    cluster = _cluster(scene)
    leader = await _leader(scene)
    other = next(node for node in cluster.nodes if node is not leader)
    await scene.reaches(0.3)
    async with scene.door_watched():
        for node in (leader, other):
            await asyncio.to_thread(node.kill)
        await asyncio.sleep(8)
        await asyncio.to_thread(cluster.start)
        scene.over()


async def rolled(scene: Scene) -> None:
    """A rolling restart, as an upgrade makes it."""
    cluster = _cluster(scene)
    await scene.reaches(0.2)
    async with scene.door_watched():
        for node in cluster.nodes:
            await asyncio.to_thread(node.stop)
            await asyncio.sleep(1)
            await asyncio.to_thread(node.start)
        scene.over()


def _cluster(scene: Scene) -> NatsCluster:
    cluster = scene.stack.nats
    assert isinstance(cluster, NatsCluster)
    return cluster


async def _leader(scene: Scene) -> NatsServer:
    return _cluster(scene).node(await scene.leader_of(subjects.WEBHOOKS))


NATS: Final = (
    Fault(
        name="nats.kill",
        what="`kill -9` of NATS and a restart on the same store",
        expected=_DOOR,
        inflict=down(0.0, signal.SIGKILL),
    ),
    Fault(
        name="nats.restart",
        what="NATS restarted in good order",
        expected=_DOOR,
        inflict=down(0.0, signal.SIGTERM),
    ),
    Fault(
        name="nats.down-20s",
        what="NATS killed and away for 20 s, longer than ack_wait",
        expected=_DOOR,
        inflict=down(20.0, signal.SIGKILL),
    ),
    Fault(
        name="nats.stop-5s",
        what="SIGSTOP of NATS for 5 s: connections stay open and nothing answers",
        expected=_DOOR,
        inflict=paused,
    ),
    Fault(
        name="nats.gone-during-connect",
        what="events and normalizer start without NATS, which then comes and goes twice",
        expected="they come up by themselves",
        inflict=gone_during_connect,
    ),
    Fault(
        name="nats.webhooks-full",
        what="the stream WEBHOOKS is full for 6 s, then given room",
        expected=_DOOR,
        inflict=full(subjects.WEBHOOKS, 6.0),
    ),
    Fault(
        name="nats.commerce-full",
        what="the stream COMMERCE is full for 8 s, then given room",
        expected=_DOOR,
        inflict=full(subjects.COMMERCE, 8.0),
    ),
    Fault(
        name="nats.outcomes-full",
        what="the stream OUTCOMES is full for 8 s, then given room",
        expected=_DOOR,
        inflict=full(subjects.OUTCOMES, 8.0),
    ),
    Fault(
        name="wire.nats-slow",
        what="100 ms more each way between the services and NATS, for 8 s",
        expected=_DOOR,
        kind=Kind.WIRED,
        inflict=spoiled(_slow(0.1), 8.0),
    ),
    Fault(
        name="wire.nats-crawls",
        what="1.5 s more each way between the services and NATS, for 10 s",
        expected=_DOOR,
        kind=Kind.WIRED,
        inflict=spoiled(_slow(1.5), 10.0),
    ),
    Fault(
        name="wire.nats-cut",
        what="every connection to NATS reset, six times a second apart",
        expected=_DOOR,
        kind=Kind.WIRED,
        inflict=cut_again_and_again,
    ),
    Fault(
        name="wire.nats-refused",
        what="NATS cannot be reached for 10 s while it runs",
        expected=_DOOR,
        kind=Kind.WIRED,
        inflict=refused,
    ),
    Fault(
        name="wire.nats-silent",
        what="NATS hears everything and none of its answers arrives, for 8 s",
        expected=_DOOR,
        kind=Kind.WIRED,
        inflict=spoiled(lambda wire: wire.stall(Way.BACK), 8.0),
    ),
    Fault(
        name="wire.nats-deaf",
        what="nothing that is sent to NATS arrives, for 8 s",
        expected=_DOOR,
        kind=Kind.WIRED,
        inflict=spoiled(lambda wire: wire.stall(Way.OUT), 8.0),
    ),
    Fault(
        name="cluster.leader-kill",
        what="three NATS servers, R3: `kill -9` of the leader of WEBHOOKS, which stays away",
        expected=_DOOR,
        kind=Kind.CLUSTER,
        inflict=leader_killed,
        spread_s=6.0,
    ),
    Fault(
        name="cluster.leader-stop",
        what="three NATS servers, R3: SIGSTOP of the leader of WEBHOOKS for 12 s",
        expected=_DOOR,
        kind=Kind.CLUSTER,
        inflict=leader_paused,
        spread_s=6.0,
    ),
    Fault(
        name="cluster.quorum-lost",
        what="three NATS servers, R3: two of them killed, restarted after 8 s",
        expected=_DOOR,
        kind=Kind.CLUSTER,
        inflict=quorum_lost,
        spread_s=6.0,
    ),
    Fault(
        name="cluster.rolled",
        what="three NATS servers, R3: restarted one after the other",
        expected=_DOOR,
        kind=Kind.CLUSTER,
        inflict=rolled,
        spread_s=6.0,
    ),
)

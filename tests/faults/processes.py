"""Faults of our own processes, alone and in pairs, and of their clocks."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Final

from tests.faults.scene import Scene
from tests.faults.trial import Fault
from tests.faults.wire import Way

Inflict = Callable[[Scene], Awaitable[None]]

_SLOW: Final = {"latency_ms": 400}
"""TikTok takes events at once and is slow to say so: a kill then falls between the two."""

_WITH_DURABLES: Final = frozenset({"ingest-normalizer", "events"})
"""Of these one can tell that they have work in hand; nobody waits for that with the others."""

_UNDER_WAY_S: Final = 0.5
"""Time for what is in hand to be encoded and written to the wire."""

_SERVED_WITHIN_S: Final = 30.0
_SKEW_S: Final = 5.0
_JOINING_S: Final = 12.0
"""A storm so long is under way still when a second process has joined."""


def ended(name: str, how: signal.Signals) -> Inflict:
    """Ended with work in hand, and started again as an orchestrator would."""

    async def inflict(scene: Scene) -> None:
        async with scene.scripted(_SLOW, is_all=False):
            await scene.reaches(0.3)
            await scene.has_work_for(name)
            await scene.kill(name, how)
        await scene.start(name)

    return inflict


def stopped(name: str, seconds: float) -> Inflict:
    """Stopped with work in hand, and continued: it does not know that time has passed."""

    async def inflict(scene: Scene) -> None:
        async with scene.scripted(_SLOW, is_all=False):
            await scene.reaches(0.3)
            await scene.has_work_for(name)
            scene.stop(name)
            await asyncio.sleep(seconds)
        scene.go_on(name)

    return inflict


async def killed_unsent(scene: Scene) -> None:
    """Killed while what it sends is under way, and lost with it."""
    wire = scene.site.tiktok
    wire.stall(Way.OUT)
    await scene.has_work_for("events")
    await asyncio.sleep(_UNDER_WAY_S)
    await scene.kill("events")
    await wire.cut()
    await wire.mend()
    await scene.start("events")


async def unsent(scene: Scene) -> None:
    await scene.reaches(0.3)
    await killed_unsent(scene)


async def all_in_turn(scene: Scene) -> None:
    # Nobody waits for anybody: the next one dies while the one before is still starting.
    victims = ["ingest-normalizer", "events", "nats", "ingest-http"]
    async with scene.scripted(_SLOW, is_all=False):
        for place, name in enumerate(victims, start=1):
            await scene.reaches(0.2 * place)
            if name == "events":
                await killed_unsent(scene)
                continue
            await scene.kill(name)
            await scene.start(name)


def one_of_two_ended(name: str) -> Inflict:
    """The other goes on alone; the dead one does not come back."""

    async def inflict(scene: Scene) -> None:
        await scene.joined_by(f"{name}#2")
        async with scene.scripted(_SLOW, is_all=False):
            await scene.reaches(0.5)
            await scene.has_work_for(name)
            await scene.kill(name)

    return inflict


def zombie(name: str, seconds: float) -> Inflict:
    """One of two is stopped until the other has its work; then it wakes and goes on with it."""

    async def inflict(scene: Scene) -> None:
        await scene.joined_by(f"{name}#2")
        async with scene.scripted(_SLOW, is_all=False):
            await scene.reaches(0.5)
            await scene.has_work_for(name)
            scene.stop(name)
            began_s = time.monotonic()
        await scene.unhurt(*scene.site.shops, within_s=_SERVED_WITHIN_S)
        await asyncio.sleep(max(0.0, seconds - (time.monotonic() - began_s)))
        scene.go_on(name)

    return inflict


def skewed(name: str, ahead_s: float, *, paired: bool) -> Inflict:
    """A process whose clock is wrong; `paired` with one that is wrong the other way."""

    async def inflict(scene: Scene) -> None:
        await scene.reaches(0.2)
        await scene.kill(name, signal.SIGTERM)
        await scene.start(name, TIDEWIRE_CLOCK_OFFSET_S=f"{ahead_s}")
        if paired:
            await scene.joined_by(f"{name}#2", TIDEWIRE_CLOCK_OFFSET_S=f"{-ahead_s}")
        await scene.stack.wait_ready(name)
        await scene.reaches(0.9)

    return inflict


def _each() -> list[Fault]:
    faults = []
    for name in ("ingest-http", "ingest-normalizer", "events"):
        when = "with work in hand" if name in _WITH_DURABLES else "in the middle of a storm"
        faults += [
            Fault(
                name=f"{name}.kill",
                what=f"`kill -9` of {name} {when}, then a restart",
                inflict=ended(name, signal.SIGKILL),
            ),
            Fault(
                name=f"{name}.drain",
                what=f"SIGTERM of {name} in the middle of a storm, then a restart",
                inflict=ended(name, signal.SIGTERM),
            ),
            *(
                Fault(
                    name=f"{name}.stop-{seconds:.0f}s",
                    what=f"SIGSTOP of {name} for {seconds:.0f} s {when}, then SIGCONT",
                    expected="it goes on without a restart",
                    inflict=stopped(name, seconds),
                )
                for seconds in (3.0, 20.0)
            ),
        ]
    return faults


PROCESSES: Final = (
    *_each(),
    Fault(
        name="events.kill-unsent",
        what="`kill -9` of events while its requests are on the wire, where they are lost",
        inflict=unsent,
    ),
    Fault(
        name="all.kill-in-turn",
        what="`kill -9` of normalizer, events, NATS and ingest, each while others still start",
        inflict=all_in_turn,
        spread_s=6.0,
    ),
    Fault(
        name="events.two-one-killed",
        what="two events processes, one killed with work in hand and not restarted",
        expected="the other takes its lanes over",
        inflict=one_of_two_ended("events"),
        spread_s=_JOINING_S,
    ),
    Fault(
        name="events.two-one-zombie",
        what="two events processes, one stopped for 20 s and continued with its old work in hand",
        expected="the other serves every shop within 30 s of the stop",
        inflict=zombie("events", 20.0),
        spread_s=_JOINING_S,
    ),
    Fault(
        name="ingest-normalizer.two-one-killed",
        what="two normalizers, one killed with work in hand and not restarted",
        expected="the other takes its work over",
        inflict=one_of_two_ended("ingest-normalizer"),
        spread_s=_JOINING_S,
    ),
    Fault(
        name="ingest-normalizer.two-one-zombie",
        what="two normalizers, one stopped for 20 s and continued with its old work in hand",
        expected="the other serves every shop within 30 s of the stop",
        inflict=zombie("ingest-normalizer", 20.0),
        spread_s=_JOINING_S,
    ),
    Fault(
        name="clock.events-skew",
        what="two events processes whose clocks are 5 s late and 5 s early",
        inflict=skewed("events", _SKEW_S, paired=True),
        spread_s=_JOINING_S,
    ),
    Fault(
        name="clock.normalizer-skew",
        what="two normalizers whose clocks are 5 s late and 5 s early",
        inflict=skewed("ingest-normalizer", _SKEW_S, paired=True),
        spread_s=_JOINING_S,
    ),
    Fault(
        name="clock.ingest-skew",
        what="an ingest process whose clock is 5 s late, so that deliveries arrive in the past",
        inflict=skewed("ingest-http", -_SKEW_S, paired=False),
        spread_s=6.0,
    ),
)

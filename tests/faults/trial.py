"""One fault from beginning to end: storm, fault, recovery, rest, verdict."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from libs.ledger import read_outcomes
from sandbox.shopify.storm import DELIVERIES_MIN
from tests.faults.judge import SERVICE_WITHIN_S, Books, Costs, judge, keys_of
from tests.faults.scene import Scene
from tests.faults.site import Kind, Site, services

_SERVICE_BOUND_S: Final = SERVICE_WITHIN_S + 15.0
"""Longer than allowed, so that a miss has a figure."""

_TAIL_LINES: Final = 6
_DULL: Final = ('"info"', '"debug"', "[INF]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A class of faults."""

    name: str
    what: str
    """What it is and how it is inflicted."""

    inflict: Callable[[Scene], Awaitable[None]]
    """Runs beside the storm; returns when the fault is over."""

    expected: str = ""
    """What must hold beside the promises that all share."""

    kind: Kind = Kind.PLAIN
    size: int = DELIVERIES_MIN
    spread_s: float = 3.0
    """Over how long the storm is spread."""

    only_struck: bool = False
    """The storm is that of one shop."""

    within_s: float = 240.0
    """A bound on the whole of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a fault did."""

    fault: Fault
    costs: Costs = field(default_factory=Costs)
    service_s: float | None = None
    """From the fault's end until the last shop's new order was at TikTok; None: never."""

    complaints: tuple[str, ...] = ()
    """What else was not as it must be."""

    seconds: float = 0.0
    tails: str = ""
    """The ends of the logs, where something is wrong."""

    @property
    def passed(self) -> bool:
        served = self.service_s is not None and self.service_s <= SERVICE_WITHIN_S
        return served and not self.costs and not self.complaints


async def undergone(fault: Fault, site: Site) -> Result:
    """The fault inflicted on the site, and judged. The site is fit for another if it passed."""
    began_s = time.monotonic()
    shops = (site.struck,) if fault.only_struck else site.shops
    scene = Scene(site, await site.brew(fault.size, shops), fault.spread_s)
    before = {name: site.stack.processes[name].pid for name in services()}
    service_s = None
    try:
        async with asyncio.timeout(fault.within_s):
            service_s = await _played(fault, scene)
            await scene.comes_to_rest()
    except TimeoutError:
        scene.complaints.append(f"not over after {fault.within_s:.0f} s")
    except Exception as error:  # noqa: BLE001  # one fault's trouble must not hide the others
        scene.complaints.append(f"broke off: {_reason(error)}")
    costs = await _costs(scene)
    scene.complaints += _restarted(scene, before)
    result = Result(
        fault=fault,
        costs=costs,
        service_s=service_s,
        complaints=tuple(scene.complaints),
        seconds=time.monotonic() - began_s,
    )
    tails = "" if result.passed else _tails(site)
    with suppress(Exception):
        # A site that cannot be tidied up is one that failed: it is not used again.
        await asyncio.wait_for(scene.tidied(), 90)
    return Result(
        fault=fault,
        costs=costs,
        service_s=service_s,
        complaints=result.complaints,
        seconds=result.seconds,
        tails=tails,
    )


async def _played(fault: Fault, scene: Scene) -> float | None:
    """The storm with the fault in it; the seconds from the fault's end to full service."""
    async with asyncio.TaskGroup() as group:
        group.create_task(scene.send())
        await fault.inflict(scene)
        scene.over()
        try:
            async with asyncio.timeout(_SERVICE_BOUND_S):
                return await scene.served(*scene.site.shops) - scene.ended_s
        except TimeoutError:
            return None


async def _costs(scene: Scene) -> Costs:
    site = scene.site
    site.refused |= scene.refused
    try:
        async with asyncio.timeout(60):
            outcomes = await read_outcomes(site.nats)
            # In this order: what is called done must by now be there.
            await site.look()
    except Exception as error:  # noqa: BLE001  # whatever it is, there is no verdict without it
        scene.complaints.append(f"the books cannot be read: {_reason(error)}")
        outcomes = []
    return judge(
        Books(
            arrived=site.accepted.events,
            outcomes=outcomes,
            due=scene.due,
            known=site.known,
            pixels=site.pixels,
            refused=frozenset(scene.refused),
        )
    )


def _restarted(scene: Scene, before: dict[str, int]) -> list[str]:
    """Processes that the fault did not kill and that do not live on."""
    processes = scene.stack.processes
    return [
        f"{name} had to be restarted, or has ended"
        for name, pid in before.items()
        if name not in scene.touched
        and (processes[name].returncode is not None or processes[name].pid != pid)
    ]


def _tails(site: Site) -> str:
    """The last warnings of each process: what one looks at first."""
    ends = []
    for name in (*site.stack.processes, "nats"):
        lines = [
            line
            for line in site.stack.log_tail(name, 400).splitlines()
            if not any(word in line for word in _DULL)
        ]
        shown = "\n".join(f"    {line[:300]}" for line in lines[-_TAIL_LINES:])
        ends.append(f"  {name}:\n{shown}")
    answers = keys_of(site.accepted.events)
    ends.append(f"  TikTok has {len(site.accepted.events)} events, {len(answers)} different")
    return "\n".join(ends)


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"[:300]

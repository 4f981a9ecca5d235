"""Faults beside a limit that binds: it holds for two replicas whatever goes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from typing import Final

from tests.faults.scene import Scene
from tests.faults.trial import Fault

_PER_S: Final = 4
"""Requests, of up to a thousand events each: a storm wants only a few more in a second."""
_TOLD: Final = {"TIDEWIRE_LIMITS": f"tiktok.events.app={_PER_S}/s"}
_BINDS_SHARE: Final = 0.75
"""Of the limit, in the busiest second: less, and it was never what held anybody up."""

_WAY_S: Final = 0.1
"""By which the way of a request to the simulator may differ from another's, where both share two
cores with the suite, the load and the judge: a second is judged by so much less of it."""

_LONG_S: Final = 10
"""A window so long is judged as it is: the pace leaves a fifth of a second of it."""

_AWAY_S: Final = 3.0


async def bound(scene: Scene) -> None:
    """Two replicas under one small limit; NATS, where it is kept, is killed in the middle."""
    await scene.kill("events", signal.SIGTERM)
    before = len(await _arrivals(scene))
    await scene.start("events", **_TOLD)
    await scene.joined_by("events#2", **_TOLD)
    await scene.reaches(0.5)
    await scene.kill("nats")
    await asyncio.sleep(_AWAY_S)
    await scene.start("nats")
    scene.over()
    await scene.reaches(1.0)
    await scene.comes_to_rest()
    scene.complaints += unkept((await _arrivals(scene))[before:], _PER_S)


def unkept(arrivals_s: Sequence[float], per_s: int) -> list[str]:
    """What is wrong with requests that came at these instants, in order, under a limit."""
    most = busiest(arrivals_s, 1.0 - _WAY_S)
    if most > per_s:
        return [f"{most} requests came to TikTok within a second, where {per_s} may"]
    if (many := busiest(arrivals_s, _LONG_S)) > per_s * _LONG_S:
        return [f"{many} requests came to TikTok within {_LONG_S} s, where {per_s * _LONG_S} may"]
    if most < _BINDS_SHARE * per_s:
        return [f"no more than {most} requests came within a second: nothing was tried"]
    return []


def busiest(arrivals_s: Sequence[float], length_s: float) -> int:
    """The most that came within any window of this length; they are in order."""
    most = first = 0
    for last, at_s in enumerate(arrivals_s):
        while at_s - arrivals_s[first] >= length_s:
            first += 1
        most = max(most, last - first + 1)
    return most


async def _arrivals(scene: Scene) -> list[float]:
    """When requests came to TikTok, by the simulator's clock and in order."""
    found = (await scene.site.simulator(full=True))["arrivals"]
    return sorted(float(at_s) for source in found.values() for at_s, _ in source)


LIMITER: Final = (
    Fault(
        name="limits.nats-killed",
        what=f"two events processes under a limit of {_PER_S} requests a second; NATS is killed and"
        f" away for {_AWAY_S:.0f} s",
        expected="no more come within any 0.9 s, nor tenfold within any 10 s; nearly as many do",
        inflict=bound,
        size=1200,
        spread_s=15.0,
    ),
)

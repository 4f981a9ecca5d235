"""Faults of the token service, on which all others depend for what they connect with."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Final

from tests.faults.processes import Inflict
from tests.faults.scene import Scene, Try
from tests.faults.trial import Fault

_AWAY_S: Final = 5.0
_LOOK_S: Final = 0.1
_REFUSED_WITHIN_S: Final = 20.0
_UNHURT_WITHIN_S: Final = 15.0
_GOES_ON: Final = "meanwhile new orders of every shop come through within 15 s"


def gone(how: signal.Signals) -> Inflict:
    """Ended while everybody holds what it gave, and started again only after they went on."""

    async def inflict(scene: Scene) -> None:
        await scene.served(*scene.site.shops)
        await scene.kill("auth", how)
        await scene.unhurt(*scene.site.shops, within_s=_UNHURT_WITHIN_S)
        scene.over()
        await scene.start("auth")

    return inflict


def frozen(seconds: float) -> Inflict:
    """Stopped while everybody holds what it gave; questions to it are never answered."""

    async def inflict(scene: Scene) -> None:
        await scene.served(*scene.site.shops)
        began_s = time.monotonic()
        scene.stop("auth")
        await scene.unhurt(*scene.site.shops, within_s=_UNHURT_WITHIN_S)
        await asyncio.sleep(max(0.0, seconds - (time.monotonic() - began_s)))
        scene.go_on("auth")

    return inflict


async def away_at_a_start(scene: Scene) -> None:
    """The door opens while nobody can say by which secrets webhooks are verified."""
    await scene.reaches(0.3)
    await scene.kill("auth")
    await scene.kill("ingest-http")
    await scene.start("ingest-http")
    tries: list[Try] = []
    async with asyncio.TaskGroup() as group:
        group.create_task(scene.fresh(scene.site.others[0], tries))
        await _refused(tries)
        await asyncio.sleep(_AWAY_S)
        scene.over()
        await scene.start("auth")
    answers = {made.status for made in tries}
    if 503 not in answers or answers - {None, 200, 503}:
        scene.complaints.append(f"without its secrets the door answered {answers}")
    scene.complaints += sorted({one.complaint() for one in tries if one.status == 503} - {""})


async def _refused(tries: list[Try]) -> None:
    """Returns once the door has answered 503, or is not going to."""
    for _ in range(int(_REFUSED_WITHIN_S / _LOOK_S)):
        if any(made.status == 503 for made in tries):
            return
        await asyncio.sleep(_LOOK_S)


AUTH: Final = (
    Fault(
        name="auth.kill",
        what="`kill -9` of auth in the middle of a storm, then a restart",
        expected=_GOES_ON,
        inflict=gone(signal.SIGKILL),
    ),
    Fault(
        name="auth.drain",
        what="SIGTERM of auth in the middle of a storm, then a restart",
        expected=_GOES_ON,
        inflict=gone(signal.SIGTERM),
    ),
    *(
        Fault(
            name=f"auth.stop-{seconds:.0f}s",
            what=f"SIGSTOP of auth for {seconds:.0f} s, then SIGCONT",
            expected=f"{_GOES_ON}; it goes on without a restart",
            inflict=frozen(seconds),
        )
        for seconds in (3.0, 20.0)
    ),
    Fault(
        name="auth.away-at-a-start",
        what="ingest is restarted while auth is away, which comes back 5 s later",
        expected="without its secrets the door answers 503 with Retry-After, and nothing else",
        inflict=away_at_a_start,
        spread_s=6.0,
    ),
)

"""One fault inflicted on a shop's catalogs while the shop changes, and judged."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from cli.demo.watch import pending
from services.catalog.domain.states import SyncPhase
from services.catalog.records import Flight, Run
from tests.faults.catalog_house import PLACES, TOKEN, CatalogHouse, Place, connections_yaml
from tests.faults.catalog_judge import Row, wrong_records, wrong_submits
from tests.faults.crew import Crew
from tests.faults.judge import SERVICE_WITHIN_S
from tests.faults.site import Kind

_TURN_S: Final = 1.0
_OFTEN: Final = (("stock", 6), ("text", 3), ("image", 1), ("item", 1))
_RARE: Final = (
    "price", "add_product", "status", "add_product", "price", "delete", "add_product",
    "add_variant",
)  # fmt: skip
"""What changes in a turn. The rare ones cost a read of the product, for which Shopify gives so much
a second: more of them would measure that."""

_LOOK_S: Final = 0.2
_AFTERWARDS_S: Final = 1.0
"""So long the shop goes on changing when the fault is over."""

_MISS_SHOWN_S: Final = 15.0
"""Longer than allowed, so that a miss has a figure."""

_RECORDED_WITHIN_S: Final = 15.0
"""From equality until every record says what TikTok's review says too."""

_SEEDED_WITHIN_S: Final = 90.0
_CATALOGS: Final = "/open_api/v1.3/catalog/"
WRITES: Final = (
    f"{_CATALOGS}product/upload/",
    f"{_CATALOGS}product/delete/",
    f"{_CATALOGS}item/batch/",
)
EVERYTHING: Final = (_CATALOGS,)
_TAIL_LINES: Final = 12


class CatalogScene(Crew):
    """A fault in a house, and words for inflicting it."""

    def __init__(self, house: CatalogHouse) -> None:
        super().__init__(house.stack)
        self.house = house
        self.complaints: list[str] = []
        self.ended_s = 0.0
        """When the fault ended, by the monotonic clock."""

        self.tells = True
        """Whether Shopify tells of what changes."""

        self._quiet = asyncio.Event()

    def over(self) -> None:
        """The fault ends now, where nothing has said so before."""
        self.ended_s = self.ended_s or time.monotonic()

    # -- the shop --------------------------------------------------------------------------------

    async def changes(self) -> None:
        """Changes the shop and has Shopify tell of it, until `quiet`."""
        for turn in itertools.count():
            if self._quiet.is_set():
                return
            rare = _RARE[turn % len(_RARE)]
            began_s = time.monotonic()
            for kind, count in (*_OFTEN, (rare, 1)):
                await self.house.mutate(kind, count, told=self.tells)
            await asyncio.sleep(max(0.0, began_s + _TURN_S - time.monotonic()))

    def quiet(self) -> None:
        """The shop changes no more, once what is under way has been told."""
        self._quiet.set()

    # -- TikTok ----------------------------------------------------------------------------------

    @asynccontextmanager
    async def scripted(
        self, effect: dict[str, Any], paths: tuple[str, ...] = WRITES, **more: Any
    ) -> AsyncIterator[None]:
        """TikTok misbehaves for as long as this lasts; complains if nothing met it."""
        match = more.pop("match", {})
        faults = [{"match": {**match, "path": path}, "effect": effect, **more} for path in paths]
        await self.house.sandbox("POST", "faults", faults)
        try:
            yield
            lines = await self.house.sandbox("GET", "faults")
            if not any(line["hits"] for line in lines):
                kind = effect["kind"]
                self.complaints.append(f"no request met the fault {kind}: nothing was tried")
        finally:
            await self.house.sandbox("DELETE", "faults")

    async def submits(self, count: int = 1, within_s: float = 15.0) -> None:
        """Returns when TikTok has had so many more writes than now."""
        before = await self._writes()
        await until(lambda: self._is_reached(before + count), within_s, f"{count} more submits")

    async def _is_reached(self, writes: int) -> bool:
        return await self._writes() >= writes

    async def _writes(self) -> int:
        return sum([len(await self.house.history(place)) for place in PLACES])

    # -- what is recorded --------------------------------------------------------------------------

    async def flying(self, fits: Callable[[Flight], bool], within_s: float = 15.0) -> None:
        """Returns when a submit is recorded as under way that fits."""

        async def found() -> bool:
            return any(fits(one) for one in await self.house.flights())

        await until(found, within_s, "the record is so", every_s=0.01)

    async def syncing(self, fits: Callable[[Run], bool], within_s: float = 15.0) -> None:
        """Returns when the shop's sync fits."""

        async def found() -> bool:
            run = await self.house.run()
            return run is not None and fits(run)

        await until(found, within_s, "the record is so", every_s=0.01)

    async def full_sync(self, replica: str = "catalog") -> None:
        """Has a full sync begun."""
        before = await self.house.run()
        await self.house.ask_for_sync(replica)
        known = before.run_id if before else ""
        await self.syncing(lambda run: run.run_id != known)

    # -- the verdict -------------------------------------------------------------------------------

    async def equal(self, within_s: float) -> float | None:
        """Seconds from the fault's end until all catalogs are equal; None: not in time."""
        differences: list[str] = []

        async def same() -> bool:
            differences[:] = await self.house.differences()
            return not differences

        try:
            await until(same, max(1.0, self.ended_s + within_s - time.monotonic()))
        except TimeoutError:
            self.complaints += differences
            self.complaints.append(f"waiting anywhere: {await pending(self.house.nats)}")
            return None
        return time.monotonic() - self.ended_s

    async def is_equal(self) -> bool:
        """Whether all catalogs are equal now."""
        return not await self.house.differences()

    async def rests(self) -> None:
        """Returns when every record is right and nothing is under way, or its time is over."""
        wrong: list[str] = []

        async def right() -> bool:
            wrong[:] = await self._wrong()
            return not wrong

        with suppress(TimeoutError):
            await until(right, _RECORDED_WITHIN_S)
        self.complaints += wrong
        if not wrong and (differences := await self.house.differences()):
            self.complaints += [f"equal only for a while: {one}" for one in differences]

    async def _wrong(self) -> list[str]:
        found: list[str] = []
        for place in PLACES:
            items, synced = await self.house.items(place), await self.house.synced(place)
            found += wrong_records(items, synced)
        if await self.house.flights():
            found.append("a submit is recorded as under way")
        run = await self.house.run()
        if run is None or run.phase != SyncPhase.DONE:
            phase = SyncPhase(run.phase).name if run else "absent"
            found.append(f"the sync of the shop is {phase} {run.error if run else ''}")
        return found

    async def tidied(self) -> None:
        """Leaves the house as it was."""
        self.all_go_on()
        for path in ("faults", "shopify/faults", "shopify/bulk/faults"):
            await self.house.sandbox("DELETE", path)
        await self.house.sandbox("POST", "shopify/bulk", {})
        for place in PLACES:
            usual = {"ingestion_ms": 200, "ingests": True}
            await self.house.sandbox("POST", f"catalogs/{place.catalog_id}", usual)
        self.stack.connections_file.write_text(connections_yaml(TOKEN), "utf-8")
        await self.house.tiktok.mend()
        await self.as_before()


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogFault:
    """A class of faults that a catalog may meet."""

    name: str
    what: str
    inflict: Callable[[CatalogScene], Awaitable[None]]
    """Runs while the shop changes; returns when the fault is over."""

    expected: str = ""
    kind: Kind = Kind.PLAIN
    within_s: float = SERVICE_WITHIN_S
    """From the fault's end until every catalog is equal."""

    crowded: bool = False
    """Somebody else writes to the catalogs too."""

    spoils: bool = False
    """The house is no use for another fault afterwards."""

    lasts_s: float = 150.0
    """A bound on the whole of it."""


async def seeded(house: CatalogHouse) -> None:
    """Returns when the shop is in its catalogs for the first time.

    Raises:
        RuntimeError: it is not in time, and how it is instead.
    """
    scene = CatalogScene(house)
    scene.over()
    if await scene.equal(_SEEDED_WITHIN_S) is not None:
        await scene.rests()
    if scene.complaints:
        raise RuntimeError(f"not seeded: {scene.complaints[:3]}\n{_tails(house)}")


async def undergone(fault: CatalogFault, house: CatalogHouse) -> Row:
    """The fault inflicted and judged. The house is fit for another if it passed."""
    began_s = time.monotonic()
    scene = CatalogScene(house)
    starts = {place: len(await house.history(place)) for place in PLACES}
    before = {name: one.pid for name, one in house.stack.processes.items()}
    equal_s = None
    try:
        async with asyncio.timeout(fault.lasts_s):
            await _played(fault, scene)
            equal_s = await scene.equal(fault.within_s + _MISS_SHOWN_S)
            if equal_s is not None:
                await scene.rests()
    except TimeoutError:
        scene.complaints.append(f"not over after {fault.lasts_s:.0f} s")
    except Exception as error:  # noqa: BLE001  # one fault's trouble must not hide the others
        scene.complaints.append(f"broke off: {_reason(error)}")
    scene.complaints += _restarted(scene, before)
    submits = await _judged_submits(fault, scene, starts)
    row = Row(
        name=fault.name,
        what=fault.what,
        expected=fault.expected,
        equal_s=equal_s,
        within_s=fault.within_s,
        submits=submits,
        seconds=time.monotonic() - began_s,
        complaints=tuple(scene.complaints),
    )
    tails = "" if row.passed else _tails(house)
    with suppress(Exception):
        # A house that cannot be tidied up is one that failed: it is not used again.
        await asyncio.wait_for(scene.tidied(), 90)
    return Row(
        name=row.name,
        what=row.what,
        expected=row.expected,
        equal_s=row.equal_s,
        within_s=row.within_s,
        submits=row.submits,
        seconds=row.seconds,
        complaints=row.complaints,
        tails=tails,
    )


async def _played(fault: CatalogFault, scene: CatalogScene) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(scene.changes())
        try:
            await fault.inflict(scene)
            scene.over()
            await asyncio.sleep(_AFTERWARDS_S)
        finally:
            scene.quiet()


async def _judged_submits(
    fault: CatalogFault, scene: CatalogScene, starts: dict[Place, int]
) -> int:
    count = 0
    for place, start in starts.items():
        with suppress(Exception):
            lines = (await scene.house.history(place))[start:]
            count += len(lines)
            scene.complaints += wrong_submits(lines, crowded=fault.crowded)
    return count


def _restarted(scene: CatalogScene, before: dict[str, int]) -> list[str]:
    processes = scene.stack.processes
    return [
        f"{name} had to be restarted, or has ended"
        for name, pid in before.items()
        if name not in scene.touched
        and (processes[name].returncode is not None or processes[name].pid != pid)
    ]


def _tails(house: CatalogHouse) -> str:
    """The last lines of those that are judged, and the last warnings of the others."""
    ends = []
    for name in house.stack.processes:
        lines = house.stack.log_tail(name, 200).splitlines()
        if not name.startswith("catalog"):
            lines = [line for line in lines if '"info"' not in line]
        shown = "\n".join(f"    {line[:300]}" for line in lines[-_TAIL_LINES:])
        ends.append(f"  {name}:\n{shown}")
    return "\n".join(ends)


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"[:300]


async def until(
    fits: Callable[[], Awaitable[bool]],
    within_s: float,
    what: str = "",
    *,
    every_s: float = _LOOK_S,
) -> None:
    """Looks again and again, and returns once it fits.

    Raises:
        TimeoutError: it did not within so many seconds; says `what`.
    """
    try:
        async with asyncio.timeout(within_s):
            while True:
                if await fits():
                    return
                await asyncio.sleep(every_s)
    except TimeoutError:
        raise TimeoutError(f"not within {within_s:.0f} s: {what}") from None

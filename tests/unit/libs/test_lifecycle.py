from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from libs.lifecycle import Afterwards, Part, Readiness, run_parts


class Steady:
    """Works until stopped, then takes `last_work` turns of the loop to finish."""

    def __init__(self, name: str, journal: list[str], last_work: int = 0) -> None:
        self._name, self._journal, self._last_work = name, journal, last_work
        self._stopping = asyncio.Event()
        self.started = asyncio.Event()

    async def run(self, ready: Callable[[], None]) -> None:
        ready()
        self.started.set()
        await self._stopping.wait()
        for _ in range(self._last_work):
            await asyncio.sleep(0)
        self._journal.append(f"{self._name} finished")

    def stop(self) -> None:
        self._journal.append(f"{self._name} told")
        self._stopping.set()


class Endless(Steady):
    """Ignores a stop; ends when cancelled."""

    async def run(self, ready: Callable[[], None]) -> None:
        ready()
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self._journal.append(f"{self._name} cut off")


class Broken(Steady):
    async def run(self, ready: Callable[[], None]) -> None:
        raise ValueError("no disk")


class BrokenAtTheEnd(Steady):
    async def run(self, ready: Callable[[], None]) -> None:
        await super().run(ready)
        raise ValueError("no disk")


class Quitter(Steady):
    async def run(self, ready: Callable[[], None]) -> None:
        ready()


async def stopped_after(parts: dict[str, Part], *waited: Steady, **options: object) -> int:
    stopping = asyncio.Event()
    running = asyncio.create_task(
        run_parts(parts, grace_s=0.05, stopping=stopping, **options)  # type: ignore[arg-type]  # passed through
    )
    for part in waited:
        await part.started.wait()
    stopping.set()
    return await running


async def test_a_stop_goes_in_order_and_lets_work_in_hand_finish() -> None:
    journal: list[str] = []
    readiness = Readiness()
    grpc, consumer = Steady("grpc", journal), Steady("consumer", journal, last_work=5)

    code = await stopped_after(
        {"grpc": grpc, "consumer": consumer},
        grpc,
        consumer,
        readiness=readiness,
        on_draining=lambda: journal.append(f"draining, ready={readiness.is_ready}"),
    )

    assert code == 0
    assert journal == [
        "draining, ready=False",
        "consumer told",
        "grpc told",
        "grpc finished",
        "consumer finished",
    ]


async def test_what_is_not_done_within_the_grace_is_cancelled_and_named() -> None:
    journal: list[str] = []
    endless, steady = Endless("endless", journal), Steady("steady", journal)

    with capture_logs() as lines:
        code = await stopped_after({"endless": endless, "steady": steady}, endless, steady)

    assert code == 0
    assert "steady finished" in journal
    assert journal[-1] == "endless cut off"
    assert [line["parts"] for line in lines if line["event"] == "parts_cut_off"] == [["endless"]]


@pytest.mark.parametrize(
    ("failing", "event"), [(Broken, "part_failed"), (Quitter, "part_ended_unasked")]
)
async def test_a_part_that_ends_by_itself_takes_the_process_down(
    failing: type[Steady], event: str
) -> None:
    journal: list[str] = []
    parts = {"failing": failing("failing", journal), "steady": Steady("steady", journal)}

    with capture_logs() as lines:
        code = await run_parts(parts, grace_s=1)

    assert code == 1
    assert "steady finished" in journal
    assert [(line["event"], line["part"]) for line in lines] == [(event, "failing")]


async def test_work_in_hand_that_fails_while_stopping_makes_the_exit_code_1() -> None:
    failing = BrokenAtTheEnd("failing", [])

    with capture_logs() as lines:
        code = await stopped_after({"failing": failing}, failing)

    assert code == 1
    assert [(line["event"], line["part"]) for line in lines] == [("part_failed", "failing")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_the_parts(number: signal.Signals) -> None:
    journal: list[str] = []
    part = Steady("part", journal)
    running = asyncio.create_task(run_parts({"part": part}, grace_s=1))
    await part.started.wait()

    os.kill(os.getpid(), number)

    assert await running == 0
    assert journal == ["part told", "part finished"]


async def test_cancelling_the_whole_cancels_its_parts() -> None:
    journal: list[str] = []
    endless = Endless("endless", journal)
    running = asyncio.create_task(run_parts({"endless": endless}, grace_s=60))
    await endless.started.wait()

    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert journal == ["endless cut off"]


def test_a_process_is_ready_once_each_part_is_and_until_it_drains() -> None:
    readiness = Readiness()
    seen = [readiness.is_ready]
    readiness.expect(["a", "b"])

    readiness.ready("a")
    seen.append(readiness.is_ready)
    assert readiness.awaited == ["b"]
    readiness.ready("b")
    seen.append(readiness.is_ready)
    readiness.unready("a")
    seen.append(readiness.is_ready)
    readiness.ready("a")
    readiness.drain()
    seen.append(readiness.is_ready)

    assert seen == [False, False, True, False, False]
    assert readiness.awaited == ["draining"]


async def test_watchers_hear_the_present_state_and_each_change() -> None:
    readiness = Readiness()
    changes = readiness.changes()

    heard = [await anext(changes)]
    readiness.expect(["a"])
    readiness.ready("a")
    heard.append(await anext(changes))
    readiness.drain()
    heard.append(await anext(changes))

    assert heard == [False, True, False]


class Recording:
    """A part that works until it is told to stop."""

    def __init__(self) -> None:
        self.began = False
        self._stopping = asyncio.Event()

    async def run(self, ready: Callable[[], None]) -> None:
        self.began = True
        ready()
        await self._stopping.wait()

    def stop(self) -> None:
        self._stopping.set()


async def test_a_part_that_comes_afterwards_begins_once_the_others_are_ready() -> None:
    readiness, part = Readiness(), Recording()
    later = Afterwards(part, readiness, {"first", "second"})
    running = asyncio.create_task(later.run(lambda: readiness.ready("later")))
    await _settled()
    readiness.expect({"first", "second", "later"})

    readiness.ready("first")
    await _settled()
    early = part.began
    readiness.ready("second")
    await _settled()

    assert (early, part.began, later.is_running, readiness.is_ready) == (False, True, True, True)
    later.stop()
    await running
    assert not later.is_running


async def test_a_part_that_is_stopped_before_the_others_are_ready_never_begins() -> None:
    readiness, part = Readiness(), Recording()
    later = Afterwards(part, readiness, {"first"})
    readiness.expect({"first"})
    running = asyncio.create_task(later.run(lambda: None))
    await _settled()

    later.stop()
    await asyncio.wait_for(running, 1)

    assert not part.began


async def _settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)

"""What writers and readers at the same time have in common, and what not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from libs.bus.commit_log import BATCH_BYTES_MAX, ENTRIES_MAX, Entry, MemoryLog, Stored
from libs.bus.grouped_log import GroupedLog
from libs.errors import Kind, ServiceError


@dataclass
class Slow(MemoryLog):
    """A log that answers when it is let, and keeps what it was asked in one go."""

    open: asyncio.Event = field(default_factory=asyncio.Event)
    trouble: ServiceError | None = None
    writes: list[list[str]] = field(default_factory=list)
    reads: list[list[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    async def commit(self, entries: Sequence[Entry]) -> int:
        self.writes.append([entry.subject for entry in entries])
        await self.open.wait()
        if self.trouble is not None:
            raise self.trouble
        return await super().commit(entries)

    async def read(self, subjects: Sequence[str]) -> dict[str, Stored]:
        self.reads.append(list(subjects))
        await self.open.wait()
        if self.trouble is not None:
            raise self.trouble
        return await super().read(subjects)


def some(*names: str, size: int = 1) -> list[Entry]:
    return [Entry(name, b"x" * size, expected=0) for name in names]


async def begun(*calls: asyncio.Task[object]) -> None:
    """Lets what was started get as far as it can."""
    for _ in range(4 + len(calls)):
        await asyncio.sleep(0)


async def test_a_lone_writer_waits_for_nobody() -> None:
    slow = Slow()
    slow.open.set()

    await GroupedLog(slow).commit(some("a"))

    assert slow.writes == [["a"]]


async def test_what_gathers_during_a_write_is_written_by_the_next() -> None:
    slow = Slow()
    log = GroupedLog(slow)
    first = asyncio.create_task(log.commit(some("a")))
    await begun()
    others = [asyncio.create_task(log.commit(some(name, name * 2))) for name in "bcd"]
    await begun()

    slow.open.set()
    lasts = await asyncio.gather(first, *others)

    assert slow.writes == [["a"], ["b", "bb", "c", "cc", "d", "dd"]]
    assert lasts == [1, 3, 5, 7]


@pytest.mark.parametrize(
    ("each", "size", "groups"),
    [(200, 1, [200, 400, 200]), (1, BATCH_BYTES_MAX // 2 - 100, [1, 2, 1])],
)
async def test_a_group_keeps_the_bounds_of_a_batch(each: int, size: int, groups: list[int]) -> None:
    slow = Slow()
    log = GroupedLog(slow)
    tasks = []
    for number in range(4):
        entries = some(*(f"{number}.{place}" for place in range(each)), size=size)
        tasks.append(asyncio.create_task(log.commit(entries)))
        await begun()

    slow.open.set()
    await asyncio.gather(*tasks)

    assert [len(one) for one in slow.writes] == groups
    assert max(map(len, slow.writes)) <= ENTRIES_MAX


async def test_trouble_is_told_to_each_and_the_next_writer_is_served() -> None:
    slow = Slow(trouble=ServiceError(Kind.RETRYABLE, "nats_unavailable"))
    slow.open.set()
    log = GroupedLog(slow)

    ended = await asyncio.gather(
        *(log.commit(some(name)) for name in "abc"), log.read(["a"]), return_exceptions=True
    )
    slow.trouble = None

    assert {getattr(end, "code", "") for end in ended} == {"nats_unavailable"}
    assert await log.commit(some("a")) == 1
    assert list(await log.read(["a"])) == ["a"]


async def test_a_writer_that_gives_up_takes_nobody_with_it() -> None:
    slow = Slow()
    log = GroupedLog(slow)
    tasks = [asyncio.create_task(log.commit(some(name))) for name in "abc"]
    await begun()
    tasks[1].cancel()
    await begun()

    slow.open.set()
    ended = await asyncio.gather(*tasks, return_exceptions=True)

    assert isinstance(ended[1], asyncio.CancelledError)
    assert [type(ended[0]), type(ended[2])] == [int, int]


async def test_no_writer_is_forgotten_who_comes_as_the_last_write_ends() -> None:
    slow = Slow()
    slow.open.set()
    log = GroupedLog(slow)

    async def writes(name: str) -> None:
        for number in range(20):
            await log.commit(some(f"{name}{number}"))
            await log.read([f"{name}{number}"])

    async with asyncio.timeout(5):
        await asyncio.gather(*(writes(name) for name in "abcdef"))

    assert slow.sequence == 120


async def test_readers_at_the_same_time_ask_once_and_each_hears_of_its_own() -> None:
    slow = Slow()
    await MemoryLog.commit(slow, some("a", "b", "c"))
    log = GroupedLog(slow)
    first = asyncio.create_task(log.read(["a"]))
    await begun()
    others = [asyncio.create_task(log.read(names)) for names in (["b", "a"], ["c", "none"])]
    await begun()

    slow.open.set()
    found = await asyncio.gather(first, *others)

    assert slow.reads == [["a"], ["b", "a", "c", "none"]]
    assert [sorted(one) for one in found] == [["a"], ["a", "b"], ["c"]]


async def test_no_group_has_a_subject_twice() -> None:
    slow = Slow()
    log = GroupedLog(slow)
    first = asyncio.create_task(log.commit(some("a")))
    await begun()
    others = [asyncio.create_task(log.commit(some("b", name))) for name in "cd"]
    await begun()

    slow.open.set()
    await asyncio.gather(first, *others, return_exceptions=True)

    assert slow.writes == [["a"], ["b", "c"], ["b", "d"]]

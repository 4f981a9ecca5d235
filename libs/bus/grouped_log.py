"""A commit log for many small writers: what gathers during one write is written by the next.

An atomic batch has a price of its own on the server, whatever is in it: it is staged in a store
that is made for it and deleted after it, with a dozen calls of the file system, and the batches of
one stream wait for each other. Measured on two busy cores: 25 ms a batch and 0.1 ms a message. A
hundred writers of four messages each got 124 messages/s through; grouped, 6,484.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from libs.bus.commit_log import (
    BATCH_BYTES_MAX,
    ENTRIES_MAX,
    CommitLog,
    ConflictError,
    Entry,
    Stored,
)

_READ_SUBJECTS_MAX: Final = 500


def _future() -> asyncio.Future[int]:
    return asyncio.get_running_loop().create_future()


@dataclass(slots=True, eq=False)
class _Write:
    """What one caller wants written, all of it or nothing."""

    entries: Sequence[Entry]
    done: asyncio.Future[int] = field(default_factory=_future)

    @property
    def size(self) -> int:
        return sum(len(entry.data) + len(entry.subject) for entry in self.entries)


@dataclass(slots=True, eq=False)
class _Read:
    """What one caller wants to know."""

    subjects: Sequence[str]
    done: asyncio.Future[dict[str, Stored]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class GroupedLog:
    """`CommitLog` over another one, for callers that do not wait for each other.

    Each caller's entries are still written whole or not at all, and a conflict is told only to
    those whose entries met it. A lone caller waits for nobody.
    """

    def __init__(self, log: CommitLog) -> None:
        self._log = log
        self._writes: deque[_Write] = deque()
        self._reads: deque[_Read] = deque()
        self._is_writing = False
        self._is_reading = False
        self._running: set[asyncio.Task[None]] = set()

    async def read(self, subjects: Sequence[str]) -> dict[str, Stored]:
        asked = _Read(subjects)
        self._reads.append(asked)
        if not self._is_reading:
            self._is_reading = True
            self._start(self._read_until_none_waits())
        return await asked.done

    async def read_fresh(self, subjects: Sequence[str]) -> dict[str, Stored]:
        return await self._log.read_fresh(subjects)

    async def commit(self, entries: Sequence[Entry]) -> int:
        write = _Write(entries)
        self._writes.append(write)
        if not self._is_writing:
            self._is_writing = True
            self._start(self._write_until_none_waits())
        return await write.done

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _write_until_none_waits(self) -> None:
        # It ends with the last look at the queue: a task is only gone a turn later, and
        # whoever came in that turn would wait for it for ever.
        try:
            while self._writes:
                await self._write(_next_group(self._writes))
        finally:
            self._is_writing = False

    async def _write(self, group: Sequence[_Write]) -> None:
        try:
            last = await self._log.commit([entry for write in group for entry in write.entries])
        except ConflictError as error:
            if len(group) == 1:
                _fail(group[0].done, error)
                return
            # Somebody of the group met a conflict: halves, so that one in n costs O(log n) writes.
            middle = len(group) // 2
            await self._write(group[:middle])
            await self._write(group[middle:])
        except Exception as error:  # noqa: BLE001  # it is the callers', each of whom must hear of it
            for write in group:
                _fail(write.done, error)
        else:
            for write in reversed(group):
                if not write.done.done():
                    write.done.set_result(last)
                # The entries of a batch have sequences one after another.
                last -= len(write.entries)

    async def _read_until_none_waits(self) -> None:
        try:
            while self._reads:
                await self._read(_next_readers(self._reads))
        finally:
            self._is_reading = False

    async def _read(self, group: Sequence[_Read]) -> None:
        wanted = list(dict.fromkeys(name for read in group for name in read.subjects))
        try:
            found = await self._log.read(wanted)
        except Exception as error:  # noqa: BLE001  # likewise
            for read in group:
                _fail(read.done, error)
            return
        for read in group:
            if not read.done.done():
                read.done.set_result({n: found[n] for n in read.subjects if n in found})


def _next_group(waiting: deque[_Write]) -> list[_Write]:
    """The callers at the head of the queue whose entries fit into one batch, at least one."""
    group = [waiting.popleft()]
    entries, size = len(group[0].entries), group[0].size
    subjects = {entry.subject for entry in group[0].entries}
    while waiting:
        following = waiting[0]
        entries += len(following.entries)
        size += following.size
        # A subject stands but once in a batch: of two who want it, the second is told by the next.
        met = any(entry.subject in subjects for entry in following.entries)
        if entries > ENTRIES_MAX or size > BATCH_BYTES_MAX or met:
            break
        subjects.update(entry.subject for entry in following.entries)
        group.append(waiting.popleft())
    return group


def _next_readers(waiting: deque[_Read]) -> list[_Read]:
    group = [waiting.popleft()]
    subjects = len(group[0].subjects)
    while waiting and subjects + len(waiting[0].subjects) <= _READ_SUBJECTS_MAX:
        subjects += len(waiting[0].subjects)
        group.append(waiting.popleft())
    return group


def _fail(done: asyncio.Future[int] | asyncio.Future[dict[str, Stored]], error: Exception) -> None:
    # A caller that was cancelled has cancelled its future too.
    with suppress(asyncio.InvalidStateError):
        done.set_exception(error)

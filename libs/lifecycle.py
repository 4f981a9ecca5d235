"""One process: its parts run together, and stop together without dropping work in hand."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Protocol

import structlog

_log = structlog.stdlib.get_logger()

# After the grace the parts are cancelled; one that swallows even that is left behind.
_CUT_OFF_S = 2.0


_START = "start"
"""Awaited until the parts are known."""


class Part(Protocol):
    """Something that works for as long as the process lives: a consumer, a server."""

    async def run(self, ready: Callable[[], None]) -> None:
        """Works until `stop`, then finishes what is in hand and returns.

        Calls `ready` once it can be given work. Returning or raising earlier ends the process.
        When cancelled, it gives up what is in hand: the grace is over.
        """

    def stop(self) -> None:
        """Take nothing new from now on. Does not wait; may be called twice, or before `run`."""


class Readiness:
    """Whether this process should be sent work: every part is ready and none is stopping."""

    def __init__(self) -> None:
        self._awaited: set[str] = {_START}
        self._draining = False
        self._changed = asyncio.Event()

    @property
    def is_ready(self) -> bool:
        return not self._draining and not self._awaited

    @property
    def awaited(self) -> list[str]:
        """What is not ready yet, or no longer, for a person who reads `/readyz`."""
        return ["draining"] if self._draining else sorted(self._awaited)

    def expect(self, names: Iterable[str]) -> None:
        """Not ready until each of `names` is."""
        self._awaited = set(names)
        self._announce()

    def ready(self, name: str) -> None:
        self._awaited.discard(name)
        self._announce()

    def unready(self, name: str) -> None:
        """Take no more work for now, as when `name` has lost what it needs."""
        self._awaited.add(name)
        self._announce()

    def drain(self) -> None:
        """Not ready, for good."""
        self._draining = True
        self._announce()

    async def changes(self) -> AsyncIterator[bool]:
        """Whether it is ready: now, and again each time that changes."""
        told: bool | None = None
        while True:
            changed = self._changed
            if self.is_ready != told:
                told = self.is_ready
                yield told
            await changed.wait()

    async def until(self, names: Collection[str]) -> None:
        """Returns once each of `names` is ready."""
        while not self._awaited.isdisjoint((_START, *names)):
            await self._changed.wait()

    def _announce(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class Afterwards:
    """A part that begins once others of its process are ready: it answers with what they know."""

    def __init__(self, part: Part, readiness: Readiness, names: Collection[str]) -> None:
        self._part = part
        self._readiness = readiness
        self._names = names
        self._stopping = asyncio.Event()
        self.is_running = False
        """Whether it has begun and not yet finished what is in hand."""

    async def run(self, ready: Callable[[], None]) -> None:
        """Waits for the others, then works as the part itself does."""
        others = asyncio.create_task(self._readiness.until(self._names))
        stopped = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((others, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            others.cancel()
            stopped.cancel()
        if self._stopping.is_set():
            return
        self.is_running = True
        try:
            await self._part.run(ready)
        finally:
            self.is_running = False

    def stop(self) -> None:
        self._stopping.set()
        self._part.stop()


async def run_parts(
    parts: Mapping[str, Part],
    *,
    grace_s: float,
    readiness: Readiness | None = None,
    on_draining: Callable[[], None] = lambda: None,
    stopping: asyncio.Event | None = None,
) -> int:
    """Runs `parts` until SIGTERM, SIGINT or `stopping`; the exit code for the process.

    Then, in this order: readiness goes off, `on_draining` is called, the parts are told to stop
    (in reverse, so that what was built last takes no more work first), they get `grace_s` seconds
    in all for what is in hand, and whoever is not done is cancelled.

    A part that raises, or returns unasked, stops the others the same way and makes the code 1:
    half a service would answer health checks and do no work.
    """
    stopping = stopping or asyncio.Event()
    readiness = readiness or Readiness()
    readiness.expect(parts)
    tasks = {
        asyncio.create_task(part.run(partial(readiness.ready, name)), name=name)
        for name, part in parts.items()
    }
    try:
        with _signals_set(stopping):
            await _first_end(tasks, stopping)
            ended_early = {task for task in tasks if task.done()}
            readiness.drain()
            on_draining()
            for part in reversed(list(parts.values())):
                part.stop()
            await _until_done(tasks, grace_s)
    finally:
        await _cut_off(tasks)
    return 1 if _failures_logged(tasks, ended_early) else 0


@contextmanager
def _signals_set(stopping: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    watched = (signal.SIGTERM, signal.SIGINT)
    for number in watched:
        loop.add_signal_handler(number, stopping.set)
    try:
        yield
    finally:
        for number in watched:
            loop.remove_signal_handler(number)


async def _first_end(tasks: set[asyncio.Task[None]], stopping: asyncio.Event) -> None:
    stopped = asyncio.create_task(stopping.wait(), name="stopping")
    try:
        await asyncio.wait({*tasks, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()


async def _until_done(tasks: set[asyncio.Task[None]], grace_s: float) -> None:
    if tasks:
        await asyncio.wait(tasks, timeout=grace_s)


async def _cut_off(tasks: set[asyncio.Task[None]]) -> None:
    late = {task for task in tasks if not task.done()}
    if not late:
        return
    for task in late:
        task.cancel()
    _, deaf = await asyncio.wait(late, timeout=_CUT_OFF_S)
    _log.warning(
        "parts_cut_off",
        parts=sorted(task.get_name() for task in late),
        deaf=sorted(task.get_name() for task in deaf),
    )


def _failures_logged(tasks: set[asyncio.Task[None]], ended_early: set[asyncio.Task[None]]) -> bool:
    """Whether any part failed; each that did has its line in the log."""
    failed = False
    for task in tasks:
        error = task.exception() if task.done() and not task.cancelled() else None
        if error is not None:
            _log.error("part_failed", part=task.get_name(), exc_info=error)
        elif task in ended_early:
            _log.error("part_ended_unasked", part=task.get_name())
        failed = failed or error is not None or task in ended_early
    return failed

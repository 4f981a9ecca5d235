"""Waits that something may end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from libs.clock import Clock


async def pause(clock: Clock, wait_s: float | None, woken: asyncio.Event) -> None:
    """Returns when `woken` is set, or after `wait_s` seconds of the clock; None: only when set."""
    if wait_s is None:
        await woken.wait()
        return
    await either(woken.wait(), clock.sleep(wait_s))


async def either(*waits: Awaitable[object]) -> None:
    """Returns when the first of `waits` is over, and breaks the others off."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()

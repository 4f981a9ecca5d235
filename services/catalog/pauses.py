"""Waits that something may end."""

from __future__ import annotations

import asyncio

from libs.clock import Clock


async def pause(clock: Clock, wait_s: float | None, woken: asyncio.Event) -> None:
    """Returns when `woken` is set, or after `wait_s` seconds of the clock; None: only when set."""
    if wait_s is None:
        await woken.wait()
        return
    tasks = [
        asyncio.ensure_future(woken.wait()),
        asyncio.ensure_future(clock.sleep(wait_s)),
    ]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()

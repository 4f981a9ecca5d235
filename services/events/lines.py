"""The lines on which requests leave a process: so many, and nobody may have all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from weakref import WeakValueDictionary

from libs.limits import Priority

CALLS_AT_ONCE: Final = 64
"""Enough for TikTok's 1,000 requests a second at answers of 60 ms. What is above it waits here: at
the session's pool the wait for a connection would count as a failed try after 5 s, and it did with
a thousand shops."""

REPLAYS_AT_ONCE: Final = 4
"""A line is held while its request waits for its turn, and replays wait while a limit is busy."""

CALLS_OF_A_PIXEL: Final = 8
"""Of one that hangs, or whose own limit is slow. More than replays may hold, so that they cannot
keep what is live from the pixel."""


class Lines:
    """One process's lines."""

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(CALLS_AT_ONCE)
        self._replays = asyncio.Semaphore(REPLAYS_AT_ONCE)
        self._pixels: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, connection_id: str, priority: Priority) -> AsyncIterator[None]:
        """A line for one request. The narrower is waited for first: nobody waits with a wider."""
        pixel = self._pixels.get(connection_id)
        if pixel is None:
            pixel = self._pixels[connection_id] = asyncio.Semaphore(CALLS_OF_A_PIXEL)
        if priority is not Priority.REPLAY:
            async with pixel, self._all:
                yield
            return
        async with self._replays, pixel, self._all:
            yield

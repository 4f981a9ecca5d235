"""Keeps an event loop quick to answer while several tasks have long work for the processor."""

from __future__ import annotations

import asyncio
from collections import deque


class Turnstile:
    """Lets one task at a time go on, in order, and looks at the network before the next.

    `asyncio.sleep(0)` alone does not: where ten tasks of ten milliseconds each do that, all ten go
    on before anything is read, and whoever waits for an answer waits for a tenth of a second.
    """

    def __init__(self, at_a_stretch: int = 1) -> None:
        """`at_a_stretch`: how many steps of its work a task may take each time."""
        self._at_a_stretch = at_a_stretch
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def before(self, step: int) -> None:
        """Awaited before each step of a task, numbered from 0; waits where a stretch is over."""
        if step % self._at_a_stretch == 0:
            await self.passed()

    async def passed(self) -> None:
        """Returns when it is this task's turn. It may then work until it waits for anything."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting.append(turn)
        if len(self._waiting) == 1:
            loop.call_soon(self._admit, loop)
        await turn

    def _admit(self, loop: asyncio.AbstractEventLoop) -> None:
        # Its task goes on in the next turn of the loop; whoever is next is let in then, to go on in
        # the one after. The network is looked at between the two.
        turn = self._waiting.popleft()
        if not turn.done():
            turn.set_result(None)
        if self._waiting:
            loop.call_soon(self._admit, loop)

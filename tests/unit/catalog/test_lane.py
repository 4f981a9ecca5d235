"""A lane's work is over when all of it is, however long that takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from libs.bus.commit_log import MemoryLog
from libs.bus.lease import Lease
from libs.clock import SystemClock
from services.catalog.lane import LanePart, LaneWork
from services.catalog.shop_work import CANCEL_AGAIN_S, Means


class SlowToEnd(LaneWork):
    """Work that takes longer to clear up than a cancellation is waited for."""

    cleared_up = False

    def __init__(self, number: int, means: Means, is_owner: Callable[[], bool]) -> None:
        self.is_clearing_up = False
        self.began = asyncio.Event()
        self._shops = {}

    async def run(self) -> None:
        try:
            self.began.set()
            await asyncio.Event().wait()
        finally:
            self.is_clearing_up = True
            await asyncio.sleep(3 * CANCEL_AGAIN_S)
            self.cleared_up = True

    def stop(self) -> None:
        """Nothing is taken anyway."""


async def test_what_clears_up_slowly_is_not_broken_off() -> None:
    clock = SystemClock()
    part = LanePart(1, cast("Any", None), Lease(MemoryLog(), clock, "catalog.lane.1", "a"))
    work = SlowToEnd(1, cast("Any", None), lambda: True)
    task = asyncio.create_task(work.run())
    await work.began.wait()

    await part._ended(work, task)

    assert work.cleared_up
    assert task.cancelled()


async def test_nothing_is_put_to_a_book_whose_catalogs_are_not_open_yet() -> None:
    means = SimpleNamespace(
        sending=lambda _: None, intake=lambda *_: SimpleNamespace(handle=None), nats=None
    )
    work = LaneWork(1, cast("Any", means), lambda: True)
    shop = SimpleNamespace(begun=asyncio.Event(), book=object())
    work._shops["example"] = cast("Any", shop)

    assert await work.book("other") is None
    asked = asyncio.create_task(work.book("example"))
    await asyncio.sleep(0)
    assert not asked.done()
    shop.begun.set()

    assert await asyncio.wait_for(asked, 5) is shop.book

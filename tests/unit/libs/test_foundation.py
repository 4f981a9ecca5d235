"""A process without NATS says so, or ends."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from nats.aio.client import Client

from libs.errors import ServiceError
from libs.foundation import NatsWatch
from libs.lifecycle import Readiness


class Connection:
    """As much of a client as is watched."""

    def __init__(self, *, is_connected: bool) -> None:
        self.is_connected = is_connected


def _watch(connection: Connection, closed: asyncio.Event, readiness: Readiness) -> NatsWatch:
    return NatsWatch(cast("Client", connection), closed, readiness)


async def test_a_connection_that_is_closed_for_good_ends_the_process() -> None:
    closed = asyncio.Event()
    closed.set()
    watch = _watch(Connection(is_connected=False), closed, Readiness())

    with pytest.raises(ServiceError) as ended:
        await asyncio.wait_for(watch.run(lambda: None), 5)

    assert ended.value.code == "nats_closed"


async def test_a_process_without_nats_is_not_ready() -> None:
    readiness = Readiness()
    readiness.expect(["nats"])
    watch = _watch(Connection(is_connected=True), asyncio.Event(), readiness)
    away = _watch(Connection(is_connected=False), asyncio.Event(), readiness)
    watch.stop()
    readiness.ready("nats")
    before = readiness.is_ready

    running = asyncio.create_task(away.run(lambda: readiness.ready("nats")))
    async with asyncio.timeout(5):
        async for is_ready in readiness.changes():
            if not is_ready:
                break
    away.stop()
    await running

    assert before
    assert readiness.awaited == ["nats"]

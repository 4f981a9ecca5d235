"""A client of a real server with all streams, and logs of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from nats.aio.client import Client

from libs.bus import streams
from libs.bus.jetstream_log import JetStreamLog
from libs.clock import SystemClock
from libs.foundation import connected
from libs.ids import RandomIds
from tests.fakes.nats_server import NatsServer

LogOf = Callable[[str], JetStreamLog]


@pytest.fixture
async def nats(nats_server: NatsServer) -> AsyncIterator[Client]:
    client = await connected(nats_server.url)
    await streams.apply(client, scale_mib=16)
    yield client
    await client.close()


@pytest.fixture
def log_of(nats: Client) -> LogOf:
    return lambda stream: JetStreamLog(nats, stream, RandomIds(SystemClock()))

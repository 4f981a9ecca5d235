"""One nats-server a module, emptied for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from libs.foundation import connected
from tests.fakes.nats_server import NatsServer
from tests.integration.ledger.world import World, new_world


@pytest.fixture
async def world(nats_server: NatsServer) -> AsyncIterator[World]:
    client = await connected(nats_server.url)
    yield await new_world(client, nats_server)
    await client.close()

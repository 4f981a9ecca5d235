"""The catalog service between its surroundings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.nats_server import NatsServer
from tests.integration.catalog.house import House, opened
from tests.integration.ingest.harness import connection


@pytest.fixture
async def house(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[House]:
    async with connection(nats_server.url) as nats, opened(nats, nats_server, tmp_path) as found:
        yield found

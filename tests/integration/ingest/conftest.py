"""One real nats-server a module, and fresh streams on it for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.nats_server import NatsServer
from tests.integration.ingest.harness import Door, Suite, door_of, suite_at


@pytest.fixture
async def suite(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Suite]:
    async with suite_at(nats_server, tmp_path) as made:
        yield made


@pytest.fixture
async def door(suite: Suite) -> AsyncIterator[Door]:
    async with door_of(suite) as made:
        yield made

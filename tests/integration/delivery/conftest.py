"""One real nats-server a module, and fresh streams on it for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.nats_server import NatsServer
from tests.integration.delivery.rig import Desk, desk_at
from tests.integration.ingest.harness import Suite, suite_at


@pytest.fixture
async def suite(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Suite]:
    async with suite_at(nats_server, tmp_path) as made:
        yield made


@pytest.fixture
async def desk(suite: Suite) -> AsyncIterator[Desk]:
    async with desk_at(suite) as made:
        yield made

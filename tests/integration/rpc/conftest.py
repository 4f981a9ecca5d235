"""One nats-server a module, and services of their own for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.nats_server import NatsServer
from tests.integration.rpc.rig import Rig, rig_at


@pytest.fixture
async def rig(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig_at(nats_server, tmp_path) as made:
        yield made

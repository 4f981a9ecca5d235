"""A replica of the token service for each test that asks for one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.nats_server import NatsServer
from tests.integration.auth.service import Rig, rig_at


@pytest.fixture
async def rig(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig_at(nats_server, tmp_path) as made:
        yield made

"""A client of the simulators' OAuth."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.integration.sandbox.oauth_rig import Client, connected


@pytest.fixture
async def oauth() -> AsyncIterator[Client]:
    async with connected() as client:
        yield client

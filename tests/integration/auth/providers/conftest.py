from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.integration.auth.providers.bench import Bench, bench


@pytest.fixture
async def providers() -> AsyncIterator[Bench]:
    """The providers, and the endpoints that a test scripts."""
    async with bench() as made:
        yield made

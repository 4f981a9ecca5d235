"""A site for each test; afterwards, no page and no log may hold a secret."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client
from structlog.testing import capture_logs

from libs.bus import streams, subjects
from libs.bus.api import js_api
from libs.foundation import connected
from tests.fakes.nats_server import NatsServer
from tests.integration.auth.http.site import Site, site_of

_BUCKET = subjects.bucket_stream(subjects.FLOWS)


@pytest.fixture
async def nats(nats_server: NatsServer) -> AsyncIterator[Client]:
    client = await connected(nats_server.url)
    [bucket] = [spec for spec in streams.specs(16) if spec.name == _BUCKET]
    await js_api(client, f"STREAM.CREATE.{_BUCKET}", bucket.config(replicas=1))
    yield client
    await client.close()


@pytest.fixture
async def site(nats: Client, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Site]:
    with capture_logs() as lines:
        async with site_of(nats) as found:
            yield found
    told = "\n".join([*found.shown, *map(str, lines), caplog.text])
    leaked = [secret for secret in found.secrets() if secret in told]
    assert not leaked

"""The layout of streams: what a start and an apply may take away."""

from __future__ import annotations

import nats

from libs.bus import streams
from libs.bus.api import js_api
from tests.fakes.nats_server import NatsServer


async def test_room_is_only_taken_away_when_asked_to(nats_server: NatsServer) -> None:
    client = await nats.connect(nats_server.url)
    await streams.apply(client, scale_mib=32)

    await streams.create_missing(client, replicas=1, scale_mib=16)
    kept = await streams.apply(client, scale_mib=16)
    shrunk = await streams.apply(client, scale_mib=16, shrink=True)

    info = await js_api(client, "STREAM.INFO.PARKED")
    await client.close()
    assert kept == []
    assert any("max_bytes" in line for line in shrunk)
    assert info["config"]["max_bytes"] == 16 * 1024 * 1024


async def test_a_stream_that_is_missing_is_named_with_what_to_do(nats_server: NatsServer) -> None:
    client = await nats.connect(nats_server.url)
    await streams.apply(client, scale_mib=16)
    await js_api(client, "STREAM.DELETE.PARKED")

    faults = await streams.faults(client, scale_mib=16)

    await client.close()
    assert faults == ["stream PARKED is missing: run `tidewire streams apply`"]

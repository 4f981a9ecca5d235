"""The layout of streams: what a start and an apply may take away."""

from __future__ import annotations

import nats
import pytest

from cli.streams import apply_streams
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


async def test_a_refusal_that_passes_costs_a_start_nothing_but_time() -> None:
    with NatsServer() as server:
        # A file is where the folder should be: the server refuses once, and clears it away.
        in_the_way = server.store_dir / "jetstream/$G/streams" / "WEBHOOKS"
        in_the_way.parent.mkdir(parents=True)
        in_the_way.touch()
        client = await nats.connect(server.url)

        await streams.create_missing(client, replicas=1, scale_mib=16)

        faults = await streams.faults(client, scale_mib=16)
        refusals = server.log_path.read_text().count("Stream create failed")
        await client.close()
    assert (faults, refusals) == ([], 1)


async def test_an_operator_is_told_which_stream_goes_on_being_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with NatsServer() as server:
        # No folder can be made under a file.
        store = server.store_dir / "jetstream"
        store.rename(server.store_dir / "away")
        store.touch()

        ended = await apply_streams({"TIDEWIRE_NATS_URL": server.url}, dry_run=False, shrink=False)

        tries = server.log_path.read_text().count("Stream create failed")
    assert ended == 2
    assert "STREAM.CREATE.WEBHOOKS: 10049" in capsys.readouterr().err
    assert tries == 6


async def test_an_operator_is_told_in_a_line_what_a_server_has_no_room_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    environ = {"TIDEWIRE_STREAM_SCALE_MIB": str(2**30)}
    with NatsServer() as server:
        environ["TIDEWIRE_NATS_URL"] = server.url
        ended = await apply_streams(environ, dry_run=False, shrink=False)

    assert ended == 2
    assert "STREAM.CREATE.WEBHOOKS: 10047 insufficient storage" in capsys.readouterr().err

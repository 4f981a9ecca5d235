"""The other services' side of the token service: what they know, and go on knowing without it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from libs.auth import RemoteConnections, RemoteKeySource
from libs.clock import SystemClock
from libs.errors import Kind, ServiceError
from tests.fakes import callers
from tests.fakes.nats_server import NatsServer
from tests.fakes.until import until
from tests.integration.auth.service import SERVICE_SECRET, Rig, rig_at
from tidewire.connections.v1.connection_pb2 import (
    CONNECTION_KIND_TIKTOK_EVENTS,
    CONNECTION_STATE_NEEDS_REAUTHORIZATION,
)

_CLOCK = SystemClock()


class Asking:
    """Another service: what it is told, and whether it is ready."""

    def __init__(self, channel: Any) -> None:
        self.connections = RemoteConnections(channel, _CLOCK, webhook_secrets=True)
        self.is_ready = False
        self.told = 0
        self.connections.subscribe(self._note)

    def _note(self) -> None:
        self.told += 1

    def ready(self) -> None:
        self.is_ready = True

    async def token(self, connection_id: str) -> str:
        return (await self.connections.access_token(connection_id)).reveal()

    async def eventually(self, connection_id: str, token: str) -> str:
        """The token, once it is this one; the last one that it was else."""
        for _ in range(300):
            found = await self.token(connection_id)
            if found == token:
                break
            await asyncio.sleep(0.02)
        return found

    def secrets(self, shop: str) -> list[bytes]:
        return [one.key for one in self.connections.webhook_secrets(shop)]


@asynccontextmanager
async def asking(port: int, *, ready: bool = True) -> AsyncIterator[Asking]:
    async with callers.channel_to(port) as channel:
        made = Asking(channel)
        running = asyncio.create_task(made.connections.run(made.ready))
        if ready:
            await until(lambda: made.is_ready)
        yield made
        made.connections.stop()
        await running


async def test_it_is_ready_once_all_there_is_has_been_told(rig: Rig) -> None:
    store, pixel = await rig.connected()
    async with asking(rig.server.port) as other:
        view = other.connections.shop(rig.shop)
        assert view is not None
        assert (view.country, view.currency) == ("US", "USD")
        assert list(other.connections.sinks(rig.shop)) == ["events.C1"]
        assert other.secrets(rig.shop) == [b"hook-secret-1"]
        assert await other.token(pixel) == rig.token("pixel-1")
        assert await other.token(store) == rig.token("store-1")


async def test_whoever_waits_for_all_to_be_told_finds_all(rig: Rig) -> None:
    await rig.connected()
    async with callers.channel_to(rig.server.port) as channel:
        connections = RemoteConnections(channel, _CLOCK)
        waiting = asyncio.create_task(connections.told())
        await asyncio.sleep(0)
        assert not waiting.done()
        running = asyncio.create_task(connections.run(lambda: None))

        await asyncio.wait_for(waiting, 10)

        assert list(connections.sinks(rig.shop)) == ["events.C1"]
        connections.stop()
        await running


async def test_what_changes_is_pushed(rig: Rig) -> None:
    _, pixel = await rig.connected()
    async with asking(rig.server.port) as other:
        await other.token(pixel)
        before = other.told

        await rig.imported(rig.pixel(), access_token=rig.token("pixel-2"))
        await rig.imported(rig.pixel("C2"), access_token=rig.token("c2"))
        await rig.imported(webhook_secrets=["hook-secret-2"])
        await until(lambda: list(other.connections.sinks(rig.shop)) == ["events.C1", "events.C2"])
        await until(lambda: other.secrets(rig.shop) == [b"hook-secret-2"])

        assert await other.token(pixel) == rig.token("pixel-2")
        assert other.told > before
        await rig.linking.revoke(pixel)
        await until(lambda: list(other.connections.sinks(rig.shop)) == ["events.C2"])
        with pytest.raises(ServiceError) as ended:
            await other.token(pixel)
        assert ended.value.kind is Kind.AUTH


async def test_a_hundred_readers_are_audited_as_one_hand_out(rig: Rig) -> None:
    _, pixel = await rig.connected()
    async with asking(rig.server.port) as other:
        tokens = await asyncio.gather(*(other.token(pixel) for _ in range(100)))

    assert set(tokens) == {rig.token("pixel-1")}
    assert len(await rig.audited("GetToken")) == 1


async def test_a_refused_token_is_reported_and_ends_the_connection(rig: Rig) -> None:
    _, pixel = await rig.connected()
    async with asking(rig.server.port) as other:
        refused = await other.connections.access_token(pixel)
        await other.connections.refused(pixel, refused)
        with pytest.raises(ServiceError) as ended:
            await other.token(pixel)

        def state() -> int:
            [found] = other.connections.connections(rig.shop, CONNECTION_KIND_TIKTOK_EVENTS)
            return found.state

        await until(lambda: state() == CONNECTION_STATE_NEEDS_REAUTHORIZATION)
    assert ended.value.code == "needs_reauthorization"
    assert len(await rig.audited("ReportInvalid")) == 1


async def test_without_the_service_all_goes_on_and_no_change_is_missed(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    stack = AsyncExitStack()
    async with rig_at(nats_server, tmp_path) as first:
        store, pixel = await first.connected()
        await first.imported(first.pixel("C3"), access_token="c3")
        port = first.server.port
        other = await stack.enter_async_context(asking(port))
        await other.token(pixel)
    # Nobody listens there now.
    assert await other.token(pixel) == first.token("pixel-1")
    assert other.secrets(first.shop) == [b"hook-secret-1"]
    with pytest.raises(ServiceError) as away:
        await other.token(store)
    assert away.value.kind is Kind.RETRYABLE
    async with rig_at(nats_server, tmp_path) as elsewhere:
        elsewhere.shop = first.shop
        await elsewhere.linking.revoke(f"{first.shop}.events.C3")
    async with rig_at(nats_server, tmp_path, port=port) as again:
        again.shop = first.shop
        await again.imported(again.store(), access_token="store-2", webhook_secrets=["h2"])
        await again.imported(again.pixel(), access_token=again.token("pixel-2"))
        await until(lambda: list(other.connections.sinks(first.shop)) == ["events.C1"], within_s=15)
        await until(lambda: other.secrets(first.shop) == [b"h2"], within_s=15)
        # The watch of tokens may be the last to find the service again.
        found = [await other.eventually(pixel, again.token("pixel-2")), await other.token(store)]
        assert found == [again.token("pixel-2"), "store-2"]
        await stack.aclose()


async def test_it_is_not_ready_while_nobody_answers() -> None:
    with capture_logs() as lines:
        async with asking(1, ready=False) as other:
            # Each of the three that it follows has asked in vain.
            await until(lambda: [one["event"] for one in lines].count("auth_not_followed") >= 3)

            assert not other.is_ready
            assert list(other.connections.shops()) == []
            # "None" would have honest webhooks refused.
            with pytest.raises(ServiceError, match="secrets_awaited") as refused:
                other.secrets("first")
            assert refused.value.kind is Kind.RETRYABLE


@pytest.fixture
async def keys(rig: Rig) -> AsyncIterator[RemoteKeySource]:
    await rig.connected()
    async with callers.channel_to(rig.server.port, "ingest") as channel:
        source, ready = RemoteKeySource(channel, rig.nats), asyncio.Event()
        running = asyncio.create_task(source.run(ready.set))
        await ready.wait()
        yield source
        source.stop()
        await running


async def test_a_key_is_asked_for_once(rig: Rig, keys: RemoteKeySource) -> None:
    found = await asyncio.gather(*(keys.current(rig.shop) for _ in range(50)))

    own = await rig.keys.current(rig.shop)
    assert {key.key_id for key in found} == {own.key_id}
    assert found[0].reveal() == own.reveal()
    # A key that nobody had needs two: it is told of while it is made.
    assert len(await rig.audited("GetDataKey")) <= 2
    assert keys.cached(rig.shop) is not None
    assert keys.cached_by_id(rig.shop, own.key_id) is not None


async def test_a_key_that_is_rotated_is_asked_for_anew_and_the_old_one_stays(
    rig: Rig, keys: RemoteKeySource
) -> None:
    old = await keys.current(rig.shop)
    new = await rig.keys.rotate(rig.shop)
    await until(lambda: keys.cached(rig.shop) is None)

    assert (await keys.current(rig.shop)).key_id == new.key_id
    assert (await keys.by_id(rig.shop, old.key_id)).reveal() == old.reveal()


async def test_a_key_that_is_forgotten_is_forgotten_here_too(
    rig: Rig, keys: RemoteKeySource
) -> None:
    old = await keys.current(rig.shop)
    await rig.keys.forget(rig.shop)
    await until(lambda: keys.cached_by_id(rig.shop, old.key_id) is None)

    with pytest.raises(ServiceError, match="key_unknown"):
        await keys.by_id(rig.shop, old.key_id)
    assert (await keys.current(rig.shop)).key_id != old.key_id


async def test_a_key_that_was_told_of_and_is_not_stored_yet_is_not_taken_for_the_old_one(
    rig: Rig, keys: RemoteKeySource
) -> None:
    old = await keys.current(rig.shop)
    # Heard by all who listen, and refused by the stream, as the loser of a race is.
    await rig.nats.publish(
        f"$KV.keys.{rig.shop}.current",
        b"0123456789abcdef",
        headers={"Nats-Expected-Last-Subject-Sequence": "1"},
    )
    await until(lambda: keys.cached(rig.shop) is None)

    again = await keys.current(rig.shop)

    assert again.key_id == old.key_id
    assert keys.cached(rig.shop) is None


async def test_a_service_that_is_away_is_a_retryable_error_for_keys(rig: Rig) -> None:
    async with callers.channel_to(1) as nowhere:
        source = RemoteKeySource(nowhere, rig.nats)
        with pytest.raises(ServiceError) as away:
            await source.current(rig.shop)

    assert away.value.kind is Kind.RETRYABLE


async def test_a_surprise_in_a_watch_ends_the_process_that_would_go_on_deaf(rig: Rig) -> None:
    async with callers.channel_to(rig.server.port) as channel:
        connections = RemoteConnections(channel, _CLOCK)

        def surprised() -> None:
            raise RuntimeError("a subscriber that must not raise")

        connections.subscribe(surprised)
        with pytest.raises(RuntimeError):
            await asyncio.wait_for(connections.run(lambda: None), 5)


async def test_the_services_own_app_signs_for_a_store_that_names_no_secret(rig: Rig) -> None:
    await rig.imported(access_token=rig.token("store-1"))
    async with asking(rig.server.port) as other:
        assert other.secrets(rig.shop) == [SERVICE_SECRET.encode()]
        strangers = [one.key for one in other.connections.webhook_secrets(None)]

    assert strangers[0] == SERVICE_SECRET.encode()

"""What every KeySource does, and what only the one on a real bucket can be asked."""

from __future__ import annotations

import asyncio
import base64
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from libs.bus.subjects import token
from libs.connections import shop_handle
from libs.errors import Kind, ServiceError
from libs.keys import (
    KeyKeeper,
    KvKeySource,
    MemoryKeySource,
    connection_scope,
    create_kek,
    load_kek,
)
from libs.sealing import DataKey, seal, unseal
from tests.fakes.nats_server import NatsServer
from tests.fakes.streams import delete_streams

KEK = bytes(range(32))


def opens(key: DataKey, other: DataKey) -> bool:
    """Whether `other` is the same key as `key`."""
    sealed = seal(b"text", key, associated=b"shop")
    try:
        return unseal(sealed, {other.key_id: other}.get, associated=b"shop") == b"text"
    except ServiceError:
        return False


class KeySourceContract:
    """Subclasses give a fixture `source`."""

    async def test_a_shop_keeps_its_key(self, source: KeyKeeper) -> None:
        first = await source.current("example")

        assert opens(first, await source.current("example"))
        assert opens(first, await source.by_id("example", first.key_id))

    async def test_two_shops_share_neither_key_nor_id(self, source: KeyKeeper) -> None:
        one, other = await source.current("example"), await source.current("example2")

        assert one.key_id != other.key_id
        assert not opens(one, DataKey(one.key_id, bytes(32)))
        with pytest.raises(ServiceError, match="key_unknown"):
            await source.by_id("example", other.key_id)

    async def test_a_key_id_is_short_hex(self, source: KeyKeeper) -> None:
        key = await source.current("example")

        assert 8 <= len(key.key_id) <= 16
        assert set(key.key_id) <= set("0123456789abcdef")

    async def test_a_key_is_in_memory_once_it_was_used(self, source: KeyKeeper) -> None:
        assert source.cached("fresh") is None
        assert source.cached_by_id("fresh", "0" * 16) is None

        key = await source.current("fresh")

        assert source.cached("fresh") is key
        assert source.cached_by_id("fresh", key.key_id) is key
        assert source.cached_by_id("other", key.key_id) is None

    async def test_an_unknown_id_is_an_error_for_good(self, source: KeyKeeper) -> None:
        with pytest.raises(ServiceError) as caught:
            await source.by_id("example", "feedfeedfeedfeed")

        assert (caught.value.kind, caught.value.code) == (Kind.PERMANENT, "key_unknown")

    async def test_many_who_ask_at_once_get_one_key(self, source: KeyKeeper) -> None:
        keys = await asyncio.gather(*(source.current("busy") for _ in range(50)))

        assert len({key.key_id for key in keys}) == 1

    @pytest.mark.parametrize("shop", ["a.b", "=unknown", "", "ü *>", "kek", "current"])
    async def test_any_text_can_name_a_shop(self, source: KeyKeeper, shop: str) -> None:
        key = await source.current(shop)

        assert opens(key, await source.by_id(shop, key.key_id))

    async def test_a_rotated_scope_seals_anew_and_reads_what_was(self, source: KeyKeeper) -> None:
        before = await source.current("example")

        after = await source.rotate("example")

        assert after.key_id != before.key_id
        assert not opens(before, DataKey(before.key_id, bytes(32)))
        assert opens(after, await source.current("example"))
        assert opens(after, await source.current("example", fresh=True))
        assert opens(before, await source.by_id("example", before.key_id))

    async def test_a_scope_without_a_key_can_be_rotated(self, source: KeyKeeper) -> None:
        key = await source.rotate("new")

        assert opens(key, await source.current("new"))

    async def test_looking_for_a_key_makes_none(self, source: KeyKeeper) -> None:
        before = await source.existing("looked-for")

        assert before is None
        assert source.cached("looked-for") is None
        assert await source.existing("looked-for") is None
        made = await source.current("looked-for")
        assert await source.existing("looked-for") is made

    async def test_a_forgotten_scope_has_lost_every_key_and_no_other_has(
        self, source: KeyKeeper
    ) -> None:
        kept = await source.current("kept")
        first = await source.current("gone")
        second = await source.rotate("gone")

        await source.forget("gone")

        assert source.cached("gone") is None
        for key in (first, second):
            assert source.cached_by_id("gone", key.key_id) is None
            with pytest.raises(ServiceError, match="key_unknown"):
                await source.by_id("gone", key.key_id)
        assert opens(kept, await source.by_id("kept", kept.key_id))

    async def test_a_forgotten_scope_may_be_used_again(self, source: KeyKeeper) -> None:
        before = await source.current("again")
        await source.forget("again")
        await source.forget("again")

        after = await source.current("again")

        assert after.key_id != before.key_id
        assert opens(after, await source.by_id("again", after.key_id))

    async def test_a_connection_and_a_shop_never_share_a_key(self, source: KeyKeeper) -> None:
        scope = connection_scope("7")
        assert shop_handle(scope, bare=True) is None
        assert shop_handle(f"{scope}.myshopify.com") is None

        assert (await source.current(scope)).key_id != (await source.current("7")).key_id


class TestMemoryKeySource(KeySourceContract):
    @pytest.fixture
    def source(self) -> KeyKeeper:
        return MemoryKeySource()


@pytest.fixture
async def client(nats_server: NatsServer) -> AsyncIterator[Client]:
    """A client; the server's streams are deleted after the test."""
    client = await nats.connect(nats_server.url)
    yield client
    await client.close()
    # A connection of its own: a test may have killed the server under the other.
    cleaner = await nats.connect(nats_server.url)
    await delete_streams(cleaner, nats_server)
    await cleaner.close()


@pytest.fixture
def js(client: Client) -> JetStreamContext:
    return client.jetstream()


async def stored(js: JetStreamContext, pattern: str) -> list[bytes]:
    """What the bucket holds under keys that end so, deleted ones left out."""
    kv = await js.key_value("keys")
    values = [await kv.get(key) for key in await kv.keys() if key.endswith(pattern)]
    return [entry.value or b"" for entry in values]


class TestKvKeySource(KeySourceContract):
    @pytest.fixture
    async def source(self, js: JetStreamContext) -> KeyKeeper:
        return await KvKeySource.open(js, KEK)

    async def test_keys_survive_the_process(self, js: JetStreamContext) -> None:
        before = await (await KvKeySource.open(js, KEK)).current("example")

        later = await KvKeySource.open(js, KEK)

        assert opens(before, await later.current("example"))
        assert opens(before, await later.by_id("example", before.key_id))

    async def test_a_key_that_another_process_made_is_found(self, js: JetStreamContext) -> None:
        key = await (await KvKeySource.open(js, KEK)).current("found")
        rotated = await (await KvKeySource.open(js, KEK)).rotate("found")
        other = await KvKeySource.open(js, KEK)

        found = await other.existing("found")

        assert found is not None
        assert (found.key_id, found.reveal()) == (rotated.key_id, rotated.reveal())
        assert other.cached("found") is found
        assert key.key_id != found.key_id

    async def test_a_killed_server_has_kept_the_key(
        self, js: JetStreamContext, nats_server: NatsServer
    ) -> None:
        before = await (await KvKeySource.open(js, KEK)).current("example")

        nats_server.kill()
        nats_server.start()
        client = await nats.connect(nats_server.url)
        after = await (await KvKeySource.open(client.jetstream(), KEK)).current("example")
        await client.close()

        assert opens(before, after)

    async def test_processes_that_create_at_once_end_with_one_key(
        self, js: JetStreamContext
    ) -> None:
        for place in range(20):
            sources = [await KvKeySource.open(js, KEK) for _ in range(4)]
            keys = await asyncio.gather(*(source.current(f"s{place}") for source in sources))
            assert all(opens(keys[0], key) for key in keys)

        kv = await js.key_value("keys")
        names = [name for name in await kv.keys() if name != "kek"]
        assert len(names) == 40, "a key and `current` of each shop, nothing of the losers"

    async def test_a_key_left_without_its_current_is_simply_not_used(
        self, js: JetStreamContext
    ) -> None:
        source = await KvKeySource.open(js, KEK)
        kv = await js.key_value("keys")
        await kv.create(f"{token('example')}.0123456789abcdef", b"\x01from a process that died")

        key = await source.current("example")

        assert key.key_id != "0123456789abcdef"

    async def test_nothing_stored_shows_a_key(self, js: JetStreamContext) -> None:
        drawn: list[bytes] = []

        def random_bytes(count: int) -> bytes:
            drawn.append(bytes((len(drawn) + at) % 256 for at in range(count)))
            return drawn[-1]

        source = await KvKeySource.open(js, KEK, random_bytes=random_bytes)
        key = await source.current("example")

        secret = next(one for one in drawn if len(one) == 32)
        assert opens(key, DataKey(key.key_id, secret))
        values = await stored(js, "")
        assert len(values) == 3
        assert not [value for value in values if secret in value or KEK in value]

    async def test_a_key_moved_to_another_shop_does_not_open(self, js: JetStreamContext) -> None:
        source = await KvKeySource.open(js, KEK)
        key = await source.current("rich")
        kv = await js.key_value("keys")
        wrapped = (await kv.get(f"rich.{key.key_id}")).value or b""

        await kv.put(f"poor.{key.key_id}", wrapped)

        with pytest.raises(ServiceError, match="key_unreadable"):
            await source.by_id("poor", key.key_id)

    async def test_another_kek_is_refused_at_the_start(self, js: JetStreamContext) -> None:
        await KvKeySource.open(js, KEK)

        with pytest.raises(ServiceError, match="restore") as caught:
            await KvKeySource.open(js, bytes(32))

        assert (caught.value.kind, caught.value.code) == (Kind.PERMANENT, "kek_wrong")

    async def test_no_kek_is_told_apart_from_a_lost_one(self, js: JetStreamContext) -> None:
        with pytest.raises(ServiceError, match="create one") as first:
            await KvKeySource.open(js, None)
        await KvKeySource.open(js, KEK)
        with pytest.raises(ServiceError, match="restore") as lost:
            await KvKeySource.open(js, None)

        assert (first.value.code, lost.value.code) == ("kek_missing", "kek_missing")

    async def test_a_silent_server_is_given_up_in_time_and_costs_no_cached_key(
        self, js: JetStreamContext, nats_server: NatsServer, paused: Callable[[], None]
    ) -> None:
        source = await KvKeySource.open(js, KEK, timeout_s=0.3)
        known = await source.current("known")
        paused()

        started_s = time.monotonic()
        errors = await asyncio.gather(
            *(source.current("new") for _ in range(20)), return_exceptions=True
        )

        assert time.monotonic() - started_s < 1.0, "who waits behind another waits no longer"
        assert {error.code for error in errors if isinstance(error, ServiceError)} == {
            "nats_unavailable"
        }
        assert len(errors) == 20
        assert await source.current("known") is known
        nats_server.resume()
        assert await source.current("new")

    @pytest.fixture
    def paused(self, nats_server: NatsServer) -> Iterator[Callable[[], None]]:
        yield nats_server.pause
        nats_server.resume()


@pytest.mark.parametrize(
    "content",
    [
        KEK,
        KEK.hex().encode(),
        KEK.hex().upper().encode() + b"\n",
        base64.b64encode(bytes([251]) * 32),
        base64.urlsafe_b64encode(bytes([251]) * 32) + b"\r\n",
    ],
)
def test_a_kek_may_be_raw_hex_or_base64(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "kek"
    path.write_bytes(content)

    assert load_kek(path) in (KEK, bytes([251]) * 32)


@pytest.mark.parametrize("content", [b"", b"short", KEK + b"\n\n", KEK.hex().encode()[:-2]])
def test_a_kek_of_another_length_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "kek"
    path.write_bytes(content)

    with pytest.raises(ServiceError, match="32 bytes") as caught:
        load_kek(path)

    assert caught.value.code == "kek_malformed"
    assert "short" not in str(caught.value)


def test_a_missing_kek_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="Restore it from your backup") as caught:
        load_kek(tmp_path / "kek")

    assert caught.value.code == "kek_missing"
    with pytest.raises(ServiceError, match="cannot be read"):
        load_kek(tmp_path)


def test_a_created_kek_is_its_owners_alone_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "state" / "kek"

    kek = create_kek(path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_kek(path) == kek
    with pytest.raises(ServiceError, match="kek_exists"):
        create_kek(path)
    assert load_kek(path) == kek

"""Data keys wrapped anew on a real bucket, while others read, rewrap, or are killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from libs.errors import Kind, ServiceError
from libs.keys import KekRing, KvKeySource, LocalKek, Rewrapper
from libs.keys.aws import Aws
from libs.sealing import DataKey
from tests.bench.rewrap import fill, read_all_while
from tests.contract.test_key_source import opens
from tests.fakes.aws_server import REGION, AwsServer
from tests.fakes.nats_server import NatsServer
from tests.fakes.streams import delete_streams

OLD, NEW = LocalKek(bytes([1]) * 32), LocalKek(bytes([2]) * 32)
BEFORE = KekRing(OLD)
BOTH = KekRing(NEW, OLD)
AFTER = KekRing(NEW)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def client(nats_server: NatsServer) -> AsyncIterator[Client]:
    client = await nats.connect(nats_server.url)
    yield client
    await delete_streams(client, nats_server)
    await client.close()


@pytest.fixture
def js(client: Client) -> JetStreamContext:
    return client.jetstream()


async def test_every_key_is_wrapped_anew_and_none_fails_to_be_read_meanwhile(
    js: JetStreamContext,
) -> None:
    keys = await fill(js, BEFORE, 300)
    assert (await Rewrapper(js, BOTH).status()).by_kek == {OLD.kek_id: 300}

    done, reads = await read_all_while(js, BOTH, keys, Rewrapper(js, BOTH).rewrap())

    assert (done.wrapped, done.already, done.gone, done.failed) == (300, 0, 0, {})
    assert reads.failed == 0
    assert reads.count >= 300
    status = await Rewrapper(js, BOTH).status()
    assert status.by_kek == {NEW.kek_id: 300}
    assert status.is_settled
    source = await KvKeySource.open(js, AFTER)
    for scope, key in keys.items():
        assert opens(key, await source.current(scope))
        assert opens(key, await source.by_id(scope, key.key_id))


async def test_a_second_run_finds_nothing_to_do(js: JetStreamContext) -> None:
    await fill(js, BEFORE, 10)
    await Rewrapper(js, BOTH).rewrap()

    done = await Rewrapper(js, BOTH).rewrap()

    assert (done.wrapped, done.already) == (0, 10)


async def test_runs_at_once_wrap_each_key_once(js: JetStreamContext) -> None:
    keys = await fill(js, BEFORE, 100)

    runs = await asyncio.gather(*(Rewrapper(js, BOTH).rewrap() for _ in range(4)))

    assert sum(run.wrapped for run in runs) == 100
    assert all(run.wrapped + run.already == 100 for run in runs)
    await assert_all_read(js, AFTER, keys)


async def test_a_run_that_is_killed_is_finished_by_the_next(
    js: JetStreamContext, nats_server: NatsServer
) -> None:
    keys = await fill(js, BEFORE, 60)

    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DIES, nats_server.url,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'gen'}"},
    )  # fmt: skip
    assert await asyncio.wait_for(child.wait(), 60) == -signal.SIGKILL

    half = await Rewrapper(js, BOTH).status()
    assert 0 < half.by_kek[NEW.kek_id] < 60
    assert sum(half.by_kek.values()) == 60
    assert set(half.in_use) == {OLD.kek_id, NEW.kek_id}
    await assert_all_read(js, BOTH, keys)
    done = await Rewrapper(js, BOTH).rewrap()
    assert done.wrapped == half.by_kek[OLD.kek_id]
    await assert_all_read(js, AFTER, keys)


DIES = """
import asyncio, os, signal, sys
import nats
from libs.keys import KekRing, Rewrapper
from tests.contract.test_rewrap import NEW, OLD

class Deadly:
    kek_id, answers_within_s, opens_unnamed, left = NEW.kek_id, 0.0, True, 30
    async def wrap(self, plain, binding):
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)
        return await NEW.wrap(plain, binding)
    async def unwrap(self, wrapped, binding):
        return await NEW.unwrap(wrapped, binding)

async def main():
    client = await nats.connect(sys.argv[1])
    await Rewrapper(client.jetstream(), KekRing(Deadly(), OLD)).rewrap()

asyncio.run(main())
"""


async def until(came: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not came():  # noqa: ASYNC110 - it comes from outside, and tells nobody
            await asyncio.sleep(0.001)


async def assert_all_read(js: JetStreamContext, ring: KekRing, keys: dict[str, DataKey]) -> None:
    source = await KvKeySource.open(js, ring)
    for scope, key in keys.items():
        assert opens(key, await source.by_id(scope, key.key_id))


async def test_keys_from_before_keks_had_ids_are_read_and_wrapped_anew(
    js: JetStreamContext,
) -> None:
    keys = await fill(js, BEFORE, 1)
    [(scope, key)] = keys.items()
    kv = await js.key_value("keys")
    name = f"{scope}.{key.key_id}"
    named = (await kv.get(name)).value or b""
    await kv.put(name, b"\x01" + named[2 + len(OLD.kek_id) :])
    await assert_all_read(js, BEFORE, keys)
    await assert_all_read(js, BOTH, keys)
    assert (await Rewrapper(js, BOTH).status()).by_kek == {OLD.kek_id: 1}

    done = await Rewrapper(js, BOTH).rewrap()

    assert done.wrapped == 1
    await assert_all_read(js, AFTER, keys)


async def test_a_process_without_a_kek_in_use_does_not_start_and_says_which(
    js: JetStreamContext,
) -> None:
    await fill(js, BEFORE, 1)
    with pytest.raises(ServiceError, match=OLD.kek_id) as caught:
        await KvKeySource.open(js, AFTER)
    assert (caught.value.kind, caught.value.code) == (Kind.PERMANENT, "kek_wrong")

    await Rewrapper(js, BOTH).rewrap()

    with pytest.raises(ServiceError, match=NEW.kek_id):
        await KvKeySource.open(js, BEFORE)


async def test_a_running_process_without_the_kek_waits_for_it_and_loses_nothing(
    js: JetStreamContext,
) -> None:
    [(scope, key)] = (await fill(js, BEFORE, 1)).items()
    source = await KvKeySource.open(js, BEFORE)
    await Rewrapper(js, BOTH).rewrap()

    with pytest.raises(ServiceError, match=NEW.kek_id) as caught:
        await source.by_id(scope, key.key_id)

    assert (caught.value.kind, caught.value.code) == (Kind.RETRYABLE, "kek_unknown")


async def test_a_key_made_under_a_retired_kek_puts_it_back_in_use(js: JetStreamContext) -> None:
    await fill(js, BEFORE, 1)
    behind = await KvKeySource.open(js, KekRing(OLD, NEW))
    await Rewrapper(js, BOTH).rewrap()

    await behind.current("late")

    status = await Rewrapper(js, BOTH).status()
    assert set(status.in_use) == {OLD.kek_id, NEW.kek_id}
    assert not status.is_settled
    with pytest.raises(ServiceError, match=OLD.kek_id):
        await KvKeySource.open(js, AFTER)


async def test_a_key_that_does_not_open_stays_as_it_was_and_keeps_its_kek_in_use(
    js: JetStreamContext,
) -> None:
    (one, key), (other, _) = (await fill(js, BEFORE, 2)).items()
    kv = await js.key_value("keys")
    moved = (await kv.get(f"{one}.{key.key_id}")).value or b""
    await kv.put(f"{other}.{key.key_id}", moved)

    done = await Rewrapper(js, BOTH).rewrap()

    assert done.failed == {f"{other}.{key.key_id}": "key_unreadable"}
    assert done.wrapped == 2
    assert (await kv.get(f"{other}.{key.key_id}")).value == moved
    assert OLD.kek_id in (await Rewrapper(js, BOTH).status()).in_use


async def test_an_entry_that_is_no_wrapped_key_is_named_and_nothing_is_retired(
    js: JetStreamContext,
) -> None:
    await fill(js, BEFORE, 1)
    kv = await js.key_value("keys")
    await kv.put("shop-0.0123456789abcdef", b"\x09neither of the formats")

    done = await Rewrapper(js, BOTH).rewrap()

    status = await Rewrapper(js, BOTH).status()
    assert done.failed == {"shop-0.0123456789abcdef": "key_unreadable"}
    assert status.unreadable == ("shop-0.0123456789abcdef",)
    assert set(status.in_use) == {OLD.kek_id, NEW.kek_id}
    assert not status.is_settled


async def test_a_kek_that_may_wrap_and_not_open_replaces_nothing(js: JetStreamContext) -> None:
    keys = await fill(js, BEFORE, 3)

    class Mute(LocalKek):
        async def unwrap(self, wrapped: bytes, binding: bytes) -> bytes:
            raise ServiceError(Kind.RETRYABLE, "kek_unavailable", "kms:Decrypt is missing")

    with pytest.raises(ServiceError, match="kek_unavailable"):
        await Rewrapper(js, KekRing(Mute(bytes([2]) * 32), OLD)).rewrap()

    assert (await Rewrapper(js, BOTH).status()).by_kek == {OLD.kek_id: 3}
    await assert_all_read(js, KekRing(OLD, NEW), keys)


async def test_other_processes_seal_with_a_rotated_key_and_forget_a_forgotten_one(
    js: JetStreamContext,
) -> None:
    here, there = await KvKeySource.open(js, BEFORE), await KvKeySource.open(js, BEFORE)
    first = await here.current("shop")
    assert opens(first, await there.current("shop"))

    second = await here.rotate("shop")
    await until(lambda: there.cached("shop") is None)
    assert opens(second, await there.current("shop"))
    assert opens(first, await there.by_id("shop", first.key_id))

    await here.forget("shop")
    await until(lambda: there.cached_by_id("shop", first.key_id) is None)
    third = await there.current("shop")
    assert third.key_id not in {first.key_id, second.key_id}
    assert opens(third, await here.current("shop"))


async def test_rotations_at_once_end_with_one_key_and_none_that_nobody_uses(
    js: JetStreamContext,
) -> None:
    sources = [await KvKeySource.open(js, BEFORE) for _ in range(4)]
    first = await sources[0].current("shop")

    rotated = await asyncio.gather(*(source.rotate("shop") for source in sources))

    last = [await source.current("shop", fresh=True) for source in sources]
    assert len({key.key_id for key in last}) == 1
    kv = await js.key_value("keys")
    stored = {name for name in await kv.keys() if name not in {"kek", "shop.current"}}
    assert stored == {f"shop.{key.key_id}" for key in (first, *rotated)}


async def test_a_connection_that_was_lost_has_each_scope_asked_for_again(
    js: JetStreamContext, client: Client, nats_server: NatsServer
) -> None:
    source = await KvKeySource.open(js, BEFORE)
    await source.current("shop")

    nats_server.restart()
    await until(lambda: client.stats["reconnects"] > 0)

    assert source.cached("shop") is None
    assert source.cached_by_id("shop", (await source.current("shop")).key_id) is not None


async def test_what_was_told_and_is_not_stored_yet_is_not_taken_for_the_newest(
    js: JetStreamContext, client: Client
) -> None:
    here, there = await KvKeySource.open(js, BEFORE), await KvKeySource.open(js, BEFORE)
    first = await here.current("shop")
    await there.current("shop")

    # NATS tells of a write before it is stored; this one is refused, so that the moment lasts.
    await client.publish(
        "$KV.keys.shop.current", b"feed", headers={"Nats-Expected-Last-Subject-Sequence": "999"}
    )
    await until(lambda: there.cached("shop") is None)

    assert opens(first, await there.current("shop"))
    assert there.cached("shop") is None


async def test_a_scope_forgotten_while_its_key_was_made_gets_another(js: JetStreamContext) -> None:
    source = await KvKeySource.open(js, BEFORE)
    kv = await js.key_value("keys")
    await kv.put("shop.current", b"0123456789abcdef")

    key = await source.current("shop")

    assert opens(key, await (await KvKeySource.open(js, BEFORE)).current("shop"))


@pytest.fixture(scope="module")
def aws() -> Iterator[AwsServer]:
    with AwsServer() as server:
        yield server


async def test_keys_move_from_a_file_into_kms(js: JetStreamContext, aws: AwsServer) -> None:
    keys = await fill(js, BEFORE, 5)
    kms = await Aws(region=REGION, endpoint_url=aws.url, session=aws.session).kms_kek(aws.kms_key())

    done = await Rewrapper(js, KekRing(kms, OLD)).rewrap()

    assert done.wrapped == 5
    assert (await Rewrapper(js, KekRing(kms)).status()).by_kek == {kms.kek_id: 5}
    await assert_all_read(js, KekRing(kms), keys)

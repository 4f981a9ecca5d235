"""One suite for records and feeds: in memory, and on buckets of a real NATS."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest
from structlog.testing import capture_logs

from libs.bus import streams, subjects
from libs.bus.commit_log import CommitLog, ConflictError, Entry, MemoryLog, Stored
from libs.bus.follow import BucketFeed, Feed, Follower, MemoryFeed, bucket_follower
from libs.bus.jetstream_log import JetStreamLog
from libs.clock import SystemClock
from libs.errors import Kind, ServiceError
from libs.foundation import connected
from libs.ids import RandomIds
from services.auth.adapters.records import RecordStore, connection_records
from tests.fakes.nats_server import NatsServer
from tests.fakes.until import until
from tidewire.auth.v1 import record_pb2

STREAM = subjects.bucket_stream(subjects.CONNECTIONS)


@dataclass
class Bed:
    log: CommitLog
    feed: Feed
    follower: Callable[[Callable[[Stored], None]], Follower]

    def store(self) -> RecordStore[record_pb2.StoredConnection]:
        return connection_records(self.log)


@pytest.fixture(params=["memory", "nats"])
async def bed(request: pytest.FixtureRequest, nats_server: NatsServer) -> AsyncIterator[Bed]:
    if request.param == "memory":
        log = MemoryLog()
        feed = MemoryFeed(log)
        yield Bed(log, feed, lambda take: Follower("memory", feed, take))
        return
    client = await connected(nats_server.url)
    await streams.create_missing(client, replicas=1, scale_mib=16)
    yield Bed(
        JetStreamLog(client, STREAM, RandomIds(SystemClock())),
        BucketFeed(client, subjects.CONNECTIONS),
        lambda take: bucket_follower(client, subjects.CONNECTIONS, take),
    )
    await client.close()


def _record(connection_id: str, country: str = "US") -> record_pb2.StoredConnection:
    record = record_pb2.StoredConnection()
    record.connection.connection_id = connection_id
    record.connection.country = country
    return record


def _id() -> str:
    return f"s{uuid.uuid4().hex}.shopify"


def _subject(connection_id: str) -> str:
    return subjects.in_bucket(subjects.CONNECTIONS, subjects.token(connection_id))


async def test_what_is_written_is_known_at_once_and_read_back_elsewhere(bed: Bed) -> None:
    one, other, name = bed.store(), bed.store(), _id()
    told: list[str] = []
    one.subscribe(told.append)

    kept = await one.write(name, _record(name), expected=0)
    found = await other.fresh(name)

    assert (one.known(name), told) == (kept, [name])
    assert found == kept
    assert [each.connection_id for each in other.all()] == [name]


async def test_a_write_over_what_somebody_has_changed_is_refused(bed: Bed) -> None:
    one, other, name = bed.store(), bed.store(), _id()
    first = await one.write(name, _record(name), expected=0)
    second = await other.write(name, _record(name, "GB"), expected=first.sequence)

    for expected in (0, first.sequence):
        with pytest.raises(ConflictError):
            await one.write(name, _record(name, "FR"), expected=expected)

    assert await one.fresh(name) == second


async def test_what_is_not_there_is_not_known(bed: Bed) -> None:
    store = bed.store()

    assert (await store.fresh(_id()), list(store.all())) == (None, [])


async def test_a_record_is_not_replaced_by_an_older_one(bed: Bed) -> None:
    store, name = bed.store(), _id()
    first = await store.write(name, _record(name), expected=0)
    second = await store.write(name, _record(name, "GB"), expected=first.sequence)
    told: list[str] = []
    leave = store.subscribe(told.append)

    older = _record(name).SerializeToString()
    store.take(Stored(_subject(name), first.sequence, older))
    store.take(Stored(_subject(name), second.sequence, older))
    leave()

    assert (store.known(name), told) == (second, [])


async def test_a_follower_gives_each_message_once_in_order(bed: Bed) -> None:
    store, names = bed.store(), [_id() for _ in range(300)]
    for name in names:
        await store.write(name, _record(name), expected=0)
    taken: list[Stored] = []
    follower = bed.follower(taken.append)

    await follower.follow()
    again = len(taken)
    await follower.follow()
    last = await store.write(_id(), _record(_id()), expected=0)
    await follower.follow()

    wanted = {_subject(name) for name in names}
    assert [one.subject for one in taken if one.subject in wanted] == list(map(_subject, names))
    assert (len(taken), taken[-1].sequence) == (again + 1, last.sequence)
    assert [one.sequence for one in taken] == sorted({one.sequence for one in taken})


async def test_what_is_written_is_followed_soon_after_and_ready_is_said_at_the_end(
    bed: Bed,
) -> None:
    one, other, before, name = bed.store(), bed.store(), _id(), _id()
    await one.write(before, _record(before), expected=0)
    follower, ready = bed.follower(other.take), asyncio.Event()
    running = asyncio.create_task(follower.run(ready.set))
    await asyncio.wait_for(ready.wait(), 5)
    at_ready = other.known(before)

    kept = await one.write(name, _record(name), expected=0)
    await until(lambda: other.known(name) == kept)
    follower.stop()
    await asyncio.wait_for(running, 2)

    assert at_ready is not None


async def test_a_record_that_was_deleted_by_hand_is_forgotten(bed: Bed) -> None:
    store, name = bed.store(), _id()
    told: list[str] = []
    kept = await store.write(name, _record(name), expected=0)
    store.subscribe(told.append)

    sequence = await bed.log.commit([Entry(_subject(name), b"")])
    store.take(Stored(_subject(name), sequence, b""))

    assert (store.known(name), told, list(store.all())) == (None, [name], [])
    again = await store.write(name, _record(name), expected=sequence)
    store.take(Stored(_subject(name), kept.sequence, b""))
    assert store.known(name) == again


async def test_a_record_that_is_gone_can_be_made_anew() -> None:
    log = MemoryLog()
    store, name = connection_records(log), _id()
    await store.write(name, _record(name), expected=0)
    log.expire(_subject(name))

    assert await store.fresh(name) is None
    assert (await store.write(name, _record(name), expected=0)).sequence == 2


async def test_what_cannot_be_read_or_stands_in_anothers_place_is_left_out(bed: Bed) -> None:
    store, name = bed.store(), _id()
    with capture_logs() as lines:
        store.take(Stored(_subject(name), 1, b"\xff\xff"))
        store.take(Stored(_subject("else"), 2, _record(name).SerializeToString()))
        store.take(
            Stored(_subject(""), 3, record_pb2.StoredConnection(removed=True).SerializeToString())
        )

    assert list(store.all()) == []
    assert [line["event"] for line in lines] == ["record_unreadable"] * 3


class Broken:
    """A feed that does not answer at first."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.asked = 0

    async def after(self, sequence: int) -> list[Stored]:
        self.asked += 1
        if self.asked <= self.failures:
            raise ServiceError(Kind.RETRYABLE, "nats_unavailable")
        return [Stored("a", 1, b"x")] if sequence == 0 else []


async def test_a_follower_whose_log_does_not_answer_tries_again_and_is_not_ready() -> None:
    taken: list[Stored] = []
    feed, ready = Broken(2), asyncio.Event()
    follower = Follower("bucket", feed, taken.append)
    running = asyncio.create_task(follower.run(ready.set))
    await until(lambda: feed.asked >= 1)
    early = ready.is_set()
    await asyncio.wait_for(ready.wait(), 5)
    follower.stop()
    await running

    assert (early, len(taken)) == (False, 1)

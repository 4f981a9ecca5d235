"""What is told of a connection's state: each change, whoever made it, until it is stored."""

from __future__ import annotations

import asyncio

from libs.bus.commit_log import Stored
from libs.bus.subjects import TOKENS, in_bucket, token
from libs.errors import Kind, ServiceError
from services.auth.adapters.events import ConnectionEvents
from services.auth.ports import KeptGrant
from tests.unit.auth.replicas import ID, House, Replica
from tidewire.auth.v1 import record_pb2
from tidewire.connections.v1 import connection_pb2

ENDED = "auth.connection.needs_reauthorization.example"
ACTIVE = "auth.connection.active.example"
_TOO_OLD_S = 3600


class Stream:
    """Takes each message id once; is away for a while."""

    def __init__(self) -> None:
        self.away = 0
        self.taken: dict[str, tuple[str, str]] = {}

    async def publish(self, subject: str, data: bytes, *, message_id: str) -> None:
        if self.away:
            self.away -= 1
            raise ServiceError(Kind.RETRYABLE, "nats_unavailable")
        event = record_pb2.ConnectionEvent.FromString(data)
        assert event.connection_id == ID
        self.taken.setdefault(message_id, (subject, event.code))

    @property
    def told(self) -> list[tuple[str, str]]:
        return list(self.taken.values())


def events_of(house: House, stream: Stream, replica: Replica) -> ConnectionEvents:
    return ConnectionEvents(stream.publish, replica.grants, house.clock)


async def published(house: House, *every: ConnectionEvents) -> None:
    """Lets each publish what waits."""
    for events in every:
        events.stop()
        await house.clock.drive(events.run(lambda: None))


async def rewritten(replica: Replica, **fields: object) -> KeptGrant:
    kept = await replica.grants.fresh(ID)
    assert kept is not None
    record = record_pb2.StoredGrant()
    record.CopyFrom(kept.record)
    for name, value in fields.items():
        setattr(record, name, value)
    return await replica.grants.write(ID, record, expected=kept.sequence)


async def test_a_change_is_told_by_another_when_who_made_it_was_killed() -> None:
    house, stream = House(replicas=2), Stream()
    await house.connect()
    first, second = house.replicas
    events = events_of(house, stream, second)
    await house.follow()

    await rewritten(first, needs_reauthorization=True, error_code="grant_revoked")
    await house.follow()
    await published(house, events)

    assert stream.told == [(ENDED, "grant_revoked")]


async def test_what_several_tell_is_stored_once() -> None:
    house, stream = House(replicas=3), Stream()
    await house.connect()
    every = [events_of(house, stream, one) for one in house.replicas]
    await house.follow()

    kept = await rewritten(house.replicas[0], needs_reauthorization=True, error_code="401")
    every[0].ended(kept)
    await house.follow()
    await published(house, *every)

    assert stream.told == [(ENDED, "401")]


async def test_it_is_told_however_long_the_stream_is_away() -> None:
    house, stream = House(replicas=1), Stream()
    kept = await house.connect()
    events = events_of(house, stream, house.replicas[0])
    stream.away = 100

    events.ended(kept)
    await published(house, events)

    assert [subject for subject, _ in stream.told] == [ENDED]


async def test_who_stops_tells_what_changes_while_others_still_work() -> None:
    house, stream = House(replicas=1), Stream()
    kept = await house.connect()
    events = events_of(house, stream, house.replicas[0])
    busy = [True]
    events.keep_while(lambda: busy[0])
    running = asyncio.create_task(events.run(lambda: None))
    await asyncio.sleep(0)

    events.stop()
    await asyncio.sleep(0)
    assert not running.done()
    events.ended(kept)
    busy.clear()
    busy.append(False)
    await asyncio.wait_for(running, 5)

    assert [subject for subject, _ in stream.told] == [ENDED]


async def test_one_that_works_again_is_told_of_with_what_happened() -> None:
    house, stream = House(replicas=2), Stream()
    await house.connect()
    first, second = house.replicas
    await rewritten(first, needs_reauthorization=True)
    events = events_of(house, stream, second)
    await house.follow()

    await rewritten(first, needs_reauthorization=False)
    await house.follow()
    await rewritten(first, needs_reauthorization=True)
    await house.follow()
    await rewritten(first, needs_reauthorization=False, token_revision=2)
    await house.follow()
    await published(house, events)

    assert stream.told[1:] == [(ACTIVE, "resumed"), (ENDED, ""), (ACTIVE, "connected")]


async def test_a_refresh_is_no_change_of_state() -> None:
    house, stream = House(replicas=1), Stream()
    await house.connect()
    replica = house.replicas[0]
    events = events_of(house, stream, replica)

    await house.clock.drive(replica.token())
    await published(house, events)

    assert stream.told == []


async def test_who_starts_tells_of_an_end_that_has_just_been_stored_and_of_no_older_one() -> None:
    house, stream = House(replicas=1), Stream()
    kept = await house.connect()
    record = record_pb2.StoredGrant(needs_reauthorization=True, connection_id=ID)
    subject = in_bucket(TOKENS, token(ID))
    now_ns = house.clock.now_ns()
    for age_s in (_TOO_OLD_S, 5):
        started = House(replicas=1).replicas[0]
        events = events_of(house, stream, started)
        stored_ns = now_ns - age_s * 1_000_000_000
        data = record.SerializeToString()
        started.grants.take(Stored(subject, kept.sequence + age_s, data, stored_ns))
        await published(house, events)

    assert list(stream.taken) == [f"{ID}.{kept.sequence + 5}.needs_reauthorization"]


async def test_a_new_connection_is_told_of_once_it_is_stored() -> None:
    house, stream = House(replicas=1), Stream()
    events = events_of(house, stream, house.replicas[0])
    await house.connect()

    events.told(ID, connection_pb2.CONNECTION_STATE_ACTIVE, "connected")
    await published(house, events)

    assert stream.told == [(ACTIVE, "connected")]

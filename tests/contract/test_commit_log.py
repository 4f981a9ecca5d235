"""One suite for the port `CommitLog`: in memory, on JetStream, and grouped."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Protocol

import nats
import pytest

from libs.bus import streams
from libs.bus.commit_log import CommitLog, ConflictError, Entry, MemoryLog
from libs.bus.grouped_log import GroupedLog
from libs.bus.jetstream_log import JetStreamLog
from libs.clock import SystemClock
from libs.ids import RandomIds
from tests.fakes.nats_server import NatsServer


class NewSubject(Protocol):
    def __call__(self) -> str: ...


@pytest.fixture(params=["memory", "jetstream", "grouped"])
async def log(request: pytest.FixtureRequest, nats_server: NatsServer) -> AsyncIterator[CommitLog]:
    if request.param == "memory":
        yield MemoryLog()
        return
    client = await nats.connect(nats_server.url)
    await streams.apply(client, scale_mib=16)
    log = JetStreamLog(client, "COMMERCE", RandomIds(SystemClock()))
    yield GroupedLog(log) if request.param == "grouped" else log
    await client.close()


def _subject() -> str:
    return f"commerce.state.order.3.shop.{uuid.uuid4().hex}"


async def test_what_is_committed_is_read_back_with_its_sequence(log: CommitLog) -> None:
    one, two = _subject(), _subject()

    last = await log.commit([Entry(one, b"1", expected=0), Entry(two, b"2", expected=0)])
    found = await log.read([one, two, _subject()])

    assert {name: stored.data for name, stored in found.items()} == {one: b"1", two: b"2"}
    assert found[two].sequence == last


async def test_a_subject_that_has_moved_refuses_the_whole_batch(log: CommitLog) -> None:
    moved, other = _subject(), _subject()
    first = await log.commit([Entry(moved, b"1", expected=0)])
    second = await log.commit([Entry(moved, b"2", expected=first)])

    with pytest.raises(ConflictError) as refused:
        await log.commit([Entry(other, b"x", expected=0), Entry(moved, b"3", expected=first)])

    assert refused.value.last_sequence == second
    assert await log.read([other]) == {}
    assert (await log.read([moved]))[moved].data == b"2"


async def test_a_subject_expected_to_be_new_is_written_once(log: CommitLog) -> None:
    seen = _subject()
    await log.commit([Entry(seen, b"1", expected=0)])

    with pytest.raises(ConflictError):
        await log.commit([Entry(seen, b"2", expected=0)])

    assert (await log.read([seen]))[seen].data == b"1"


async def test_an_entry_without_expectation_overwrites(log: CommitLog) -> None:
    name = _subject()
    await log.commit([Entry(name, b"1")])

    await log.commit([Entry(name, b"2")])

    assert (await log.read([name]))[name].data == b"2"


async def test_a_fresh_read_agrees_with_a_read(log: CommitLog) -> None:
    name = _subject()
    await log.commit([Entry(name, b"1", expected=0)])

    assert await log.read_fresh([name, _subject()]) == await log.read([name])


async def test_five_hundred_entries_are_one_batch(log: CommitLog) -> None:
    names = [_subject() for _ in range(500)]

    await log.commit([Entry(name, b"x" * 1000, expected=0) for name in names])

    assert len(await log.read(names)) == 500


async def test_many_subjects_are_read_in_parts(log: CommitLog) -> None:
    names = [_subject() for _ in range(1200)]
    for start in range(0, 1200, 400):
        await log.commit([Entry(n, n.encode(), expected=0) for n in names[start : start + 400]])

    found = await log.read(names)

    assert {name: stored.data.decode() for name, stored in found.items()} == {n: n for n in names}


async def test_writers_at_the_same_time_each_learn_their_own_sequence(log: CommitLog) -> None:
    pairs = [[_subject(), _subject()] for _ in range(40)]

    lasts = await asyncio.gather(
        *(log.commit([Entry(one, b"1", expected=0), Entry(two, b"2")]) for one, two in pairs)
    )

    found = await log.read([name for pair in pairs for name in pair])
    assert [found[two].sequence for _, two in pairs] == lasts
    assert all(found[one].sequence == last - 1 for (one, _), last in zip(pairs, lasts, strict=True))


async def test_of_writers_at_the_same_time_only_those_with_a_conflict_hear_of_it(
    log: CommitLog,
) -> None:
    names = [_subject() for _ in range(20)]
    await log.commit([Entry(names[7], b"old"), Entry(names[13], b"old")])

    ended = await asyncio.gather(
        *(log.commit([Entry(name, b"new", expected=0)]) for name in names), return_exceptions=True
    )

    refused = [place for place, end in enumerate(ended) if isinstance(end, ConflictError)]
    assert refused == [7, 13]
    found = await log.read(names)
    assert [found[name].data == b"new" for name in names] == [n not in (7, 13) for n in range(20)]


async def test_of_two_who_want_one_new_subject_the_first_has_it(log: CommitLog) -> None:
    name, others = _subject(), [_subject() for _ in range(2)]

    ended = await asyncio.gather(
        *(
            log.commit([Entry(name, b"%d" % place, expected=0), Entry(other, b"beside")])
            for place, other in enumerate(others)
        ),
        return_exceptions=True,
    )

    assert [isinstance(end, ConflictError) for end in ended] == [False, True]
    assert sorted(await log.read([name, *others])) == sorted([name, others[0]])

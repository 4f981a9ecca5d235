"""Records in a bucket, one a connection: written by compare-and-set, known from memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from libs.bus import subjects
from libs.bus.commit_log import CommitLog, Entry, Stored
from services.auth.ports import Kept
from tidewire.auth.v1 import record_pb2

R = TypeVar("R", record_pb2.StoredGrant, record_pb2.StoredConnection)


class RecordStore(Generic[R]):
    """`Records` on a commit log; told of what others write by a follower, through `take`."""

    def __init__(self, log: CommitLog, bucket: str, kind: type[R], key: Callable[[R], str]) -> None:
        self._log = log
        self._bucket = bucket
        self._kind: type[R] = kind
        self._key: Callable[[R], str] = key
        self._kept: dict[str, Kept[R]] = {}
        self._watchers: list[Callable[[str], None]] = []

    def take(self, stored: Stored) -> None:
        """Takes in what was stored, unless something newer is known."""
        record = self._kind.FromString(stored.data)
        self._keep(self._key(record), stored.sequence, record)

    def known(self, connection_id: str) -> Kept[R] | None:
        return self._kept.get(connection_id)

    def all(self) -> Iterable[Kept[R]]:
        return tuple(self._kept.values())

    def subscribe(self, changed: Callable[[str], None]) -> Callable[[], None]:
        self._watchers.append(changed)
        return lambda: self._watchers.remove(changed)

    async def fresh(self, connection_id: str) -> Kept[R] | None:
        name = self._subject(connection_id)
        found = (await self._log.read_fresh([name])).get(name)
        if found is not None:
            self.take(found)
        return self._kept.get(connection_id)

    async def write(self, connection_id: str, record: R, *, expected: int) -> Kept[R]:
        data = record.SerializeToString()
        entry = Entry(self._subject(connection_id), data, expected=expected)
        sequence = await self._log.commit([entry])
        return self._keep(connection_id, sequence, self._kind.FromString(data))

    def _keep(self, connection_id: str, sequence: int, record: R) -> Kept[R]:
        held = self._kept.get(connection_id)
        if held is not None and held.sequence >= sequence:
            return held
        kept = self._kept[connection_id] = Kept(connection_id, sequence, record)
        for watcher in tuple(self._watchers):
            watcher(connection_id)
        return kept

    def _subject(self, connection_id: str) -> str:
        return subjects.in_bucket(self._bucket, subjects.token(connection_id))


def connection_records(log: CommitLog) -> RecordStore[record_pb2.StoredConnection]:
    """The connections."""
    return RecordStore(
        log,
        subjects.CONNECTIONS,
        record_pb2.StoredConnection,
        lambda record: record.connection.connection_id,
    )

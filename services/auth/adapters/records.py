"""Records in a bucket, one a connection: written by compare-and-set, known from memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import structlog
from google.protobuf.message import DecodeError

from libs.bus import subjects
from libs.bus.commit_log import CommitLog, Entry, Stored
from services.auth.ports import Kept
from tidewire.auth.v1 import record_pb2

_log = structlog.stdlib.get_logger()

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
        """Takes in what was stored, unless something newer is known.

        What cannot be read, or stands in another connection's place, is left out and told of: one
        bad record must not keep all others from being served.
        """
        if not stored.data:
            self._forget(stored.subject, stored.sequence)
            return
        try:
            record = self._kind.FromString(stored.data)
        except DecodeError:
            record = self._kind()
        connection_id = self._key(record)
        if not connection_id or self._subject(connection_id) != stored.subject:
            _log.error("record_unreadable", bucket=self._bucket, subject=stored.subject)
            return
        self._keep(connection_id, stored.sequence, record, stored.stored_ns)

    def known(self, connection_id: str) -> Kept[R] | None:
        return self._kept.get(connection_id)

    def all(self) -> Iterable[Kept[R]]:
        return tuple(self._kept.values())

    def subscribe(self, changed: Callable[[str], None]) -> Callable[[], None]:
        self._watchers.append(changed)
        return lambda: self._watchers.remove(changed)

    async def fresh(self, connection_id: str) -> Kept[R] | None:
        name = self._subject(connection_id)
        before = self._kept.get(connection_id)
        found = (await self._log.read_fresh([name])).get(name)
        if found is not None:
            self.take(found)
        elif before is not None and self._kept.get(connection_id) is before:
            self._forget(name, before.sequence + 1)
        return self._kept.get(connection_id)

    async def write(self, connection_id: str, record: R, *, expected: int) -> Kept[R]:
        data = record.SerializeToString()
        entry = Entry(self._subject(connection_id), data, expected=expected)
        sequence = await self._log.commit([entry])
        return self._keep(connection_id, sequence, self._kind.FromString(data))

    def _keep(self, connection_id: str, sequence: int, record: R, stored_ns: int = 0) -> Kept[R]:
        held = self._kept.get(connection_id)
        if held is not None and held.sequence >= sequence:
            return held
        kept = self._kept[connection_id] = Kept(connection_id, sequence, record, stored_ns)
        self._tell(connection_id)
        return kept

    def _forget(self, subject: str, sequence: int) -> None:
        """Somebody has deleted the record by hand; it was not ended by us."""
        for connection_id, held in tuple(self._kept.items()):
            if self._subject(connection_id) == subject and held.sequence < sequence:
                del self._kept[connection_id]
                self._tell(connection_id)

    def _tell(self, connection_id: str) -> None:
        for watcher in tuple(self._watchers):
            watcher(connection_id)

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

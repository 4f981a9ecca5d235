"""A log of subjects with one atomic, conditional write: the port behind the commit protocol.

Two implementations, `JetStreamLog` and `MemoryLog`, pass one suite
(tests/contract/test_commit_log.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

ENTRIES_MAX: Final = 500
BATCH_BYTES_MAX: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """One write of a batch."""

    subject: str
    data: bytes
    expected: int | None = None
    """Sequence that the subject must be at; 0: it must not exist; None: whatever."""
    ttl_s: int | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """The newest message of a subject."""

    subject: str
    sequence: int
    data: bytes
    stored_ns: int = 0
    """When the stream stored it, where the reader was told: scans are."""


class ConflictError(Exception):
    """A batch was refused whole: one of its subjects is not where it was expected."""

    def __init__(self, last_sequence: int) -> None:
        super().__init__(f"a subject of the batch is at sequence {last_sequence}")
        self.last_sequence = last_sequence
        """Where that subject is; 0 means that it no longer exists."""


class CommitLog(Protocol):
    """Reads newest messages, and writes several at once or none."""

    async def read(self, subjects: Sequence[str]) -> dict[str, Stored]:
        """The newest message of each subject that has one.

        Raises:
            ServiceError: RETRYABLE, where the log did not answer.
        """

    async def read_fresh(self, subjects: Sequence[str]) -> dict[str, Stored]:
        """As `read`, but never an older answer than the log's own leader would give."""

    async def commit(self, entries: Sequence[Entry]) -> int:
        """Writes all entries or none; returns the last sequence.

        At most ENTRIES_MAX entries and BATCH_BYTES_MAX bytes; an expected subject stands once.

        Raises:
            ConflictError: none was written, because a subject is not where it was expected.
            ServiceError: RETRYABLE, where nobody answered: all or none may be written.
        """


class MemoryLog:
    """The same rules in memory, for tests; `fail_after` makes a write succeed unheard."""

    def __init__(self) -> None:
        self.newest: dict[str, Stored] = {}
        self.history: list[Stored] = []
        self.sequence = 0

    async def read(self, subjects: Sequence[str]) -> dict[str, Stored]:
        return {name: self.newest[name] for name in subjects if name in self.newest}

    async def read_fresh(self, subjects: Sequence[str]) -> dict[str, Stored]:
        return await self.read(subjects)

    async def commit(self, entries: Sequence[Entry]) -> int:
        for entry in entries:
            found = self.newest.get(entry.subject)
            last = found.sequence if found else 0
            if entry.expected is not None and entry.expected != last:
                raise ConflictError(last)
        for entry in entries:
            self.sequence += 1
            stored = Stored(entry.subject, self.sequence, entry.data)
            self.newest[entry.subject] = stored
            self.history.append(stored)
        return self.sequence

    def expire(self, subject: str) -> None:
        """Forgets a subject, as its time to live would."""
        self.newest.pop(subject, None)

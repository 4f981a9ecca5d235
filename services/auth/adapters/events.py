"""What became of connections, told on the bus for whoever wants to act on it.

Every replica tells of each change of state that it sees in the stored grants, whoever made it: who
made it may be killed before it has told. The stream takes each once, by the change it is about.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

import structlog

from libs.bus import subjects
from libs.clock import Clock
from libs.errors import ServiceError
from services.auth.ports import Grants, KeptGrant
from tidewire.auth.v1 import record_pb2
from tidewire.connections.v1 import connection_pb2
from tidewire.connections.v1.connection_pb2 import ConnectionState

_log = structlog.stdlib.get_logger()

_ACTIVE: Final = connection_pb2.CONNECTION_STATE_ACTIVE
_ENDED: Final = connection_pb2.CONNECTION_STATE_NEEDS_REAUTHORIZATION
_AGAIN_S: Final = 1.0
_LOOK_S: Final = 0.1
_RECENT_NS: Final = 120 * 1_000_000_000
"""An end that is this young is told of by whoever starts: the one that ended it may have been
killed. As long as the stream remembers what it has taken."""
_WAITING_MAX: Final = 20_000


class Publish(Protocol):
    """Stores a message in a stream, once for each id."""

    async def __call__(self, subject: str, data: bytes, *, message_id: str) -> object:
        """Returns once it is stored.

        Raises:
            ServiceError: RETRYABLE; it may nevertheless be stored.
        """


class ConnectionEvents:
    """Publishes on `auth.connection.<state>.<shop>`; a part of a process.

    The record itself is the truth.
    """

    def __init__(self, publish: Publish, grants: Grants, clock: Clock) -> None:
        self._publish = publish
        self._grants = grants
        self._clock = clock
        self._seen: dict[str, tuple[bool, int]] = {}
        """By connection: whether it has ended, and the revision of its token."""
        self._waiting: dict[str, tuple[str, bytes]] = {}
        """By message id: subject and event, the oldest first."""
        self._come = asyncio.Event()
        self._stopping = False
        self._busy: Callable[[], bool] = lambda: False
        grants.subscribe(self._changed)

    def ended(self, kept: KeptGrant) -> None:
        """Tells that a connection needs a person."""
        self.told(kept.connection_id, _ENDED, kept.record.error_code)

    def told(self, connection_id: str, state: ConnectionState.ValueType, code: str) -> None:
        """Tells of a connection's new state, which is stored."""
        level = _log.info if state == _ACTIVE else _log.warning
        level("connection_state", connection=connection_id, state=_name(state), code=code)
        kept = self._grants.known(connection_id)
        self._tell(connection_id, 0 if kept is None else kept.sequence, state, code)

    def keep_while(self, busy: Callable[[], bool]) -> None:
        """Goes on after a stop for as long as `busy` says: a state may still change."""
        self._busy = busy

    async def run(self, ready: Callable[[], None]) -> None:
        """Publishes until `stop`, then what still waits."""
        ready()
        while not self._stopping or self._waiting or self._busy():
            if self._waiting:
                await self._store_first()
                continue
            self._come.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._come.wait(), _LOOK_S if self._stopping else None)

    def stop(self) -> None:
        """Ends `run`."""
        self._stopping = True
        self._come.set()

    def _changed(self, connection_id: str) -> None:
        kept, before = self._grants.known(connection_id), self._seen.get(connection_id)
        if kept is None:
            self._seen.pop(connection_id, None)
            return
        record = kept.record
        has_ended = record.needs_reauthorization
        self._seen[connection_id] = has_ended, record.token_revision
        if before is None:
            age_ns = self._clock.now_ns() - kept.stored_ns
            if has_ended and kept.stored_ns and age_ns < _RECENT_NS:
                self._tell(connection_id, kept.sequence, _ENDED, record.error_code)
        elif has_ended and not before[0]:
            self._tell(connection_id, kept.sequence, _ENDED, record.error_code)
        elif before[0] and not has_ended:
            code = "resumed" if record.token_revision == before[1] else "connected"
            self._tell(connection_id, kept.sequence, _ACTIVE, code)

    def _tell(
        self, connection_id: str, sequence: int, state: ConnectionState.ValueType, code: str
    ) -> None:
        event = record_pb2.ConnectionEvent(connection_id=connection_id, state=state, code=code)
        event.at.FromNanoseconds(self._clock.now_ns())
        shop = subjects.token(connection_id.partition(".")[0])
        subject = f"auth.connection.{_name(state)}.{shop}"
        if len(self._waiting) >= _WAITING_MAX:
            dropped = next(iter(self._waiting))
            del self._waiting[dropped]
            _log.error("connection_event_dropped", message_id=dropped)
        message_id = f"{connection_id}.{sequence}.{_name(state)}"
        self._waiting[message_id] = subject, event.SerializeToString()
        self._come.set()

    async def _store_first(self) -> None:
        message_id, (subject, data) = next(iter(self._waiting.items()))
        try:
            await self._publish(subject, data, message_id=message_id)
        except ServiceError as error:
            _log.info("connection_event_not_stored", reason=error.code)
            await self._clock.sleep(_AGAIN_S)
            return
        if self._waiting.get(message_id) == (subject, data):
            del self._waiting[message_id]


def _name(state: ConnectionState.ValueType) -> str:
    return ConnectionState.Name(state).removeprefix("CONNECTION_STATE_").lower()

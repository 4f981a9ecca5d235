"""What became of connections, told on the bus for whoever wants to act on it."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog
from nats.aio.client import Client

from libs.bus import subjects
from libs.bus.publisher import publish
from libs.clock import Clock
from libs.errors import ServiceError
from libs.ids import Ids
from services.auth.ports import KeptGrant
from tidewire.auth.v1 import record_pb2
from tidewire.connections.v1 import connection_pb2
from tidewire.connections.v1.connection_pb2 import ConnectionState

_log = structlog.stdlib.get_logger()

_TRIES: Final = 5
_AGAIN_S: Final = 1.0


class ConnectionEvents:
    """Publishes on `auth.connection.<state>.<shop>`; the record itself is the truth."""

    def __init__(self, nats: Client, clock: Clock, ids: Ids) -> None:
        self._nats = nats
        self._clock = clock
        self._ids = ids
        self._tasks: set[asyncio.Task[None]] = set()

    def ended(self, kept: KeptGrant) -> None:
        """Tells that a connection needs a person."""
        state = connection_pb2.CONNECTION_STATE_NEEDS_REAUTHORIZATION
        self.told(kept.connection_id, state, kept.record.error_code)

    def told(self, connection_id: str, state: ConnectionState.ValueType, code: str) -> None:
        """Tells of a connection's new state."""
        event = record_pb2.ConnectionEvent(connection_id=connection_id, state=state, code=code)
        event.at.FromNanoseconds(self._clock.now_ns())
        name = ConnectionState.Name(state).removeprefix("CONNECTION_STATE_").lower()
        shop = connection_id.partition(".")[0]
        subject = f"auth.connection.{name}.{subjects.token(shop)}"
        level = _log.info if state == connection_pb2.CONNECTION_STATE_ACTIVE else _log.warning
        level("connection_state", connection=connection_id, state=name, code=code)
        task = asyncio.create_task(self._published(subject, event.SerializeToString()))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _published(self, subject: str, data: bytes) -> None:
        message_id = self._ids.new()
        for _ in range(_TRIES):
            try:
                await publish(self._nats, subject, data, message_id=message_id)
            except ServiceError as error:
                _log.info("connection_event_not_stored", reason=error.code)
                await self._clock.sleep(_AGAIN_S)
            else:
                return

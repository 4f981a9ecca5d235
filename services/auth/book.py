"""All connections and how they are, put together from records, grants and gates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from libs.connections.index import ConnectionIndex
from libs.errors import ServiceError, permanent
from libs.gates import connection_gate
from services.auth.ports import Grants, KeptConnection, KeptGrant, Records, ShutGates
from tidewire.auth.v1 import health_pb2, record_pb2
from tidewire.connections.v1 import connection_pb2
from tidewire.delivery.v1 import gate_pb2

CONNECTION_NOT_FOUND: Final = "connection_not_found"


class Book:
    """What this process knows of every connection; `index` answers as the port `Connections`.

    Told of changes by the stores and the gates it is made of.
    """

    def __init__(
        self, records: Records[record_pb2.StoredConnection], grants: Grants, gates: ShutGates
    ) -> None:
        self._records = records
        self._grants = grants
        self._gates = gates
        self.index = ConnectionIndex()
        records.subscribe(self.look)
        grants.subscribe(self.look)

    def look(self, connection_id: str) -> None:
        """Puts together anew what is known of one connection."""
        kept = self.kept(connection_id)
        if kept is None:
            changed = self.index.remove(connection_id)
        else:
            changed = self.index.put(self._connection(kept))
        if changed:
            self.index.tell()

    def look_at_gates(self) -> None:
        """Puts together anew what pausing or resuming has changed."""
        for connection_id, known in tuple(self.index.by_id.items()):
            kept = self.kept(connection_id)
            was = known.state == connection_pb2.CONNECTION_STATE_PAUSED
            if kept is None or self._is_paused(kept) != was:
                self.look(connection_id)

    def kept(self, connection_id: str) -> KeptConnection | None:
        """The record of a connection that was not ended."""
        kept = self._records.known(connection_id)
        return None if kept is None or kept.record.removed else kept

    def imported_hash(self, connection_id: str) -> bytes:
        """What it was imported from, also where it was ended since; empty: from nothing."""
        kept = self._records.known(connection_id)
        return b"" if kept is None else kept.record.imported_hash

    def existing(self, connection_id: str) -> KeptConnection:
        """The record of a connection.

        Raises:
            ServiceError: PERMANENT, CONNECTION_NOT_FOUND.
        """
        kept = self.kept(connection_id)
        if kept is None:
            raise not_found(connection_id)
        return kept

    def revision(self, connection_id: str) -> int:
        """The revision of a connection's token; 0 where it has none."""
        grant = self._grants.known(connection_id)
        has_one = grant is not None and grant.record.HasField("grant")
        return grant.record.token_revision if grant is not None and has_one else 0

    def has_token(self, connection_id: str) -> bool:
        """Whether there is a token to call with, as far as anybody knows."""
        grant = self._grants.known(connection_id)
        return (
            grant is not None
            and grant.record.HasField("grant")
            and not grant.record.needs_reauthorization
            and not grant.record.without_token
        )

    def of_shop(self, shop: str) -> list[KeptConnection]:
        """The connections of a shop, by id."""
        found = [self.kept(one) for one in sorted(self.index.ids_of(shop))]
        return [kept for kept in found if kept is not None]

    def connections(self) -> list[health_pb2.ConnectionStatus]:
        """Every connection with its health, by id."""
        return [self.status(one) for one in sorted(self.index.by_id)]

    def status(self, connection_id: str) -> health_pb2.ConnectionStatus:
        """One connection with its health; nothing secret.

        Raises:
            ServiceError: PERMANENT, CONNECTION_NOT_FOUND.
        """
        kept = self.existing(connection_id)
        record = kept.record
        status = health_pb2.ConnectionStatus(
            connection=self._connection(kept),
            grant=_health(self._grants.known(connection_id), record.missing_scopes),
            revision=kept.sequence,
        )
        if record.HasField("webhooks"):
            status.webhooks.CopyFrom(record.webhooks)
        if record.HasField("version"):
            status.version.CopyFrom(record.version)
        return status

    def _connection(self, kept: KeptConnection) -> connection_pb2.Connection:
        connection = connection_pb2.Connection()
        connection.CopyFrom(kept.record.connection)
        connection.state = self._state(kept)
        return connection

    def _state(self, kept: KeptConnection) -> connection_pb2.ConnectionState.ValueType:
        if self._is_paused(kept):
            return connection_pb2.CONNECTION_STATE_PAUSED
        grant = self._grants.known(kept.connection_id)
        if grant is None or grant.record.needs_reauthorization:
            return connection_pb2.CONNECTION_STATE_NEEDS_REAUTHORIZATION
        return connection_pb2.CONNECTION_STATE_ACTIVE

    def _is_paused(self, kept: KeptConnection) -> bool:
        gate = self._gates.shut(connection_gate(kept.connection_id))
        return gate is not None and gate.reason == gate_pb2.GATE_REASON_OPERATOR


def _health(kept: KeptGrant | None, missing_scopes: Sequence[str]) -> health_pb2.GrantHealth:
    if kept is None:
        return health_pb2.GrantHealth(missing_scopes=missing_scopes)
    record = kept.record
    health = health_pb2.GrantHealth(
        failures=record.failures,
        error_code=record.error_code,
        error_message=record.error_message,
        scopes=record.scopes,
        missing_scopes=missing_scopes,
    )
    if record.HasField("expires_at"):
        health.access_expires_at.CopyFrom(record.expires_at)
    if record.HasField("refresh_expires_at"):
        health.refresh_expires_at.CopyFrom(record.refresh_expires_at)
    if record.HasField("granted_at"):
        health.granted_at.CopyFrom(record.granted_at)
    return health


def not_found(connection_id: str) -> ServiceError:
    """The error for an id that no connection has."""
    return permanent(
        CONNECTION_NOT_FOUND,
        f"there is no connection {connection_id}: `tidewire connections` lists them",
        path="connection_id",
    )

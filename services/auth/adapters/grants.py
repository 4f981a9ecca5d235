"""Grants in the bucket `tokens`: what is secret sealed for its connection, the rest to be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from libs.bus import subjects
from libs.bus.commit_log import CommitLog, Entry, Stored
from libs.settings import Secret
from libs.vault import Vault
from services.auth.domain.grants import App, Grant
from services.auth.ports import Kept
from tidewire.auth.v1 import connection_service_pb2, record_pb2

_PREFIX: Final = subjects.in_bucket(subjects.TOKENS, "")


def scope_of(connection_id: str) -> str:
    """What the data key of a connection is called: no shop's handle has a dot."""
    return f"connection.{connection_id}"


class GrantStore:
    """`Grants` on a commit log; told of what others write by a follower, through `take`."""

    def __init__(self, log: CommitLog, vault: Vault) -> None:
        self._log = log
        self._vault = vault
        self._kept: dict[str, Kept] = {}
        self._opened: dict[str, tuple[int, Grant]] = {}
        self._watchers: list[Callable[[str], None]] = []

    def take(self, stored: Stored) -> None:
        """Takes in what was stored, unless something newer is known."""
        record = record_pb2.StoredGrant.FromString(stored.data)
        self._keep(record.connection_id, stored.sequence, record)

    def known(self, connection_id: str) -> Kept | None:
        return self._kept.get(connection_id)

    def all(self) -> Iterable[Kept]:
        return self._kept.values()

    def subscribe(self, changed: Callable[[str], None]) -> Callable[[], None]:
        self._watchers.append(changed)
        return lambda: self._watchers.remove(changed)

    async def fresh(self, connection_id: str) -> Kept | None:
        name = _subject(connection_id)
        found = (await self._log.read_fresh([name])).get(name)
        if found is not None:
            self.take(found)
        return self._kept.get(connection_id)

    async def write(
        self, connection_id: str, record: record_pb2.StoredGrant, *, expected: int
    ) -> Kept:
        data = record.SerializeToString()
        entry = Entry(_subject(connection_id), data, expected=expected)
        sequence = await self._log.commit([entry])
        return self._keep(connection_id, sequence, record_pb2.StoredGrant.FromString(data))

    async def seal(self, connection_id: str, grant: Grant, into: record_pb2.StoredGrant) -> None:
        scope = scope_of(connection_id)
        await self._vault.prepare([scope])
        data = grant_message(grant).SerializeToString()
        into.grant.CopyFrom(self._vault.seal_bytes(data, scope))
        into.ClearField("expires_at")
        into.ClearField("refresh_expires_at")
        for name, instant in _times(grant):
            getattr(into, name).FromDatetime(instant)
        into.can_refresh = grant.refresh_token is not None
        del into.scopes[:]
        into.scopes.extend(grant.scopes)

    def opened(self, kept: Kept) -> Grant | None:
        found = self._opened.get(kept.connection_id)
        return found[1] if found is not None and found[0] == kept.record.token_revision else None

    async def open(self, kept: Kept) -> Grant:
        grant = self.opened(kept)
        if grant is None:
            scope = scope_of(kept.connection_id)
            data = await self._vault.open_bytes(kept.record.grant, scope)
            grant = grant_of(record_pb2.Grant.FromString(data))
            self._opened[kept.connection_id] = (kept.record.token_revision, grant)
        return grant

    def _keep(self, connection_id: str, sequence: int, record: record_pb2.StoredGrant) -> Kept:
        held = self._kept.get(connection_id)
        if held is not None and held.sequence >= sequence:
            return held
        kept = self._kept[connection_id] = Kept(connection_id, sequence, record)
        opened = self._opened.get(connection_id)
        if opened is not None and opened[0] != record.token_revision:
            del self._opened[connection_id]
        for watcher in tuple(self._watchers):
            watcher(connection_id)
        return kept


def grant_message(grant: Grant) -> record_pb2.Grant:
    """A grant as it is sealed."""
    message = record_pb2.Grant(
        access_token=grant.access_token.reveal(),
        refresh_token=_text(grant.refresh_token),
        scopes=grant.scopes,
        webhook_secrets=[secret.reveal() for secret in grant.webhook_secrets],
        shop_cipher=_text(grant.shop_cipher),
        accounts=grant.accounts,
    )
    if grant.app is not None:
        message.app.CopyFrom(
            connection_service_pb2.OwnApp(
                client_id=grant.app.client_id, client_secret=grant.app.secret.reveal()
            )
        )
    for name, instant in _times(grant):
        getattr(message, name).FromDatetime(instant)
    return message


def grant_of(message: record_pb2.Grant) -> Grant:
    """A grant that was sealed."""
    app = message.app
    return Grant(
        access_token=Secret(message.access_token),
        expires_at=instant_of(message, "expires_at"),
        refresh_token=_secret(message.refresh_token),
        refresh_expires_at=instant_of(message, "refresh_expires_at"),
        scopes=tuple(message.scopes),
        accounts=tuple(message.accounts),
        shop_cipher=_secret(message.shop_cipher),
        app=App(app.client_id, Secret(app.client_secret)) if message.HasField("app") else None,
        webhook_secrets=tuple(map(Secret, message.webhook_secrets)),
    )


def instant_of(message: record_pb2.Grant | record_pb2.StoredGrant, name: str) -> datetime | None:
    """The instant in a field, with its zone; None where it is absent."""
    if not message.HasField(name):  # type: ignore[arg-type]  # the stubs list the names
        return None
    stamp: Timestamp = getattr(message, name)
    return stamp.ToDatetime(tzinfo=UTC)


def _times(grant: Grant) -> Iterator[tuple[str, datetime]]:
    if grant.expires_at is not None:
        yield "expires_at", grant.expires_at
    if grant.refresh_expires_at is not None:
        yield "refresh_expires_at", grant.refresh_expires_at


def _secret(text: str) -> Secret | None:
    return Secret(text) if text else None


def _text(secret: Secret | None) -> str:
    return secret.reveal() if secret is not None else ""


def _subject(connection_id: str) -> str:
    return _PREFIX + subjects.token(connection_id)

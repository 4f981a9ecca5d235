"""Grants in the bucket `tokens`: what is secret sealed for its connection, the rest to be read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256

from google.protobuf.timestamp_pb2 import Timestamp

from libs.bus import subjects
from libs.bus.commit_log import CommitLog
from libs.keys import connection_scope
from libs.settings import Secret
from libs.vault import Vault
from services.auth.adapters.records import RecordStore
from services.auth.domain.grants import Family, Grant
from services.auth.own_apps import app_of, message_of
from services.auth.ports import Kept
from tidewire.auth.v1 import record_pb2


class GrantStore(RecordStore[record_pb2.StoredGrant]):
    """`Grants` on a commit log."""

    def __init__(self, log: CommitLog, vault: Vault) -> None:
        super().__init__(
            log, subjects.TOKENS, record_pb2.StoredGrant, lambda record: record.connection_id
        )
        self._vault = vault
        self._opened: dict[str, tuple[int, Grant]] = {}
        self.subscribe(self._forget_older)

    async def seal(self, connection_id: str, grant: Grant, into: record_pb2.StoredGrant) -> None:
        scope = connection_scope(connection_id)
        await self._vault.prepare([scope])
        data = grant_message(grant).SerializeToString()
        into.grant.CopyFrom(self._vault.seal_bytes(data, scope))
        into.ClearField("expires_at")
        into.ClearField("refresh_expires_at")
        for name, instant in _times(grant):
            getattr(into, name).FromDatetime(instant)
        into.token_hash = sha256(grant.access_token.reveal().encode()).digest()
        # What the app's own credentials give is granted anew with nothing but these.
        anew = into.family == Family.SHOPIFY_OWN
        into.without_token = not grant.access_token
        into.can_refresh = anew or grant.refresh_token is not None
        del into.scopes[:]
        into.scopes.extend(grant.scopes)

    def opened(self, kept: Kept[record_pb2.StoredGrant]) -> Grant | None:
        found = self._opened.get(kept.connection_id)
        return found[1] if found is not None and found[0] == kept.record.token_revision else None

    async def open(self, kept: Kept[record_pb2.StoredGrant]) -> Grant:
        grant = self.opened(kept)
        if grant is None:
            scope = connection_scope(kept.connection_id)
            data = await self._vault.open_bytes(kept.record.grant, scope)
            grant = grant_of(record_pb2.Grant.FromString(data))
            newest = self.known(kept.connection_id)
            if newest is None or newest.record.token_revision == kept.record.token_revision:
                self._opened[kept.connection_id] = (kept.record.token_revision, grant)
        return grant

    def _forget_older(self, connection_id: str) -> None:
        kept, opened = self.known(connection_id), self._opened.get(connection_id)
        if opened is not None and (kept is None or opened[0] != kept.record.token_revision):
            del self._opened[connection_id]


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
        message.app.CopyFrom(message_of(grant.app))
    for name, instant in _times(grant):
        getattr(message, name).FromDatetime(instant)
    return message


def grant_of(message: record_pb2.Grant) -> Grant:
    """A grant that was sealed."""
    return Grant(
        access_token=Secret(message.access_token),
        expires_at=instant_of(message, "expires_at"),
        refresh_token=_secret(message.refresh_token),
        refresh_expires_at=instant_of(message, "refresh_expires_at"),
        scopes=tuple(message.scopes),
        accounts=tuple(message.accounts),
        shop_cipher=_secret(message.shop_cipher),
        app=app_of(message.app) if message.HasField("app") else None,
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

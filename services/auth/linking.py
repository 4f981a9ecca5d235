"""Making, changing and ending connections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import structlog
from google.protobuf.field_mask_pb2 import FieldMask

from libs.bus.commit_log import ConflictError
from libs.clock import Clock
from libs.connections import names
from libs.connections.ports import ShopView
from libs.errors import Kind, ServiceError, permanent
from libs.keys import connection_scope
from libs.settings import Secret
from services.auth.book import Book, not_found
from services.auth.domain.grants import Family, Grant
from services.auth.ports import (
    Attention,
    Forgetting,
    Grants,
    KeptConnection,
    KeptGrant,
    Places,
    Providers,
    Records,
)
from services.auth.refresher import domain_of, granted
from services.auth.specs import (
    changed_by,
    connection_of,
    family_by,
    merged,
    refuse_paths,
    refuse_placeless,
)
from tidewire.auth.v1 import record_pb2
from tidewire.auth.v1.connection_service_pb2 import ConnectionSpec, GrantFlow
from tidewire.connections.v1 import connection_pb2
from tidewire.connections.v1.connection_pb2 import (
    CONNECTION_KIND_SHOPIFY,
    Connection,
)

_log = structlog.stdlib.get_logger()

SETTINGS_CHANGED: Final = "settings_changed"
REVOKED: Final = "revoked"
APP_UNINSTALLED: Final = "app_uninstalled"

_TRIES_MAX: Final = 20
_STORED_WITHIN_S: Final = 30.0
_AGAIN_S: Final = 0.5
_TROUBLE: Final = (
    "needs_reauthorization",
    "retry_at",
    "failures",
    "error_code",
    "error_message",
)


class Linking:
    """The use cases that write connections and grants, for `Connected` and `StoreGrants`."""

    def __init__(
        self,
        *,
        book: Book,
        records: Records[record_pb2.StoredConnection],
        grants: Grants,
        providers: Providers,
        places: Places,
        forgetting: Forgetting,
        clock: Clock,
        attention: Attention,
        told: Callable[[str, connection_pb2.ConnectionState.ValueType, str], None],
    ) -> None:
        """`told` hears of each connection's new state, with a code for the reason."""
        self._book = book
        self._records = records
        self._grants = grants
        self._providers = providers
        self._places = places
        self._forgetting = forgetting
        self._clock = clock
        self._attention = attention
        self._told = told

    async def connect(
        self,
        spec: ConnectionSpec,
        flow: GrantFlow.ValueType,
        grant: Grant,
        *,
        imported: bool = False,
    ) -> str:
        own = self._book.index.shop(spec.shop)
        connection = connection_of(spec, grant, own, self._clock.now_ns())
        family = family_by(spec.kind, flow)
        if spec.kind == CONNECTION_KIND_SHOPIFY:
            refuse_placeless(connection, grant, own)
        known = self._book.kept(connection.connection_id)
        if known is not None:
            merged(connection, known.record.connection)
        await self._stored_at_last(connection.connection_id, family, grant, imported=imported)
        await self.store_connection(connection, shop=own)
        # Of every kind: another use of the store needs further topics from it, and now.
        self._attention.soon(connection.shop)
        self._told(connection.connection_id, connection_pb2.CONNECTION_STATE_ACTIVE, "connected")
        if spec.kind == CONNECTION_KIND_SHOPIFY:
            await self._place_if_told(connection.connection_id)
        return connection.connection_id

    async def _place_if_told(self, connection_id: str) -> None:
        """As `complete_place`. The store is connected, whatever stands in the way of that."""
        try:
            await self.complete_place(connection_id)
        except ServiceError as error:
            _log.info("place_not_told_yet", connection=connection_id, reason=error.code)

    async def _stored_at_last(
        self, connection_id: str, family: Family, grant: Grant, *, imported: bool
    ) -> None:
        """Stores what a provider has just granted, also where NATS is away for a moment.

        Nobody else has it, and what it replaces may be dead by now.
        """
        deadline_s = self._clock.monotonic_s() + _STORED_WITHIN_S
        while True:
            try:
                await self.store_grant(connection_id, family, grant, imported=imported)
            except ServiceError as error:
                if error.kind is Kind.PERMANENT or self._clock.monotonic_s() > deadline_s:
                    raise
                _log.warning("grant_not_stored_yet", connection=connection_id, reason=error.code)
                await self._clock.sleep(_AGAIN_S)
            else:
                return

    async def store_grant(
        self, connection_id: str, family: Family, grant: Grant, *, imported: bool = True
    ) -> KeptGrant:
        """Stores a grant in place of what there was, whatever is under way for the old one.

        What the new one leaves out stays as it was: webhook secrets, and for one that is
        `imported` its app; what was exchanged belongs to the app that exchanged it.
        """
        for _ in range(_TRIES_MAX):
            kept = await self._grants.fresh(connection_id)
            old = kept.record if kept is not None else record_pb2.StoredGrant()
            base = record_pb2.StoredGrant(
                connection_id=connection_id,
                family=family.value,
                token_revision=old.token_revision,
            )
            record = granted(base, self._clock.now_ns())
            await self._grants.seal(
                connection_id, await self._kept_on(kept, grant, imported=imported), record
            )
            try:
                return await self._grants.write(
                    connection_id, record, expected=kept.sequence if kept is not None else 0
                )
            except ConflictError:
                continue
        raise _too_busy(connection_id)

    async def stored(self, connection_id: str) -> record_pb2.StoredConnection:
        """The record of a connection as it is stored now, ended or not; empty: there is none."""
        kept = await self._records.fresh(connection_id)
        return record_pb2.StoredConnection() if kept is None else kept.record

    async def store_connection(
        self,
        connection: Connection,
        *,
        imported_hash: bytes = b"",
        shop: ShopView | None = None,
    ) -> KeptConnection:
        """Stores a connection; one that was ended begins anew.

        One that is connected again keeps its settings, but for those that are named this time; one
        that comes from a file is as the file says. Where it sells, if nobody says so, is where its
        `shop` does.
        """

        def change(record: record_pb2.StoredConnection) -> record_pb2.StoredConnection:
            known = record.connection
            # A file that says what it said before must not undo what a person did meanwhile.
            new = record_pb2.StoredConnection(imported_hash=imported_hash or record.imported_hash)
            new.connection.CopyFrom(connection)
            is_known = bool(known.connection_id) and not record.removed
            if is_known and not imported_hash:
                new.connection.CopyFrom(merged(connection, known))
            if shop is not None:
                new.connection.country = new.connection.country or shop.country
                new.connection.currency = new.connection.currency or shop.currency
            if is_known and record.HasField("webhooks"):
                new.webhooks.healed = record.webhooks.healed
            return new

        return await self.change(connection.connection_id, change)

    async def change(
        self,
        connection_id: str,
        change: Callable[[record_pb2.StoredConnection], record_pb2.StoredConnection | None],
        *,
        expected: int = 0,
    ) -> KeptConnection:
        """Writes what `change` makes of the newest record; None leaves it as it is.

        Raises:
            ServiceError: PERMANENT, SETTINGS_CHANGED, where it is not at `expected`.
        """
        for _ in range(_TRIES_MAX):
            kept = await self._records.fresh(connection_id)
            if expected and (kept is None or kept.sequence != expected):
                raise permanent(
                    SETTINGS_CHANGED, "somebody else has changed it meanwhile: read it again"
                )
            old = kept.record if kept is not None else record_pb2.StoredConnection()
            new = change(old)
            if new is None and kept is not None:
                return kept
            if new is None:
                break
            try:
                return await self._records.write(
                    connection_id, new, expected=kept.sequence if kept is not None else 0
                )
            except ConflictError:
                continue
        raise _too_busy(connection_id)

    async def complete_place(self, connection_id: str) -> None:
        """Asks a store where it is, if its connection does not say.

        Raises:
            ServiceError: as `Places`; RETRYABLE, from the store of connections.
        """
        kept = self._book.kept(connection_id)
        if kept is None or (kept.record.connection.country and kept.record.connection.currency):
            return
        place = await self._places.place(kept.record.connection.shop)

        def change(record: record_pb2.StoredConnection) -> record_pb2.StoredConnection | None:
            new = record_pb2.StoredConnection()
            new.CopyFrom(record)
            new.connection.country = new.connection.country or place.country
            new.connection.currency = new.connection.currency or place.currency
            return None if record.removed or new == record else new

        await self.change(connection_id, change)

    async def update(
        self, connection: Connection, mask: FieldMask, *, expected: int
    ) -> KeptConnection:
        """Changes the settings that `mask` names.

        Raises:
            ServiceError: PERMANENT, `connection_not_found`, SETTINGS_UNFIT or SETTINGS_CHANGED.
        """
        kept = self._book.existing(connection.connection_id)
        refuse_paths(kept.record.connection, mask)

        def change(record: record_pb2.StoredConnection) -> record_pb2.StoredConnection:
            if record.removed:
                raise not_found(connection.connection_id)
            new = record_pb2.StoredConnection()
            new.CopyFrom(record)
            new.connection.CopyFrom(changed_by(record.connection, connection, mask))
            return new

        return await self.change(connection.connection_id, change, expected=expected)

    async def revoke(self, connection_id: str) -> str:
        """Ends a connection for good; why its upstream could not be told, or nothing.

        Raises:
            ServiceError: PERMANENT, `connection_not_found`; RETRYABLE, from the store.
        """
        self._book.existing(connection_id)
        problem = await self._end(connection_id, REVOKED, until=None)

        def change(record: record_pb2.StoredConnection) -> record_pb2.StoredConnection:
            new = record_pb2.StoredConnection()
            new.CopyFrom(record)
            new.removed = True
            return new

        await self.change(connection_id, change)
        return problem

    async def granted_at(self, shop: str) -> datetime | None:
        kept = await self._grants.fresh(names.shopify_id(shop))
        if kept is None or not kept.record.HasField("grant"):
            return None
        return kept.record.granted_at.ToDatetime(tzinfo=UTC)

    async def uninstalled(self, shop: str, *, granted_until: datetime) -> None:
        store = names.shopify_id(shop)
        await self._end(store, APP_UNINSTALLED, until=granted_until)
        kept = await self._grants.fresh(store)
        if kept is not None and not kept.record.needs_reauthorization:
            return
        # Without its store nothing of the shop may be sent on; what waits ends by its age.
        for other in self._book.of_shop(shop):
            await self._end(other.connection_id, APP_UNINSTALLED, until=None)

    async def try_again(self, connection_id: str) -> None:
        """Has a grant used again that was believed dead: a person says that it is not."""
        while True:
            kept = await self._grants.fresh(connection_id)
            if (
                kept is None
                or not kept.record.needs_reauthorization
                or not kept.record.HasField("grant")
                or kept.record.without_token
            ):
                return
            record = _copy(kept.record)
            for name in _TROUBLE:
                record.ClearField(name)
            try:
                await self._grants.write(connection_id, record, expected=kept.sequence)
            except ConflictError:
                continue
            self._told(connection_id, connection_pb2.CONNECTION_STATE_ACTIVE, "resumed")
            return

    async def _end(self, connection_id: str, code: str, *, until: datetime | None) -> str:
        """Revokes and deletes a grant, if it was granted until then."""
        for _ in range(_TRIES_MAX):
            kept = await self._grants.fresh(connection_id)
            if kept is None or not kept.record.HasField("grant"):
                break
            if kept.record.without_token and code != REVOKED:
                return ""
            if until is not None and kept.record.granted_at.ToDatetime(tzinfo=UTC) > until:
                return ""
            problem = await self._revoked_upstream(kept)
            record = record_pb2.StoredGrant(
                connection_id=connection_id,
                family=kept.record.family,
                token_revision=kept.record.token_revision + 1,
                needs_reauthorization=True,
                error_code=code,
            )
            verifies = await self._what_verifies(kept) if code == APP_UNINSTALLED else None
            if verifies is not None:
                await self._grants.seal(connection_id, verifies, record)
            try:
                await self._grants.write(connection_id, record, expected=kept.sequence)
            except ConflictError:
                continue
            if code == REVOKED:
                await self._forget(connection_id)
            state = connection_pb2.CONNECTION_STATE_NEEDS_REAUTHORIZATION
            self._told(connection_id, state, code)
            return problem
        else:
            raise _too_busy(connection_id)
        if code == REVOKED:
            # It may have been broken off just before that.
            await self._forget(connection_id)
        return ""

    async def _forget(self, connection_id: str) -> None:
        """Makes whatever held the tokens at rest, older copies too, unreadable.

        Not for an uninstalled store: it may be connected again this very moment, by this very key.
        """
        await self._forgetting.forget(connection_scope(connection_id))

    async def _what_verifies(self, kept: KeptGrant) -> Grant | None:
        """What a store's last webhooks are verified with: `shop/redact` comes two days later."""
        if kept.record.family not in {Family.SHOPIFY, Family.SHOPIFY_OWN}:
            return None
        try:
            grant = await self._grants.open(kept)
        except ServiceError as error:
            # Nothing can be read, so nothing is kept; the end must not wait for that.
            if error.kind is not Kind.PERMANENT:
                raise
            return None
        return Grant(access_token=Secret(""), app=grant.app, webhook_secrets=grant.webhook_secrets)

    async def _revoked_upstream(self, kept: KeptGrant) -> str:
        """Tells the provider; what stood in the way, or nothing."""
        if kept.record.without_token:
            return ""
        if any(
            other.record.token_hash == kept.record.token_hash
            and other.connection_id != kept.connection_id
            and other.record.HasField("grant")
            for other in self._grants.all()
        ):
            # TikTok gives one token for many advertisers: revoked, it would be gone for all.
            return "another connection uses the same token, so it was deleted here only"
        try:
            grant = await self._grants.open(kept)
            family = Family(kept.record.family)
            app = grant.app or self._providers.app(family)
            if app is None:
                return "the settings name no app that could revoke it"
            await self._providers.of(family).revoke(app, domain_of(kept.connection_id), grant)
        except ServiceError as error:
            _log.warning("grant_not_revoked", connection=kept.connection_id, reason=error.code)
            return f"{error.code}: revoke it at the provider as well"
        return ""

    async def _kept_on(self, kept: KeptGrant | None, grant: Grant, *, imported: bool) -> Grant:
        if kept is None or not kept.record.HasField("grant"):
            return grant
        try:
            old = await self._grants.open(kept)
        except ServiceError as error:
            # Its key is gone: the new grant is a fresh start.
            if error.kind is not Kind.PERMANENT:
                raise
            return grant
        return replace(
            grant,
            webhook_secrets=grant.webhook_secrets or old.webhook_secrets,
            app=grant.app or (old.app if imported else None),
        )


def _copy(record: record_pb2.StoredGrant) -> record_pb2.StoredGrant:
    copy = record_pb2.StoredGrant()
    copy.CopyFrom(record)
    return copy


def _too_busy(connection_id: str) -> ServiceError:
    return ServiceError(
        Kind.RETRYABLE, "connection_busy", f"{connection_id} changes all the time: try again"
    )

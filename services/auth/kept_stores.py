"""Stores as the keeper sees them, and where it writes what it finds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from services.auth.book import Book
from services.auth.domain.scopes import Use
from services.auth.linking import Linking
from services.auth.ports import KeptConnection, KeptStore
from services.auth.tokens import Tokens
from tidewire.auth.v1 import health_pb2, record_pb2
from tidewire.connections.v1 import connection_pb2

_USES: Final = {
    connection_pb2.CONNECTION_KIND_TIKTOK_EVENTS: Use.EVENTS,
    connection_pb2.CONNECTION_KIND_TIKTOK_CATALOG: Use.CATALOG,
    connection_pb2.CONNECTION_KIND_TIKTOK_SHOP: Use.TIKTOK_SHOP,
}


def uses_of(connections: Iterable[connection_pb2.Connection], country: str) -> frozenset[Use]:
    """What a store in `country` is used for by its `connections`.

    A catalog in English of the store's own country is taken to need neither translations nor
    prices of markets, so that nobody is told to grant what is of no use.
    """
    uses: set[Use] = set()
    for one in connections:
        if one.kind in _USES:
            uses.add(_USES[one.kind])
        catalog = one.tiktok_catalog
        if catalog.language not in ("", "en") or catalog.fallback_languages:
            uses.add(Use.TEXTS)
        if country and catalog.country not in ("", country):
            uses.add(Use.MARKETS)
    return frozenset(uses)


class _Booked:
    """The part of `KeptStores` that is the same for all kinds of connection."""

    def __init__(self, book: Book, linking: Linking, tokens: Tokens) -> None:
        self._book = book
        self._linking = linking
        self._tokens = tokens

    async def note(
        self,
        connection_id: str,
        *,
        webhooks: health_pb2.WebhookHealth,
        version: health_pb2.VersionHealth,
        granted_scopes: Sequence[str],
        missing_scopes: Sequence[str],
    ) -> None:
        def change(
            record: record_pb2.StoredConnection,
        ) -> record_pb2.StoredConnection | None:
            if record.removed or not record.connection.connection_id:
                return None
            new = record_pb2.StoredConnection()
            new.CopyFrom(record)
            new.webhooks.CopyFrom(webhooks)
            new.version.CopyFrom(version)
            new.granted_scopes[:] = granted_scopes
            new.missing_scopes[:] = missing_scopes
            return new

        await self._linking.change(connection_id, change)

    async def refused(self, connection_id: str, code: str) -> None:
        revision = self._book.revision(connection_id)
        if revision:
            await self._tokens.report(connection_id, revision, code)

    def _store(self, kept: KeptConnection, uses: frozenset[Use]) -> KeptStore | None:
        if not self._book.has_token(kept.connection_id):
            return None
        record = kept.record
        return KeptStore(
            connection=record.connection,
            uses=uses,
            webhooks=record.webhooks if record.webhooks.HasField("checked_at") else None,
        )


class BookedStores(_Booked):
    """`KeptStores` on the book of connections: Shopify's stores, by handle."""

    async def note(
        self,
        connection_id: str,
        *,
        webhooks: health_pb2.WebhookHealth,
        version: health_pb2.VersionHealth,
        granted_scopes: Sequence[str],
        missing_scopes: Sequence[str],
    ) -> None:
        """Also asks where the store is, if it could not be asked when it was connected.

        Raises:
            ServiceError: as the store's API does.
        """
        await super().note(
            connection_id,
            webhooks=webhooks,
            version=version,
            granted_scopes=granted_scopes,
            missing_scopes=missing_scopes,
        )
        await self._linking.complete_place(connection_id)

    async def stores(self) -> Sequence[KeptStore]:
        found = [await self.store(view.handle) for view in tuple(self._book.index.shops())]
        return [one for one in found if one is not None]

    async def store(self, key: str) -> KeptStore | None:
        every = self._book.of_shop(key)
        connections = [one.record.connection for one in every]
        for kept in every:
            if kept.record.connection.kind == connection_pb2.CONNECTION_KIND_SHOPIFY:
                return self._store(kept, uses_of(connections, kept.record.connection.country))
        return None


class BookedShops(_Booked):
    """`KeptStores` on the book of connections: TikTok Shops, by the connection's id."""

    async def stores(self) -> Sequence[KeptStore]:
        found = [await self.store(one) for one in sorted(self._book.index.by_id)]
        return [one for one in found if one is not None]

    async def store(self, key: str) -> KeptStore | None:
        kept = self._book.kept(key)
        if kept is None or not _is_shop(kept.record.connection):
            return None
        return self._store(kept, frozenset())

    def keys_of(self, shop: str) -> Sequence[str]:
        """The keys of a shop's TikTok Shops."""
        every = self._book.of_shop(shop)
        return [kept.connection_id for kept in every if _is_shop(kept.record.connection)]


def _is_shop(connection: connection_pb2.Connection) -> bool:
    return connection.kind == connection_pb2.CONNECTION_KIND_TIKTOK_SHOP

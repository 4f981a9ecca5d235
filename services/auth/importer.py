"""The connections file as a source: what it says is taken in once, and again when it changes.

What a person connected meanwhile stands until the file names another secret. What the file no
longer names stays: a file that was emptied by mistake must not end every connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

import structlog

from libs.connections import ConnectionsError
from libs.connections.entries import ShopEntry, load_entries
from libs.connections.file import Stamps, stamps
from libs.connections.names import tiktok_shop_id
from libs.connections.snapshot import connections_of
from libs.errors import Kind, ServiceError
from libs.settings import Secret
from services.auth.book import Book
from services.auth.domain.grants import App, Family, Grant
from services.auth.linking import Linking
from tidewire.connections.v1 import connection_pb2

_log = structlog.stdlib.get_logger()

_POLL_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class _Item:
    """A connection of the file with its secrets, and what tells whether they have changed."""

    connection: connection_pb2.Connection
    family: Family
    grant: Grant
    said: bytes
    """Of its settings."""
    secret: bytes
    """Of its secrets."""

    @property
    def digest(self) -> bytes:
        return self.said + self.secret


class Importer:
    """Takes a connections file in, and follows it; a part of a process."""

    def __init__(self, path: Path, book: Book, linking: Linking) -> None:
        self._path = path
        self._book = book
        self._linking = linking
        self._warned = ""
        self._seen: Stamps = ()
        self._files: tuple[Path, ...] = (path,)
        self._stopping = asyncio.Event()

    async def run(self, ready: Callable[[], None]) -> None:
        """Follows the file until `stop`; ready once it was taken in, or cannot be."""
        while not self._stopping.is_set():
            try:
                await self.look()
                ready()
            except ConnectionsError as error:
                self._warn(error.message)
                ready()
            except ServiceError as error:
                self._warn(error.code)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _POLL_S)

    def stop(self) -> None:
        """Ends `run`."""
        self._stopping.set()

    async def look(self) -> int:
        """Takes in what is new or has changed; how many connections that were.

        Raises:
            ConnectionsError: the file has faults; names them all.
            ServiceError: RETRYABLE, from the store.
        """
        if not self._path.exists():
            return 0
        # Taken first: what is written while we read then looks changed at the next look.
        before = stamps(self._files)
        if before == self._seen:
            return 0
        entries, files = await asyncio.to_thread(load_entries, self._path)
        taken = 0
        for item in [item for entry in entries for item in _items(entry)]:
            try:
                taken += await self._take(item)
            except ServiceError as error:
                # One that cannot be taken must not keep the others out.
                if error.kind is not Kind.PERMANENT:
                    raise
                connection_id = item.connection.connection_id
                _log.error("connection_not_imported", connection=connection_id, reason=error.code)
        if (self._path, *files) == self._files:
            self._seen = before
        self._files = (self._path, *files)
        self._warned = ""
        if taken:
            _log.info("connections_imported", connections=taken)
        return taken

    async def _take(self, item: _Item) -> bool:
        connection_id = item.connection.connection_id
        if self._book.imported_hash(connection_id) == item.digest:
            return False
        known = await self._linking.stored(connection_id)
        is_same_secret = known.imported_hash.endswith(item.secret)
        if known.imported_hash == item.digest or (known.removed and is_same_secret):
            return False
        if not is_same_secret:
            # Only then: what was refreshed or connected meanwhile is newer than the file.
            await self._linking.store_grant(connection_id, item.family, item.grant)
        await self._linking.store_connection(item.connection, imported_hash=item.digest)
        return True

    def _warn(self, why: str) -> None:
        if why != self._warned:
            self._warned = why
            _log.warning("connections_not_imported", file=str(self._path), reason=why)


def _items(entry: ShopEntry) -> Iterator[_Item]:
    for connection, token in connections_of(entry):
        grant = _grant(entry, connection, token)
        said = sha256(connection.SerializeToString(deterministic=True)).digest()
        yield _Item(connection, _family(connection), grant, said, _secret_digest(grant))


def _family(connection: connection_pb2.Connection) -> Family:
    match connection.kind:
        case connection_pb2.CONNECTION_KIND_SHOPIFY:
            return Family.SHOPIFY
        case connection_pb2.CONNECTION_KIND_TIKTOK_SHOP:
            return Family.TIKTOK_SHOP
        case _:
            return Family.TIKTOK_BUSINESS


def _grant(entry: ShopEntry, connection: connection_pb2.Connection, token: Secret | None) -> Grant:
    access = token or Secret("")
    if connection.kind == connection_pb2.CONNECTION_KIND_SHOPIFY:
        return Grant(access_token=access, webhook_secrets=entry.shopify.webhook_secrets)
    for seller in entry.tiktok_shop:
        # By its id, not its token: a seller has one token for several shops.
        cipher = seller.shop_cipher.reveal() if seller.shop_cipher else ""
        if connection.connection_id == tiktok_shop_id(connection.shop, cipher):
            return Grant(
                access_token=access,
                refresh_token=seller.refresh_token,
                shop_cipher=seller.shop_cipher,
                app=App(seller.app_key, seller.app_secret) if seller.app_secret else None,
            )
    return Grant(access_token=access)


def _secret_digest(grant: Grant) -> bytes:
    """Changes with any secret that the file names; holds the hashes of secrets only."""
    digest = sha256((grant.app.client_id if grant.app is not None else "").encode())
    app_secret = grant.app.secret if grant.app is not None else None
    for secret in (grant.access_token, grant.refresh_token, grant.shop_cipher, app_secret):
        digest.update(sha256(secret.reveal().encode()).digest() if secret else b"\x00")
    for secret in grant.webhook_secrets:
        digest.update(sha256(secret.reveal().encode()).digest())
    return digest.digest()

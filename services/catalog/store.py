"""Records of the bucket `catalog_sync`: read with their places, written where they were read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from nats.aio.client import Client

from libs.bus.commit_log import BATCH_BYTES_MAX, ENTRIES_MAX, CommitLog, Entry, Stored
from libs.bus.scan import scan
from libs.bus.streams import MAX_PAYLOAD_BYTES
from libs.errors import permanent
from services.catalog import keys, records
from services.catalog.domain.model import Product
from services.catalog.domain.sync import SyncProduct

T = TypeVar("T")

GONE_TTL_S: Final = 30 * 86_400
"""How long a product is remembered that is gone: until nothing older can be told of it."""

RECORD_BYTES_MAX: Final = MAX_PAYLOAD_BYTES - 64 * 1024
"""Of one record: what NATS takes in a message, less its headers."""

_BYTES_MAX: Final = BATCH_BYTES_MAX * 3 // 4


@dataclass(frozen=True, slots=True)
class Kept(Generic[T]):
    """A record and where it stands. `sequence` 0: there is none yet."""

    record: T
    sequence: int


@dataclass(frozen=True, slots=True)
class KeptProduct:
    """A product and its items in each catalog, as stored."""

    source: Kept[Product | None]
    syncs: Mapping[str, Kept[SyncProduct | None]]
    """By connection."""


class SyncStore:
    """Products and their items. Owners of lanes write, one at a time a shop; anybody reads.

    Whatever asks NATS raises ServiceError, RETRYABLE, where it does not answer.
    """

    def __init__(self, nats: Client, log: CommitLog) -> None:
        self._nats = nats
        self._log = log

    async def products(
        self, shop: str, product_ids: Sequence[str], connection_ids: Sequence[str]
    ) -> dict[str, KeptProduct]:
        """All that is stored of some products."""
        names = [keys.source(shop, one) for one in product_ids]
        names += [
            keys.sync(shop, connection, one) for connection in connection_ids for one in product_ids
        ]
        found = await self._log.read(names)
        return {
            product_id: KeptProduct(
                _kept(found.get(keys.source(shop, product_id)), records.product),
                {
                    connection: _kept(
                        found.get(keys.sync(shop, connection, product_id)), records.sync_product
                    )
                    for connection in connection_ids
                },
            )
            for product_id in product_ids
        }

    async def syncs(
        self, shop: str, connection_id: str, product_ids: Iterable[str]
    ) -> dict[str, Kept[SyncProduct | None]]:
        """The items of some products in one catalog."""
        names = {one: keys.sync(shop, connection_id, one) for one in product_ids}
        found = await self._log.read(list(names.values()))
        return {one: _kept(found.get(name), records.sync_product) for one, name in names.items()}

    async def write(self, groups: Sequence[Sequence[Entry]]) -> None:
        """Writes every entry; those of one group together, many groups at a time.

        Raises:
            ConflictError: something is not where it was read; groups before may be written.
            ServiceError: PERMANENT, `record_too_large`: one is beyond `RECORD_BYTES_MAX`, and none
                is written.
        """
        for entry in (one for group in groups for one in group):
            if len(entry.data) > RECORD_BYTES_MAX:
                raise permanent("record_too_large", f"{entry.subject}: {len(entry.data)} bytes")
        batch: list[Entry] = []
        size = 0
        for group in groups:
            more = sum(len(entry.data) for entry in group)
            if batch and (len(batch) + len(group) > ENTRIES_MAX or size + more > _BYTES_MAX):
                await self._log.commit(batch)
                batch, size = [], 0
            batch += group
            size += more
        if batch:
            await self._log.commit(batch)

    async def every_sync(
        self, shop: str, connection_id: str, *, after: int = 0
    ) -> AsyncIterator[tuple[int, SyncProduct]]:
        """All items of a catalog, with the sequences of their records."""
        async for stored in scan(
            self._nats, keys.STREAM, keys.syncs(shop, connection_id), after=after
        ):
            yield stored.sequence, records.sync_product(stored.data)

    async def every_product(self, shop: str) -> AsyncIterator[Product]:
        """All products that are known of a shop, in the order of their last change."""
        async for stored in scan(self._nats, keys.STREAM, keys.sources(shop)):
            yield records.product(stored.data)

    async def read(self, name: str) -> Stored | None:
        """One record."""
        return (await self._log.read([name])).get(name)

    async def read_all(self, names: Sequence[str]) -> dict[str, Stored]:
        """Several records."""
        return await self._log.read(names)

    async def put(
        self, name: str, data: bytes, expected: int | None, *, ttl_s: int | None = None
    ) -> int:
        """Writes one record, for `ttl_s` seconds or for good; its new sequence.

        Raises:
            ConflictError: it is not where it was read.
        """
        return await self._log.commit([Entry(name, data, expected=expected, ttl_s=ttl_s)])


def _kept(stored: Stored | None, decode: Callable[[bytes], T]) -> Kept[T | None]:
    return Kept(decode(stored.data), stored.sequence) if stored else Kept(None, 0)

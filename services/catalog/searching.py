"""What to send while the items at fault in a refused request are looked for."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from services.catalog.book import ShopBook
from services.catalog.comparing import Catalog, Outgoing
from services.catalog.domain.dialects import dialect_of
from services.catalog.domain.waiting import Act
from services.catalog.search import Part, Search
from services.catalog.store import SyncStore

_TURNS = 3


class Searching:
    """One catalog's search, and what need not wait for it: what is urgent, and deletes."""

    def __init__(self, book: ShopBook, catalog: Catalog, store: SyncStore) -> None:
        self.search = Search()
        self._book = book
        self._catalog = catalog
        self._store = store
        self._turn = 0

    async def next(self) -> Part | None:
        """What to send next; None where the search is over.

        Raises:
            ServiceError: as `ShopBook.take`.
        """
        while self.search.is_on:
            # One after the other, so that each comes to its turn whatever the others have.
            turn, self._turn = self._turn, (self._turn + 1) % _TURNS
            part = await (self._urgent, self._deletes, self._part)[turn]()
            if part[1]:
                return part
        return None

    async def _urgent(self) -> Part:
        settings = self._catalog.settings
        most = dialect_of(settings.dialect).uploads_max
        held = self.search.held
        chosen = await self._urgent_products(most, held)
        found = await self._book.outgoing(settings.connection_id, Act.UPLOAD, most, of=chosen)
        return Act.UPLOAD, [one for one in found if (one.sent.sku_id, one.sent.digest) not in held]

    async def _urgent_products(self, most: int, held: Collection[tuple[str, int]]) -> list[str]:
        """Products that wait urgently with more than what is looked through already."""
        likely = self._catalog.waiting.urgent_for(most + len(held))
        stored = await self._store.syncs(
            self._book.handle, self._catalog.settings.connection_id, likely
        )
        chosen: list[str] = []
        items = 0
        for product_id, kept in stored.items():
            found = kept.record.items if kept.record else ()
            if any(one.is_urgent and (one.sku_id, one.wanted) not in held for one in found):
                chosen.append(product_id)
                items += len(found)
            if items >= most:
                break
        return chosen

    async def _deletes(self) -> Part:
        settings = self._catalog.settings
        if self.search.looks_through(Act.DELETE) or not self._catalog.waiting.deletes:
            return Act.DELETE, []
        most = dialect_of(settings.dialect).deletes_max
        return Act.DELETE, await self._book.outgoing(settings.connection_id, Act.DELETE, most)

    async def _part(self) -> Part:
        act, items = self.search.next()
        return act, await self._still_waiting(act, items)

    async def _still_waiting(self, act: Act, items: Sequence[Outgoing]) -> list[Outgoing]:
        """Those that are to be sent as they were: what has changed waits in its own right."""
        product_ids = dict.fromkeys(one.sent.product_id for one in items)
        connection_id = self._catalog.settings.connection_id
        stored = await self._store.syncs(self._book.handle, connection_id, product_ids)
        owner_of = self._catalog.waiting.owner_of
        waiting: set[tuple[str, str, int]] = set()
        for product_id, kept in stored.items():
            for one in kept.record.items if kept.record else ():
                waits = one.waits_for_upload if act is Act.UPLOAD else one.waits_for_delete
                if waits and owner_of(one.sku_id) == product_id:
                    waiting.add((product_id, one.sku_id, one.wanted))
        return [
            one
            for one in items
            if (one.sent.product_id, one.sent.sku_id, one.sent.digest) in waiting
        ]

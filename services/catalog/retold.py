"""Stock that was told while a shop's products were exported, and of products not known then.

An export has stock as it was when Shopify wrote its line, and what was told since of a product that
nobody knew yet was put to nothing. The stream has the newest of each level and item, whoever has
read it before; so a crash loses none of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog
from nats.aio.client import Client

from libs.bus import subjects
from libs.bus.consumer import Unit
from libs.bus.scan import first_at, scan
from libs.errors import Kind, ServiceError

_log = structlog.stdlib.get_logger()

_KINDS: Final = ("inventory_level", "inventory_item")
_AT_ONCE: Final = 200
_NOTHING: Final = -1

Handle = Callable[[Sequence[Unit]], Awaitable[Sequence[ServiceError | None]]]


class StockRetold:
    """Puts what was told of stock to a shop's book once more."""

    def __init__(self, nats: Client, handle: Handle) -> None:
        """`handle` is the intake's."""
        self._nats = nats
        self._handle = handle

    async def since(self, shop: str, instant_ns: int) -> None:
        """Returns when everything that was told since then is put to the book.

        Raises:
            ServiceError: RETRYABLE, where NATS or the source of keys does not answer.
        """
        after = await first_at(self._nats, subjects.COMMERCE, instant_ns, _NOTHING)
        if after == _NOTHING:
            return
        for kind in _KINDS:
            units: list[Unit] = []
            told = scan(self._nats, subjects.COMMERCE, subjects.states_of(kind, shop), after=after)
            async for one in told:
                units.append(Unit(one.subject, one.sequence, one.data, 0, redelivered=False))
                if len(units) == _AT_ONCE:
                    await self._put(shop, units)
                    units = []
            await self._put(shop, units)

    async def _put(self, shop: str, units: Sequence[Unit]) -> None:
        for error in await self._handle(units) if units else ():
            if error is None:
                continue
            if error.kind is not Kind.PERMANENT:
                raise error
            # The consumer has it, too, and buries it.
            _log.info("stock_not_retold", shop=shop, reason=error.code)

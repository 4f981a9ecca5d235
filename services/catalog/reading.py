"""Reads single products from Shopify, of which webhooks have told too little."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import structlog

from libs.clock import Clock
from libs.errors import Kind, ServiceError
from services.catalog.book import ShopBook
from services.catalog.comparing import Change
from services.catalog.domain import merging
from services.catalog.domain.model import Product
from services.catalog.ports import ShopifyCatalog, Wanted

_log = structlog.stdlib.get_logger()

_AFTER_TROUBLE_S: Final = 5.0
_LEAST_S: Final = 2.0
"""More than Shopify asks for: what is read again begins with its first page, which costs what a
shorter wait has saved."""


class Rereader:
    """Works off a shop's list of products to be read, each once however often it was put there."""

    def __init__(self, book: ShopBook, shopify: ShopifyCatalog, clock: Clock) -> None:
        self._book = book
        self._shopify = shopify
        self._clock = clock

    async def run(self, wanted: Callable[[], Wanted]) -> None:
        """Reads for as long as it is not cancelled."""
        while True:
            await self._book.reading_wanted.wait()
            while self._book.to_read:
                product_id = next(iter(self._book.to_read))
                # Taken off before it is read: what is told meanwhile puts it there again.
                self._book.to_read.pop(product_id)
                wait_s = await self._tried(product_id, wanted())
                if wait_s is not None:
                    self._book.to_read.setdefault(product_id)
                    await self._clock.sleep(wait_s)
            self._book.reading_wanted.clear()

    async def _tried(self, product_id: str, wanted: Wanted) -> float | None:
        """Reads a product; seconds until it should be tried again, None where it should not.

        Raises:
            ServiceError: RETRYABLE, `not_the_owner`.
        """
        try:
            await self._read(product_id, wanted)
        except ServiceError as error:
            if error.code == "not_the_owner":
                raise
            _log.info(
                "product_not_read",
                shop=self._book.handle,
                product_id=product_id,
                reason=error.code,
            )
            if error.kind is not Kind.PERMANENT:
                return max(_LEAST_S, error.retry_after_s or _AFTER_TROUBLE_S)
        except Exception:  # noqa: BLE001  # a bug costs this product's change, not the lane
            _log.exception("product_not_read", shop=self._book.handle, product_id=product_id)
        # The next full sync reads it another way.
        return None

    async def _read(self, product_id: str, wanted: Wanted) -> None:
        now_ns = self._clock.now_ns()
        read = await self._shopify.product(self._book.handle, product_id, wanted)
        change: Change
        if read is None:
            change = partial(_gone, product_id=product_id, at_ns=now_ns)
        else:
            change = partial(merging.read_back, read=read, asked_ns=now_ns)
        await self._book.take({product_id: change}, read={product_id})


def _gone(stored: Product | None, product_id: str, at_ns: int) -> Product:
    return merging.gone(stored, product_id, at_ns)

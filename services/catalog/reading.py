"""Reads single products from Shopify, of which webhooks have told too little."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

import structlog

from libs.clock import Clock
from libs.errors import Kind, ServiceError
from services.catalog.book import ShopBook
from services.catalog.domain import merging
from services.catalog.domain.model import Product
from services.catalog.pauses import pause
from services.catalog.ports import ShopifyCatalog, Wanted

_log = structlog.stdlib.get_logger()

_AFTER_TROUBLE_S: Final = 5.0
_AFTER_FAILURE_S: Final = 600.0
_LEAST_S: Final = 2.0
"""More than Shopify asks for: what is read again begins with its first page, which costs what a
shorter wait has saved."""

_BEHIND_MAX: Final = 5
"""Answers older than what was told, 2, 4, 8 and 16 s apart, until one is taken for what there is: a
replica of Shopify's may be behind."""


class Rereader:
    """Works off a shop's list of products to be read, each once however often it was put there."""

    def __init__(self, book: ShopBook, shopify: ShopifyCatalog, clock: Clock) -> None:
        self._book = book
        self._shopify = shopify
        self._clock = clock
        self._not_before_s: dict[str, float] = {}
        """When those are read that wait; the others do not wait for them."""
        self._behind: Counter[str] = Counter()

    async def run(self, wanted: Callable[[], Wanted]) -> None:
        """Reads for as long as it is not cancelled."""
        while True:
            self._book.reading_wanted.clear()
            while (product_id := self._next()) is not None:
                # Taken off before it is read: what is told meanwhile puts it there again.
                self._book.to_read.pop(product_id)
                self._not_before_s.pop(product_id, None)
                wait_s = await self._tried(product_id, wanted())
                if wait_s is not None:
                    self._book.to_read.setdefault(product_id)
                    await self._clock.sleep(wait_s)
            await pause(self._clock, self._wait_s(), self._book.reading_wanted)

    def _next(self) -> str | None:
        """A product to be read now."""
        now_s = self._clock.monotonic_s()
        ready = (one for one in self._book.to_read if self._not_before_s.get(one, 0.0) <= now_s)
        return next(ready, None)

    def _wait_s(self) -> float | None:
        """Seconds until one of those that wait is to be read; None where none waits."""
        if not self._not_before_s:
            return None
        return max(0.0, min(self._not_before_s.values()) - self._clock.monotonic_s())

    def _later(self, product_id: str, wait_s: float) -> None:
        self._book.to_read.setdefault(product_id)
        self._not_before_s[product_id] = self._clock.monotonic_s() + wait_s

    async def _tried(self, product_id: str, wanted: Wanted) -> float | None:
        """Reads a product; seconds until anything should be read again, None: at once.

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
            self._later(product_id, _AFTER_FAILURE_S)
        except Exception:  # noqa: BLE001  # a bug costs this product's change, not the lane
            _log.exception("product_not_read", shop=self._book.handle, product_id=product_id)
            self._later(product_id, _AFTER_FAILURE_S)
        return None

    async def _read(self, product_id: str, wanted: Wanted) -> None:
        asked_ns = self._clock.now_ns()
        read = await self._shopify.product(self._book.handle, product_id, wanted)
        # It loses the product where the answer is older than what was told.
        current = {product_id}
        is_last = self._behind[product_id] + 1 >= _BEHIND_MAX

        def change(stored: Product | None) -> Product | None:
            if not is_last and merging.is_behind(stored, read, asked_ns):
                current.discard(product_id)
            elif read is None:
                return merging.gone(stored, product_id, asked_ns)
            return stored if read is None else merging.read_back(stored, read, asked_ns)

        await self._book.take({product_id: change}, lacking=(product_id,), read=current)
        if product_id in current:
            del self._behind[product_id]
            return
        self._behind[product_id] += 1
        self._later(product_id, _LEAST_S * 2 ** (self._behind[product_id] - 1))

"""Asks TikTok what its review says of items that it has taken, and whether it still has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import structlog

from libs.clock import Clock
from libs.errors import ServiceError
from services.catalog.book import ShopBook
from services.catalog.comparing import Catalog
from services.catalog.domain.feed_log import Review
from services.catalog.domain.states import IssueSource, ItemState
from services.catalog.domain.sync import NOT_TO_BE_HAD, TAKEN, SyncIssue, SyncItem
from services.catalog.ports import Gatekeeper, TikTokCatalog
from services.catalog.store import SyncStore

_log = structlog.stdlib.get_logger()

_PRODUCTS_AT_ONCE: Final = 200
_MISSING_AFTER_NS: Final = 3_600 * 1_000_000_000
"""What TikTok took so long ago and does not show has been lost there; it is sent again."""

_STATES: Final = {
    "processing": ItemState.IN_REVIEW,
    "approved": ItemState.LIVE,
    "rejected": ItemState.REJECTED,
}

_OUT_OF_STOCK: Final = "TikTok approved it, and does not advertise it while it cannot be had"
_NOT_USABLE: Final = (
    "TikTok approved it, and does not say that it can be advertised: look at its status in Catalog"
    " Manager"
)

Found = dict[str, tuple[ItemState | None, tuple[SyncIssue, ...]]]


class Reviewer:
    """Looks at the reviews of one catalog."""

    def __init__(
        self,
        book: ShopBook,
        catalog: Catalog,
        api: TikTokCatalog,
        gatekeeper: Gatekeeper,
        store: SyncStore,
        clock: Clock,
        *,
        every_s: float,
    ) -> None:
        self._book = book
        self._catalog = catalog
        self._api = api
        self._gatekeeper = gatekeeper
        self._store = store
        self._clock = clock
        self._every_s = every_s

    async def run(self) -> None:
        """Looks now and then for as long as it is not cancelled."""
        while True:
            await self._clock.sleep(self._every_s)
            try:
                await self.look()
            except ServiceError as error:
                _log.info(
                    "reviews_not_read",
                    connection=self._catalog.settings.connection_id,
                    reason=error.code,
                )

    async def look(self) -> None:
        """Looks once at all items whose review has not ended.

        Raises:
            ServiceError: TikTok or NATS did not answer; what was looked at is recorded.
        """
        unseen = self._catalog.waiting.unseen
        for start in range(0, len(unseen), _PRODUCTS_AT_ONCE):
            if self._gatekeeper.may_send(self._catalog.settings) is not None:
                return
            await self._look_at(unseen[start : start + _PRODUCTS_AT_ONCE])

    async def _look_at(self, product_ids: Sequence[str]) -> None:
        settings = self._catalog.settings
        asked_ns = self._clock.now_ns()
        stored = await self._store.syncs(self._book.handle, settings.connection_id, product_ids)
        items = {
            one.sku_id: one
            for kept in stored.values()
            if kept.record is not None
            for one in kept.record.items
            if one.state in TAKEN
        }
        reviews = await self._api.reviews(settings, list(items)) if items else ()
        found = judged(items, reviews, self._clock.now_ns())
        await self._book.reviewed(settings.connection_id, found, asked_ns)
        for product_id, kept in stored.items():
            record = kept.record
            if record is None or _are_found(record.items, found):
                self._catalog.waiting.looked_at(product_id)


def judged(items: Mapping[str, SyncItem], reviews: Iterable[Review], now_ns: int) -> Found:
    """What reviews say of items. A state of None: TikTok does not have it any more. Pure."""
    found: Found = {}
    for review in reviews:
        state = _STATES.get(review.status)
        if state is None or review.sku_id not in items:
            continue
        reasons = review.reasons
        if state is ItemState.LIVE and not review.is_usable:
            state = ItemState.ACCEPTED
            reasons = (_why_not_live(items[review.sku_id]),)
        is_error = state is ItemState.REJECTED
        issues = tuple(
            SyncIssue(IssueSource.REVIEW, is_error, "", "", reason) for reason in reasons
        )
        found[review.sku_id] = (state, issues)
    for sku_id, item in items.items():
        if sku_id not in found and now_ns - item.accepted_ns > _MISSING_AFTER_NS:
            found[sku_id] = (None, ())
    return found


def _are_found(items: Sequence[SyncItem], found: Found) -> bool:
    return all(one.sku_id in found for one in items if one.state in TAKEN)


def _why_not_live(item: SyncItem) -> str:
    return _OUT_OF_STOCK if item.availability in NOT_TO_BE_HAD else _NOT_USABLE

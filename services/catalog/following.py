"""Reads the log of a submit until it has ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog

from libs.clock import Clock
from libs.errors import Kind, ServiceError
from services.catalog.domain.feed_log import FeedLog
from services.catalog.domain.settings import CatalogSettings
from services.catalog.ports import Gatekeeper, TikTokCatalog
from services.catalog.records import Flight

_log = structlog.stdlib.get_logger()

_POLL_MOST_S: Final = 10.0
_POLL_SLOWER: Final = 1.5
_ASKED_MOST_S: Final = 60.0
"""No wait that TikTok asks for is longer: patience is measured between looks."""


class LogReader:
    """Follows logs of one catalog, one at a time."""

    def __init__(
        self,
        api: TikTokCatalog,
        gatekeeper: Gatekeeper,
        clock: Clock,
        *,
        poll_s: float,
        patience_s: float,
    ) -> None:
        self._api = api
        self._gatekeeper = gatekeeper
        self._clock = clock
        self._poll_s = poll_s
        self._patience_ns = int(patience_s * 1e9)

    async def ended(
        self,
        settings: Callable[[], CatalogSettings],
        flight: Flight,
        *,
        refused: Callable[[bool], None],
    ) -> FeedLog:
        """The log once it has ended; one that has not where it never does, or is lost.

        `refused` is told with each answer whether TikTok refuses the catalog's credentials.
        """
        poll_s = self._poll_s
        asked_s = 0.0
        while True:
            await self._clock.sleep(max(poll_s, asked_s))
            asked_s = 0.0
            log = FeedLog(ended=False)
            try:
                log = await self._api.feed_log(settings(), flight.feed_log_id)
                refused(False)  # noqa: FBT003  # the answer
            except ServiceError as error:
                await self._gatekeeper.ended(settings(), error)
                if error.kind is Kind.PERMANENT:
                    _log.warning(
                        "feed_log_lost", connection=settings().connection_id, code=error.code
                    )
                    return log
                if error.kind is Kind.AUTH:
                    refused(True)  # noqa: FBT003
                asked_s = min(_ASKED_MOST_S, error.retry_after_s or 0.0)
            if log.ended:
                return log
            if self._clock.now_ns() - flight.sent_ns > self._patience_ns:
                _log.warning(
                    "feed_log_endless",
                    connection=settings().connection_id,
                    log=flight.feed_log_id,
                )
                return log
            poll_s = min(_POLL_MOST_S, poll_s * _POLL_SLOWER)

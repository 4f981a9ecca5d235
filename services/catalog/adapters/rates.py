"""Where rates of exchange come from: a text of the settings, a file, or an address."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog
from aiohttp import ClientSession

from libs.clock import Clock
from libs.errors import ServiceError, permanent
from libs.http.client import Request, Upstream
from libs.retry import RetryPolicy
from services.catalog.domain.rates import RateTable, rates_of_ecb, rates_of_text

_log = structlog.stdlib.get_logger()

_EVERY_S: Final = 3_600.0
"""The bank publishes once a working day."""

_AFTER_TROUBLE_S: Final = 60.0
_TIMEOUT_S: Final = 20.0
_BYTES_MAX: Final = 16 * 1024 * 1024


class Rates:
    """The newest rates that could be read; a part that looks for newer ones."""

    def __init__(
        self, source: str, session: ClientSession, clock: Clock, *, max_age_days: float
    ) -> None:
        """`source`: empty for no rates; else a text, a path, or an https address.

        Raises:
            ServiceError: PERMANENT, `rates_unreadable`: a text that is none, or a plain http
                address.
        """
        self.table: RateTable | None = None
        self._source = source.strip()
        self._clock = clock
        self._max_age_days = max_age_days
        self._stopping = asyncio.Event()
        self._upstream = Upstream(
            name="rates", session=session, policy=RetryPolicy(attempts_max=3), clock=clock
        )
        if self._source.startswith("http://"):
            raise permanent("rates_unreadable", "TIDEWIRE_CATALOG_RATES: only https is fetched")
        if _is_text(self._source):
            self.table = rates_of_text(self._source, max_age_days)

    async def run(self, ready: Callable[[], None]) -> None:
        """Looks until `stop`; ready after the first look, whether or not there was anything."""
        while not self._stopping.is_set():
            wait_s = _EVERY_S
            try:
                await self._look()
            except (ServiceError, OSError) as error:
                reason = error.code if isinstance(error, ServiceError) else type(error).__name__
                _log.warning("rates_not_read", reason=reason)
                wait_s = _AFTER_TROUBLE_S
            ready()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait_s)

    def stop(self) -> None:
        """Ends `run`."""
        self._stopping.set()

    async def _look(self) -> None:
        if not self._source or _is_text(self._source):
            return
        if self._source.startswith("https://"):
            request = Request(
                method="GET",
                url=self._source,
                timeout_s=_TIMEOUT_S,
                answer_bytes_max=_BYTES_MAX,
            )
            xml = (await self._upstream.call(request)).body
        else:
            xml = await asyncio.to_thread(Path(self._source).read_bytes)
        table = rates_of_ecb(xml, self._max_age_days)
        if self.table is None or table.on != self.table.on:
            _log.info("rates_read", on=table.on.isoformat(), currencies=len(table.per_euro))
        self.table = table


def _is_text(source: str) -> bool:
    return ";" in source and "=" in source

"""What the products of each shop are mapped with: the shop as it is known, rates, and the day."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime

from libs.clock import Clock
from libs.connections import Connections
from services.catalog.domain.rates import RateTable
from services.catalog.domain.settings import ShopContext
from services.catalog.mapper import Basis
from services.catalog.records import ShopRecord


class Bases:
    """Puts a basis together whenever one is asked for; nothing is remembered."""

    def __init__(
        self, connections: Connections, clock: Clock, rates: Callable[[], RateTable | None]
    ) -> None:
        self._connections = connections
        self._clock = clock
        self._rates = rates

    @property
    def rates_as(self) -> str:
        """Which rates count now."""
        table = self._rates()
        return "" if table is None else f"{table.on} {table.is_too_old(self._today)}"

    @property
    def _today(self) -> date:
        return datetime.fromtimestamp(self._clock.now_ns() / 1e9, UTC).date()

    def of(self, handle: str, known: ShopRecord) -> Basis:
        """What a shop's products are mapped with now."""
        view = self._connections.shop(handle)
        shop = ShopContext(
            handle=handle,
            domain=known.domain or (view.domain if view else ""),
            currency=known.currency or (view.currency if view else ""),
            country=known.country or (view.country if view else ""),
            language=known.language,
        )
        return Basis(shop, self._rates(), self._today)

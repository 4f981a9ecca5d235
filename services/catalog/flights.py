"""The record of the submit that a catalog has under way, for whoever owns its lane next."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from libs.bus.commit_log import ConflictError
from libs.errors import Kind, ServiceError
from services.catalog import keys, records
from services.catalog.comparing import Outgoing
from services.catalog.domain.fates import Sent
from services.catalog.domain.waiting import Act
from services.catalog.late import KEPT_S
from services.catalog.records import Flight, FlightItem
from services.catalog.store import SyncStore


class Flights:
    """One catalog's submits, one at a time: written before a request leaves, and when it ends."""

    def __init__(self, shop: str, connection_id: str, store: SyncStore) -> None:
        self.under_way: Flight | None = None
        self._name = keys.flight(shop, connection_id)
        self._late_name = keys.late(shop, connection_id)
        self._connection_id = connection_id
        self._store = store
        self._sequence = 0

    async def read(self) -> Flight | None:
        """What stands there; what is not over is under way from now on.

        Raises:
            ServiceError: RETRYABLE, where NATS does not answer.
        """
        stored = await self._store.read(self._name)
        if stored is None:
            return None
        self._sequence = stored.sequence
        flight = records.flight(stored.data)
        self.under_way = None if flight.over else flight
        return flight

    async def read_late(self) -> Flight | None:
        """What somebody sent of late who no longer owned the lane.

        Raises:
            ServiceError: RETRYABLE, where NATS does not answer.
        """
        stored = await self._store.read(self._late_name)
        if stored is None or not stored.data:
            return None
        flight = records.flight(stored.data)
        return None if flight.over else flight

    async def late_seen_to(self, flight: Flight) -> None:
        """What was sent late need not be seen to again.

        Raises:
            ServiceError: RETRYABLE, where NATS does not answer.
        """
        over = Flight(act=flight.act, items=(), sent_ns=flight.sent_ns, over=True)
        await self._store.put(self._late_name, records.encode(over), None, ttl_s=KEPT_S)

    async def take_off(self, act: Act, items: Sequence[Outgoing], now_ns: int) -> None:
        """A request with these items is about to leave.

        Raises:
            ServiceError: RETRYABLE; `not_the_owner` where somebody else sends to the catalog.
        """
        flight = Flight(
            act=act,
            items=tuple(
                FlightItem(
                    one.sent.product_id, one.sent.sku_id, one.sent.digest, one.sent.availability
                )
                for one in items
            ),
            sent_ns=now_ns,
        )
        await self._write(flight)
        self.under_way = flight

    async def answered(self, feed_log_id: str, now_ns: int) -> None:
        """TikTok has taken it, and tells in this log what becomes of it.

        Raises:
            ServiceError: as `take_off`.
        """
        if self.under_way is None:
            raise AssertionError("what was submitted is in flight")
        self.under_way = msgspec.structs.replace(
            self.under_way, feed_log_id=feed_log_id, sent_ns=now_ns
        )
        await self._write(self.under_way)

    async def land(self, last_submit_ns: int) -> None:
        """Nothing is under way any more; what became of it is recorded.

        Raises:
            ServiceError: as `take_off`.
        """
        if self.under_way is not None:
            act = self.under_way.act
            await self._write(Flight(act=act, items=(), sent_ns=last_submit_ns, over=True))
            self.under_way = None

    async def _write(self, flight: Flight) -> None:
        try:
            data = records.encode(flight)
            self._sequence = await self._store.put(self._name, data, self._sequence)
        except ConflictError as error:
            raise ServiceError(
                Kind.RETRYABLE, "not_the_owner", f"somebody else sends to {self._connection_id}"
            ) from error


def sent_of(flight: Flight) -> list[Sent]:
    """What a submit holds."""
    return [Sent(one.product_id, one.sku_id, one.digest, one.availability) for one in flight.items]

"""gRPC in: `LedgerService`. Checks, translates, decides nothing."""

from __future__ import annotations

import base64
import binascii
import heapq
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import msgspec
from grpc.aio import ServicerContext

from libs.errors import permanent
from libs.ledger import Ledger, OpenUnit, Reading, RowKey, Scope, UnitKey, day_text
from services.delivery.ledger_keeper import LedgerKeeper
from tidewire.delivery.v1 import ledger_service_pb2 as pb
from tidewire.delivery.v1 import ledger_service_pb2_grpc

Context = ServicerContext[Any, Any]

_UNITS_PAGE: Final = 100


class LedgerServer(ledger_service_pb2_grpc.LedgerServiceServicer):
    """What was received and how each unit of it ended."""

    def __init__(self, keeper: LedgerKeeper) -> None:
        self._keeper = keeper

    async def Get(  # noqa: N802
        self,
        request: pb.LedgerServiceGetRequest,
        context: Context,
    ) -> pb.LedgerServiceGetResponse:
        """The ledger, summed or by shop, sink and day."""
        scope = Scope(request.shop, request.sink, request.day)
        return await self._keeper.ask(lambda reading: _answer(reading, scope, rows=request.rows))

    async def ListInFlight(  # noqa: N802
        self,
        request: pb.ListInFlightRequest,
        context: Context,
    ) -> pb.ListInFlightResponse:
        """The units that have not ended, page by page."""
        scope = Scope(request.shop, request.sink)
        after = _key_of(request.page_token)
        limit = request.page_size or _UNITS_PAGE
        return await self._keeper.ask(lambda reading: _page(reading, scope, after, limit))


def _answer(reading: Reading, scope: Scope, *, rows: bool) -> pb.LedgerServiceGetResponse:
    total = reading.total(scope)
    answer = pb.LedgerServiceGetResponse(
        total=_row(total),
        balanced=total.balanced,
        unnormalised_segments=reading.unnormalised_segments,
        parked_deliveries=reading.parked_deliveries,
    )
    if rows:
        found = sorted(reading.rows(scope).items())
        answer.rows.extend(_row(ledger, key) for key, ledger in found)
    answer.read_at.FromNanoseconds(reading.read_at_ns)
    answer.known_since.FromNanoseconds(reading.known_since_ns)
    if reading.unbalanced_since_ns is not None:
        answer.unbalanced_since.FromNanoseconds(reading.unbalanced_since_ns)
    return answer


def _row(ledger: Ledger, key: RowKey | None = None) -> pb.LedgerRow:
    row = pb.LedgerRow(
        received=ledger.received,
        delivered=ledger.delivered,
        delivered_uncertain=ledger.delivered_uncertain,
        ignored=ledger.ignored,
        dead=ledger.dead,
        in_flight=ledger.in_flight,
        unaccounted=ledger.unaccounted,
        deliveries=ledger.deliveries,
    )
    if key is not None:
        row.shop, row.sink, row.day = key.shop, key.sink, day_text(key.day)
    return row


def _page(
    reading: Reading, scope: Scope, after: UnitKey | None, limit: int
) -> pb.ListInFlightResponse:
    units = list(islice(_units_after(reading, scope, after, limit), limit + 1))
    more = len(units) > limit
    answer = pb.ListInFlightResponse(next_page_token=_token_of(units[limit - 1][0]) if more else "")
    for key, unit in units[:limit]:
        found = answer.units.add(
            shop=key.shop, sink=key.sink, unit=key.unit, place=unit.place, attempts=unit.attempts
        )
        found.received_at.FromNanoseconds(unit.received_ns)
    return answer


def _units_after(
    reading: Reading, scope: Scope, after: UnitKey | None, limit: int
) -> Iterator[tuple[UnitKey, OpenUnit]]:
    """Open units by shop, sink and name; of one shop and sink at most one more than a page.

    Only what the page needs is put in order: there may be hundreds of thousands.
    """
    for shop, sinks in sorted(reading.books.open.items(), key=lambda pair: pair[0]):
        if (scope.shop not in ("", shop)) or (after is not None and shop < after.shop):
            continue
        for sink, units in sorted(sinks.items(), key=lambda pair: pair[0]):
            if scope.sink not in ("", sink):
                continue
            keys = (UnitKey(shop, sink, name) for name in units)
            fitting = (key for key in keys if after is None or key > after)
            for key in heapq.nsmallest(limit + 1, fitting):
                yield key, units[key.unit]


def _token_of(key: UnitKey) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode()


def _key_of(token: str) -> UnitKey | None:
    if not token:
        return None
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(token), type=UnitKey)
    except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
        why = "use the token of the page before"
        raise permanent("page_token_invalid", why, path="page_token") from error

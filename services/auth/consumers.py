"""Bus in: what stores tell of themselves, as the normalizer has understood it.

`app/uninstalled`, `app/scopes_update` and `shop/update` are parts of one state, and each change of
it is a fact, so that what comes twice or too late has been sorted out before it is seen here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import structlog
from google.protobuf.message import DecodeError

from libs.bus import subjects
from libs.bus.consumer import ConsumerSpec, GivenUp, Unit
from libs.bus.dead_letters import unit_letter_id
from libs.bus.pull import ConsumerSettings
from libs.clock import Clock
from libs.errors import ServiceError, permanent
from libs.retry import RetryPolicy
from libs.sinks import unit_of
from services.auth.ports import Attention, StoreGrants
from tidewire.commerce.v1 import fact_pb2, record_pb2, shop_pb2
from tidewire.common.v1 import sealed_pb2
from tidewire.delivery.v1 import outcome_pb2

_log = structlog.stdlib.get_logger()

_SINK: Final = "auth.stores"
_CLOCKS_DIFFER: Final = timedelta(minutes=10)
"""Shopify's clock says when a store uninstalled, and ours when it granted. Nearer than this they
prove nothing, and the store itself is asked."""
_TRIES_MAX: Final = 500


class Opener(Protocol):
    """Opens what is sealed for a shop."""

    async def open_bytes(self, payload: sealed_pb2.Payload, shop: str) -> bytes:
        """The bytes that were sealed.

        Raises:
            ServiceError: PERMANENT, where they were altered; else the key source's own.
        """


class Askable(Protocol):
    """Stores that can be asked whether they still take a token."""

    async def is_alive(self, shop: str) -> bool:
        """Whether the store takes the token; what it may be used for is another question.

        Raises:
            ServiceError: RETRYABLE or THROTTLED, where that cannot be told.
        """


class DeadLetters(Protocol):
    """Where goes what cannot be understood."""

    async def store(self, letter: outcome_pb2.DeadLetter) -> None:
        """Returns when the letter is durable."""


class StoreFacts:
    """Reacts to what stores tell of themselves."""

    def __init__(
        self,
        opener: Opener,
        grants: StoreGrants,
        stores: Askable,
        attention: Attention,
        letters: DeadLetters,
        clock: Clock,
    ) -> None:
        self._opener = opener
        self._grants = grants
        self._stores = stores
        self._attention = attention
        self._letters = letters
        self._clock = clock

    async def handle(self, units: Sequence[Unit]) -> Sequence[ServiceError | None]:
        """One result a unit."""
        return [await self._result(unit) for unit in units]

    async def bury(self, given_up: GivenUp) -> None:
        """Stores the dead letter: somebody has to see to this store."""
        record = _record_of(given_up.unit)
        error = given_up.error
        unit = unit_of(record.kind, record.fact_id)
        letter = outcome_pb2.DeadLetter(
            dead_letter_id=unit_letter_id(_SINK, record.shop, unit),
            service="auth",
            reason_class=given_up.reason.partition("/")[0],
            code=error.code,
            message=error.message,
            shop=record.shop,
            delivery_id=record.delivery_id,
            unit=unit,
            attempts=given_up.unit.attempts + 1,
            traceparent=record.traceparent,
            original=record.payload if record.HasField("payload") else None,
            received_at=record.received_at,
            fact_kind=record.kind,
        )
        letter.died_at.FromNanoseconds(self._clock.now_ns())
        await self._letters.store(letter)

    async def _result(self, unit: Unit) -> ServiceError | None:
        try:
            record = _record_of(unit)
            await self._react(record.shop, await self._shop(record))
        except ServiceError as error:
            return error
        return None

    async def _shop(self, record: record_pb2.FactRecord) -> shop_pb2.Shop:
        if not record.HasField("payload"):
            raise _unreadable()
        opened = await self._opener.open_bytes(record.payload, record.shop)
        try:
            return fact_pb2.Fact.FromString(opened).shop_changed.shop
        except DecodeError:
            raise _unreadable() from None

    async def _react(self, handle: str, shop: shop_pb2.Shop) -> None:
        if not shop.HasField("uninstalled_at"):
            self._attention.soon(handle)
            return
        granted_at = await self._grants.granted_at(handle)
        if granted_at is None:
            return
        at = shop.uninstalled_at.ToDatetime(tzinfo=UTC)
        if await self._is_over(handle, at, granted_at):
            _log.warning("store_uninstalled", shop=handle, uninstalled_at=at.isoformat())
            await self._grants.uninstalled(handle, granted_until=granted_at)
        else:
            _log.info("uninstall_is_history", shop=handle, uninstalled_at=at.isoformat())
            self._attention.soon(handle)

    async def _is_over(self, handle: str, at: datetime, granted_at: datetime) -> bool:
        """Whether what was granted then has ended.

        A webhook may come hours late, after the merchant has installed the app again: then the
        grant is younger and lives. A refresh makes it look young too; so the store is asked.
        """
        if at > granted_at + _CLOCKS_DIFFER:
            return True
        return not await self._stores.is_alive(handle)


def stores(facts: StoreFacts) -> ConsumerSpec:
    """All lanes: stores tell little of themselves, and what is done stands being done twice."""
    return ConsumerSpec(
        settings=ConsumerSettings(
            stream=subjects.COMMERCE,
            durable=subjects.AUTH_STORES,
            filters=(subjects.facts_of("shop_changed"),),
            ack_wait_s=15.0,
            max_ack_pending=200,
        ),
        handler=facts,
        policy=RetryPolicy(attempts_max=_TRIES_MAX),
        batch_max=20,
        key=_shop_of,
    )


def _shop_of(subject: str) -> str:
    """The shop token of `commerce.fact.shop_changed.<lane>.<shop>.<id>`."""
    return subject.split(".", 5)[4]


def _record_of(unit: Unit) -> record_pb2.FactRecord:
    """The record; where it cannot be read, what its subject says of it."""
    try:
        return record_pb2.FactRecord.FromString(unit.data)
    except DecodeError:
        _, _, kind, _, shop, fact_id = map(subjects.text_of, unit.subject.split(".", 5))
        return record_pb2.FactRecord(kind=kind, shop=shop, fact_id=fact_id)


def _unreadable() -> ServiceError:
    return permanent("fact_unreadable", "its bytes are no fact: was it written by another version?")

"""What a lane's shops tell of their products, as the normalizer has understood it.

States, not facts: the newest version of each resource is all that a catalog needs, and what changed
fifty times while nobody looked is one message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

import structlog
from google.protobuf.message import DecodeError

from libs import metric_names
from libs.bus import subjects
from libs.bus.consumer import ConsumerSpec, GivenUp, Unit
from libs.bus.dead_letters import unit_letter_id
from libs.bus.pull import ConsumerSettings
from libs.clock import Clock
from libs.errors import ServiceError, permanent
from libs.retry import RetryPolicy
from libs.telemetry import Metrics
from services.catalog.book import ShopBook
from services.catalog.comparing import Change
from services.catalog.domain import merging
from services.catalog.domain.model import Level, Product
from services.catalog.states import product_of
from tidewire.commerce.v1 import inventory_pb2, product_pb2, record_pb2, shop_pb2
from tidewire.common.v1 import sealed_pb2
from tidewire.delivery.v1 import outcome_pb2

_log = structlog.stdlib.get_logger()

_KINDS: Final = ("product", "inventory_level", "inventory_item", "shop", "bulk_operation")
_SINK: Final = "catalog.products"


class Opener(Protocol):
    """Opens what is sealed for a shop."""

    async def open_bytes(self, payload: sealed_pb2.Payload, scope: str) -> bytes:
        """The bytes that were sealed.

        Raises:
            ServiceError: PERMANENT, where they were altered; else the key source's own.
        """


class DeadLetters(Protocol):
    """Where goes what cannot be understood."""

    async def store(self, letter: outcome_pb2.DeadLetter) -> None:
        """Returns when the letter is durable."""


class Shops(Protocol):
    """The shops of a lane that have catalogs."""

    async def book(self, shop: str) -> ShopBook | None:
        """The shop's book, once all its catalogs are open; None where it has no catalog.

        What is put to a book before is compared with no catalog, and nobody would do it later.
        """

    async def shop_told(self, shop: str, told: shop_pb2.Shop) -> None:
        """A shop says what it is."""

    def bulk_ended(self, shop: str) -> None:
        """A bulk operation of a shop has come to its end."""


class Intake:
    """Puts what is told to the books."""

    def __init__(
        self,
        shops: Shops,
        opener: Opener,
        letters: DeadLetters,
        clock: Clock,
        metrics: Metrics,
        *,
        wants: Callable[[str], tuple[bool, bool]],
    ) -> None:
        """`wants` says of a shop whether its catalogs use translations, and prices of markets."""
        self._shops = shops
        self._opener = opener
        self._letters = letters
        self._clock = clock
        self._wants = wants
        self._unknown = metrics.counter(metric_names.CATALOG_LEVELS_UNKNOWN)

    async def handle(self, units: Sequence[Unit]) -> Sequence[ServiceError | None]:
        """One result a unit; all are of one shop."""
        shop = subjects.text_of(units[0].subject.split(".", 5)[4])
        book = await self._shops.book(shop)
        if book is None:
            # When it gets a catalog, all its products are read from Shopify.
            return [None] * len(units)
        results: list[ServiceError | None] = []
        changes: dict[str, Change] = {}
        lacking: set[str] = set()
        for unit in units:
            try:
                await self._understand(book, unit, changes, lacking)
                results.append(None)
            except ServiceError as error:
                results.append(error)
        if changes:
            await book.take(changes, lacking=lacking)
        return results

    async def bury(self, given_up: GivenUp) -> None:
        """Stores the dead letter; the next full sync puts right what it would have said."""
        unit, error = given_up.unit, given_up.error
        _, _, kind, _, shop, resource = map(subjects.text_of, unit.subject.split(".", 5))
        name = f"{kind}.{resource}"
        letter = outcome_pb2.DeadLetter(
            dead_letter_id=unit_letter_id(_SINK, shop, f"{name}-{unit.sequence}"),
            service="catalog",
            reason_class=given_up.reason.partition("/")[0],
            code=error.code,
            message=error.message,
            path=error.path or "",
            shop=shop,
            unit=name,
            sink=_SINK,
            attempts=unit.attempts + 1,
        )
        letter.died_at.FromNanoseconds(self._clock.now_ns())
        await self._letters.store(letter)

    async def _understand(
        self, book: ShopBook, unit: Unit, changes: dict[str, Change], lacking: set[str]
    ) -> None:
        record = _record_of(unit)
        opened = b""
        if record.HasField("payload"):
            opened = await self._opener.open_bytes(record.payload, record.shop)
        try:
            match record.kind:
                case record_pb2.RESOURCE_KIND_PRODUCT:
                    self._product(book, record, opened, changes, lacking)
                case record_pb2.RESOURCE_KIND_INVENTORY_LEVEL:
                    self._level(book, opened, changes)
                case record_pb2.RESOURCE_KIND_INVENTORY_ITEM:
                    self._item(book, opened, changes)
                case record_pb2.RESOURCE_KIND_SHOP:
                    told = shop_pb2.Shop.FromString(opened)
                    await self._shops.shop_told(book.handle, told)
                case record_pb2.RESOURCE_KIND_BULK_OPERATION:
                    self._shops.bulk_ended(book.handle)
        except DecodeError:
            raise _unreadable() from None

    def _product(
        self,
        book: ShopBook,
        record: record_pb2.StateRecord,
        opened: bytes,
        changes: dict[str, Change],
        lacking: set[str],
    ) -> None:
        product_id = record.resource_id
        if record.deleted:
            deleted_ns = record.version.updated_at.ToNanoseconds()
            # What is not known yet too: an export that is older than this may still tell of it.
            _also(changes, product_id, lambda known: merging.gone(known, product_id, deleted_ns))
            return
        told = product_pb2.Product.FromString(opened)
        translated, market_prices = self._wants(book.handle)

        def change(known: Product | None) -> Product | None:
            if known is not None and known.status == merging.GONE:
                if merging.is_outlived(known, told.updated_at.ToNanoseconds()):
                    # It was never gone, or is there again: only Shopify knows.
                    lacking.add(product_id)
                return known
            after = product_of(told, known)
            if known is not None and after.updated_ns < known.updated_ns:
                return known
            if merging.needs_reading(
                known,
                after,
                truncated=told.variants_truncated,
                translated=translated,
                market_prices=market_prices,
            ):
                lacking.add(product_id)
            return after

        _also(changes, product_id, change)

    def _level(self, book: ShopBook, opened: bytes, changes: dict[str, Change]) -> None:
        level = inventory_pb2.InventoryLevel.FromString(opened)
        item_id = level.inventory_item_id
        product_id = book.product_of(item_id)
        if product_id is None:
            # A product that is not known yet: whatever makes it known reads its stock, too, and a
            # full sync has what was told meanwhile told once more.
            self._unknown.value += 1
            return
        known = Level(
            location_id=level.location_id,
            available=level.available if level.HasField("available") else None,
            updated_ns=level.updated_at.ToNanoseconds(),
            connected=level.connected,
        )
        _also(
            changes,
            product_id,
            _to_known(partial(merging.with_level, inventory_item_id=item_id, level=known)),
        )

    def _item(self, book: ShopBook, opened: bytes, changes: dict[str, Change]) -> None:
        item = inventory_pb2.InventoryItem.FromString(opened)
        product_id = book.product_of(item.inventory_item_id)
        if product_id is not None:
            _also(
                changes,
                product_id,
                _to_known(
                    partial(
                        merging.with_tracking,
                        inventory_item_id=item.inventory_item_id,
                        tracked=item.tracked,
                    )
                ),
            )


def products(lane: int, intake: Intake, policy: RetryPolicy) -> ConsumerSpec:
    """The states of one lane that catalogs are made of."""
    return ConsumerSpec(
        settings=ConsumerSettings(
            stream=subjects.COMMERCE,
            durable=subjects.catalog_durable(lane),
            filters=tuple(subjects.states_in_lane(kind, lane) for kind in _KINDS),
            ack_wait_s=15.0,
            max_ack_pending=1000,
            pinned=True,
        ),
        handler=intake,
        policy=policy,
        batch_max=200,
        key=_shop_of,
    )


def _to_known(change: Callable[[Product], Product]) -> Change:
    return lambda known: None if known is None else change(known)


def _also(changes: dict[str, Change], product_id: str, change: Change) -> None:
    """Adds a change to those of a product, in order."""
    first = changes.get(product_id)
    if first is None:
        changes[product_id] = change
        return

    def both(known: Product | None) -> Product | None:
        between = first(known)
        return change(known if between is None else between)

    changes[product_id] = both


def _shop_of(subject: str) -> str:
    """The shop token of `commerce.state.<kind>.<lane>.<shop>.<id>`."""
    return subject.split(".", 5)[4]


def _record_of(unit: Unit) -> record_pb2.StateRecord:
    try:
        return record_pb2.StateRecord.FromString(unit.data)
    except DecodeError:
        raise _unreadable() from None


def _unreadable() -> ServiceError:
    why = "its bytes are no state: was it written by another version?"
    return permanent("state_unreadable", why)

"""Syncs of a shop whose surroundings fail, on logs in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest

from libs.errors import ServiceError
from libs.ids import RandomIds
from services.catalog import keys, records
from services.catalog.domain.due import Due
from services.catalog.domain.model import Product
from services.catalog.domain.states import SyncKind, SyncPhase
from services.catalog.ports import BulkState, ShopFacts, Wanted
from services.catalog.reading import Rereader
from services.catalog.runs import Means, ShopRuns, queued
from services.catalog.shop_work import written
from tests.unit.catalog.engine_parts import ID, Rig, away, shoe
from tests.unit.catalog.test_book import taken


class Told:
    """An export of what a shop has."""

    def __init__(self, shopify: Shopify) -> None:
        self._shopify = shopify
        self.is_whole = shopify.is_whole

    async def __aiter__(self) -> AsyncIterator[Sequence[Product]]:
        for place, one in enumerate(self._shopify.has):
            if place and self._shopify.breaks:
                raise self._shopify.breaks.pop(0)
            yield [one]

    async def aclose(self) -> None:
        self._shopify.closed += 1


@dataclass
class Shopify:
    """`ShopifyCatalog` of a few products, that breaks off when it is told to."""

    has: list[Product] = field(default_factory=list)
    breaks: list[Exception] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    started: int = 0
    is_whole: bool = True
    closed: int = 0
    ends: list[BulkState] = field(default_factory=list)
    wanted: list[Wanted] = field(default_factory=list)

    async def shop(self, shop: str) -> ShopFacts:
        return ShopFacts(currency="USD", primary_domain="x.example", country="US", language="en")

    async def start_bulk(self, shop: str, wanted: Wanted) -> str:
        self.started += 1
        self.wanted.append(wanted)
        return f"op-{self.started}"

    async def bulk(self, shop: str, operation_id: str) -> BulkState:
        done = BulkState(operation_id=operation_id, status="completed", url="u", roots=2)
        return self.ends.pop(0) if self.ends else done

    async def find_bulk(self, shop: str, since_ns: int) -> Sequence[BulkState]:
        return ()

    def products(self, shop: str, url: str, wanted: Wanted, *, after: str = "") -> Told:
        return Told(self)

    async def product(self, shop: str, product_id: str, wanted: Wanted) -> Product | None:
        self.reads.append(product_id)
        if self.breaks:
            raise self.breaks.pop(0)
        return next((one for one in self.has if one.product_id == product_id), None)


def runs_of(rig: Rig, shopify: Shopify) -> ShopRuns:
    async def nothing(*_: object) -> None:
        return None

    means = Means(
        store=rig.store,
        shopify=shopify,
        clock=rig.clock,
        ids=RandomIds(rig.clock),
        metrics=rig.metrics,
        room=asyncio.Semaphore(1),
        bulk_poll_s=1.0,
    )
    return ShopRuns(
        rig.book,
        means,
        wanted=Wanted,
        facts_read=lambda _: None,
        is_at_rest=lambda _: True,
        before_end=nothing,
        retell_stock=nothing,
    )


async def perform(runs: ShopRuns) -> None:
    await runs.perform(lambda: "read", lambda: "mapped")


async def test_an_export_that_breaks_off_is_read_again_and_nothing_is_taken_for_gone() -> None:
    rig = Rig()
    catalog = await rig.opened()
    runs = runs_of(rig, shopify := Shopify([shoe("1"), shoe("2")], [away()]))
    await runs.begin(Due(SyncKind.FULL))
    with pytest.raises(ServiceError, match="nats_away"):
        await perform(runs)

    await perform(runs)

    run = runs.newest
    assert run is not None
    assert (run.phase, run.products_done, run.items) == (SyncPhase.DONE, 2, 2)
    assert run.items_changed == 2, "the first part is not counted twice"
    assert shopify.started == 1
    assert catalog.waiting.uploads == 2
    assert catalog.waiting.deletes == 0


async def test_an_export_with_lines_that_cannot_be_read_takes_nothing_out() -> None:
    rig = Rig()
    catalog = await rig.opened()
    shopify = Shopify([shoe("1"), shoe("2")])
    runs = runs_of(rig, shopify)
    await runs.begin(Due(SyncKind.FULL))
    await perform(runs)
    await rig.book.settle(ID, [*taken(rig, "1"), *taken(rig, "2")])
    shopify.has, shopify.is_whole = [shoe("1", title="Other")], False
    await runs.begin(Due(SyncKind.FULL))

    await perform(runs)

    assert runs.newest is not None
    assert runs.newest.error.startswith("export_unreadable")
    assert (catalog.waiting.uploads, catalog.waiting.deletes) == (1, 0)
    assert shopify.closed == 2


async def test_an_export_that_may_not_tell_all_is_asked_for_less() -> None:
    rig = Rig()
    await rig.opened()
    shopify = Shopify([shoe("1")])
    denied = BulkState(operation_id="op-1", status="failed", error_code="ACCESS_DENIED")
    shopify.ends = [denied]
    runs = runs_of(rig, shopify)
    runs._wanted = lambda: Wanted(languages=("fr",), countries=("FR",))
    await runs.begin(Due(SyncKind.FULL))

    await perform(runs)

    assert runs.newest is not None
    assert runs.newest.phase == SyncPhase.DONE
    assert shopify.wanted == [Wanted(languages=("fr",), countries=("FR",)), Wanted()]


async def test_a_full_disk_ends_the_sync_with_the_reason_and_not_the_lane() -> None:
    rig = Rig()
    await rig.opened()
    runs = runs_of(rig, Shopify([shoe("1"), shoe("2")], [OSError(28, "no space left")]))
    await runs.begin(Due(SyncKind.FULL))

    await perform(runs)

    assert runs.newest is not None
    assert runs.newest.phase == SyncPhase.FAILED
    assert "OSError" in runs.newest.error


async def test_a_sync_that_somebody_asked_for_meanwhile_is_the_one_that_begins() -> None:
    rig = Rig()
    await rig.opened()
    runs = runs_of(rig, Shopify())
    asked = queued(None, "example", SyncKind.RESEND, run_id="asked", now_ns=1)
    await rig.store.put(keys.run("example"), records.encode(asked), 0)

    await runs.begin(Due(SyncKind.FULL))

    assert runs.newest == asked


async def test_two_owners_cannot_perform_one_sync() -> None:
    rig = Rig()
    await rig.opened()
    stale, other = runs_of(rig, Shopify([shoe()])), runs_of(rig, Shopify([shoe()]))
    await stale.begin(Due(SyncKind.FULL))
    await other.read()
    await perform(other)

    with pytest.raises(ServiceError, match="not_the_owner"):
        await perform(stale)


async def test_a_product_whose_reading_is_not_stored_is_read_again() -> None:
    rig = Rig()
    await rig.opened()
    shopify = Shopify([shoe("1"), shoe("2")])
    await rig.has(shoe("1"), lacking={"1"})
    reader = Rereader(rig.book, shopify, rig.clock)
    rig.log.failing = 1

    await read(reader, rig, lambda: not rig.record().reread)

    assert shopify.reads == ["1", "1"]


async def test_a_product_that_cannot_be_read_does_not_keep_the_others_waiting() -> None:
    rig = Rig()
    await rig.opened()
    bad: Exception = KeyError("a shape that nobody foresaw")
    shopify = Shopify([shoe("1"), shoe("2")], [bad])
    await rig.has(shoe("1"), shoe("2"), lacking={"1", "2"})

    await read(Rereader(rig.book, shopify, rig.clock), rig, lambda: not rig.record("2").reread)

    assert shopify.reads == ["1", "2"]
    assert rig.record("1").reread


async def test_a_product_that_shopify_tells_older_than_it_was_told_is_read_again() -> None:
    rig = Rig()
    await rig.opened()
    shopify = Shopify([shoe("1", updated_ns=100), shoe("2")])
    await rig.has(shoe("1", title="New", updated_ns=200), shoe("2"), lacking={"1", "2"})
    reader = Rereader(rig.book, shopify, rig.clock)
    await read(reader, rig, lambda: not rig.record("2").reread)
    assert shopify.reads == ["1", "2"], "nobody waits for it"
    assert rig.record("1").reread

    shopify.has = [shoe("1", title="New", updated_ns=200)]
    await read(reader, rig, lambda: not rig.record("1").reread)

    assert shopify.reads == ["1", "2", "1"]


async def test_a_product_that_shopify_always_tells_older_is_read_five_times() -> None:
    rig = Rig()
    await rig.opened()
    shopify = Shopify([shoe("1", updated_ns=100)])
    await rig.has(shoe("1", updated_ns=200), lacking={"1"})
    begun_s = rig.clock.now_s

    await read(Rereader(rig.book, shopify, rig.clock), rig, lambda: not rig.record().reread)

    assert len(shopify.reads) == 5
    assert rig.clock.now_s == begun_s + 2 + 4 + 8 + 16


async def test_a_product_that_shopify_has_just_made_and_does_not_show_yet_is_not_gone() -> None:
    rig = Rig()
    await rig.opened()
    made = shoe("1", updated_ns=rig.clock.now_ns())
    await rig.has(made, lacking={"1"})
    shopify = Shopify()
    reader = Rereader(rig.book, shopify, rig.clock)
    await read(reader, rig, lambda: len(shopify.reads) == 2)
    assert rig.record().items

    shopify.has = [made]
    await read(reader, rig, lambda: not rig.record().reread)

    assert rig.record().items


async def test_a_product_that_could_not_be_read_is_tried_again_after_ten_minutes() -> None:
    rig = Rig()
    await rig.opened()
    shopify = Shopify([shoe("1")], [KeyError("a shape that nobody foresaw")])
    await rig.has(shoe("1"), lacking={"1"})
    begun_s = rig.clock.now_s

    await read(Rereader(rig.book, shopify, rig.clock), rig, lambda: not rig.record().reread)

    assert shopify.reads == ["1", "1"]
    assert rig.clock.now_s == begun_s + 600


async def read(reader: Rereader, rig: Rig, holds: object) -> None:
    assert callable(holds)
    task = asyncio.create_task(reader.run(Wanted))
    for _ in range(500):
        if holds() or task.done():
            break
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert holds()


def test_settings_are_written_the_same_whatever_their_order() -> None:
    places = [f"6100000000{place}" for place in range(300)]

    assert written(frozenset(places)) == written(frozenset(reversed(places)))

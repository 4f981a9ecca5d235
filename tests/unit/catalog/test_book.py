"""A shop's book when writes are lost, mappings fail, and products come and go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any, Final

import pytest

from libs.bus.commit_log import Entry
from libs.errors import Kind, ServiceError
from services.catalog import keys, records
from services.catalog.domain.fates import Fate, Sent, Settled
from services.catalog.domain.states import ItemState
from services.catalog.domain.sync import MAPPING_FAILED
from services.catalog.domain.waiting import Act
from services.catalog.mapper import Basis
from services.catalog.store import RECORD_BYTES_MAX, KeptProduct
from tests.unit.catalog.engine_parts import ID, Rig, shoe, until
from tests.unit.catalog.goods import SHOP, TODAY, product, variant

GONE: dict[str, Any] = {"status": "deleted", "published": False, "variants": ()}


def taken(rig: Rig, product_id: str = "1") -> list[Settled]:
    items = rig.record(product_id).items
    return [
        Settled(Sent(product_id, one.sku_id, one.wanted, one.wanted_availability), Fate.TAKEN)
        for one in items
    ]


async def test_what_was_written_unheard_is_known_when_it_is_told_again() -> None:
    rig = Rig()
    catalog = await rig.opened()
    rig.log.unheard = 1
    with pytest.raises(ServiceError):
        await rig.has(shoe())
    assert catalog.waiting.pending() == 0

    await rig.has(shoe())

    assert catalog.waiting.pending() == 1


async def test_an_item_taken_out_unheard_is_not_waited_for() -> None:
    rig = Rig()
    catalog = await rig.opened()
    await rig.has(shoe())
    await rig.book.settle(ID, taken(rig))
    await rig.has(shoe(**GONE))
    (going,) = await rig.book.outgoing(ID, Act.DELETE, 10)
    gone = [Settled(going.sent, Fate.GONE)]
    rig.log.unheard = 1
    with pytest.raises(ServiceError):
        await rig.book.settle(ID, gone)
    assert catalog.waiting.pending() == 1

    await rig.book.settle(ID, gone)

    assert catalog.waiting.pending() == 0


async def test_what_another_owner_has_settled_is_seen_when_it_is_to_be_sent() -> None:
    rig = Rig()
    catalog = await rig.opened()
    await rig.has(shoe())
    other = rig.new_book()
    await rig.opened(other)
    await other.settle(ID, taken(rig))
    assert catalog.waiting.pending() == 1

    assert await rig.book.outgoing(ID, Act.UPLOAD, 10) == []

    assert catalog.waiting.pending() == 0


async def test_a_write_that_another_owner_has_come_before_is_made_on_what_is_there_now() -> None:
    rig = Rig()
    await rig.opened()
    await rig.has(shoe())
    name = keys.sync("example", ID, "1")
    commit = rig.log.commit

    async def overtaken(entries: list[Entry]) -> int:
        rig.log.commit = commit  # type: ignore[method-assign]
        other = rig.new_book()
        await rig.opened(other)
        await other.settle(ID, taken(rig))
        return await commit(entries)

    rig.log.commit = overtaken  # type: ignore[method-assign,assignment]
    await rig.has(shoe(title="Other"))

    (item,) = records.sync_product(rig.log.newest[name].data).items
    assert item.accepted
    assert item.wanted != item.accepted


async def test_a_former_owner_writes_nothing_that_its_successor_would_not_know_of() -> None:
    rig = Rig()
    await rig.opened()
    await rig.has(shoe())
    before = dict(rig.log.newest)
    rig.is_owner = False

    with pytest.raises(ServiceError, match="not_the_owner"):
        await rig.has(shoe(title="Other"))
    with pytest.raises(ServiceError, match="not_the_owner"):
        await rig.book.settle(ID, taken(rig))

    assert rig.log.newest == before


async def test_all_items_that_are_compared_are_counted_and_only_those_that_differ_as_changed() -> (
    None
):
    rig = Rig()
    await rig.opened()
    await rig.has(shoe("1"), shoe("2"))
    await rig.book.settle(ID, [*taken(rig, "1"), *taken(rig, "2")])

    changes = {"1": lambda _: shoe("1"), "2": lambda _: shoe("2", title="Other")}
    counted = await rig.book.take(changes, anew=True)

    assert (counted.items, counted.changed) == (2, 1)


async def test_a_product_that_cannot_be_mapped_says_so_and_keeps_nothing_waiting() -> None:
    rig = Rig()
    catalog = await rig.opened()
    sender = rig.sender(catalog)
    await rig.has(shoe("1"), shoe("2"))
    good = rig.basis
    rig.basis = Basis(None, None, TODAY)  # type: ignore[arg-type]  # what no mapping can do with

    await until(lambda: catalog.waiting.pending() == 0, sender)

    (item,) = rig.record().items
    assert (item.state, item.issues[0].code) == (ItemState.REFUSED, MAPPING_FAILED)
    assert not rig.tiktok.submits
    rig.basis = good
    await rig.has(shoe("1"), shoe("2"), anew=True)
    await until(lambda: rig.record().items[0].state == ItemState.ACCEPTED, sender)
    assert rig.record().items[0].issues == ()


# Noise, so that it stays as large as it is.
TOO_LARGE: Final = Random(1).randbytes(9_000_000).hex()


async def test_a_new_product_that_is_too_large_to_be_kept_is_refused_and_others_are_taken() -> None:
    rig = Rig()
    catalog = await rig.opened()

    await rig.has(shoe("1", body_html=TOO_LARGE), shoe("2"))

    assert keys.source("example", "1") not in rig.log.newest
    (item,) = rig.record("1").items
    assert (item.state, item.issues[0].code) == (ItemState.REFUSED, "product_too_large")
    assert catalog.waiting.pending() == len(rig.record("2").items)
    await rig.has(shoe("1"))
    (item,) = rig.record("1").items
    assert (item.state, item.issues) == (ItemState.PENDING, ())


async def test_a_product_that_becomes_too_large_stays_as_it_was_known_and_says_so() -> None:
    rig = Rig()
    catalog = await rig.opened()
    await rig.has(shoe(), lacking={"1"})
    await rig.book.settle(ID, taken(rig))
    before = rig.record()

    await rig.has(shoe(body_html=TOO_LARGE), read={"1"})

    assert records.product(rig.log.newest[keys.source("example", "1")].data) == shoe()
    (item,) = rig.record().items
    assert (item.state, item.accepted) == (ItemState.ACCEPTED, before.items[0].accepted)
    assert "more" in item.issues[0].text
    assert (catalog.waiting.pending(), rig.record().reread) == (0, False)
    written = rig.log.sequence
    await rig.has(shoe(body_html=TOO_LARGE), read={"1"})
    assert rig.log.sequence == written


async def test_a_record_that_nats_would_not_take_is_told_before_any_is_written() -> None:
    rig = Rig()
    groups = [[Entry("one", b"1")], [Entry("two", bytes(RECORD_BYTES_MAX + 1))]]

    with pytest.raises(ServiceError, match="record_too_large") as told:
        await rig.store.write(groups)

    assert told.value.kind is Kind.PERMANENT
    assert not rig.log.newest


async def test_products_of_many_variants_are_taken_some_at_a_time() -> None:
    rig = Rig()
    await rig.opened()
    large = [
        product(
            *(variant(variant_id=f"{at}-{one}", sku=f"S-{at}-{one}") for one in range(400)),
            product_id=str(at),
        )
        for at in range(7)
    ]
    small = [shoe(str(at)) for at in range(10, 120)]
    for one in large:
        await rig.has(one)
    await rig.has(*small)
    asked: list[int] = []
    products = rig.store.products

    async def counted(
        shop: str, product_ids: Sequence[str], connection_ids: Sequence[str]
    ) -> dict[str, KeptProduct]:
        asked.append(len(product_ids))
        return await products(shop, product_ids, connection_ids)

    rig.store.products = counted  # type: ignore[method-assign]
    await rig.has(*large, *small, anew=True)
    compared, asked[:] = list(asked), []
    await rig.opened()
    found = await rig.book.outgoing(ID, Act.UPLOAD, 5000)

    # 400 and 400 and 400 are the first to reach 1,000; the last one goes with the small ones.
    assert compared == [3, 3, 100, 11]
    assert asked == compared
    assert len(found) == 7 * 400 + 110


async def test_a_change_that_fails_costs_its_product_alone() -> None:
    rig = Rig()
    await rig.opened()
    changes = {"1": lambda _: 1 / 0, "2": lambda _: shoe("2")}

    await rig.book.take(changes)  # type: ignore[arg-type]

    assert keys.source("example", "1") not in rig.log.newest
    assert rig.record("2").items


async def test_other_rates_or_rules_are_seen_before_what_waits_is_sent() -> None:
    rig = Rig()
    await rig.opened()
    await rig.has(shoe())
    before = rig.record().items[0].wanted
    rig.basis = Basis(replace(SHOP, domain="new.example"), None, TODAY)

    assert await rig.book.outgoing(ID, Act.UPLOAD, 10) == []
    (one,) = await rig.book.outgoing(ID, Act.UPLOAD, 10)

    assert one.sent.digest == rig.record().items[0].wanted != before
    assert b"new.example" in one.body


async def test_a_product_that_is_gone_takes_its_stock_from_memory() -> None:
    rig = Rig()
    await rig.opened()
    await rig.has(shoe())
    assert rig.book.product_of("201") == "1"

    await rig.has(shoe(**GONE))

    assert rig.book.product_of("201") is None


async def test_an_id_that_has_gone_to_another_product_is_not_taken_out_for_the_first() -> None:
    rig = Rig()
    await rig.opened()
    await rig.has(shoe("1"))
    late = taken(rig, "1")
    await rig.has(shoe("1", **GONE))
    heir = variant(variant_id="109", sku="SHOE-1", inventory_item_id="209")
    await rig.has(product(heir, product_id="2"))

    await rig.book.settle(ID, late)

    assert rig.record("1").items == ()
    assert rig.record("2").items[0].sku_id == "SHOE-1"

"""What is told of a product comes together, in whatever order."""

from __future__ import annotations

from itertools import permutations

import msgspec

from services.catalog.domain import merging
from services.catalog.domain.model import Level, MarketPrice, Money, Product, Text, Variant


def variant(**changes: object) -> Variant:
    plain = Variant(
        variant_id="11",
        sku="A",
        price=Money(1000, "USD"),
        inventory_item_id="i1",
        levels=(Level("L1", 5, 100), Level("L2", 3, 100)),
    )
    return msgspec.structs.replace(plain, **changes)


def product(**changes: object) -> Product:
    plain = Product(
        product_id="1", title="Lamp", status="active", variants=(variant(),), updated_ns=100
    )
    return msgspec.structs.replace(plain, **changes)


def levels(found: Product) -> dict[str, int | None]:
    return {one.location_id: one.available for one in found.variants[0].levels}


def test_a_product_read_back_is_taken_where_nothing_is_known() -> None:
    assert merging.read_back(None, product(), 900) == product(read_ns=100)


def test_an_older_read_does_not_overwrite_a_newer_webhook() -> None:
    told = product(title="New lamp", updated_ns=200)
    read = product(
        texts={"fr": Text("Lampe")},
        variants=(variant(prices={"FR": MarketPrice(Money(900, "EUR"))}, weight="2"),),
    )

    found = merging.read_back(told, read, 900)

    assert found.title == "New lamp"
    assert found.texts == {"fr": Text("Lampe")}
    assert found.variants[0].prices["FR"].price == Money(900, "EUR")
    assert found.variants[0].weight == "2"


def test_an_export_that_is_older_than_a_read_of_the_product_alone_changes_none_of_it() -> None:
    exported = product(variants=(variant(prices={"FR": MarketPrice(Money(900, "EUR"))}),))
    told = product(title="New lamp", updated_ns=200)
    read = product(
        title="New lamp",
        texts={"fr": Text("Lampe")},
        variants=(variant(prices={"FR": MarketPrice(Money(700, "EUR"))}),),
        updated_ns=200,
    )

    found = merging.read_back(merging.read_back(told, read, 900), exported, 900)

    assert found == merging.read_back(told, read, 900)


def test_stock_that_only_an_older_read_knows_of_is_taken_all_the_same() -> None:
    read = product(updated_ns=200, variants=(variant(levels=(Level("L1", 4, 200),)),))

    found = merging.read_back(merging.read_back(None, read, 900), product(), 900)

    assert levels(found) == {"L1": 4, "L2": 3}


def test_a_newer_read_replaces_an_older_webhook_but_not_newer_stock() -> None:
    told = product(variants=(variant(levels=(Level("L1", 0, 300), Level("L2", 3, 100))),))
    read = product(title="Read", updated_ns=200)

    found = merging.read_back(told, read, 900)

    assert found.title == "Read"
    assert levels(found) == {"L1": 0, "L2": 3}


def test_stock_told_in_any_order_ends_the_same() -> None:
    told = [Level("L1", 4, 200), Level("L1", 2, 400), Level("L1", 3, 300)]
    for order in permutations(told):
        found = product()
        for one in order:
            found = merging.with_level(found, "i1", one)
        assert levels(found) == {"L1": 2, "L2": 3}


def test_stock_of_another_item_changes_nothing() -> None:
    before = product()

    assert merging.with_level(before, "other", Level("L1", 0, 900)) is before


def test_a_disconnect_without_a_time_holds_until_the_location_is_told_of_again() -> None:
    gone = merging.with_level(product(), "i1", Level("L1", None, 0, connected=False))
    assert levels(gone)["L1"] is None

    back = merging.with_level(gone, "i1", Level("L1", 7, 150))

    assert levels(back)["L1"] == 7


def test_a_product_that_is_gone_does_not_come_back_by_an_old_read() -> None:
    gone = merging.gone(product(), "1", 500)

    assert merging.read_back(gone, product(), 400) == gone
    assert merging.read_back(gone, product(), 500 + merging.CLOCKS_DIFFER_NS) == gone
    assert gone.updated_ns == 500


def test_a_product_that_was_wrongly_thought_gone_comes_back_by_a_later_read() -> None:
    gone = merging.gone(product(), "1", 500)

    found = merging.read_back(gone, product(), 501 + merging.CLOCKS_DIFFER_NS)

    assert found == product(read_ns=100)


def test_tracking_is_followed() -> None:
    before = product()

    after = merging.with_tracking(before, "i1", tracked=False)

    assert after.variants[0].tracked is False
    assert merging.with_tracking(after, "i1", tracked=False) is after


def needs(stored: Product | None, told: Product, **changes: bool) -> bool:
    plain = {"truncated": False, "translated": False, "market_prices": False}
    return merging.needs_reading(stored, told, **(plain | changes))


def test_what_webhooks_cannot_tell_is_read() -> None:
    known = product()
    dearer = product(variants=(variant(price=Money(2000, "USD")),))
    renamed = product(title="Other")
    grown = product(variants=(variant(), variant(variant_id="12")))

    assert needs(None, known)
    assert needs(known, known, truncated=True)
    assert needs(known, grown)
    assert needs(known, product(status="draft"))
    assert needs(known, renamed, translated=True)
    assert needs(known, dearer, market_prices=True)


def test_what_a_webhook_tells_whole_is_not_read_again() -> None:
    known = product()
    dearer = product(variants=(variant(price=Money(2000, "USD"), quantity=1),))

    assert not needs(known, known, translated=True, market_prices=True)
    assert not needs(known, dearer, translated=True)
    assert not needs(known, product(title="Other"), market_prices=True)

"""What waits for a catalog and what goes next."""

from __future__ import annotations

import msgspec
import pytest

from services.catalog.domain.states import ItemState
from services.catalog.domain.sync import SyncItem, SyncProduct
from services.catalog.domain.waiting import Act, Waiting


def product(product_id: str, *items: SyncItem) -> SyncProduct:
    return SyncProduct(product_id=product_id, items=items)


def new(sku: str) -> SyncItem:
    return SyncItem(sku_id=sku, variant_id=sku, wanted=1, wanted_availability=1)


def taken(sku: str) -> SyncItem:
    return SyncItem(
        sku_id=sku, variant_id=sku, wanted=1, accepted=1, availability=1, wanted_availability=1,
        state=ItemState.ACCEPTED,
    )  # fmt: skip


def sold_out(sku: str) -> SyncItem:
    return SyncItem(
        sku_id=sku, variant_id=sku, wanted=2, accepted=1, availability=1, wanted_availability=4
    )


def leaving(sku: str) -> SyncItem:
    return SyncItem(sku_id=sku, variant_id=sku, accepted=1, state=ItemState.DELETING)


@pytest.fixture
def waiting() -> Waiting:
    return Waiting(settle_s=1.0)


def test_changes_gather_for_a_while_and_are_then_due(waiting: Waiting) -> None:
    assert waiting.ready_in_s(0.0, 5000) is None
    waiting.note(product("1", new("A")), 10.0)
    for moment in range(50):
        waiting.note(product("1", new("A")), 10.0 + moment / 50)

    assert waiting.ready_in_s(10.4, 5000) == pytest.approx(0.6)
    assert waiting.ready_in_s(11.0, 5000) == 0.0
    assert waiting.uploads == 1


def test_a_change_of_availability_is_due_at_once_and_goes_first(waiting: Waiting) -> None:
    waiting.note(product("1", new("A")), 10.0)
    waiting.note(product("2", new("B")), 10.0)
    waiting.note(product("3", sold_out("C")), 10.0)

    assert waiting.ready_in_s(10.0, 5000) == 0.0
    assert waiting.products_for(Act.UPLOAD, 1) == ["3"]
    assert waiting.products_for(Act.UPLOAD, 10) == ["3", "1", "2"]


def test_a_full_submit_does_not_wait_for_more(waiting: Waiting) -> None:
    waiting.note(product("1", new("A"), new("B")), 10.0)

    assert waiting.ready_in_s(10.0, 2) == 0.0


def test_deletes_are_sent_between_uploads_however_many_there_are(waiting: Waiting) -> None:
    waiting.note(product("1", sold_out("A")), 10.0)
    waiting.note(product("2", leaving("B")), 10.0)
    acts = []
    for _ in range(4):
        act = waiting.next_act()
        assert act is not None
        waiting.chosen(act)
        acts.append(act)

    assert acts == [Act.UPLOAD, Act.DELETE, Act.UPLOAD, Act.DELETE]
    assert waiting.products_for(Act.DELETE, 10) == ["2"]


def test_what_was_sent_waits_no_more(waiting: Waiting) -> None:
    waiting.note(product("1", new("A")), 10.0)
    waiting.note(product("1", taken("A")), 11.0)

    assert waiting.ready_in_s(99.0, 5000) is None
    assert waiting.next_act() is None
    assert waiting.states[ItemState.ACCEPTED] == 1
    assert waiting.states[ItemState.PENDING] == 0


def test_an_id_belongs_to_its_product_until_that_has_it_no_more(waiting: Waiting) -> None:
    waiting.note(product("1", taken("A")), 10.0)
    assert waiting.owner_of("A") == "1"

    waiting.note(product("1"), 11.0)

    assert waiting.owner_of("A") is None
    assert not waiting.knows("1")


def test_what_tiktok_reviews_is_looked_at_until_it_has_ended(waiting: Waiting) -> None:
    waiting.note(product("1", taken("A")), 10.0)
    assert waiting.unseen == ["1"]

    waiting.looked_at("1")
    assert waiting.unseen == ["1"], "taken while TikTok was asked"

    waiting.note(product("1", msgspec.structs.replace(taken("A"), state=ItemState.LIVE)), 11.0)
    waiting.looked_at("1")
    assert waiting.unseen == []

    waiting.look_at_all()
    assert waiting.unseen == ["1"]


def test_the_delay_counts_from_the_first_change_that_was_not_sent(waiting: Waiting) -> None:
    waiting.note(product("1", new("A")), 10.0)
    waiting.note(product("1", sold_out("A")), 12.0)

    assert waiting.delay_of("1", 15.0) == (5.0, True)
    assert waiting.delay_of("2", 15.0) is None

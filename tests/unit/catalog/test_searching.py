"""The search for what TikTok refuses: how far it goes, and who need not wait for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from libs.errors import Kind
from services.catalog.domain.answers import RefusedError
from services.catalog.domain.dialect import HttpRequest
from services.catalog.domain.feed_log import Submitted
from services.catalog.domain.model import Product
from services.catalog.domain.states import ItemState
from services.catalog.search import ALIKE_MAX
from services.catalog.sender import Sender
from tests.unit.catalog.engine_parts import ID, Rig, shoe, until
from tests.unit.catalog.goods import product, variant

GONE: dict[str, Any] = {"status": "deleted", "published": False, "variants": ()}
WORDS = "brand: has a forbidden character"
ENOUGH = 500


def skus_of(request: HttpRequest) -> list[str]:
    """What a request uploads, or takes out."""
    told = msgspec.json.decode(request.body)
    return told.get("sku_ids") or [one["sku_id"] for one in told["products"]]


def refusing(is_bad: Callable[[str], bool], words: Callable[[str], str]) -> list[Any]:
    """Answers of a TikTok that refuses each request with something bad in it, whole."""

    def answer(request: HttpRequest) -> Submitted:
        bad = [one for one in skus_of(request) if is_bad(one)]
        if bad and "upload" in request.path:
            raise RefusedError(Kind.PERMANENT, 40002, words(bad[0]), divisible=True)
        return Submitted("log-1")

    return [answer] * ENOUGH


def in_stock(number: str, quantity: int) -> Product:
    one = variant(
        variant_id=f"10{number}",
        sku=f"SHOE-{number}",
        inventory_item_id=f"20{number}",
        tracked=True,
        quantity=quantity,
    )
    return product(one, product_id=number)


def sent(rig: Rig) -> list[list[str]]:
    return [skus_of(request) for _, request in rig.tiktok.submits]


async def submitted(rig: Rig, sender: Sender, count: int) -> None:
    """Lets the sender go on until it has made so many requests, and no further."""
    while len(rig.tiktok.submits) < count:
        await sender._step()


# -- a fault of the catalog ------------------------------------------------------------------------


async def test_a_fault_that_all_items_share_holds_the_catalog_and_refuses_none() -> None:
    rig = Rig()
    sender = rig.sender(await rig.opened())
    numbers = [str(one) for one in range(1, 65)]
    rig.tiktok.answers = refusing(lambda _: True, lambda sku: f"{WORDS} ({sku})")
    await rig.has(*map(shoe, numbers))

    await until(lambda: sender.is_held, sender)

    # Halved until there is one, and the seven beside it with the pairs that they come from.
    assert len(rig.tiktok.submits) <= 6 + 2 * ALIKE_MAX
    assert WORDS in sender.status().held_note
    assert {rig.record(one).items[0].state for one in numbers} == {ItemState.PENDING}
    rig.tiktok.answers = []
    await until(
        lambda: all(rig.record(one).items[0].state == ItemState.ACCEPTED for one in numbers),
        sender,
    )


async def test_a_product_of_many_bad_variants_costs_itself_alone() -> None:
    rig = Rig()
    sender = rig.sender(await rig.opened())
    many = [variant(variant_id=f"10{one}", sku=f"BAD-{one}") for one in range(20)]
    rig.tiktok.answers = refusing(lambda sku: sku.startswith("BAD"), lambda _: WORDS)
    await rig.has(product(*many, product_id="1"), *(shoe(str(one)) for one in range(2, 20)))

    await until(lambda: rig.record("19").items[0].state == ItemState.ACCEPTED, sender)
    await until(lambda: {one.state for one in rig.record().items} == {ItemState.REFUSED}, sender)

    assert not sender.is_held
    assert {one.issues[0].text for one in rig.record().items} == {WORDS}


@pytest.mark.parametrize("words", [WORDS, WORDS + " (SHOE-1)"])
async def test_many_bad_products_before_good_ones_are_refused_for_themselves(words: str) -> None:
    rig = Rig()
    sender = rig.sender(await rig.opened())
    bad = [str(one) for one in range(1, 25)]
    skus = {f"SHOE-{one}" for one in bad}
    rig.tiktok.answers = refusing(lambda sku: sku in skus, lambda _: words)
    await rig.has(*map(shoe, bad), *(shoe(str(one)) for one in range(60, 100)))

    await until(
        lambda: all(rig.record(one).items[0].state == ItemState.REFUSED for one in bad), sender
    )

    assert rig.record("99").items[0].state == ItemState.ACCEPTED
    assert not sender.is_held


async def test_who_was_held_for_bad_products_at_both_ends_is_not_held_for_them_for_ever() -> None:
    rig = Rig()
    sender = rig.sender(await rig.opened())
    bad = [str(one) for one in (*range(1, 9), 64)]
    skus = {f"SHOE-{one}" for one in bad}
    rig.tiktok.answers = refusing(lambda sku: sku in skus, lambda _: WORDS)
    await rig.has(*(shoe(str(one)) for one in range(1, 65)))

    await until(lambda: sender.is_held, sender)
    await until(
        lambda: all(rig.record(one).items[0].state == ItemState.REFUSED for one in bad), sender
    )
    await until(lambda: rig.record("9").items[0].state == ItemState.ACCEPTED, sender)

    assert not sender.is_held


async def test_a_catalog_that_has_taken_what_is_right_is_not_held_for_what_is_not() -> None:
    rig = Rig()
    sender = rig.sender(await rig.opened())
    await rig.has(shoe("99"))
    await until(lambda: rig.record("99").items[0].state == ItemState.ACCEPTED, sender)
    rig.tiktok.answers = refusing(lambda _: True, lambda _: WORDS)
    numbers = [str(one) for one in range(1, 17)]
    await rig.has(*map(shoe, numbers))

    await until(
        lambda: all(rig.record(one).items[0].state == ItemState.REFUSED for one in numbers),
        sender,
    )

    assert not sender.is_held


async def test_items_that_are_refused_for_different_things_are_refused_for_themselves() -> None:
    rig = Rig()
    sender = rig.sender(await rig.opened())
    numbers = [str(one) for one in range(1, 17)]
    rig.tiktok.answers = refusing(lambda _: True, lambda sku: f"fault {int(sku[5:]) % 2}")
    await rig.has(*map(shoe, numbers))

    await until(
        lambda: all(rig.record(one).items[0].state == ItemState.REFUSED for one in numbers),
        sender,
    )

    assert not sender.is_held


# -- who need not wait -----------------------------------------------------------------------------


async def test_what_is_sold_out_or_gone_does_not_wait_for_a_search() -> None:
    rig = Rig()
    sender = rig.sender(await rig.opened())
    await rig.has(in_stock("98", 5), in_stock("99", 5))
    await until(lambda: rig.record("99").items[0].state == ItemState.ACCEPTED, sender)
    rig.tiktok.submits.clear()
    numbers = [str(one) for one in range(1, 65)]
    rig.tiktok.answers = refusing(lambda sku: sku not in ("SHOE-98", "SHOE-99"), lambda _: WORDS)
    await rig.has(*map(shoe, numbers))
    await submitted(rig, sender, 3)

    await rig.has(in_stock("98", 0), in_stock("99", 5))
    await rig.has(shoe("99", **GONE))
    await submitted(rig, sender, 6)

    assert ["SHOE-98"] in sent(rig)[3:6]
    assert ["SHOE-99"] in sent(rig)[3:6]
    await until(
        lambda: all(rig.record(one).items[0].state == ItemState.REFUSED for one in numbers),
        sender,
    )


async def test_what_is_urgent_and_refused_is_not_sent_for_ever_before_the_rest() -> None:
    rig = Rig()
    sender = rig.sender(await rig.opened())
    numbers = [str(one) for one in range(1, 9)]
    await rig.has(*(in_stock(one, 5) for one in numbers))
    await until(lambda: rig.record("8").items[0].state == ItemState.ACCEPTED, sender)
    rig.tiktok.answers = refusing(lambda sku: sku != "SHOE-8", lambda _: WORDS)

    await rig.has(*(in_stock(one, 0) for one in numbers))
    await until(lambda: rig.record("8").items[0].state == ItemState.ACCEPTED, sender)

    assert {rig.record(one).items[0].state for one in numbers[:7]} == {ItemState.REFUSED}
    assert len(rig.tiktok.submits) <= 1 + 2 * 8


async def test_a_part_does_not_send_what_has_changed_since() -> None:
    rig = Rig()
    sender = rig.sender(await rig.opened())
    rig.tiktok.answers = refusing(lambda sku: sku == "SHOE-1", lambda _: WORDS)
    await rig.has(*(shoe(str(one)) for one in range(1, 5)))
    await submitted(rig, sender, 1)

    await rig.has(shoe("3", title="Another"), shoe("4", **GONE))
    await until(lambda: rig.record("3").items[0].state == ItemState.ACCEPTED, sender)

    later = rig.tiktok.submits[1:]
    assert not any("SHOE-4" in skus_of(request) for _, request in later)
    told = [
        one["title"]
        for _, request in later
        for one in msgspec.json.decode(request.body)["products"]
        if one["sku_id"] == "SHOE-3"
    ]
    assert told
    assert all("Another" in one for one in told)
    assert rig.record("1").items[0].state == ItemState.REFUSED
    assert rig.book.catalogs[ID].waiting.pending() == 0

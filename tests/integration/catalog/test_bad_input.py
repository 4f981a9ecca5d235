"""What shops, webhooks and the bus tell that is odd, early, cut short, or wrong."""

from __future__ import annotations

from random import Random

import msgspec

from libs.bus import subjects
from libs.bus.commit_log import Entry
from libs.bus.jetstream_log import JetStreamLog
from libs.bus.scan import scan
from libs.ids import RandomIds
from sandbox.shopify.catalog_changes import Changes
from sandbox.shopify.catalog_model import Variant
from sandbox.shopify.catalog_plan import CatalogPlan
from sandbox.shopify.catalog_shop import VARIANTS_MAX, Maker
from services.catalog.domain.states import ItemState
from tests.integration.catalog.house import CLOCK, DOMAIN, SHOP, House
from tests.integration.ingest.harness import eventually
from tidewire.delivery.v1 import outcome_pb2

PLAN = CatalogPlan(shop=DOMAIN, variants=40, odd=())
ID = "example.catalog.7001"


def now_s() -> int:
    return int(CLOCK.now_ns() / 1e9)


async def test_two_products_with_one_sku_are_two_items_and_stay_two(house: House) -> None:
    shop = house.stock(PLAN)
    first, second = list(shop.products.values())[:2]
    sku = first.variants[0].sku or ""
    second.variants[0].sku = sku
    number = second.variants[0].number
    async with house.running() as engine:
        await house.rested(engine)
        assert {sku, f"{sku}-{number}"} <= set(house.items())

        # The first one goes: the other keeps the name that it is known by.
        await house.told([_deleted(house, first.number)])
        await house.sees(engine, lambda one: one.waiting == 0 and sku not in house.items())

        assert f"{sku}-{number}" in house.items()
        assert len(house.items()) == len(shop.variants)


def _deleted(house: House, number: int):  # type: ignore[no-untyped-def]  # noqa: ANN202
    changes = Changes(house.shelf, Random(1))
    changes._numbers = [number]
    return changes.delete_product(now_s())[0]


async def test_a_variant_with_a_new_sku_is_a_new_item_and_the_old_one_goes(house: House) -> None:
    shop = house.stock(PLAN)
    variant = _first(house)
    before = variant.sku or ""
    async with house.running() as engine:
        await house.rested(engine)
        variant.sku = "NEW-SKU-1"
        changes = Changes(shop, Random(1))
        await house.told(changes._updated(changes._touched(variant, now_s()), now_s(), "item"))

        assert await house.equal()
        assert before not in house.items()
        assert "NEW-SKU-1" in house.items()


def _first(house: House) -> Variant:
    return next(iter(house.shelf.variants.values()))


async def test_a_product_of_2048_variants_is_read_whole_and_never_cut_to_its_webhook(
    house: House,
) -> None:
    shop = house.stock(CatalogPlan(shop=DOMAIN, variants=10, odd=()))
    product = Maker(shop, Random(1), now_s() - 60).product(VARIANTS_MAX)
    shop.add(product)
    async with house.running() as engine:
        await house.rested(engine)
        assert len(house.items()) == VARIANTS_MAX + 10
        deletes = sum(one.kind == "delete" for one in house.submits())

        # One that the webhook shows, and one that it does not.
        for place in (0, VARIANTS_MAX - 1):
            product.variants[place].price = "1234.50"
            product.variants[place].compare_at_price = None
        changes = Changes(shop, Random(1))
        await house.told(changes._updated(changes._touched(product, now_s()), now_s(), "price"))

        assert await house.equal()
        assert sum(one.kind == "delete" for one in house.submits()) == deletes == 0


async def test_stock_that_is_told_again_late_does_not_undo_what_is_newer(house: House) -> None:
    shop = house.stock(PLAN)
    async with house.running() as engine:
        await house.rested(engine)
        changes = Changes(shop, Random(3))
        told = [changes.change_stock(now_s()) for _ in range(6)]

        for one in reversed(told):
            await house.told(one)

        assert await house.equal()


async def test_bad_states_go_to_the_dead_letters_and_good_ones_beside_them_go_on(
    house: House,
) -> None:
    shop = house.stock(PLAN)
    async with house.running() as engine:
        await house.rested(engine)
        log = JetStreamLog(house.nats, subjects.COMMERCE, RandomIds(CLOCK))
        await log.commit([Entry(subjects.state("product", SHOP, "666"), b"\xff no state")])
        await house.told(Changes(shop, Random(3)).change_price(now_s()))

        assert await house.equal()
        letters: list[outcome_pb2.DeadLetter] = []

        async def buried() -> bool:
            found = [one async for one in scan(house.nats, subjects.DEAD_LETTERS, "dlq.>")]
            letters.extend(outcome_pb2.DeadLetter.FromString(one.data) for one in found)
            return bool(letters)

        await eventually(buried, "the letter is there")

    assert (letters[0].service, letters[0].code, letters[0].shop) == (
        "catalog",
        "state_unreadable",
        SHOP,
    )
    assert letters[0].unit == "product.666"


async def test_an_odd_shop_becomes_items_and_refusals_with_a_reason_each(house: House) -> None:
    shop = house.stock(CatalogPlan(shop=DOMAIN, variants=400, seed=4))
    async with house.running() as engine:
        await house.rested(engine)
        page = await engine.page(ID, frozenset(ItemState), size=1000, token="")

    refused = [one for one in page.items if one.state is ItemState.REFUSED]
    assert refused
    assert all(one.issues and one.issues[0].text and one.issues[0].is_error for one in refused)
    sold = {
        str(one.number)
        for one in shop.variants.values()
        if one.product.status == "ACTIVE" and one.product.published_at_s is not None
    }
    assert sold <= {one.variant_id for one in page.items}, "each is told of"
    taken = {one.sku_id for one in page.items if one.in_catalog}
    assert taken == set(house.items())


async def test_an_item_of_unlisted_words_is_sent_as_its_dialect_has_it(house: House) -> None:
    shop = house.stock(PLAN)
    product = next(iter(shop.products.values()))
    product.title = "🕯️" * 40
    product.body_html = "<p>Unclosed <b>tag <script>alert(1)"
    async with house.running() as engine:
        await house.rested(engine)
        items = await engine.items(ID, [product.variants[0].sku or ""])

    (one,) = items
    sent = house.items().get(one.sku_id)
    assert (sent is None) == (one.state is ItemState.REFUSED)
    assert sent is None or b"alert" not in msgspec.json.encode(msgspec.json.decode(sent))

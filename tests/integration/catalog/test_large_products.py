"""The largest products that Shopify has: kept in NATS, and read back."""

from __future__ import annotations

from random import Random

import msgspec

from libs.bus import subjects
from libs.bus.commit_log import Entry
from libs.bus.jetstream_log import JetStreamLog
from libs.ids import RandomIds
from services.catalog import keys, records
from services.catalog.domain.model import Level, Money, Product, Variant
from services.catalog.store import RECORD_BYTES_MAX, SyncStore
from tests.integration.catalog.house import CLOCK, SHOP, House

VARIANTS = 2048
LOCATIONS = 200
ID_DIGITS = 10**13


def largest() -> Product:
    """A product of as many variants as there may be, stocked at many locations."""
    random = Random(1)
    locations = [str(random.randrange(ID_DIGITS, 10 * ID_DIGITS)) for _ in range(LOCATIONS)]

    def levels() -> tuple[Level, ...]:
        at = random.randrange(17 * 10**8, 18 * 10**8) * 10**9
        return tuple(Level(one, random.randrange(500), at) for one in locations)

    return Product(
        product_id="1",
        title="Shoe",
        status="active",
        variants=tuple(
            Variant(
                variant_id=str(number),
                sku=f"SHOE-{number}",
                price=Money(random.randrange(1, 100_000), "USD"),
                inventory_item_id=str(random.randrange(ID_DIGITS, 10 * ID_DIGITS)),
                levels=levels(),
            )
            for number in range(VARIANTS)
        ),
    )


async def test_a_product_of_2048_variants_at_200_locations_is_kept_and_read_back(
    house: House,
) -> None:
    store = _store(house)
    product = largest()
    assert len(msgspec.msgpack.encode(product)) > 2 * RECORD_BYTES_MAX

    await store.write([[Entry(keys.source(SHOP, "1"), records.encode(product), expected=0)]])

    kept = await store.products(SHOP, ["1"], [])
    assert kept["1"].source.record == product
    assert [one async for one in store.every_product(SHOP)] == [product]


async def test_what_was_kept_before_records_were_compressed_is_read(house: House) -> None:
    store = _store(house)
    product = msgspec.structs.replace(largest(), variants=largest().variants[:100])
    plain = msgspec.msgpack.encode(product)
    assert records.encode(product) != plain

    await store.write([[Entry(keys.source(SHOP, "1"), plain, expected=0)]])

    assert (await store.products(SHOP, ["1"], []))["1"].source.record == product


async def test_the_largest_record_is_one_that_nats_takes(house: House) -> None:
    entry = Entry(keys.source(SHOP, "1"), bytes(RECORD_BYTES_MAX), expected=0, ttl_s=60)

    await _store(house).write([[entry, Entry(keys.source(SHOP, "2"), b"", expected=0)]])

    assert len((await _store(house).read_all([entry.subject]))[entry.subject].data) > 0


def _store(house: House) -> SyncStore:
    stream = subjects.bucket_stream(subjects.CATALOG_SYNC)
    return SyncStore(house.nats, JetStreamLog(house.nats, stream, RandomIds(CLOCK)))

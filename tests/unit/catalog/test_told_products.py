"""A product as a webhook tells it, beside what was read of it before."""

from __future__ import annotations

from typing import Any

import msgspec
from google.protobuf.timestamp_pb2 import Timestamp

from services.catalog.domain.model import Image, Level, MarketPrice, Money, Text, Variant
from services.catalog.states import product_of
from tests.unit.catalog.goods import CDN, product, variant
from tidewire.commerce.v1 import product_pb2
from tidewire.common.v1 import money_pb2

READ = product(
    variant(
        tracked=True,
        levels=(Level("501", 3, 7),),
        prices={"DE": MarketPrice(Money(100, "EUR"))},
        option_texts={"fr": ("quarante-deux",)},
        metafields={"a.b": "c"},
        image_id="",
        image_url=f"{CDN}/a.jpg?v=1",
    ),
    variant(variant_id="102", sku="SHOE-43"),
    texts={"fr": Text("Chaussure")},
    metafields={"a.b": "c"},
    updated_ns=1,
)


def told(*variants: product_pb2.Variant, **other: Any) -> product_pb2.Product:
    plain: dict[str, Any] = {
        "product_id": "1",
        "title": "Running Shoe",
        "body_html": "<p>Runs by itself.</p>",
        "vendor": "Acme",
        "product_type": "Shoes",
        "handle": "running-shoe",
        "status": "active",
        "option_names": ["Size"],
        "variants": variants,
        "images": [product_pb2.Image(image_id="9", url=f"{CDN}/a.jpg?v=2", width_px=800)],
        "published_at": Timestamp(seconds=1),
        "updated_at": Timestamp(seconds=5, nanos=6),
    }
    return product_pb2.Product(**{**plain, **other})


def size_42(**other: Any) -> product_pb2.Variant:
    plain: dict[str, Any] = {
        "variant_id": "101",
        "sku": "NEW-SKU",
        "title": "42",
        "option_values": ["42"],
        "price": money_pb2.Money(currency="USD", amount_minor=9900),
        "inventory_quantity": 4,
        "inventory_policy": "continue",
        "inventory_item_id": "201",
    }
    return product_pb2.Variant(**{**plain, **other})


def test_a_product_that_was_never_read_is_what_was_told() -> None:
    found = product_of(told(size_42(image_id="9")), None)

    assert found.title == "Running Shoe"
    assert found.images == (Image(f"{CDN}/a.jpg?v=2", "9", 800, 0),)
    assert found.updated_ns == 5_000_000_006
    assert found.variants == (
        Variant(
            variant_id="101",
            sku="NEW-SKU",
            title="42",
            option_values=("42",),
            price=Money(9900, "USD"),
            policy="continue",
            inventory_item_id="201",
            quantity=4,
            image_id="9",
        ),
    )


def test_what_webhooks_never_tell_stays_as_it_was_read() -> None:
    found = product_of(told(size_42()), READ)

    before, after = READ.variants[0], found.variants[0]
    assert (found.texts, found.metafields, found.category) == (
        READ.texts,
        READ.metafields,
        READ.category,
    )
    assert (after.sku, after.price, after.quantity) == ("NEW-SKU", Money(9900, "USD"), 4)
    kept = ("tracked", "levels", "prices", "option_texts", "metafields", "weight", "weight_unit")
    assert all(getattr(after, name) == getattr(before, name) for name in kept)


def test_translated_options_go_with_the_options_that_they_translate() -> None:
    found = product_of(told(size_42(option_values=["43"])), READ)

    assert found.variants[0].option_texts == {}


def test_a_variant_that_is_no_longer_told_is_gone() -> None:
    assert [one.variant_id for one in product_of(told(size_42()), READ).variants] == ["101"]


def test_of_a_truncated_product_the_variants_left_out_stay() -> None:
    found = product_of(told(size_42(), variants_truncated=True), READ)

    assert [one.variant_id for one in found.variants] == ["101", "102"]
    assert found.variants[1] == READ.variants[1]


def test_a_product_is_published_while_it_has_a_time_of_it() -> None:
    hidden = told(size_42())
    hidden.ClearField("published_at")

    assert product_of(told(size_42()), None).published
    assert not product_of(hidden, READ).published


def test_a_price_that_was_not_told_is_none() -> None:
    silent = size_42()
    silent.ClearField("price")

    found = product_of(told(silent), READ).variants[0]

    assert (found.price, found.compare_at) == (None, None)


def test_a_former_price_is_told_too() -> None:
    former = money_pb2.Money(currency="USD", amount_minor=1)

    found = product_of(told(size_42(compare_at_price=former)), None)

    assert found.variants[0].compare_at == Money(1, "USD")


def test_an_own_image_known_by_address_stays_while_the_product_has_it() -> None:
    kept = product_of(told(size_42()), READ).variants[0]
    gone = product_of(told(size_42(), images=[]), READ).variants[0]
    named = product_of(told(size_42(image_id="9")), READ).variants[0]

    assert kept.image_url == f"{CDN}/a.jpg?v=1"
    assert gone.image_url == ""
    assert (named.image_id, named.image_url) == ("9", "")


def test_options_that_were_not_told_stay_as_they_were() -> None:
    nameless = msgspec.structs.replace(READ, option_names=("Size",))

    assert product_of(told(size_42(), option_names=[]), nameless).option_names == ("Size",)

"""What holds for every product, however broken."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from services.catalog.domain.dialects import dialect_of
from services.catalog.domain.ids import assign_ids
from services.catalog.domain.mapping import map_product
from services.catalog.domain.model import (
    Image,
    Level,
    MarketPrice,
    Money,
    Product,
    Text,
    Variant,
)
from services.catalog.domain.rates import rates_of_text
from services.catalog.domain.settings import DialectName, FieldRule
from tests.unit.catalog.goods import CATALOG, CDN, SHOP, TODAY
from tests.unit.catalog.wire_rules import broken_rules

RATES = rates_of_text("2026-11-26;USD=1.08,JPY=163.2,BHD=0.407", 7)

texts = st.one_of(st.text(max_size=30), st.sampled_from(["Shoe", "🔥", "", "a" * 600, "<p>x</p>"]))
moneys = st.builds(
    Money,
    st.one_of(st.integers(min_value=-(2**63), max_value=2**63 - 1), st.sampled_from([0, 1, 1999])),
    st.sampled_from(["USD", "USD", "EUR", "JPY", "BHD", "XXX", "", "usd"]),
)
addresses = st.one_of(
    st.text(max_size=30),
    st.sampled_from([f"{CDN}/a.jpg", f"{CDN}/b,c.png", "//cdn.shopify.com/x.jpg", "/x.jpg"]),
)
images = st.builds(
    Image, addresses, st.sampled_from(["", "1", "2"]), st.integers(0, 900), st.integers(0, 900)
)
variants = st.builds(
    Variant,
    variant_id=st.sampled_from(["11", "12", "13", "14"]),
    sku=texts,
    barcode=st.one_of(st.text(max_size=15), st.just("4006381333931")),
    title=texts,
    option_values=st.lists(texts, max_size=4).map(tuple),
    price=st.one_of(st.none(), moneys),
    compare_at=st.one_of(st.none(), moneys),
    policy=st.sampled_from(["deny", "continue", "", "?"]),
    tracked=st.sampled_from([True, False, None]),
    quantity=st.one_of(st.none(), st.integers(-9, 9)),
    levels=st.lists(st.builds(Level, st.sampled_from(["1", "2"]), st.integers(-9, 9))).map(tuple),
    image_id=st.sampled_from(["", "1", "2", "9"]),
    image_url=addresses,
    weight=st.one_of(st.text(max_size=8), st.floats().map(str)),
    weight_unit=st.sampled_from(["kg", "lb", "", "stone"]),
    prices=st.dictionaries(st.just("US"), st.builds(MarketPrice, moneys, moneys), max_size=1),
    option_texts=st.dictionaries(st.just("fr"), st.lists(texts, max_size=3).map(tuple)),
    metafields=st.dictionaries(st.just("a.b"), texts),
)
products = st.builds(
    Product,
    product_id=st.just("1"),
    title=texts,
    body_html=texts,
    vendor=texts,
    product_type=texts,
    handle=texts,
    status=st.sampled_from(["active", "active", "active", "draft", "?"]),
    tags=st.lists(texts, max_size=3).map(tuple),
    option_names=st.lists(st.sampled_from(["Size", "Color", "Material", "x", ""])).map(tuple),
    category=texts,
    images=st.lists(images, max_size=4).map(tuple),
    variants=st.lists(variants, max_size=3).map(tuple),
    texts=st.dictionaries(st.just("fr"), st.builds(Text, texts, texts)),
    metafields=st.dictionaries(st.just("a.b"), texts),
)
catalogs = st.builds(
    lambda **changes: replace(CATALOG, **changes),
    currency=st.sampled_from(["USD", "USD", "JPY", "BHD", "CHF", "?"]),
    language=st.sampled_from(["en", "fr", "fr-CA", ""]),
    item_id=st.sampled_from(["sku", "variant_id"]),
    brand=st.sampled_from(["", "House"]),
    preorder_tag=texts,
    rules=st.lists(
        st.builds(
            FieldRule,
            st.sampled_from(["custom_label_0", "color", "gender", "brand", "size", "age_group"]),
            st.sampled_from(
                ["metafield:a.b", "option:Size", "tag:", "vendor", "text:x", "barcode"]
            ),
        ),
        max_size=4,
    ).map(tuple),
)


@settings(max_examples=80, deadline=None)
@given(products, catalogs)
def test_every_variant_ends_once_in_an_item_that_tiktok_takes_or_in_a_refusal_with_advice(
    product: Product, catalog: object
) -> None:
    assert isinstance(catalog, type(CATALOG))
    ids, _ = assign_ids(product, catalog, {}, lambda _: None)

    found = map_product(product, SHOP, catalog, ids, RATES, TODAY)

    if found.excluded:
        assert (found.items, found.refusals) == ((), ())
        return
    ended = [*(one.variant_id for one in found.items), *(one.variant_id for one in found.refusals)]
    assert sorted(ended) == sorted({one.variant_id for one in product.variants})
    assert all(one.field and one.message and one.code.islower() for one in found.refusals)
    assert all(one.field and one.message and one.code.islower() for one in found.notes)
    for one in found.items:
        body = dialect_of(DialectName.PRODUCT_UPLOAD).encode(one)
        assert broken_rules(body) == []
        flat = json.loads(dialect_of(DialectName.ITEM_BATCH).encode(one))
        assert flat["item_id"] == one.sku_id
        assert float(flat["price"]) > 0


@settings(max_examples=20, deadline=None)
@given(products, catalogs)
def test_the_same_product_becomes_the_same_bytes(product: Product, catalog: object) -> None:
    assert isinstance(catalog, type(CATALOG))
    dialect = dialect_of(DialectName.PRODUCT_UPLOAD)

    def bodies() -> list[bytes]:
        ids, _ = assign_ids(product, catalog, {}, lambda _: None)
        found = map_product(product, SHOP, catalog, ids, RATES, TODAY)
        return [dialect.encode(one) for one in found.items]

    assert bodies() == bodies()

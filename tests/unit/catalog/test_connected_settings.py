from __future__ import annotations

from datetime import UTC, datetime

import pytest

from libs.connections import ShopView
from services.catalog.adapters.connections import catalog_settings, wanted_of
from services.catalog.domain.settings import CatalogSettings, DialectName, FieldRule, Rounding
from services.catalog.ports import Wanted
from tidewire.connections.v1 import connection_pb2 as pb

SHOP = ShopView("example", "example.myshopify.com", "US", "USD", datetime(2026, 11, 22, tzinfo=UTC))


def read(settings: pb.CatalogSettings) -> CatalogSettings:
    settings.business_center_id, settings.catalog_id = "7001", "7002"
    connection = pb.Connection(
        connection_id="example.catalog.7002", shop="example", tiktok_catalog=settings
    )
    return catalog_settings(connection, SHOP, api_version="v1.3")


def test_a_catalog_that_says_nothing_is_as_its_shop_is() -> None:
    found = read(pb.CatalogSettings())

    assert found == CatalogSettings(
        connection_id="example.catalog.7002",
        shop="example",
        catalog_id="7002",
        business_center_id="7001",
        dialect=DialectName.PRODUCT_UPLOAD,
        api_version="v1.3",
        country="US",
        currency="USD",
        language="en",
        fallback_languages=(),
        item_id="sku",
        brand="",
        condition="NEW",
        storefront_url="",
        online_locations=frozenset(),
        preorder_tag="",
        rules=(),
        rounding=Rounding.NEAREST,
        round_to_minor=1,
        convert_prices=True,
        check_images=False,
        feed_id="",
        spacing_s=60.0,
    )


EVERYTHING = pb.CatalogSettings(
    dialect="item_batch",
    country="FR",
    currency="EUR",
    language="fr",
    fallback_languages=["pt-br", "zh-hant"],
    item_id="variant_id",
    brand="Example Brand",
    condition="refurbished",
    storefront_url="https://shop.example/fr/",
    online_location_ids=["11", "12"],
    preorder_tag="preorder",
    field_rules=[
        pb.CatalogFieldRule(target="custom_label_0", source="metafield:custom.season"),
        pb.CatalogFieldRule(target="color", source="option:Colour"),
    ],
    rounding="up",
    round_to_minor=5,
    market_prices_only=True,
    check_images=True,
    feed_id="7003",
    submit_spacing_s=0,
)


def test_everything_that_a_catalog_says_counts() -> None:
    assert read(EVERYTHING) == CatalogSettings(
        connection_id="example.catalog.7002",
        shop="example",
        catalog_id="7002",
        business_center_id="7001",
        dialect=DialectName.ITEM_BATCH,
        api_version="v1.3",
        country="FR",
        currency="EUR",
        language="fr",
        fallback_languages=("pt-BR", "zh-Hant"),
        item_id="variant_id",
        brand="Example Brand",
        condition="REFURBISHED",
        storefront_url="https://shop.example/fr",
        online_locations=frozenset({"11", "12"}),
        preorder_tag="preorder",
        rules=(
            FieldRule("custom_label_0", "metafield:custom.season"),
            FieldRule("color", "option:Colour"),
        ),
        rounding=Rounding.UP,
        round_to_minor=5,
        convert_prices=False,
        check_images=True,
        feed_id="7003",
        spacing_s=0.0,
    )


def test_every_setting_of_a_catalog_is_tried_here() -> None:
    tried = {field.name for field, _ in EVERYTHING.ListFields()}

    assert tried | {"business_center_id", "catalog_id"} == {
        field.name for field in pb.CatalogSettings.DESCRIPTOR.fields
    }


@pytest.mark.parametrize("rounding", list(Rounding))
def test_every_way_of_rounding_can_be_chosen(rounding: Rounding) -> None:
    assert read(pb.CatalogSettings(rounding=rounding.value)).rounding is rounding


def test_a_shop_is_asked_for_all_that_one_of_its_catalogs_needs() -> None:
    french = read(EVERYTHING)
    plain = read(pb.CatalogSettings(country="GB", language="en"))

    assert wanted_of([french, plain], "en") == Wanted(
        languages=("fr", "pt-BR", "zh-Hant"),
        countries=("FR", "GB"),
        metafields=("custom.season",),
    )


def test_a_language_counts_as_a_translation_while_nobody_knows_the_shops_own() -> None:
    assert wanted_of([read(pb.CatalogSettings())]).languages == ("en",)


def test_nothing_is_wanted_for_no_catalog() -> None:
    assert wanted_of([], "en") == Wanted()

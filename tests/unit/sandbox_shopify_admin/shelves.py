"""A small catalog, written out: two products, three variants, two locations."""

from __future__ import annotations

from typing import Final

from sandbox.shopify.catalog_model import (
    DEFAULT_OPTION,
    DEFAULT_VALUES,
    VIDEO,
    CatalogShop,
    Item,
    Level,
    Locale,
    Location,
    Medium,
    Metafield,
    Option,
    OptionValue,
    Price,
    Product,
    Variant,
)

SHOP: Final = "example.myshopify.com"
AT_S: Final = 1_790_000_000


def small_shop() -> CatalogShop:
    """A lamp in two sizes with pictures, a film, texts and prices; and a bare mat."""
    here, there = Location(71, "Harbour"), Location(72, "Hill", fulfills_online_orders=False)
    english, french = Locale("en", "English", primary=True), Locale("fr", "French")
    shop = CatalogShop(SHOP, "USD", "US", "www.shop.example", [here, there], [english, french])
    shop.add(_lamp(here, there))
    shop.add(_mat(here))
    return shop


def _lamp(here: Location, there: Location) -> Product:
    small = OptionValue(22, "Small", {"fr": "Petit"})
    large = OptionValue(23, "Large/XL", {"fr": "Grand"})
    lamp = _product(11, "Lamp & Co", "<p>Warm <b>light</b></p>")
    lamp.category = "Home > Lighting > Lamps"
    lamp.options = [Option(21, "Size", [small, large], {"fr": "Taille"})]
    lamp.translations = {"fr": {"title": "Lampe", "body_html": "<p>Lumière</p>"}}
    front, side = Medium(31, "https://cdn.example.com/l/1.jpg"), Medium(32, "", status="PROCESSING")
    lamp.media = [front, side, Medium(33, "", content_type=VIDEO)]
    lamp.metafields = [Metafield(41, "custom", "material", "oak")]
    for place, (name, stock) in enumerate((("Small", 3), ("Large/XL", -1)), 1):
        variant = _variant(lamp, 50 + place, (name,), f"{place}9.50")
        variant.position = place
        variant.media = [front]
        variant.item.levels = [
            Level(variant.item, here, stock, AT_S),
            Level(variant.item, there, 5, AT_S),
        ]
        lamp.variants.append(variant)
    lamp.variants[0].compare_at_price = "29.50"
    lamp.variants[0].prices = {"FR": Price("18.00", "27.00", "EUR")}
    lamp.variants[0].item.weight = 1.25
    return lamp


def _mat(here: Location) -> Product:
    mat = _product(12, "Mat", "")
    mat.status, mat.published_at_s = "DRAFT", None
    mat.options = [Option(24, DEFAULT_OPTION, [OptionValue(25, DEFAULT_VALUES[0])])]
    variant = _variant(mat, 61, DEFAULT_VALUES, "5.00")
    variant.item.levels = [Level(variant.item, here, 0, AT_S)]
    mat.variants = [variant]
    return mat


def _product(number: int, title: str, body_html: str) -> Product:
    return Product(
        number=number,
        title=title,
        body_html=body_html,
        vendor="Tidal Works",
        product_type="Homeware",
        handle=f"thing-{number}",
        status="ACTIVE",
        tags=["gift", "new"],
        created_at_s=AT_S - 1000,
        updated_at_s=AT_S + number,
        published_at_s=AT_S - 500,
    )


def _variant(product: Product, number: int, values: tuple[str, ...], price: str) -> Variant:
    variant = Variant(
        number=number,
        product=product,
        values=values,
        price=price,
        compare_at_price=None,
        sku=f"SKU-{number}",
        barcode=None,
        created_at_s=AT_S - 1000,
        updated_at_s=AT_S,
    )
    variant.item = Item(number + 1000, variant, updated_at_s=AT_S)
    return variant

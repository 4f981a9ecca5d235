"""A product of a shop as the catalog service knows it: read from Shopify, kept, and mapped.

Structs, because they are stored as they are (msgpack): what is added later needs a default, and a
field is never given another meaning. Times are nanoseconds since 1970, 0 where nobody said.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Money(msgspec.Struct, frozen=True, array_like=True):
    """An amount in the currency's minor unit: 150 USD is 1.50 dollars."""

    minor: int
    currency: str
    """ISO 4217."""


class Image(msgspec.Struct, frozen=True, omit_defaults=True):
    """One image of a product, in the merchant's order."""

    url: str
    image_id: str = ""
    """Shopify's id, digits; which variants name. A medium's id is another than its image's."""
    width_px: int = 0
    height_px: int = 0


class Level(msgspec.Struct, frozen=True, omit_defaults=True):
    """Stock of a variant at one location."""

    location_id: str
    available: int | None = None
    """None where it is not stocked there, or is not counted."""
    updated_ns: int = 0
    connected: bool = True


class MarketPrice(msgspec.Struct, frozen=True, omit_defaults=True):
    """What buyers of one country pay, as Shopify Markets says."""

    price: Money
    compare_at: Money | None = None


class Text(msgspec.Struct, frozen=True, omit_defaults=True):
    """A product's words in one language; empty where they are not translated."""

    title: str = ""
    body_html: str = ""
    option_names: Mapping[str, str] = {}
    """Translated option names by the original ones."""


class Variant(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What can be bought: one choice of a product's options."""

    variant_id: str
    sku: str = ""
    """As given; may be empty or repeated."""
    barcode: str = ""
    title: str = ""
    option_values: tuple[str, ...] = ()
    """In the order of the product's options."""
    price: Money | None = None
    """In the shop's currency; None where it was not told or cannot be read."""
    compare_at: Money | None = None
    policy: str = ""
    """`continue` sells beyond stock, `deny` does not."""
    inventory_item_id: str = ""
    tracked: bool | None = None
    """Whether Shopify counts its stock; None: not known."""
    quantity: int | None = None
    """Units over all locations as the product itself says; stale as soon as levels are known."""
    levels: tuple[Level, ...] = ()
    image_id: str = ""
    image_url: str = ""
    """Its own image, where it was told by address; else `image_id` names one of the product's."""
    weight: str = ""
    """A decimal number."""
    weight_unit: str = ""
    """`g`, `kg`, `oz` or `lb`."""
    prices: Mapping[str, MarketPrice] = {}
    """By ISO 3166-1 alpha-2 country."""
    option_texts: Mapping[str, tuple[str, ...]] = {}
    """Translated option values by language."""
    metafields: Mapping[str, str] = {}
    """By `namespace.key`."""
    updated_ns: int = 0


class Product(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A product with everything that its items are made of."""

    product_id: str
    """Shopify's number, as text."""
    title: str = ""
    body_html: str = ""
    vendor: str = ""
    product_type: str = ""
    handle: str = ""
    status: str = ""
    """`active`, `draft`, `archived` or `unlisted`."""
    published: bool = True
    """Whether the online store shows it."""
    tags: tuple[str, ...] = ()
    option_names: tuple[str, ...] = ()
    category: str = ""
    """Full name in Shopify's taxonomy, such as `Apparel & Accessories > Clothing`."""
    images: tuple[Image, ...] = ()
    variants: tuple[Variant, ...] = ()
    texts: Mapping[str, Text] = {}
    """By language, `fr` or `pt-BR`."""
    metafields: Mapping[str, str] = {}
    """By `namespace.key`."""
    updated_ns: int = 0
    read_ns: int = 0
    """`updated_ns` as it was when the product was last read whole: what webhooks never tell is as
    of then."""

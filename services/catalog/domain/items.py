"""What one catalog gets of a product: items, and the reasons for those that it does not get."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum

import msgspec


class Availability(IntEnum):
    """Whether an item can be had. The numbers are stored: never reused."""

    IN_STOCK = 1
    AVAILABLE_FOR_ORDER = 2
    PREORDER = 3
    OUT_OF_STOCK = 4
    DISCONTINUED = 5


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One variant in one catalog, in no dialect yet. Empty texts are left out of what is sent."""

    sku_id: str
    variant_id: str
    item_group_id: str
    first_sku: str
    """The SKU of the product's first variant, which the guide's dialect takes as the group."""
    title: str
    description: str
    availability: Availability
    condition: str
    brand: str
    price: Decimal
    sale_price: Decimal | None
    currency: str
    image_url: str
    additional_image_urls: tuple[str, ...]
    landing_page_url: str
    google_product_category: str = ""
    product_category: str = ""
    gtin: str = ""
    mpn: str = ""
    color: str = ""
    size: str = ""
    material: str = ""
    pattern: str = ""
    gender: str = ""
    age_group: str = ""
    shipping_weight: str = ""
    custom_labels: tuple[str, ...] = ()
    """Labels 0 to 4, empty where there is none."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A variant that is not sent because TikTok would refuse it, or nobody could buy it."""

    variant_id: str
    sku_id: str
    code: str
    """Stable, such as `brand_missing`."""
    field: str
    """The merchant's name of what is wrong, such as `vendor` or `variants.price`."""
    message: str
    """What is wrong and what to do about it, for the merchant."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something that was put right on the way, and that the merchant may want to know."""

    variant_id: str
    code: str
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Mapped:
    """A product in one catalog: each variant is in exactly one of items and refusals.

    `excluded` says why the whole product is not for sale there (`not_active`, `not_published`,
    `no_variants`): then there are neither, and what the catalog has of it is deleted.
    """

    items: tuple[Item, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    notes: tuple[Note, ...] = ()
    excluded: str = ""

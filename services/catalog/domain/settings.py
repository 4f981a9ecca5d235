"""What a catalog wants of its items, as the domain reads it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

SPACING_S: Final = 60.0
"""Between two submits to one catalog. Seen live: within a minute the second is accepted, and then
each of its items is refused ("once a minute"); the documents say 1,000 an hour."""


class DialectName(StrEnum):
    """Wire shapes of a TikTok catalog."""

    PRODUCT_UPLOAD = "product_upload"
    ITEM_BATCH = "item_batch"


class Rounding(StrEnum):
    """What becomes of a converted price that falls between two steps."""

    NEAREST = "nearest"
    """Half a step goes up."""
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class FieldRule:
    """Where one field of items comes from."""

    target: str
    """Field of TikTok's item: `custom_label_0` to `_4`, `color`, `size`, `material`, `pattern`,
    `gender`, `age_group`, `google_product_category`, `product_category`,
    `manufacturer_part_number`, `brand`."""
    source: str
    """`metafield:<namespace>.<key>` (the variant's, else the product's), `option:<name>`,
    `tag:<prefix>` (what follows the prefix in the first tag that has it), `vendor`,
    `product_type`, `category`, `barcode`, or `text:<words>`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogSettings:
    """One TikTok catalog: what it is called there, and how a shop's products become its items."""

    connection_id: str
    shop: str
    catalog_id: str
    business_center_id: str
    dialect: DialectName = DialectName.PRODUCT_UPLOAD
    api_version: str = "v1.3"
    country: str = ""
    """ISO 3166-1 alpha-2 it sells in."""
    currency: str = ""
    """ISO 4217 of its prices."""
    language: str = "en"
    fallback_languages: tuple[str, ...] = ()
    """Asked in turn where a text is not translated; after them the merchant's own words."""
    item_id: str = "sku"
    """`sku` or `variant_id`: what an item is called, the same as events call their contents."""
    brand: str = ""
    """For products without a vendor; empty: those are refused."""
    condition: str = "NEW"
    storefront_url: str = ""
    """Where landing pages are; empty: the shop's own domain."""
    online_locations: frozenset[str] = frozenset()
    """Locations that sell online; empty: all."""
    preorder_tag: str = ""
    """Products with this tag that sell beyond their stock are `PREORDER`."""
    rules: tuple[FieldRule, ...] = ()
    rounding: Rounding = Rounding.NEAREST
    round_to_minor: int = 1
    """Step of converted prices, in the currency's minor unit: 5 gives 0.05, 100 whole units."""
    convert_prices: bool = True
    """Whether prices without a market of their own are converted; else those items are refused."""
    check_images: bool = False
    """Whether images are fetched before items are sent, to say what TikTok would choke on."""
    feed_id: str = ""
    """The feed to write through; empty: the catalog's own."""
    spacing_s: float = SPACING_S


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopContext:
    """What of a shop its products need to be read."""

    handle: str
    domain: str
    """Where buyers see it: its primary domain where that is known, else the myshopify one."""
    currency: str
    country: str = ""
    language: str = ""
    """Of the merchant's own words; empty: not known, then no translation is taken for them."""

"""How each field of an item came to be. docs/mapping-catalog.md shows the same table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

import msgspec

from services.catalog.domain.dialects import dialect_of
from services.catalog.domain.faults import Fault
from services.catalog.domain.items import Item
from services.catalog.domain.mapping import Reading
from services.catalog.domain.model import Product, Variant
from services.catalog.domain.rates import RateTable
from services.catalog.domain.settings import CatalogSettings, DialectName, ShopContext
from services.catalog.domain.stock import stock_source, units_of
from services.catalog.domain.words import OWN, options_of

SHOWN_CHARS_MAX: Final = 2_000
"""Of a source's value; a description may be half a megabyte."""


@dataclass(frozen=True, slots=True)
class Explained:
    """One field on its way from Shopify to TikTok."""

    field: str
    """As the dialect names it."""
    value: str
    """As JSON; empty where it is not sent."""
    source: str
    """The merchant's field that it was taken from."""
    source_value: str
    """What stands there."""
    rule: str


@dataclass(frozen=True, slots=True)
class _Told:
    reading: Reading
    variant: Variant
    options: tuple[str, ...]


_Origin = Callable[[_Told], tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    upload: str
    """The field in `product_upload`; empty where it has none."""
    batch: str
    """Likewise in `item_batch`."""
    source: str
    rule: str
    origin: _Origin


def explained(
    product: Product,
    variant_id: str,
    shop: ShopContext,
    catalog: CatalogSettings,
    item: Item | None,
    rates: RateTable | None,
    today: date,
) -> tuple[Explained, ...]:
    """The fields of a variant's item in the catalog's dialect, in the order of the table.

    `item` is what `map_product` made of it, None where it was refused: then the fields have no
    value, and their sources tell what it would have been made of. Empty where the product has no
    such variant.
    """
    variant = next((one for one in product.variants if one.variant_id == variant_id), None)
    if variant is None:
        return ()
    reading = Reading(product, shop, catalog, rates, today)
    told = _Told(reading, variant, options_of(variant, reading.words.languages))
    body = dialect_of(catalog.dialect).encode(item) if item is not None else b"{}"
    found = []
    for row in ROWS:
        field = row.batch if catalog.dialect is DialectName.ITEM_BATCH else row.upload
        if field:
            source, value = row.origin(told)
            shown = value if len(value) <= SHOWN_CHARS_MAX else value[:SHOWN_CHARS_MAX] + "…"
            found.append(Explained(field, _at(body, field), source, shown, row.rule))
    return tuple(found)


def _at(body: bytes, field: str) -> str:
    """The JSON at `field`, a path with dots, in a JSON object; empty where there is none."""
    raw: Mapping[str, msgspec.Raw] = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    head, _, rest = field.partition(".")
    if head not in raw:
        return ""
    return _at(bytes(raw[head]), rest) if rest else bytes(raw[head]).decode()


def _sku(told: _Told) -> tuple[str, str]:
    variant = told.variant
    if told.reading.catalog.item_id == "sku" and variant.sku.strip():
        return "variants.sku", variant.sku
    return "variants.id", variant.variant_id


def _first_sku(told: _Told) -> tuple[str, str]:
    return "variants[0].sku", told.reading.product.variants[0].sku


def _product_id(told: _Told) -> tuple[str, str]:
    return "id", told.reading.product.product_id


def _title(told: _Told) -> tuple[str, str]:
    language = told.reading.words.title_language
    product = told.reading.product
    if language == OWN:
        return "title, variants.option", product.title
    return f"translations({language}).title, variants.option", product.texts[language].title


def _description(told: _Told) -> tuple[str, str]:
    words = told.reading.words
    product = told.reading.product
    if not words.description:
        return "title", product.title
    language = words.description_language
    if language == OWN:
        return "body_html", product.body_html
    return f"translations({language}).body_html", product.texts[language].body_html


def _availability(told: _Told) -> tuple[str, str]:
    units = units_of(told.variant, told.reading.catalog.online_locations)
    counted = "not counted" if units is None else f"{units} units"
    policy = f", policy {told.variant.policy}" if told.variant.policy else ""
    tag = ", preorder tag" if told.reading.is_preorder else ""
    return stock_source(told.variant), f"{counted}{policy}{tag}"


def _brand(told: _Told) -> tuple[str, str]:
    found = told.reading.brand(told.variant, told.options)
    return found.source, found.told


def _image(told: _Told) -> tuple[str, str]:
    found = told.reading.gallery.of(told.variant)
    if isinstance(found, Fault):
        return found.field, ""
    return found.source, found.main


def _images(told: _Told) -> tuple[str, str]:
    return "images", f"{len(told.reading.product.images)} images"


def _condition(told: _Told) -> tuple[str, str]:
    return "settings condition", told.reading.catalog.condition


def _price(told: _Told) -> tuple[str, str]:
    found = told.reading.pricing.of(told.variant)
    if isinstance(found, Fault):
        return found.field, ""
    rate = f", converted at {found.rate.normalize():f}" if found.rate is not None else ""
    return found.source, found.told + rate


def _currency(told: _Told) -> tuple[str, str]:
    return "settings currency", told.reading.pricing.currency


def _barcode(told: _Told) -> tuple[str, str]:
    return "variants.barcode", told.variant.barcode


def _weight(told: _Told) -> tuple[str, str]:
    return "variants.weight", f"{told.variant.weight} {told.variant.weight_unit}".strip()


def _page(told: _Told) -> tuple[str, str]:
    return "handle", told.reading.product.handle


def _google_category(told: _Told) -> tuple[str, str]:
    found = told.reading.field("google_product_category", told.variant, told.options)
    if found.value:
        return found.source, found.told
    return "category", told.reading.product.category


def _category(told: _Told) -> tuple[str, str]:
    found = told.reading.field("product_category", told.variant, told.options)
    if found.value:
        return found.source, found.told
    product = told.reading.product
    if product.product_type.strip():
        return "product_type", product.product_type
    return "category", product.category


def _ruled(target: str) -> _Origin:
    def origin(told: _Told) -> tuple[str, str]:
        found = told.reading.field(target, told.variant, told.options)
        return found.source, found.told

    return origin


def _optional(target: str, rule: str, source: str = "a rule") -> Row:
    return Row(f"product_detail.{target}", "", source, rule, _ruled(target))


ROWS: Final = (
    Row(
        "sku_id",
        "item_id",
        "variants.sku, variants.id",
        "the SKU, as events name contents; its own number where it has none; repeated or taken:"
        " SKU, dash, number",
        _sku,
    ),
    Row("item_group_id", "", "id", "the product's number, the same for all variants", _product_id),
    Row(
        "",
        "item_group_id",
        "variants[0].sku",
        "the SKU of the product's first variant, else the product's number",
        _first_sku,
    ),
    Row(
        "title",
        "title",
        "title, variants.option",
        "title, dash, option values; in the catalog's language; no emoji; at most 500 characters,"
        " cut between words",
        _title,
    ),
    Row(
        "description",
        "description",
        "body_html, title",
        "what the page shows, as lines; in the catalog's language; no emoji; at most 10,000"
        " characters, cut between words; the title where there is none",
        _description,
    ),
    Row(
        "availability",
        "availability",
        "inventoryLevels, variants.inventory_quantity, variants.inventory_policy",
        "not counted or above 0: in stock; else sold beyond stock: available for order, preorder"
        " with the settings' tag; else out of stock",
        _availability,
    ),
    Row(
        "brand",
        "",
        "a rule, vendor, settings brand",
        "the first that is not empty; at most 150 characters",
        _brand,
    ),
    Row(
        "image_url",
        "image_link",
        "variants.image, images[0]",
        "the variant's own, else the product's first that is public, https, JPG or PNG, and not"
        " known to be below 500 pixels",
        _image,
    ),
    Row(
        "additional_image_urls",
        "",
        "images",
        "up to ten others, those that show another variant last; commas as %2C",
        _images,
    ),
    Row("product_detail.condition", "condition", "settings condition", "as set", _condition),
    _optional("age_group", "as a rule says, in TikTok's words; left out if it is none of them"),
    _optional("gender", "as a rule says, in TikTok's words; left out if it is none of them"),
    _optional(
        "color",
        "the option of that name where no rule gives one; 100 characters",
        "a rule, options",
    ),
    _optional("pattern", "as a rule says; 100 characters"),
    _optional(
        "material",
        "the option of that name where no rule gives one; 200 characters",
        "a rule, options",
    ),
    _optional("size", "the option of that name where no rule gives one", "a rule, options"),
    Row(
        "product_detail.shipping_weight",
        "",
        "variants.weight, variants.weight_unit",
        "number and unit (g, kg, lb, oz); left out where it is 0",
        _weight,
    ),
    Row(
        "product_detail.product_category",
        "",
        "a rule, product_type, category",
        "the first that is not empty; three levels",
        _category,
    ),
    Row(
        "google_product_category",
        "",
        "a rule, category",
        "Shopify's category, which follows Google's; three levels",
        _google_category,
    ),
    Row(
        "global_trade_item_number",
        "",
        "variants.barcode",
        "8, 12, 13 or 14 digits with a right check digit; left out otherwise",
        _barcode,
    ),
    Row(
        "manufacturer_part_number",
        "",
        "a rule",
        "as a rule says",
        _ruled("manufacturer_part_number"),
    ),
    Row(
        "price_info.price",
        "",
        "contextualPricing.price, variants.price",
        "the market's price in the catalog's currency, else the shop's, else that converted; the"
        " compare-at price where it is higher",
        _price,
    ),
    Row(
        "",
        "price",
        "contextualPricing.price, variants.price",
        "what buyers pay: the market's price in the catalog's currency, else the shop's, else that"
        " converted",
        _price,
    ),
    Row(
        "price_info.sale_price",
        "",
        "contextualPricing.price, variants.price",
        "the price where the compare-at price is higher",
        _price,
    ),
    Row("price_info.currency", "currency", "settings currency", "the catalog's", _currency),
    Row(
        "landing_page.landing_page_url",
        "link",
        "handle, variants.id",
        "the product's page on the shop's domain or below `storefront_url`, the variant chosen",
        _page,
    ),
    *(
        Row(
            f"extra_info.custom_label_{number}",
            "",
            "a rule",
            "as a rule says; 100 characters",
            _ruled(f"custom_label_{number}"),
        )
        for number in range(5)
    ),
)
"""Every field that is sent, in both dialects."""

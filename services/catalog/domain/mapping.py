"""From a shop's product to the items of one catalog. docs/mapping-catalog.md is its table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Final

from services.catalog.domain.faults import Fault, refusal
from services.catalog.domain.gtin import gtin_of
from services.catalog.domain.ids import own_sku
from services.catalog.domain.images import Gallery, Pictures
from services.catalog.domain.items import Item, Mapped, Note, Refusal
from services.catalog.domain.landing import product_page
from services.catalog.domain.model import Product, Variant
from services.catalog.domain.prices import Priced, Pricing
from services.catalog.domain.rates import RateTable
from services.catalog.domain.rules import CHARS_MAX, NOTHING, Rules, Sourced, three_levels
from services.catalog.domain.settings import CatalogSettings, ShopContext
from services.catalog.domain.stock import availability_of
from services.catalog.domain.texts import cut, one_line
from services.catalog.domain.words import (
    Words,
    options_of,
    shown_options,
    title_with_options,
    words_of,
)

_WEIGHT_UNITS: Final = frozenset(("g", "kg", "lb", "oz"))
_FOR_SALE: Final = frozenset(("", "active"))
_LABELS: Final = tuple(f"custom_label_{number}" for number in range(5))
_DIGITS_MAX: Final = 12
_NO_TITLE: Final = Fault(
    "title_missing",
    "title",
    "It has no title that TikTok would take (emoji do not count): give it one in words.",
)
_NO_BRAND: Final = Fault(
    "brand_missing",
    "vendor",
    "TikTok wants a brand and the product has no vendor: fill in `Vendor`, or set the catalog's"
    " `brand` for all such products.",
)
_TITLE_CUT: Final = Fault("title_cut", "title", "The title was cut to TikTok's 500 characters.")
_NO_CATEGORY: Final = Fault(
    "category_missing",
    "product_type",
    "It has neither a category nor a product type, which TikTok advises.",
)


def map_product(
    product: Product,
    shop: ShopContext,
    catalog: CatalogSettings,
    ids: Mapping[str, str],
    rates: RateTable | None,
    today: date,
) -> Mapped:
    """`product` in `catalog`: an item or a refusal for each variant, and what was put right.

    `ids` are those of `assign_ids`. Never raises: whatever stands in a product ends in a refusal or
    a note.
    """
    excluded = excluded_because(product)
    if excluded:
        return Mapped(excluded=excluded)
    reading = Reading(product, shop, catalog, rates, today)
    items: list[Item] = []
    refusals: list[Refusal] = []
    notes = [fault.note() for fault in reading.notes]
    seen: set[str] = set()
    for variant in product.variants:
        variant_id = variant.variant_id
        if variant_id in seen:
            continue
        seen.add(variant_id)
        sku_id = ids.get(variant_id) or variant_id
        made, faults = reading.item(variant, sku_id, notes)
        if made is not None:
            items.append(made)
        else:
            refusals.append(refusal(variant_id, sku_id, faults))
    return Mapped(tuple(items), tuple(refusals), tuple(notes))


def excluded_because(product: Product) -> str:
    """Why the product is not for sale at all; empty where it is.

    An unlisted product is sold to those who were given its address, and shown to nobody else: an
    advertisement would show it. A status that nobody told (older webhooks) is an active one.
    """
    status = product.status.lower()
    if status == "unlisted":
        return "unlisted"
    if status not in _FOR_SALE:
        return "not_active"
    if not product.published:
        return "not_published"
    return "" if product.variants else "no_variants"


@dataclass(frozen=True, slots=True)
class _More:
    ruled: Mapping[str, str]
    gtin: str
    weight: str
    labels: tuple[str, ...]


class Reading:
    """One product read for one catalog: what all its variants share is found once."""

    def __init__(
        self,
        product: Product,
        shop: ShopContext,
        catalog: CatalogSettings,
        rates: RateTable | None,
        today: date,
    ) -> None:
        self.product = product
        self.catalog = catalog
        self.words: Words = words_of(product, shop, catalog)
        self.rules = Rules(catalog.rules, product)
        self.gallery = Gallery(product, shop.domain)
        self.pricing = Pricing(catalog, shop.currency, rates, today)
        self.page = product_page(product, shop, catalog)
        self.is_preorder = _has_tag(product, catalog.preorder_tag)
        self.google_category = three_levels(product.category)
        self.product_category = three_levels(product.product_type) or self.google_category
        self._brand = _brand(product, catalog)
        self._targets = self.rules.targets
        self._has_labels = not self._targets.isdisjoint(_LABELS)
        first = own_sku(product.variants[0])[0] if product.variants else ""
        self.first_sku = first or product.product_id
        self.notes: list[Fault] = [*self.words.notes, *self.gallery.notes]
        if not (self.google_category or self.product_category):
            self.notes.append(_NO_CATEGORY)
        if self._brand.note is not None:
            self.notes.append(self._brand.note)

    def brand(self, variant: Variant, options: tuple[str, ...]) -> Sourced:
        """A rule's, the vendor, or the settings' for products without a vendor."""
        if "brand" in self._targets:
            found = self.rules.value("brand", variant, options)
            if found.value:
                return found
        return self._brand

    def field(self, target: str, variant: Variant, options: tuple[str, ...]) -> Sourced:
        """One of the fields that rules may fill."""
        if target not in self._targets:
            return NOTHING
        return self.rules.value(target, variant, options)

    def item(
        self, variant: Variant, sku_id: str, notes: list[Note]
    ) -> tuple[Item | None, list[Fault]]:
        """The item of `variant`, or all that keeps it from being one. Adds to `notes`."""
        options = options_of(variant, self.words.languages)
        brand = self.brand(variant, options)
        priced = self.pricing.of(variant)
        pictures = self.gallery.of(variant)
        page = self.page
        if (
            isinstance(priced, Fault)
            or isinstance(pictures, Fault)
            or isinstance(page, Fault)
            or not brand.value
            or not self.words.title
        ):
            wrong = (None if self.words.title else _NO_TITLE, None if brand.value else _NO_BRAND)
            return None, [one for one in (*wrong, priced, pictures, page) if isinstance(one, Fault)]
        title, was_cut = title_with_options(self.words.title, shown_options(variant, options))
        if was_cut:
            notes.append(_TITLE_CUT.note(variant.variant_id))
        odd = (priced.note, pictures.note)
        notes += [fault.note(variant.variant_id) for fault in odd if fault is not None]
        more = self._more(variant, options, notes)
        return self._built(variant, sku_id, title, brand.value, priced, pictures, page, more), []

    def _built(
        self,
        variant: Variant,
        sku_id: str,
        title: str,
        brand: str,
        priced: Priced,
        pictures: Pictures,
        page: str,
        more: _More,
    ) -> Item:
        catalog = self.catalog
        return Item(
            sku_id=sku_id,
            variant_id=variant.variant_id,
            item_group_id=self.product.product_id,
            first_sku=self.first_sku,
            title=title,
            description=self.words.description or title,
            availability=availability_of(
                variant, catalog.online_locations, preorder=self.is_preorder
            ),
            condition=catalog.condition,
            brand=brand,
            price=priced.price,
            sale_price=priced.sale_price,
            currency=self.pricing.currency,
            image_url=pictures.main,
            additional_image_urls=pictures.additional,
            landing_page_url=page + variant.variant_id,
            google_product_category=more.ruled.get("google_product_category")
            or self.google_category,
            product_category=more.ruled.get("product_category") or self.product_category,
            gtin=more.gtin,
            mpn=more.ruled.get("manufacturer_part_number", ""),
            color=more.ruled.get("color", ""),
            size=more.ruled.get("size", ""),
            material=more.ruled.get("material", ""),
            pattern=more.ruled.get("pattern", ""),
            gender=more.ruled.get("gender", ""),
            age_group=more.ruled.get("age_group", ""),
            shipping_weight=more.weight,
            custom_labels=more.labels,
        )

    def _more(self, variant: Variant, options: tuple[str, ...], notes: list[Note]) -> _More:
        """What an item may have beyond what it must."""
        ruled: dict[str, str] = {}
        for target in self._targets:
            found = self.rules.value(target, variant, options)
            if found.value:
                ruled[target] = found.value
            if found.note is not None:
                notes.append(found.note.note(variant.variant_id))
        gtin = gtin_of(variant.barcode) if variant.barcode else None
        if gtin is None and variant.barcode.strip():
            notes.append(_barcode_left_out(variant.barcode).note(variant.variant_id))
        weight = ""
        if variant.weight:
            weight, wrong = weight_of(variant.weight, variant.weight_unit)
            if wrong is not None:
                notes.append(wrong.note(variant.variant_id))
        labels: tuple[str, ...] = ()
        if self._has_labels:
            labels = tuple([ruled.get(label, "") for label in _LABELS])
        return _More(ruled, gtin or "", weight, labels if any(labels) else ())


@lru_cache(maxsize=4096)
def weight_of(weight: str, unit: str) -> tuple[str, Fault | None]:
    """`0.5 kg`; empty where there is none above 0, with what is wrong where it cannot be read."""
    told = weight.strip()
    unit = unit.lower()
    try:
        number = Decimal(told)
    except InvalidOperation:
        number = Decimal(-1)
    if not number.is_finite() or number < 0 or abs(number.adjusted()) > _DIGITS_MAX:
        return "", Fault(
            "weight_unreadable", "variants.weight", f"The weight {told[:40]!r} was left out."
        )
    if not number:
        return "", None
    if unit not in _WEIGHT_UNITS:
        message = f"The weight was left out: its unit {unit[:16]!r} is none of g, kg, lb and oz."
        return "", Fault("weight_unit_unknown", "variants.weight_unit", message)
    return f"{number.normalize():f} {unit}", None


def _brand(product: Product, catalog: CatalogSettings) -> Sourced:
    vendor = one_line(product.vendor)
    value = vendor or one_line(catalog.brand)
    short = cut(value, CHARS_MAX["brand"])
    note = None
    if len(short) < len(value):
        note = Fault("brand_cut", "vendor", "The brand was cut to TikTok's 150 characters.")
    source = "vendor" if vendor else "settings brand"
    return Sourced(short, source, product.vendor if vendor else catalog.brand, note)


def _barcode_left_out(barcode: str) -> Fault:
    return Fault(
        "barcode_invalid",
        "variants.barcode",
        f"The barcode {barcode[:32]!r} was left out: it is no GTIN of 8, 12, 13 or 14 digits with"
        " a right check digit.",
    )


def _has_tag(product: Product, tag: str) -> bool:
    wanted = tag.strip().casefold()
    return bool(wanted) and any(one.strip().casefold() == wanted for one in product.tags)

"""What a shop of the sandbox sells, in full: the truth that exports, reads and webhooks tell of."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from sandbox.shopify.catalog_plan import CatalogPlan

Json = dict[str, Any]

IMAGE: Final = "IMAGE"
VIDEO: Final = "VIDEO"
DEFAULT_OPTION: Final = "Title"
DEFAULT_VALUES: Final = ("Default Title",)
"""Of a product without options, which to Shopify has one with one value."""


@dataclass(slots=True, eq=False)
class Location:
    """A place with stock."""

    number: int
    name: str
    fulfills_online_orders: bool = True
    is_active: bool = True


@dataclass(slots=True, eq=False)
class Locale:
    """A language that the shop is written in."""

    code: str
    name: str
    primary: bool = False
    published: bool = True


@dataclass(slots=True, eq=False)
class Medium:
    """A picture or film. A picture that is not READY has no image yet, whatever its `url` is."""

    number: int
    url: str
    width: int | None = 1200
    height: int | None = 1200
    alt: str | None = None
    status: str = "READY"
    content_type: str = IMAGE

    @property
    def type_name(self) -> str:
        """Of GraphQL."""
        return "MediaImage" if self.content_type == IMAGE else "Video"


@dataclass(slots=True, eq=False)
class Metafield:
    number: int
    namespace: str
    key: str
    value: str
    type: str = "single_line_text_field"
    updated_at_s: int = 0


@dataclass(slots=True, eq=False)
class OptionValue:
    number: int
    name: str
    translations: dict[str, str] = field(default_factory=dict)
    """The name, by locale."""


@dataclass(slots=True, eq=False)
class Option:
    number: int
    name: str
    values: list[OptionValue]
    translations: dict[str, str] = field(default_factory=dict)
    """The name, by locale."""

    position: int = 1


@dataclass(slots=True, eq=False)
class Price:
    """Of a variant in one country; amounts as Shopify writes them."""

    amount: str
    compare_at: str | None
    currency: str


@dataclass(slots=True, eq=False)
class Level:
    """What an item has at a location; negative where it was oversold."""

    item: Item
    location: Location
    available: int
    updated_at_s: int


@dataclass(slots=True, eq=False)
class Item:
    """The thing in the stock room that a variant sells."""

    number: int
    variant: Variant
    tracked: bool = True
    cost: str | None = None
    weight: float | None = None
    weight_unit: str = "KILOGRAMS"
    updated_at_s: int = 0
    levels: list[Level] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Variant:
    number: int
    product: Product
    values: tuple[str, ...]
    """Names of option values, one for each option."""

    price: str
    compare_at_price: str | None
    sku: str | None
    barcode: str | None
    item: Item = field(init=False)
    inventory_policy: str = "DENY"
    position: int = 1
    media: list[Medium] = field(default_factory=list)
    metafields: list[Metafield] = field(default_factory=list)
    prices: dict[str, Price] = field(default_factory=dict)
    """What markets of their own pay, by country."""

    created_at_s: int = 0
    updated_at_s: int = 0

    @property
    def title(self) -> str:
        return " / ".join(self.values)

    @property
    def quantity(self) -> int:
        """Of all locations together."""
        return sum(level.available for level in self.item.levels)

    @property
    def is_for_sale(self) -> bool:
        return not self.item.tracked or self.inventory_policy == "CONTINUE" or self.quantity > 0


@dataclass(slots=True, eq=False)
class Product:
    number: int
    title: str
    body_html: str
    vendor: str
    product_type: str
    handle: str
    status: str
    tags: list[str]
    created_at_s: int
    updated_at_s: int
    published_at_s: int | None
    category: str | None = None
    """The full name in Shopify's taxonomy."""

    options: list[Option] = field(default_factory=list)
    variants: list[Variant] = field(default_factory=list)
    media: list[Medium] = field(default_factory=list)
    metafields: list[Metafield] = field(default_factory=list)
    translations: dict[str, dict[str, str]] = field(default_factory=dict)
    """By locale: `title`, `body_html`."""

    shop: CatalogShop = field(init=False, repr=False)

    @property
    def has_only_default_variant(self) -> bool:
        """Whether it comes in one form, for which Shopify has names of its own."""
        return len(self.variants) == 1 and self.variants[0].values == DEFAULT_VALUES

    @property
    def online_store_url(self) -> str | None:
        """Where shoppers find it; None for what they cannot."""
        if self.published_at_s is None or self.status not in {"ACTIVE", "UNLISTED"}:
            return None
        return f"https://{self.shop.primary_domain}/products/{self.handle}"


@dataclass(eq=False)
class CatalogShop:
    """A shop and everything on its shelf. Products stay in the order of their numbers."""

    domain: str
    currency: str
    country: str
    primary_domain: str
    locations: list[Location]
    locales: list[Locale]
    products: dict[int, Product] = field(default_factory=dict)
    variants: dict[int, Variant] = field(default_factory=dict)
    items: dict[int, Item] = field(default_factory=dict)
    plan: CatalogPlan | None = None
    """How it was made, by which more can be made."""

    last_number: int = 0
    """The highest id that was given out."""

    def add(self, product: Product) -> None:
        """Puts a product with all its variants on the shelf."""
        product.shop = self
        self.products[product.number] = product
        for variant in product.variants:
            self.add_variant(variant)

    def add_variant(self, variant: Variant) -> None:
        """Makes a variant that its product has known by its numbers."""
        self.variants[variant.number] = variant
        self.items[variant.item.number] = variant.item

    def remove(self, number: int) -> Product:
        """Takes a product away, with its variants."""
        product = self.products.pop(number)
        for variant in product.variants:
            del self.variants[variant.number]
            del self.items[variant.item.number]
        return product

    def page(self, after: int, limit: int) -> list[Product]:
        """At most `limit` products with numbers above `after`."""
        numbers = list(self.products)
        begin = bisect_right(numbers, after)
        return [self.products[number] for number in numbers[begin : begin + limit]]


@lru_cache(maxsize=65_536)
def utc(at_s: int) -> str:
    """An instant as the Admin API writes it."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def price_in(variant: Variant, country: str | None) -> Price:
    """What a shopper of `country` pays."""
    own = variant.prices.get(country or "")
    return own or Price(variant.price, variant.compare_at_price, variant.product.shop.currency)


def truths(shop: CatalogShop, after: int, limit: int) -> Iterator[Json]:
    """Products as plain JSON, for comparing by others."""
    for product in shop.page(after, limit):
        yield product_truth(product)


def product_truth(product: Product) -> Json:
    """All that there is to know of a product."""
    return {
        "id": product.number,
        "title": product.title,
        "body_html": product.body_html,
        "vendor": product.vendor,
        "product_type": product.product_type,
        "handle": product.handle,
        "status": product.status,
        "tags": product.tags,
        "category": product.category,
        "created_at": utc(product.created_at_s),
        "updated_at": utc(product.updated_at_s),
        "published_at": None if product.published_at_s is None else utc(product.published_at_s),
        "online_store_url": product.online_store_url,
        "options": [
            {
                "id": option.number,
                "name": option.name,
                "translations": option.translations,
                "values": [
                    {"id": one.number, "name": one.name, "translations": one.translations}
                    for one in option.values
                ],
            }
            for option in product.options
        ],
        "media": [
            {
                "id": one.number,
                "type": one.content_type,
                "status": one.status,
                "url": one.url,
                "width": one.width,
                "height": one.height,
                "alt": one.alt,
            }
            for one in product.media
        ],
        "metafields": _metafields(product.metafields),
        "translations": product.translations,
        "variants": [_variant_truth(one) for one in product.variants],
    }


def _variant_truth(variant: Variant) -> Json:
    item = variant.item
    return {
        "id": variant.number,
        "sku": variant.sku,
        "barcode": variant.barcode,
        "title": variant.title,
        "values": list(variant.values),
        "price": variant.price,
        "compare_at_price": variant.compare_at_price,
        "inventory_policy": variant.inventory_policy,
        "inventory_quantity": variant.quantity,
        "inventory_item": {
            "id": item.number,
            "tracked": item.tracked,
            "cost": item.cost,
            "weight": item.weight and {"value": item.weight, "unit": item.weight_unit},
            "levels": [
                {"location": level.location.number, "available": level.available}
                for level in item.levels
            ],
        },
        "media": [one.number for one in variant.media],
        "metafields": _metafields(variant.metafields),
        "prices": {
            country: {
                "amount": one.amount,
                "compare_at": one.compare_at,
                "currency": one.currency,
            }
            for country, one in variant.prices.items()
        },
        "created_at": utc(variant.created_at_s),
        "updated_at": utc(variant.updated_at_s),
    }


def _metafields(found: list[Metafield]) -> list[Json]:
    return [
        {
            "id": one.number,
            "namespace": one.namespace,
            "key": one.key,
            "type": one.type,
            "value": one.value,
        }
        for one in found
    ]

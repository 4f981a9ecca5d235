"""What Shopify's Admin API is asked about products: GraphQL built from what is wanted. Pure.

Every field asked for is in all versions from 2026-01 to 2026-10. Variants name their image by
`media` and are found from above, because `ProductVariant.image` and `InventoryItem.variant` are
deprecated. Metafields are asked for one by one, which needs no connection.

Answers explain themselves: languages, countries and metafields are in the aliases, so that a
result can be read when something else is wanted by then.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from libs.errors import permanent

BULK_BYTES_MAX: Final = 65_535
"""Of a bulk query; Shopify refuses a longer one."""

_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_COUNTRY: Final = re.compile(r"[A-Z]{2}")

_PAGE: Final = "pageInfo { hasNextPage endCursor }"
_MEDIUM: Final = "id ... on MediaImage { image { url width height } }"
_IMAGE_OF_VARIANT: Final = (
    "media(first: 1) { nodes { id ... on MediaImage { image { url width height } } } }"
)
_LEVEL: Final = 'id updatedAt location { id } quantities(names: ["available"]) { name quantity }'


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What is asked for beyond the plain fields of a product."""

    languages: tuple[str, ...] = ()
    countries: tuple[str, ...] = ()
    metafields: tuple[str, ...] = ()
    """`namespace.key`."""
    levels: bool = True
    """Stock by location, which needs `read_inventory`."""

    def __post_init__(self) -> None:
        """Raises ServiceError, PERMANENT `selection_unusable`: these become part of a query."""
        for told, shape in ((self.languages, _LANGUAGE), (self.countries, _COUNTRY)):
            if odd := next((one for one in told if not shape.fullmatch(one)), None):
                raise permanent("selection_unusable", f"no language or country: {odd[:40]}")
        if odd := next((one for one in self.metafields if not all(one.rpartition("."))), None):
            raise permanent("selection_unusable", f"give metafields as namespace.key: {odd[:40]}")


def language_of(alias: str) -> str:
    """The language that an alias asks for; empty for any other name."""
    return alias[2:].replace("_", "-") if alias.startswith("t_") else ""


def country_of(alias: str) -> str:
    """The country that an alias asks for; empty for any other name."""
    return alias[2:] if alias.startswith("p_") else ""


def metafield_of(alias: str) -> str:
    """The `namespace.key` that an alias asks for; empty for any other name.

    It stands there in hexadecimal, because names in GraphQL know neither dots nor dashes. What
    the answer calls it would not do: `$app` comes back as the app's own namespace.
    """
    try:
        return bytes.fromhex(alias[2:]).decode() if alias.startswith("m_") else ""
    except ValueError:
        return ""


@lru_cache(maxsize=256)
def bulk_query(selection: Selection) -> str:
    """The export of all products, within the rules of bulk queries.

    Five connections with the root, two levels below it, `edges { node }`, `id` in every parent.

    Raises:
        ServiceError: PERMANENT, `bulk_query_too_long`.
    """
    levels = f"inventoryLevels {{ edges {{ node {{ {_LEVEL} }} }} }}" if selection.levels else ""
    variant = f"{_variant(selection, levels)} media {{ edges {{ node {{ id }} }} }}"
    query = (
        f"{{ products {{ edges {{ node {{ {_product(selection)}"
        f" media {{ edges {{ node {{ {_MEDIUM} }} }} }}"
        f" variants {{ edges {{ node {{ {variant} }} }} }} }} }} }} }}"
    )
    if len(query.encode()) > BULK_BYTES_MAX:
        raise permanent("bulk_query_too_long", "fewer languages, countries or metafields")
    return query


@lru_cache(maxsize=256)
def product_query(selection: Selection) -> str:
    """One product without its variants: variables `id`, `media` (a page's size), `after`."""
    return (
        "query CatalogProduct($id: ID!, $media: Int!, $after: String) {"
        " shop { currencyCode } product(id: $id) { variantsCount { count }"
        f" {_product(selection)}"
        f" media(first: $media, after: $after) {{ nodes {{ {_MEDIUM} }} {_PAGE} }} }} }}"
    )


@lru_cache(maxsize=256)
def variants_query(selection: Selection) -> str:
    """A page of a product's variants: variables `id`, `variants`, `after`, `levels`."""
    levels = f"inventoryLevels(first: $levels) {{ nodes {{ {_LEVEL} }} {_PAGE} }}"
    size = ", $levels: Int!" if selection.levels else ""
    variant = f"{_variant(selection, levels if selection.levels else '')} {_IMAGE_OF_VARIANT}"
    return (
        f"query CatalogVariants($id: ID!, $variants: Int!, $after: String{size}) {{"
        " product(id: $id) { id variants(first: $variants, after: $after)"
        f" {{ nodes {{ {variant} }} {_PAGE} }} }} }}"
    )


def levels_query() -> str:
    """A page of an inventory item's levels: variables `id`, `levels`, `after`."""
    return (
        "query CatalogLevels($id: ID!, $levels: Int!, $after: String) {"
        " inventoryItem(id: $id) { id inventoryLevels(first: $levels, after: $after)"
        f" {{ nodes {{ {_LEVEL} }} {_PAGE} }} }} }}"
    )


def _product(selection: Selection) -> str:
    translations = _translations(selection)
    values = f"optionValues {{ name {translations} }}" if translations else ""
    return " ".join(
        [
            "id title descriptionHtml vendor productType handle status tags publishedAt updatedAt",
            "category { fullName } featuredMedia { id }",
            f"options {{ name {translations} {values} }}",
            translations,
            *_metafields(selection),
        ]
    )


def _variant(selection: Selection, levels: str) -> str:
    prices = (
        f"p_{country}: contextualPricing(context: {{country: {country}}})"
        " { price { amount currencyCode } compareAtPrice { amount currencyCode } }"
        for country in selection.countries
    )
    return " ".join(
        [
            "id position sku barcode title price compareAtPrice inventoryPolicy inventoryQuantity",
            "updatedAt",
            "selectedOptions { name value }",
            *prices,
            *_metafields(selection),
            f"inventoryItem {{ id tracked measurement {{ weight {{ value unit }} }} {levels} }}",
        ]
    )


def _translations(selection: Selection) -> str:
    return " ".join(
        f"t_{one.replace('-', '_')}: translations(locale: {json.dumps(one)}) {{ key value }}"
        for one in selection.languages
    )


def _metafields(selection: Selection) -> Iterator[str]:
    for one in selection.metafields:
        namespace, _, key = one.rpartition(".")
        named = f"namespace: {json.dumps(namespace)}, key: {json.dumps(key)}"
        yield f"m_{one.encode().hex()}: metafield({named}) {{ value }}"

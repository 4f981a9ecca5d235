"""The catalog of a shop as the Admin API shows it: what is found, by id and by search."""

from __future__ import annotations

import base64
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from sandbox.shopify.catalog_model import CatalogShop, Item, Level, Location, Product, Variant
from sandbox.shopify_admin.fields import counted
from sandbox.shopify_admin.search import Bounds, bounds_of, fits
from sandbox.shopify_admin.shapes import connection_of, gid, windowed

Json = dict[str, Any]


class Shelf:
    """One shop's catalog, found as the Admin API finds it."""

    def __init__(self, shop: CatalogShop) -> None:
        self.shop = shop

    def roots(self) -> Json:
        """What the root fields of a query resolve to."""
        return {
            "product": lambda _info, id: self.node(id, Product),  # noqa: A006  # GraphQL's name
            "productVariant": lambda _info, id: self.node(id, Variant),  # noqa: A006
            "inventoryItem": lambda _info, id: self.node(id, Item),  # noqa: A006
            "inventoryLevel": lambda _info, id: self.node(id, Level),  # noqa: A006
            "location": lambda _info, id=None: self._location(id),  # noqa: A006
            "products": self._products,
            "productVariants": windowed(list(self.shop.variants.values())),
            "productsCount": lambda _info, **_: counted(len(self.shop.products)),
            "productVariantsCount": lambda _info, **_: counted(len(self.shop.variants)),
            "locations": windowed(self.shop.locations),
            "shopLocales": lambda _info, published=None: [
                one for one in self.shop.locales if one.published or not published
            ],
        }

    def node(self, global_id: str, kind: type | None = None) -> object | None:
        """What has this id; None for nothing, or something of another kind."""
        found = self._found(global_id)
        return found if kind is None or isinstance(found, kind) else None

    def _found(self, global_id: str) -> object | None:
        kind, _, tail = global_id.removeprefix("gid://shopify/").partition("/")
        number_text, _, query = tail.partition("?inventory_item_id=")
        if not number_text.isdigit():
            return None
        number, shop = int(number_text), self.shop
        if kind == "InventoryLevel":
            item = shop.items.get(int(query)) if query.isdigit() else None
            levels = item.levels if item else ()
            return next((one for one in levels if one.location.number == number), None)
        held: Mapping[str, Mapping[int, object]] = {
            "Product": shop.products,
            "ProductVariant": shop.variants,
            "InventoryItem": shop.items,
            "Location": {one.number: one for one in shop.locations},
        }
        return held.get(kind, {}).get(number)

    def _location(self, global_id: str | None) -> object | None:
        return self.node(global_id or gid("Location", self.shop.locations[0].number), Location)

    def all_of(self, root: str, arguments: Mapping[str, Any]) -> Sequence[Any] | None:
        """Everything that a root connection leads to, in the order of ids; None for no such root.

        Raises:
            SearchError: by a search that this shop cannot answer.
        """
        if root == "products":
            bounds = bounds_of(arguments.get("query") or "")
            return [one for one in self.shop.products.values() if _within(one, bounds)]
        if root == "productVariants":
            return list(self.shop.variants.values())
        if root == "inventoryItems":
            return list(self.shop.items.values())
        return self.shop.locations if root == "locations" else None

    def _products(
        self,
        _info: object,
        first: int = 0,
        after: str | None = None,
        query: str | None = "",
        sortKey: str = "ID",  # noqa: N803  # GraphQL's name
        **_others: object,
    ) -> Json:
        bounds = bounds_of(query or "")
        found = [one for one in self.shop.products.values() if _within(one, bounds)]
        by_change = sortKey == "UPDATED_AT"

        def place(product: Product) -> tuple[int, int]:
            return (product.updated_at_s if by_change else 0, product.number)

        found.sort(key=place)
        begin = 0
        if after:
            changed, _, number = base64.b64decode(after).decode().partition(":")
            begin = bisect_right(found, (int(changed), int(number)), key=place)
        page = found[begin : begin + first]
        cursors = [base64.b64encode("{}:{}".format(*place(one)).encode()).decode() for one in page]
        return connection_of(page, cursors, more=begin + len(page) < len(found))


def _within(product: Product, bounds: Bounds) -> bool:
    return not bounds or fits(product.updated_at_s, bounds)

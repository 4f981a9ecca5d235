"""One product read whole by the Admin API, in pages that stay below the cost of one query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import structlog

from libs.errors import ServiceError, permanent
from libs.limits import Priority
from libs.shopify.admin import ACCESS_DENIED, MAX_COST_EXCEEDED, Operation, ShopifyAdmin, Told
from services.catalog.domain.graphql_documents import (
    Selection,
    levels_query,
    product_query,
    variants_query,
)
from services.catalog.domain.graphql_nodes import Node, VariantParts, product_of
from services.catalog.domain.model import Product

_log = structlog.stdlib.get_logger()

_WAIT_S_MAX: Final = 30.0
"""An empty bucket fills in 20 s."""
_MEDIA: Final = 100
"""A page; Shopify's own bound on a product is 250."""
_VARIANTS: Final = 100
_PAGES: Final = (5, 20, 50, _VARIANTS)
"""Sizes of the first page. What a query asks for is paid for at first, whether it is there or not:
a hundred variants of a product that has three would keep all others waiting."""
_COST_PER_VARIANT: Final = 5
_LEVELS: Final = 10
"""Of each variant, with it; most shops have fewer locations."""
_LEVELS_MORE: Final = 100
_PAGES_MAX: Final = 2048
"""Of variants, which is one variant a page."""
_SHAPES_MAX: Final = 1000


class ProductReader:
    """Reads products behind those who are more urgent: one with 2,048 variants costs thousands."""

    def __init__(self, admin: ShopifyAdmin) -> None:
        self._admin = admin
        self._fitting: dict[Selection, tuple[int, int]] = {}

    async def product(self, shop: str, product_id: str, selection: Selection) -> Product | None:
        """A product with all its variants; None where there is none, or it goes while it is read.

        What the app may not see is left out, a step at a time: translations, prices of markets
        and metafields, then stock by location. Fields that cannot be null take all around them
        along when they are denied, so there it is not enough to take what came.

        Raises:
            ServiceError: as `ShopifyAdmin.call`.
        """
        plain = Selection(levels=selection.levels)
        narrowing = dict.fromkeys((selection, plain, replace(plain, levels=False)))
        *wider, narrowest = narrowing
        for one in wider:
            try:
                return await self._product(shop, product_id, one)
            except ServiceError as error:
                if error.code != ACCESS_DENIED:
                    raise
                _log.warning("product_read_denied", shop=shop, detail=error.message)
        return await self._product(shop, product_id, narrowest)

    async def _product(self, shop: str, product_id: str, selection: Selection) -> Product | None:
        gid = f"gid://shopify/Product/{product_id}"
        told = await self._head(shop, gid, selection)
        node = told.get("product")
        if not node:
            return None
        media = _nodes(node, "media")
        count = (node.get("variantsCount") or {}).get("count")
        variants = await self._variants(shop, gid, selection, count or _VARIANTS)
        if variants is None:
            return None
        currency = str((told.get("shop") or {}).get("currencyCode") or "")
        return product_of(node, media, variants, currency)

    async def _head(self, shop: str, gid: str, selection: Selection) -> Mapping[str, Any]:
        operation = Operation("CatalogProduct", product_query(selection), cost=50)
        variables = {"id": gid, "media": _MEDIA, "after": None}
        told = (await self._call(shop, operation, variables)).data
        node = told.get("product") or {}
        page = node
        while after := _next(page, "media"):
            more = await self._call(shop, operation, {**variables, "after": after})
            page = more.data.get("product") or {}
            node["media"]["nodes"] += _nodes(page, "media")
        return told

    async def _variants(
        self, shop: str, gid: str, selection: Selection, count: int
    ) -> list[VariantParts] | None:
        """All variants in Shopify's order, about `count`; None where the product is gone."""
        most = next((size for size in _PAGES if size >= count), _VARIANTS)
        found: dict[str, VariantParts] = {}
        after: str | None = None
        for _ in range(_PAGES_MAX):
            page = await self._page(shop, gid, selection, after, most)
            if page is None:
                return None
            for node in _nodes(page, "variants"):
                item = node.get("inventoryItem") or {}
                levels = _nodes(item, "inventoryLevels")
                if more := _next(item, "inventoryLevels"):
                    levels += await self._levels(shop, str(item.get("id")), more)
                found[str(node.get("id"))] = VariantParts(node, _nodes(node, "media"), levels)
            after = _next(page, "variants")
            if not after:
                return list(found.values())
        raise permanent("variants_without_end", f"{gid} has more than {_PAGES_MAX} pages")

    async def _page(
        self, shop: str, gid: str, selection: Selection, after: str | None, most: int
    ) -> Node | None:
        """A page of at most `most` variants, as large as one query may be."""
        while True:
            fitting, levels = self._fitting.get(selection, (_VARIANTS, _LEVELS))
            size = min(most, fitting)
            cost = _COST_PER_VARIANT * size
            operation = Operation("CatalogVariants", variants_query(selection), cost=cost)
            variables = {"id": gid, "variants": size, "after": after}
            if selection.levels:
                variables["levels"] = levels
            try:
                told = await self._call(shop, operation, variables, size=size * levels)
            except ServiceError as error:
                if error.code != MAX_COST_EXCEEDED or size == levels == 1:
                    raise
                if len(self._fitting) >= _SHAPES_MAX:
                    self._fitting.clear()
                # Pages of few variants cost little more in all; levels one by one cost a query.
                self._fitting[selection] = (size // 2, levels) if size > 1 else (1, levels // 2)
                continue
            found: Node | None = told.data.get("product")
            return found

    async def _levels(self, shop: str, item: str, after: str | None) -> list[Node]:
        """The levels of an inventory item behind those that came with its variant."""
        operation = Operation("CatalogLevels", levels_query(), cost=100)
        found: list[Node] = []
        while after:
            variables = {"id": item, "levels": _LEVELS_MORE, "after": after}
            told = await self._call(shop, operation, variables)
            page = told.data.get("inventoryItem") or {}
            found += _nodes(page, "inventoryLevels")
            after = _next(page, "inventoryLevels")
        return found

    async def _call(
        self, shop: str, operation: Operation, variables: Mapping[str, Any], *, size: int = 1
    ) -> Told:
        return await self._admin.call(
            shop,
            operation,
            variables,
            size=size,
            priority=Priority.BACKFILL,
            max_wait_s=_WAIT_S_MAX,
        )


def _nodes(node: Node, connection: str) -> list[Node]:
    nodes = (node.get(connection) or {}).get("nodes") or ()
    return [one for one in nodes if isinstance(one, dict)]


def _next(node: Node, connection: str) -> str | None:
    """Where the next page of a connection begins; None at its end."""
    page = (node.get(connection) or {}).get("pageInfo") or {}
    cursor = page.get("endCursor")
    return str(cursor) if page.get("hasNextPage") and cursor else None

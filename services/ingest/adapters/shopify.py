"""What the reconciler asks of Shopify: lists of what has changed, and resources whole.

Lists are as lean as can be, since almost all that they show is known. What is not is read whole, a
few at a time, so that no query comes near the bound on its cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

import structlog

from libs.errors import ServiceError, permanent
from libs.limits import Priority
from libs.shopify.admin import MAX_COST_EXCEEDED, Operation, ShopifyAdmin
from services.ingest.domain.reconciling import Listed
from services.ingest.normalize.instants import instant
from services.ingest.normalize.node import tail
from services.ingest.normalize.orders import rank_of

_log = structlog.stdlib.get_logger()

LIST_PAGE: Final = 250
"""The most that Shopify gives at once."""
NODES_AT_ONCE: Final = 8
"""An order asks for about 90 points: eight stay below the 1,000 of one query."""
_LINES_MORE: Final = 250
_LINE_PAGES_MAX: Final = 8
"""Beyond the first 50 lines. Shopify's own bound on an order is 500."""
_WAIT_S_MAX: Final = 30.0
"""An empty bucket fills in 20 s."""
_TOKENS_SINCE: Final = "2026-07"
"""The first version in which an order has the tokens of its cart and checkout."""

_FRAGMENTS: Final = {
    "Bag": """fragment Bag on MoneyBag {
  shopMoney { amount currencyCode } presentmentMoney { amount currencyCode }
}""",
    "Address": """fragment Address on MailingAddress {
  firstName lastName company address1 address2 city zip province provinceCode countryCodeV2 phone
}""",
    "Line": """fragment Line on LineItem {
  id sku title variantTitle vendor quantity currentQuantity isGiftCard
  variant { id } product { id }
  originalUnitPriceSet { ...Bag } originalTotalSet { ...Bag } totalDiscountSet { ...Bag }
  discountAllocations { allocatedAmountSet { ...Bag } }
  customAttributes { key value }
}""",
}

_ORDER: Final = """fragment Whole on Order {
  id name createdAt updatedAt processedAt cancelledAt closedAt test tags %s
  displayFinancialStatus displayFulfillmentStatus sourceName sourceIdentifier app { id }
  currencyCode presentmentCurrencyCode discountCodes
  totalPriceSet { ...Bag } totalTaxSet { ...Bag }
  totalShippingPriceSet { ...Bag } totalDiscountsSet { ...Bag }
  email phone clientIp customerLocale statusPageUrl
  customAttributes { key value }
  customer {
    id firstName lastName updatedAt
    defaultEmailAddress { emailAddress } defaultPhoneNumber { phoneNumber }
    defaultAddress { ...Address }
  }
  billingAddress { ...Address } shippingAddress { ...Address }
  customerJourneySummary { lastVisit { landingPage referrerUrl } }
  lineItems(first: 50) { nodes { ...Line } pageInfo { hasNextPage endCursor } }
  refunds(first: 10) {
    id createdAt note
    refundLineItems(first: 20) {
      nodes { quantity lineItem { id } subtotalSet { ...Bag } totalTaxSet { ...Bag } }
    }
    transactions(first: 5) { nodes { kind status amountSet { ...Bag } } }
  }
}"""

_PRODUCT: Final = """fragment Whole on Product {
  id title descriptionHtml vendor productType handle status tags createdAt updatedAt publishedAt
  options { name }
  variants(first: 100) {
    nodes {
      id sku barcode title price compareAtPrice inventoryQuantity inventoryPolicy updatedAt
      inventoryItem { id } selectedOptions { name value } media(first: 1) { nodes { id } }
    }
    pageInfo { hasNextPage }
  }
  media(first: 50) { nodes { id alt ... on MediaImage { image { url width height } } } }
}"""

_NODES: Final = "query Read%ss($ids: [ID!]!) { nodes(ids: $ids) { __typename ...Whole } }"
_LIST: Final = """query Changed%(type)ss($query: String!, $first: Int!, $after: String) {
  %(root)s(first: $first, after: $after, query: $query, sortKey: UPDATED_AT) {
    nodes { id updatedAt %(more)s } pageInfo { hasNextPage endCursor }
  }
}"""
_REST_OF_LINES: Final = """query LinesOfOrder($id: ID!, $first: Int!, $after: String) {
  order(id: $id) {
    lineItems(first: $first, after: $after) { nodes { ...Line } pageInfo { hasNextPage endCursor } }
  }
}"""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of resource that can be compared with Shopify."""

    name: str
    """As in subjects: `order`."""
    type: str
    """As in GraphQL: `Order`."""
    root: str
    """The connection of all of them: `orders`."""
    topic: str
    """Of a delivery whose body is a node."""


ORDERS: Final = Kind("order", "Order", "orders", "reconcile/orders")
PRODUCTS: Final = Kind("product", "Product", "products", "reconcile/products")


@dataclass(frozen=True, slots=True)
class Page:
    """One page of what has changed, oldest first."""

    listed: Sequence[Listed]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Whole:
    """A resource as it stands at Shopify, with what a list would show of it."""

    listed: Listed
    node: Mapping[str, Any]
    api_version: str


@cache
def operations(kind: Kind, api_version: str) -> tuple[Operation, Operation]:
    """What lists the kind, and what reads some of it whole, in a version of the API."""
    is_order = kind is ORDERS
    more = "displayFinancialStatus cancelledAt" if is_order else ""
    listing = _LIST % {"type": kind.type, "root": kind.root, "more": more}
    tokens = "cartToken checkoutToken" if api_version >= _TOKENS_SINCE else ""
    whole = _ORDER % tokens if is_order else _PRODUCT
    fragments = list(_FRAGMENTS.values()) if is_order else []
    reading = "\n".join([_NODES % kind.type, whole, *fragments])
    return (
        Operation(f"Changed{kind.type}s", listing, cost=20),
        Operation(f"Read{kind.type}s", reading, cost=900),
    )


@cache
def rest_of_lines() -> Operation:
    """What reads the further lines of one order."""
    parts = [_REST_OF_LINES, _FRAGMENTS["Line"], _FRAGMENTS["Bag"]]
    return Operation("LinesOfOrder", "\n".join(parts), cost=100)


class ShopifyReader:
    """Reads shops with the priority of a backfill: live callers go first."""

    def __init__(self, admin: ShopifyAdmin) -> None:
        self._admin = admin

    async def changed(self, shop: str, kind: Kind, since_s: float, cursor: str | None) -> Page:
        """A page of what has changed since a Unix time.

        Raises:
            ServiceError: as `ShopifyAdmin.call`.
        """
        since = datetime.fromtimestamp(int(since_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        listing, _ = operations(kind, self._admin.version_of(shop))
        variables = {"query": f"updated_at:>='{since}'", "first": LIST_PAGE, "after": cursor}
        told = await self._call(shop, listing, variables, size=LIST_PAGE)
        connection = told.data.get(kind.root) or {}
        page_info = connection.get("pageInfo") or {}
        more = page_info.get("hasNextPage")
        return Page(
            listed=[_listed(kind, node) for node in connection.get("nodes") or ()],
            next_cursor=page_info.get("endCursor") if more else None,
        )

    async def whole(self, shop: str, kind: Kind, gids: Sequence[str]) -> list[Whole]:
        """Those of at most `NODES_AT_ONCE` resources that still exist.

        Where Shopify finds that too much for one query, they are read in halves.

        Raises:
            ServiceError: as `ShopifyAdmin.call`.
        """
        _, reading = operations(kind, self._admin.version_of(shop))
        try:
            told = await self._call(shop, reading, {"ids": list(gids)}, size=len(gids))
        except ServiceError as error:
            if error.code != MAX_COST_EXCEEDED or len(gids) == 1:
                raise
            middle = len(gids) // 2
            first = await self.whole(shop, kind, gids[:middle])
            return first + await self.whole(shop, kind, gids[middle:])
        found = [node for node in told.data.get("nodes") or () if isinstance(node, dict)]
        if kind is ORDERS:
            found = [node for node in found if await self._is_completed(shop, node)]
        return [Whole(_listed(kind, node), node, told.api_version) for node in found]

    async def _is_completed(self, shop: str, node: dict[str, Any]) -> bool:
        """Whether an order has all its lines, once those are added that did not come with it.

        One with half its lines would look edited. One that is gone by now is left out, and so is
        one without end, which would hold up its shop for ever.
        """
        for _ in range(_LINE_PAGES_MAX):
            page = node["lineItems"]["pageInfo"]
            if not page["hasNextPage"]:
                return True
            variables = {"id": node["id"], "first": _LINES_MORE, "after": page["endCursor"]}
            told = await self._call(shop, rest_of_lines(), variables, size=_LINES_MORE)
            more = (told.data.get("order") or {}).get("lineItems")
            if not more:
                return False
            node["lineItems"]["nodes"] += more["nodes"]
            node["lineItems"]["pageInfo"] = more["pageInfo"]
        _log.error("order_lines_without_end", shop=shop, order=node["id"])
        return False

    async def _call(
        self, shop: str, operation: Operation, variables: Mapping[str, Any], *, size: int
    ) -> Any:
        return await self._admin.call(
            shop,
            operation,
            variables,
            size=size,
            priority=Priority.BACKFILL,
            max_wait_s=_WAIT_S_MAX,
        )


def _listed(kind: Kind, node: Mapping[str, Any]) -> Listed:
    """What a node says of itself.

    Raises:
        ServiceError: PERMANENT, `node_unreadable`.
    """
    try:
        gid = str(node["id"])
        updated, _ = instant(node["updatedAt"])
    except (KeyError, TypeError, ValueError) as error:
        raise permanent("node_unreadable", f"a {kind.type} without id or updatedAt") from error
    status, cancelled = node.get("displayFinancialStatus"), node.get("cancelledAt")
    order_rank = rank_of(str(status or ""), is_cancelled=cancelled is not None)
    return Listed(
        gid=gid,
        resource_id=tail(gid),
        updated_at_s=updated["seconds"],
        rank=order_rank if kind is ORDERS else 0,
    )

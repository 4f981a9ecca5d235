"""What the catalog service reads of Shopify: a shop, its products whole, and exports of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from libs.errors import Kind, ServiceError, permanent
from libs.limits import Priority
from libs.shopify.admin import Operation, ShopifyAdmin, Told
from services.catalog.adapters.bulk_download import BulkDownload
from services.catalog.adapters.bulk_export import ProductExport
from services.catalog.adapters.product_reader import ProductReader
from services.catalog.domain.graphql_documents import Selection, bulk_query
from services.catalog.domain.graphql_nodes import instant_ns
from services.catalog.domain.model import Product
from services.catalog.ports import BulkState, ShopFacts, Wanted

BULK_BUSY: Final = "bulk_busy"
BULK_REFUSED: Final = "bulk_refused"

_BY_ID_SINCE: Final = "2026-01"
"""The first version that finds bulk operations by id and lists them; it runs five at once."""
_BUSY_WAIT_S: Final = 30.0
_FOUND_MAX: Final = 25
"""Operations of late; five run at once, and one of ours is looked for within minutes."""
_WAIT_S_MAX: Final = 30.0
"""An empty bucket fills in 20 s."""
_BUSY_CODES: Final = frozenset({"LIMIT_REACHED", "OPERATION_IN_PROGRESS"})
_LEVELS_NEED: Final = frozenset({"read_inventory", "write_inventory"})

_STATE: Final = (
    "id status errorCode url partialDataUrl objectCount rootObjectCount fileSize createdAt type"
)
_START: Final = Operation(
    "CatalogExport",
    "mutation CatalogExport($query: String!) {"
    " bulkOperationRunQuery(query: $query, groupObjects: false)"
    " { bulkOperation { id status } userErrors { field message code } } }",
    cost=10,
)
_SCOPES: Final = Operation(
    "CatalogScopes", "query CatalogScopes { currentAppInstallation { accessScopes { handle } } }", 3
)
_SHOP: Final = Operation(
    "CatalogShop",
    "query CatalogShop {"
    " shop { currencyCode primaryDomain { host } billingAddress { countryCodeV2 } } }",
    cost=3,
)
_LOCALES: Final = Operation(
    "CatalogLocales", "query CatalogLocales { shopLocales { locale primary } }", cost=2
)

EVERY_OPERATION: Final = (_START, _SCOPES, _SHOP, _LOCALES)
"""Those that are the same in all versions."""


@lru_cache(maxsize=32)
def bulk_operations(api_version: str) -> tuple[Operation, Operation]:
    """What asks for a bulk operation by id, and what finds those of late."""
    if api_version >= _BY_ID_SINCE:
        one = f"query BulkState($id: ID!) {{ bulkOperation(id: $id) {{ {_STATE} }} }}"
        many = (
            "query BulkStates($query: String!, $first: Int!) {"
            " bulkOperations(first: $first, query: $query, sortKey: CREATED_AT)"
            f" {{ nodes {{ {_STATE} }} }} }}"
        )
    else:
        one = (
            "query BulkState($id: ID!)"
            f" {{ bulkOperation: node(id: $id) {{ ... on BulkOperation {{ {_STATE} }} }} }}"
        )
        many = f"query BulkStates {{ currentBulkOperation(type: QUERY) {{ {_STATE} }} }}"
    return Operation("BulkState", one, cost=1), Operation("BulkStates", many, cost=10)


class ShopifyReads:
    """`ShopifyCatalog` by the Admin API and the storage host of bulk results."""

    def __init__(self, admin: ShopifyAdmin, download: BulkDownload, spool: Path) -> None:
        """`spool` is the folder that results lie in while they are read, about twice their size."""
        self._admin = admin
        self._download = download
        self._spool = spool
        self._reader = ProductReader(admin)

    async def shop(self, shop: str) -> ShopFacts:
        told = (await self._call(shop, _SHOP)).data.get("shop") or {}
        domain, address = told.get("primaryDomain") or {}, told.get("billingAddress") or {}
        return ShopFacts(
            currency=str(told.get("currencyCode") or ""),
            primary_domain=str(domain.get("host") or ""),
            country=str(address.get("countryCodeV2") or ""),
            language=await self._language(shop),
        )

    async def _language(self, shop: str) -> str:
        """Asked for apart: without `read_locales` it is refused, and all beside it with it."""
        try:
            locales = (await self._call(shop, _LOCALES)).data.get("shopLocales") or ()
        except ServiceError as error:
            if error.kind is Kind.AUTH and error.code == "access_denied":
                return ""
            raise
        return next((str(one["locale"]) for one in locales if one.get("primary")), "")

    async def start_bulk(self, shop: str, wanted: Wanted) -> str:
        scopes = await self._scopes(shop)
        query = bulk_query(selection_of(wanted, levels=bool(scopes & _LEVELS_NEED)))
        told = await self._call(shop, _START, {"query": query})
        payload = told.data.get("bulkOperationRunQuery") or {}
        errors = payload.get("userErrors") or ()
        if any(one.get("code") in _BUSY_CODES for one in errors):
            raise ServiceError(
                Kind.THROTTLED, BULK_BUSY, _words(errors), retry_after_s=_BUSY_WAIT_S
            )
        operation_id = (payload.get("bulkOperation") or {}).get("id")
        if errors or not operation_id:
            raise permanent(BULK_REFUSED, _words(errors))
        return str(operation_id)

    async def _scopes(self, shop: str) -> frozenset[str]:
        """What the app may do: one field too many makes a whole export fail in the end."""
        told = (await self._call(shop, _SCOPES)).data.get("currentAppInstallation") or {}
        return frozenset(str(one["handle"]) for one in told.get("accessScopes") or ())

    async def bulk(self, shop: str, operation_id: str) -> BulkState:
        """As in the port.

        Raises:
            ServiceError: PERMANENT, `bulk_unknown`, where the shop has no such operation.
        """
        one, _ = bulk_operations(self._admin.version_of(shop))
        told = (await self._call(shop, one, {"id": operation_id})).data.get("bulkOperation")
        if not told:
            raise permanent("bulk_unknown", f"Shopify knows no {operation_id}")
        return state_of(told)

    async def find_bulk(self, shop: str, since_ns: int) -> Sequence[BulkState]:
        """As in the port. Versions before 2026-01 tell of the latest one only."""
        version = self._admin.version_of(shop)
        _, many = bulk_operations(version)
        variables: Mapping[str, Any] = {}
        if version >= _BY_ID_SINCE:
            variables = {"query": "operation_type:query", "first": _FOUND_MAX}
        data = (await self._call(shop, many, variables)).data
        found = (data.get("bulkOperations") or {}).get("nodes") or [
            data.get("currentBulkOperation")
        ]
        # By time it is searched here, because a search that Shopify cannot read finds everything.
        ours = [
            one
            for one in found
            if one and one.get("type") == "QUERY" and _created_ns(one) >= since_ns
        ]
        return [state_of(one) for one in sorted(ours, key=_created_ns, reverse=True)]

    def products(self, shop: str, url: str, wanted: Wanted, *, after: str = "") -> ProductExport:  # noqa: ARG002  # the lines themselves say what was asked for
        """As in the port; close it (`aclose`) where it is not read to the end.

        `oddities` of it tells what was left out.
        """

        async def currency() -> str:
            told = (await self._call(shop, _SHOP)).data.get("shop") or {}
            return str(told.get("currencyCode") or "")

        return ProductExport(self._download, self._spool, url, currency, int(after or 0))

    async def product(self, shop: str, product_id: str, wanted: Wanted) -> Product | None:
        return await self._reader.product(shop, product_id, selection_of(wanted))

    async def _call(
        self, shop: str, operation: Operation, variables: Mapping[str, Any] | None = None
    ) -> Told:
        return await self._admin.call(
            shop, operation, variables or {}, priority=Priority.LIVE, max_wait_s=_WAIT_S_MAX
        )


def selection_of(wanted: Wanted, *, levels: bool = True) -> Selection:
    """What to ask for, each thing once and in one order, so that equal wishes share a query."""
    return Selection(
        languages=tuple(sorted(set(wanted.languages))),
        countries=tuple(sorted(set(wanted.countries))),
        metafields=tuple(sorted(set(wanted.metafields))),
        levels=levels,
    )


def state_of(told: Mapping[str, Any]) -> BulkState:
    """A bulk operation as Shopify tells of it; its numbers come as text."""
    return BulkState(
        operation_id=str(told.get("id") or ""),
        status=str(told.get("status") or "").lower(),
        error_code=str(told.get("errorCode") or "").lower(),
        url=str(told.get("url") or ""),
        partial_url=str(told.get("partialDataUrl") or ""),
        objects=_number(told.get("objectCount")),
        roots=_number(told.get("rootObjectCount")),
        bytes_total=_number(told.get("fileSize")),
    )


def _number(told: object) -> int:
    text = str(told)
    return int(text) if text.isascii() and text.isdigit() else 0


def _created_ns(told: Mapping[str, Any]) -> int:
    # Shopify tells whole seconds, so the second in which a search begins counts in full.
    return instant_ns(told.get("createdAt")) + 999_999_999


def _words(errors: Sequence[Mapping[str, Any]]) -> str:
    words = "; ".join(str(one.get("message") or "") for one in errors)
    return words[:500] or "Shopify started nothing and gave no reason"

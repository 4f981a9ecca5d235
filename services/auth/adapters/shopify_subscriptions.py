"""The app as a Shopify store has it: its webhook subscriptions and what it was granted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from libs.errors import Kind, ServiceError, permanent
from libs.limits import Priority
from libs.shopify.admin import ACCESS_DENIED, Operation, ShopifyAdmin, Told
from services.auth.domain.subscriptions import Found, Wanted
from services.auth.ports import Installation, Place
from tidewire.auth.v1 import health_pb2

SUBSCRIPTION_REFUSED: Final = "subscription_refused"

_PAGE: Final = 100
_PAGES_MAX: Final = 10
"""A topic may have several addresses; a thousand are nobody's."""
_WAIT_S_MAX: Final = 30.0
_TAKEN: Final = "already been taken"
"""Shopify's words for a topic that is subscribed to at that very address."""
_GONE: Final = ("does not exist", "not found")
_FORBIDDEN: Final = "upstream_status_403"

_SUBSCRIPTIONS: Final = """webhookSubscriptions(first: $first, after: $after) {
    nodes { id topic uri filter includeFields format apiVersion { handle } }
    pageInfo { hasNextPage endCursor }
  }"""
_INSTALLATION: Final = Operation(
    "StoreInstallation",
    f"""query StoreInstallation($first: Int!, $after: String) {{
  currentAppInstallation {{ accessScopes {{ handle }} }}
  {_SUBSCRIPTIONS}
}}""",
    cost=20,
)
_MORE: Final = Operation(
    "StoreSubscriptions",
    f"""query StoreSubscriptions($first: Int!, $after: String) {{
  {_SUBSCRIPTIONS}
}}""",
    cost=20,
)
_SCOPES: Final = Operation(
    "StoreScopes",
    "query StoreScopes { currentAppInstallation { accessScopes { handle } } }",
    cost=2,
)
_PLACE: Final = Operation(
    "StorePlace",
    "query StorePlace { shop { currencyCode billingAddress { countryCodeV2 } } }",
    cost=2,
)
_CREATE: Final = Operation(
    "SubscribeStore",
    """mutation SubscribeStore(
  $topic: WebhookSubscriptionTopic!, $input: WebhookSubscriptionInput!
) {
  webhookSubscriptionCreate(topic: $topic, webhookSubscription: $input) {
    webhookSubscription { id } userErrors { field message }
  }
}""",
    cost=10,
)
_UPDATE: Final = Operation(
    "CorrectSubscription",
    """mutation CorrectSubscription($id: ID!, $input: WebhookSubscriptionInput!) {
  webhookSubscriptionUpdate(id: $id, webhookSubscription: $input) {
    webhookSubscription { id } userErrors { field message }
  }
}""",
    cost=10,
)
_DELETE: Final = Operation(
    "UnsubscribeStore",
    """mutation UnsubscribeStore($id: ID!) {
  webhookSubscriptionDelete(id: $id) {
    deletedWebhookSubscriptionId userErrors { field message }
  }
}""",
    cost=10,
)
OPERATIONS: Final = (_INSTALLATION, _MORE, _SCOPES, _PLACE, _CREATE, _UPDATE, _DELETE)
"""All that is asked here, for who checks it against a schema."""


class ShopifyStores:
    """`Stores` over the Admin API, in turn with all other calls to a store."""

    def __init__(self, admin: ShopifyAdmin) -> None:
        self._admin = admin

    async def installation(self, shop: str) -> Installation:
        """The app as the store has it now.

        Raises:
            ServiceError: as `ShopifyAdmin.call`.
        """
        told = await self._call(shop, _INSTALLATION, {"first": _PAGE, "after": None}, size=_PAGE)
        version = health_pb2.VersionHealth(
            asked=told.asked, served=told.api_version, deprecation=told.deprecation
        )
        scopes = _scopes(told)
        found: list[Found] = []
        for _ in range(_PAGES_MAX):
            connection = told.data.get("webhookSubscriptions") or {}
            found += [_found(node) for node in connection.get("nodes") or ()]
            page = connection.get("pageInfo") or {}
            if not page.get("hasNextPage"):
                break
            cursor = {"first": _PAGE, "after": page.get("endCursor")}
            told = await self._call(shop, _MORE, cursor, size=_PAGE)
        return Installation(scopes, tuple(found), version)

    async def place(self, shop: str) -> Place:
        """The store's country and currency, for a connection that does not name them.

        Raises:
            ServiceError: as `ShopifyAdmin.call`.
        """
        told = (await self._call(shop, _PLACE, {})).data.get("shop") or {}
        address = told.get("billingAddress") or {}
        return Place(str(address.get("countryCodeV2") or ""), str(told.get("currencyCode") or ""))

    async def is_alive(self, shop: str) -> bool:
        """Whether the store takes the token.

        What it may not be used for is another question, and so is a store that is locked.

        Raises:
            ServiceError: RETRYABLE or THROTTLED, where that cannot be told.
        """
        try:
            await self._call(shop, _SCOPES, {})
        except ServiceError as error:
            if error.kind is not Kind.AUTH:
                raise
            return error.code in (ACCESS_DENIED, _FORBIDDEN)
        return True

    async def create(self, shop: str, want: Wanted, address: str) -> bool:
        """Subscribes to a topic; False where somebody else just has.

        Raises:
            ServiceError: PERMANENT, `subscription_refused`; or as `ShopifyAdmin.call`.
        """
        variables = {"topic": want.name, "input": _input(want, address)}
        told = await self._call(shop, _CREATE, variables)
        return _done(told, "webhookSubscriptionCreate", want.topic, harmless=(_TAKEN,))

    async def update(self, shop: str, found: Found, want: Wanted, address: str) -> bool:
        """Sets a subscription right; False where it is gone: the next look makes it again.

        Raises:
            ServiceError: as `create`.
        """
        variables = {"id": found.subscription_id, "input": _input(want, address)}
        told = await self._call(shop, _UPDATE, variables)
        return _done(told, "webhookSubscriptionUpdate", want.topic, harmless=_GONE)

    async def delete(self, shop: str, found: Found) -> None:
        """Ends a subscription, if there still is one.

        Raises:
            ServiceError: as `create`.
        """
        told = await self._call(shop, _DELETE, {"id": found.subscription_id})
        _done(told, "webhookSubscriptionDelete", found.name, harmless=_GONE)

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


def _input(want: Wanted, address: str) -> dict[str, Any]:
    # An empty list or text takes away what somebody has set; a field left out would not.
    return {
        "uri": address,
        "format": "JSON",
        "includeFields": list(want.fields),
        "filter": want.filter,
    }


def _scopes(told: Told) -> frozenset[str]:
    installation = told.data.get("currentAppInstallation") or {}
    return frozenset(str(one["handle"]) for one in installation.get("accessScopes") or ())


def _found(node: Mapping[str, Any]) -> Found:
    """A subscription; ours is one that has an address, and no node may be without id and topic."""
    try:
        return Found(
            subscription_id=str(node["id"]),
            name=str(node["topic"]),
            uri=str(node["uri"]),
            include_fields=tuple(node.get("includeFields") or ()),
            filter=str(node.get("filter") or ""),
            format=str(node.get("format") or "JSON"),
            api_version=str((node.get("apiVersion") or {}).get("handle") or ""),
        )
    except (KeyError, TypeError) as error:
        raise permanent("node_unreadable", "a subscription without id, topic or uri") from error


def _done(told: Told, root: str, what: str, *, harmless: Sequence[str]) -> bool:
    """Whether a mutation was carried out; False for a refusal that leaves things as wanted."""
    errors = (told.data.get(root) or {}).get("userErrors") or ()
    messages = [str(one.get("message")) for one in errors]
    if not messages:
        return True
    if all(any(words in message.lower() for words in harmless) for message in messages):
        return False
    raise permanent(SUBSCRIPTION_REFUSED, f"{what}: {'; '.join(messages)[:300]}")

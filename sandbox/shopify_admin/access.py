"""Who calls the Admin API, and what that caller may see."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from graphql import GraphQLError

from sandbox.oauth.apps import SHOPIFY_SCOPES
from sandbox.oauth.desk import Desk
from sandbox.oauth.vault import Connection, State
from sandbox.shopify_admin.fields import type_name
from sandbox.shopify_admin.oauth import full_scopes

Json = dict[str, Any]

STATIC: Final = "static"
"""Stands for the app behind a token that the simulator was told at its start."""

_NON_EXPIRING: Final = (
    "[API] Non-expiring access tokens are no longer accepted for the Admin API. Start using"
    " expiring offline tokens: https://shopify.dev/docs/apps/build/authentication-authorization/"
    "access-tokens/offline-access-tokens#expiring-vs-non-expiring-offline-tokens"
)
BAD_TOKEN: Final = "[API] Invalid API key or access token (unrecognized login or wrong password)"  # noqa: S105

_PRODUCTS: Final = ("read_products",)
_ORDERS: Final = ("read_orders",)
_ITEMS: Final = ("read_inventory", "read_products")
_PLACES: Final = ("read_locations", "read_inventory", "read_markets_home")
SCOPE_OF_ROOT: Final[Mapping[str, tuple[str, ...]]] = {
    "order": _ORDERS,
    "orders": _ORDERS,
    "product": _PRODUCTS,
    "products": _PRODUCTS,
    "productsCount": _PRODUCTS,
    "productVariant": _PRODUCTS,
    "productVariants": _PRODUCTS,
    "productVariantsCount": _PRODUCTS,
    "customer": ("read_customers",),
    "customers": ("read_customers",),
    "inventoryItem": _ITEMS,
    "inventoryItems": _ITEMS,
    "inventoryLevel": ("read_inventory",),
    "location": _PLACES,
    "locations": _PLACES,
    "shopLocales": ("read_locales", "read_markets_home"),
}
"""What a root field needs one of, as Shopify's schema says of its types."""

SCOPE_OF_TYPE: Final[Mapping[str, tuple[str, ...]]] = {
    "Order": _ORDERS,
    "Product": _PRODUCTS,
    "ProductVariant": _PRODUCTS,
    "InventoryItem": _ITEMS,
    "InventoryLevel": ("read_inventory",),
    "Location": _PLACES,
}
SCOPE_OF_FIELD: Final[Mapping[str, tuple[str, ...]]] = {"customer": ("read_customers",)}


def required(scopes: tuple[str, ...]) -> str:
    """The scopes of which one is needed, as refusals name them."""
    return " or ".join(f"`{one}` access scope" for one in scopes) + "."


@dataclass(frozen=True, slots=True)
class Caller:
    """An app at a shop. `roots` and `mutations` are what it has beside orders and products."""

    app_id: str = STATIC
    scopes: frozenset[str] | None = None
    """None for a token that may do everything."""

    roots: Mapping[str, Any] = field(default_factory=dict)
    mutations: Mapping[str, Any] = field(default_factory=dict)

    def lacks(self, *any_of: str) -> bool:
        """Whether it has none of these scopes."""
        return self.scopes is not None and self.scopes.isdisjoint(any_of)

    def shown_scopes(self) -> frozenset[str]:
        """All that it has, as `accessScopes` lists them."""
        return full_scopes(SHOPIFY_SCOPES) if self.scopes is None else self.scopes


class Refusal(NamedTuple):
    """Why a call is not let in."""

    status: int
    errors: str
    outcome: str


class Doorkeeper:
    """Tells callers by their tokens, and counts the calls with dead ones."""

    def __init__(self, static_tokens: Mapping[str, str], desk: Desk) -> None:
        self._static = static_tokens
        self._desk = desk

    def caller(self, domain: str, token: str) -> Caller | Refusal:
        """Who calls with `token`, which is thereby used, or why it is refused."""
        known = self._static.get(domain)
        if known is not None and hmac.compare_digest(token.encode(), known.encode()):
            return Caller()
        desk = self._desk
        stranger = Connection("shopify", "unknown", domain)
        _, held = desk.vault.access(token, desk.now_s())
        if held is not None and held.grant.connection.account != domain:
            desk.ledger.called_dead(stranger, State.UNKNOWN)
            return Refusal(401, BAD_TOKEN, "unauthorised")
        state = desk.call_with(stranger, token)
        if state is not State.LIVE or held is None:
            return Refusal(401, BAD_TOKEN, "unauthorised")
        app = desk.apps.get("shopify", held.grant.connection.app_id)
        if app is not None and app.expiring == "required" and held.expires_at_s is None:
            return Refusal(403, _NON_EXPIRING, "non_expiring")
        return Caller(held.grant.connection.app_id, held.grant.scopes)


def permitted(roots: Mapping[str, Any], caller: Caller) -> Json:
    """The root resolvers, without the nodes that the caller may not see."""
    found = dict(roots)
    for name in ("node", "nodes"):
        if name in found:
            found[name] = _guarded(found[name], caller)
    return found


def _guarded(resolve: Any, caller: Caller) -> Any:
    def resolved(info: object, **arguments: object) -> object:
        found = resolve(info, **arguments)
        if isinstance(found, list):
            return [_unless_denied(one, caller) for one in found]
        return _unless_denied(found, caller)

    return resolved


def _unless_denied(node: object, caller: Caller) -> object:
    """The node; for one that may not be seen an error, which the engine puts at its place."""
    kind = node.get("__typename", "") if isinstance(node, dict) else type_name(node) or ""
    scopes = SCOPE_OF_TYPE.get(kind, ())
    if not scopes or not caller.lacks(*scopes):
        return node
    return GraphQLError(
        f"Access denied for {kind}. Required access: {required(scopes)}",
        extensions={"code": "ACCESS_DENIED", "requiredAccess": required(scopes)},
    )

"""Which access scopes a store has to grant, which are missing, and how each one is granted."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Use(StrEnum):
    """What a store's data is used for: the kinds of connection beside it, and what they need."""

    EVENTS = "events"
    CATALOG = "catalog"
    TEXTS = "texts"
    """A catalog in another language than the merchant's."""
    MARKETS = "markets"
    """A catalog of another country than the store's, whose prices Shopify Markets says."""
    TIKTOK_SHOP = "tiktok-shop"


@dataclass(frozen=True, slots=True)
class Need:
    """A scope that has to be granted."""

    scope: str
    """What is asked for."""
    instead: tuple[str, ...] = ()
    """Any of these does as well."""

    def is_met(self, granted: Collection[str]) -> bool:
        """Whether `granted`, with what it implies, is enough."""
        return any(one in granted for one in (self.scope, *self.instead))


_ALWAYS: Final = tuple(
    Need(scope) for scope in ("read_products", "read_inventory", "read_orders", "read_customers")
)
"""Every store's orders and products are normalised and reconciled, whatever they are used for."""

_TIKTOK_SHOP: Final = (
    Need("write_orders"),
    Need("write_inventory"),
    # A fulfilment order belongs to who ships it; a merchant that ships through somebody else
    # grants one of the others.
    Need(
        "write_merchant_managed_fulfillment_orders",
        (
            "write_assigned_fulfillment_orders",
            "write_third_party_fulfillment_orders",
            "write_fulfillment_orders",
        ),
    ),
    # Admin schema 2026-10: fulfillments/create and fulfillments/update need it.
    Need("read_fulfillments"),
)

_BY_USE: Final[Mapping[Use, tuple[Need, ...]]] = {
    Use.TEXTS: (Need("read_translations"), Need("read_locales", ("read_markets_home",))),
    Use.MARKETS: (Need("read_markets"),),
    Use.TIKTOK_SHOP: _TIKTOK_SHOP,
}


def needs(uses: Collection[Use]) -> tuple[Need, ...]:
    """What a store that is used so has to grant."""
    return (*_ALWAYS, *(need for use, own in _BY_USE.items() if use in uses for need in own))


def scopes_to_ask(uses: Collection[Use]) -> tuple[str, ...]:
    """The scopes for the consent page and for the app's configuration."""
    return tuple(need.scope for need in needs(uses))


def with_implied(granted: Iterable[str]) -> frozenset[str]:
    """`granted` and what it implies: who may write may read, and Shopify lists only the former."""
    told = frozenset(one.strip() for one in granted if one.strip())
    return told | {f"read_{one.removeprefix('write_')}" for one in told if one.startswith("write_")}


def missing_scopes(uses: Collection[Use], granted: Iterable[str]) -> tuple[str, ...]:
    """What is needed and was not granted, in the order of `needs`."""
    held = with_implied(granted)
    return tuple(need.scope for need in needs(uses) if not need.is_met(held))


def how_to_grant(scope: str, shop: str, topics: Iterable[str] = ()) -> str:
    """A sentence for whoever connects the shop, given by its myshopify domain.

    `topics` is what is not sent without the scope.
    """
    silent = ", ".join(topics)
    cost = f" (without it nothing is sent of {silent})" if silent else ""
    return (
        f"{scope} is not granted{cost}: add it to the scopes in the app's configuration"
        " (`tidewire shopify-app-toml` writes it) and release that, then have the merchant agree"
        f" again with `tidewire connect shopify --shop {shop}`"
    )

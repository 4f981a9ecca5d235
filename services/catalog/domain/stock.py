"""Whether an item can be had."""

from __future__ import annotations

from typing import Final

from services.catalog.domain.items import Availability
from services.catalog.domain.model import Variant

_BEYOND_STOCK: Final = "continue"


def availability_of(
    variant: Variant, online_locations: frozenset[str], *, preorder: bool
) -> Availability:
    """What `variant` is: counted stock first, then whether it sells without."""
    units = units_of(variant, online_locations)
    if units is None or units > 0:
        return Availability.IN_STOCK
    if variant.policy.lower() != _BEYOND_STOCK:
        return Availability.OUT_OF_STOCK
    return Availability.PREORDER if preorder else Availability.AVAILABLE_FOR_ORDER


def units_of(variant: Variant, online_locations: frozenset[str]) -> int | None:
    """Units that can be sold online; None where nobody counts them.

    The levels of the locations that sell online (all, where none are named), else what the product
    itself says. Counted, and stocked nowhere, is 0.
    """
    if variant.tracked is False:
        return None
    if variant.levels:
        return sum(
            level.available or 0
            for level in variant.levels
            if level.connected and (not online_locations or level.location_id in online_locations)
        )
    if variant.quantity is None and variant.tracked:
        return 0
    return variant.quantity


def stock_source(variant: Variant) -> str:
    """The merchant's field that `units_of` has read."""
    if variant.tracked is False:
        return "inventoryItem.tracked"
    return "inventoryLevels.available" if variant.levels else "variants.inventory_quantity"

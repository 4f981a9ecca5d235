"""Which webhooks a TikTok Shop has to send and which scopes it has to grant. Pure.

TikTok Shop keeps one address for each kind of event, app and shop, so another address than ours is
not a stranger's: it is ours gone wrong. Kinds that nobody here wants are a stranger's, unless they
are sent to us.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from services.auth.domain.subscriptions import Found, Plan, Wanted, same_address

_ORDERS: Final = "seller.order.info"
_PACKAGES: Final = "seller.fulfillment.basic"
_RETURNS: Final = "seller.return_refund.basic"
_PRODUCTS: Final = "seller.product.basic"

SCOPES: Final = (
    # Who may call; the subscriptions themselves need it too.
    "seller.authorization.info",
    _ORDERS,
    _PACKAGES,
    _RETURNS,
    _PRODUCTS,
    # Stock is set there.
    "seller.product.write",
)
"""What a TikTok Shop has to grant, by the names in `granted_scopes`."""


def _events(names: str, *scopes: str) -> tuple[Wanted, ...]:
    return tuple(Wanted(name, scopes) for name in names.split())


EVENTS: Final = (
    *_events("SELLER_DEAUTHORIZATION UPCOMING_AUTHORIZATION_EXPIRATION"),
    *_events("ORDER_STATUS_CHANGE RECIPIENT_ADDRESS_UPDATE", _ORDERS),
    *_events("PACKAGE_UPDATE", _PACKAGES),
    *_events("CANCELLATION_STATUS_CHANGE RETURN_STATUS_CHANGE", _RETURNS),
    *_events("PRODUCT_STATUS_CHANGE INVENTORY_STATUS_CHANGE", _PRODUCTS),
)
"""What a TikTok Shop has to send. Changes of stock (type 71) are announced in two forms that differ
and are left out.

An event names what has changed and nothing more: its scope is the one it is then read with.
"""


def plan(found: Iterable[Found], address: str, *, granted: Iterable[str]) -> Plan:
    """How to come from what is `found` to EVENTS, all sent to `address`."""
    held = {one.name: one for one in found}
    lacking = frozenset(missing_scopes(granted))
    creates: list[Wanted] = []
    updates: list[tuple[Found, Wanted]] = []
    barred: list[Wanted] = []
    in_place = 0
    for want in EVENTS:
        there = held.pop(want.name, None)
        if lacking.intersection(want.scopes):
            # One that stands there is left: what it tells of can be read once the scope is back.
            barred.append(want)
        elif there is None:
            creates.append(want)
        elif same_address(there.uri, address):
            in_place += 1
        else:
            updates.append((there, want))
    return Plan(
        creates=tuple(creates),
        updates=tuple(updates),
        deletes=tuple(one for one in held.values() if same_address(one.uri, address)),
        in_place=in_place,
        barred=tuple(barred),
    )


def missing_scopes(granted: Iterable[str]) -> tuple[str, ...]:
    """What is needed and was not granted; nothing where it is not known what was.

    A token that was brought along from elsewhere does not say what it may be used for.
    """
    held = frozenset(granted)
    return tuple(scope for scope in SCOPES if scope not in held) if held else ()


def problems(made: Plan, missing: Iterable[str], shop: str) -> tuple[str, ...]:
    """What stands in a shop's way, each with what a person does about it. `shop` is the handle."""
    return tuple(
        _how_to_grant(scope, shop, [one.topic for one in made.barred if scope in one.scopes])
        for scope in missing
    )


def _how_to_grant(scope: str, shop: str, events: Iterable[str]) -> str:
    silent = ", ".join(events)
    cost = f" (without it nothing is sent of {silent})" if silent else ""
    return (
        f"{scope} is not granted{cost}: enable it for the app in Partner Center, then have the"
        f" seller agree again with `tidewire connect tiktok-shop --shop {shop}`"
    )

"""Which webhooks a store has to send, and what to change where it does not. Pure.

The topics are Shopify's. What plans knows nothing of a provider: another one brings a table of its
own.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from services.auth.domain.scopes import Use, how_to_grant, with_implied

_FILTERED_FIELD: Final = re.compile(r"([a-z_]+)[a-z_.]*:")
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A topic that a store has to send."""

    topic: str
    """`orders/create`."""
    scopes: tuple[str, ...] = ()
    """Any of these lets an app subscribe; none: every app may."""
    include_fields: tuple[str, ...] = ()
    """Only these fields; none: all. See `fields`."""
    filter: str = ""
    """Shopify's search syntax; empty: everything is sent."""

    @property
    def name(self) -> str:
        """As in GraphQL: `ORDERS_CREATE`."""
        return self.topic.upper().replace("/", "_")

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields to ask for, sorted; none: all.

        What is filtered on has to be among them. So has `updated_at`, which orders versions:
        without it Shopify also takes two different changes for one and sends the first alone.
        """
        if not self.include_fields:
            return ()
        filtered = _FILTERED_FIELD.findall(self.filter)
        return tuple(sorted({*self.include_fields, *filtered, "updated_at"}))


@dataclass(frozen=True, slots=True)
class Found:
    """A subscription as it stands at the store."""

    subscription_id: str
    name: str
    """`ORDERS_CREATE`."""
    uri: str
    include_fields: tuple[str, ...] = ()
    filter: str = ""
    format: str = "JSON"
    api_version: str = ""
    """In which bodies are written. The app's own setting decides it; a subscription cannot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to change at a store, and what cannot be changed from here."""

    creates: tuple[Wanted, ...] = ()
    updates: tuple[tuple[Found, Wanted], ...] = ()
    deletes: tuple[Found, ...] = ()
    """Ours that nobody wants, or that stand there twice."""
    in_place: int = 0
    """Topics that are subscribed to as wanted."""
    barred: tuple[Wanted, ...] = ()
    """Not subscribed to, since their scope is not granted. Trying would be refused."""
    other_versions: tuple[str, ...] = ()
    """Versions of bodies that ours are sent in, other than the one asked for."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.creates or self.updates or self.deletes)


def _wanted(topics: str, *scopes: str) -> tuple[Wanted, ...]:
    return tuple(Wanted(topic, scopes) for topic in topics.split())


LIFECYCLE: Final = _wanted("app/uninstalled app/scopes_update shop/update")
_ORDERS: Final = _wanted(
    # `orders/updated` tells of edits and fulfilments too, with the whole order.
    "orders/create orders/updated orders/paid orders/cancelled orders/delete refunds/create",
    "read_orders",
)
_BASKETS: Final = _wanted(
    "checkouts/create checkouts/update carts/create carts/update", "read_orders"
)
_PRODUCTS: Final = _wanted("products/create products/update products/delete", "read_products")
_LEVELS: Final = _wanted(
    "inventory_levels/update inventory_levels/connect inventory_levels/disconnect",
    "read_inventory",
)
_ITEMS: Final = _wanted(
    "inventory_items/create inventory_items/update inventory_items/delete",
    "read_inventory",
    "read_products",
)
_EXPORTS: Final = _wanted("bulk_operations/finish")
_FULFILLMENTS: Final = _wanted("fulfillments/create fulfillments/update", "read_fulfillments")

_BY_USE: Final = {
    Use.EVENTS: (*_ORDERS, *_BASKETS),
    Use.CATALOG: (*_PRODUCTS, *_LEVELS, *_ITEMS, *_EXPORTS),
    Use.TIKTOK_SHOP: (*_ORDERS, *_FULFILLMENTS, *_PRODUCTS, *_LEVELS, *_ITEMS),
}

COMPLIANCE_TOPICS: Final = ("customers/data_request", "customers/redact", "shop/redact")
"""Only an app's configuration can subscribe to these."""


def wanted_topics(uses: Collection[Use]) -> tuple[Wanted, ...]:
    """What a store that is used so has to send; each topic once, always in the same order."""
    chosen = dict.fromkeys(LIFECYCLE)
    for use, topics in _BY_USE.items():
        if use in uses:
            chosen |= dict.fromkeys(topics)
    return tuple(chosen)


def plan(
    wanted: Iterable[Wanted],
    found: Iterable[Found],
    address: str,
    *,
    granted: Iterable[str],
    api_version: str = "",
) -> Plan:
    """What makes the subscriptions that point at `address` those wanted. Others are not ours."""
    held = with_implied(granted)
    ours: defaultdict[str, list[Found]] = defaultdict(list)
    for one in found:
        if same_address(one.uri, address):
            ours[one.name].append(one)
    versions = {one.api_version for some in ours.values() for one in some}
    creates: list[Wanted] = []
    updates: list[tuple[Found, Wanted]] = []
    deletes: list[Found] = []
    barred: list[Wanted] = []
    in_place = 0
    for want in wanted:
        some = _best_first(ours.pop(want.name, ()), want)
        deletes += some[1:]
        if want.scopes and not held.intersection(want.scopes):
            # One that stands there is left: Shopify sends nothing until the scope is back.
            barred.append(want)
        elif not some:
            creates.append(want)
        elif _is_as_wanted(some[0], want):
            in_place += 1
        else:
            updates.append((some[0], want))
    deletes += [one for some in ours.values() for one in some]
    return Plan(
        creates=tuple(creates),
        updates=tuple(updates),
        deletes=tuple(deletes),
        in_place=in_place,
        barred=tuple(barred),
        other_versions=tuple(sorted(versions - {"", api_version})) if api_version else (),
    )


def healed(before_in_place: int, made: Plan) -> int:
    """How many of the subscriptions that `made` makes right were right at the last look.

    What is wanted since then is new, not healed.
    """
    changed = len(made.creates) + len(made.updates)
    return min(changed, max(0, before_in_place - made.in_place))


def problems(made: Plan, missing: Iterable[str], shop: str, *, api_version: str) -> tuple[str, ...]:
    """What stands in a store's way, each with what a person does about it.

    `missing` are scopes, and `shop` is its myshopify domain.
    """
    silent = {scope: [one.topic for one in made.barred if scope in one.scopes] for scope in missing}
    unasked = [one for one in made.barred if not silent.keys() & set(one.scopes)]
    return (
        *(how_to_grant(scope, shop, topics) for scope, topics in silent.items()),
        *(how_to_grant(one.scopes[0], shop, [one.topic]) for one in unasked),
        *(
            f"webhooks are written in version {other}, not {api_version}: set `api_version` under"
            " `[webhooks]` in the app's configuration and release that"
            for other in made.other_versions
        ),
    )


def same_address(one: str, other: str) -> bool:
    """Whether two addresses are the same place."""
    return _canonical(one) == _canonical(other)


def _canonical(uri: str) -> tuple[str, str, int | None, str, str]:
    try:
        parts = urlsplit(uri)
        scheme, port = parts.scheme.lower(), parts.port
    except ValueError:
        return "", "", None, uri, ""
    default = _DEFAULT_PORTS.get(scheme)
    if default is None:
        # An ARN and `pubsub://project:topic` are names, and case matters in them.
        return "", "", None, uri, ""
    return scheme, parts.hostname or "", port or default, parts.path.rstrip("/"), parts.query


def _best_first(some: Sequence[Found], want: Wanted) -> list[Found]:
    return sorted(some, key=lambda one: (not _is_as_wanted(one, want), one.subscription_id))


def _is_as_wanted(one: Found, want: Wanted) -> bool:
    return (
        one.format.upper() == "JSON"
        and one.filter == want.filter
        and tuple(sorted(one.include_fields)) == want.fields
    )

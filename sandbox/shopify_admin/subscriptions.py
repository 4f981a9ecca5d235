"""Webhook subscriptions of each app at each shop: made, changed, listed and ended by GraphQL.

The wording of the refusals is Shopify's own, as recorded (contracts: shopify.md 1.4).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from sandbox.oauth.apps import is_loopback
from sandbox.shopify_admin.access import Caller
from sandbox.shopify_admin.shapes import gid, windowed

Json = dict[str, Any]

_URI_MAX: Final = 65_535
_SHOPIFYS: Final = ("shopify.com", "myshopify.com", "shopifypreview.com", "myshopify.dev")
_INTERNAL: Final = re.compile(r"localhost|(127|10|0)\..*|192\.168\..*|172\.(1[6-9]|2\d|3[01])\..*")
_PUBSUB: Final = re.compile(
    r"pubsub://[a-z][a-z0-9-]{4,28}[a-z0-9]:[A-Za-z][A-Za-z0-9._~+%-]{2,254}"
)
_ARN: Final = re.compile(r"arn:aws:events:[a-z0-9-]+::event-source/aws\.partner/shopify\.com/.+")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,50}")
_FILTER_FIELD: Final = re.compile(r"([A-Za-z_][\w.]*):")
_ADDRESS: Final = ["webhookSubscription", "callbackUrl"]

TAKEN: Final = "Address for this topic has already been taken"
UNKNOWN_ID: Final = "Webhook subscription does not exist"
NO_TOPIC: Final = "You cannot create a webhook subscription with the specified topic"

_SCOPES: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("PRODUCTS_", ("read_products",)),
    ("COLLECTIONS_", ("read_products",)),
    ("VARIANTS_", ("read_products",)),
    ("INVENTORY_LEVELS_", ("read_inventory",)),
    ("INVENTORY_ITEMS_", ("read_inventory", "read_products")),
    ("ORDERS_", ("read_orders", "read_marketplace_orders", "read_buyer_membership_orders")),
    ("REFUNDS_", ("read_orders",)),
    ("ORDER_TRANSACTIONS_", ("read_orders",)),
    ("CARTS_", ("read_orders",)),
    ("CHECKOUTS_", ("read_orders",)),
    ("FULFILLMENT_ORDERS_", ("read_fulfillment_orders", "read_merchant_managed_fulfillment_orders",
                             "read_assigned_fulfillment_orders")),
    ("FULFILLMENT_EVENTS_", ("read_fulfillments", "read_orders")),
    ("FULFILLMENTS_", ("read_fulfillments", "read_orders")),
    ("CUSTOMERS_", ("read_customers",)),
    ("LOCATIONS_", ("read_locations",)),
)  # fmt: skip
"""How a topic begins, and the scopes of which one is needed; any other topic needs none."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """One subscription."""

    number: int
    topic: str
    uri: str
    created_at_s: float
    updated_at_s: float
    format: str = "JSON"
    filter: str | None = None
    name: str | None = None
    include_fields: tuple[str, ...] = ()
    metafield_namespaces: tuple[str, ...] = ()
    metafields: tuple[tuple[str, str], ...] = ()

    @property
    def id(self) -> str:
        return gid("WebhookSubscription", self.number)

    def shown(self, api_version: str) -> Json:
        """As GraphQL has it."""
        return {
            "__typename": "WebhookSubscription",
            "id": self.id,
            "legacyResourceId": str(self.number),
            "topic": self.topic,
            "uri": self.uri,
            "callbackUrl": self.uri,
            "endpoint": _endpoint(self.uri),
            "format": self.format,
            "filter": self.filter,
            "name": self.name,
            "includeFields": list(self.include_fields),
            "metafieldNamespaces": list(self.metafield_namespaces),
            "metafields": [{"namespace": space, "key": key} for space, key in self.metafields],
            "apiVersion": {"handle": api_version, "displayName": api_version, "supported": True},
            "createdAt": _instant(self.created_at_s),
            "updatedAt": _instant(self.updated_at_s),
        }


@dataclass(slots=True)
class Subscriptions:
    """Those of one app at one shop."""

    loopback: bool
    """Loopback addresses are taken, http too."""

    held: dict[str, Subscription] = field(default_factory=dict)

    def resolvers(
        self, caller: Caller, api_version: str, now_s: float, numbers: Any
    ) -> tuple[Json, Json]:
        """The query roots and the mutations; `numbers` counts ids up."""

        def created(_info: object, topic: str, webhookSubscription: Json) -> Json:  # noqa: N803
            return self._create(caller, topic, webhookSubscription, api_version, now_s, numbers)

        def updated(_info: object, id: str, webhookSubscription: Json) -> Json:  # noqa: A002, N803
            return self._update(id, webhookSubscription, api_version, now_s)

        def deleted(_info: object, id: str) -> Json:  # noqa: A002
            gone = self.held.pop(id, None)
            errors = [] if gone else [_error(["id"], UNKNOWN_ID)]
            return {"deletedWebhookSubscriptionId": gone and gone.id, "userErrors": errors}

        def one(_info: object, id: str) -> Json | None:  # noqa: A002
            found = self.held.get(id)
            return found.shown(api_version) if found is not None else None

        roots = {
            "webhookSubscription": one,
            "webhookSubscriptions": self._listing(api_version),
            "webhookSubscriptionsCount": lambda _info, **_: {
                "count": len(self.held),
                "precision": "EXACT",
            },
        }
        mutations = {
            "webhookSubscriptionCreate": created,
            "webhookSubscriptionUpdate": updated,
            "webhookSubscriptionDelete": deleted,
        }
        return roots, mutations

    def _listing(self, api_version: str) -> Any:
        def resolve(  # GraphQL's names
            info: object,
            topics: list[str] | None = None,
            uri: str | None = None,
            callbackUrl: str | None = None,  # noqa: N803
            format: str | None = None,  # noqa: A002
            reverse: bool = False,  # noqa: FBT001, FBT002
            **page: Any,
        ) -> Json:
            address = uri or callbackUrl
            found = [
                each.shown(api_version)
                for each in self.held.values()
                if (topics is None or each.topic in topics)
                and address in {None, each.uri}
                and format in {None, each.format}
            ]
            return windowed(found[::-1] if reverse else found)(info, **page)

        return resolve

    def _create(  # what a mutation is given, each once
        self,
        caller: Caller,
        topic: str,
        asked: Json,
        api_version: str,
        now_s: float,
        numbers: Any,
    ) -> Json:
        if any(all(map(caller.lacks, scopes)) for scopes in _needed(topic)):
            return _refused([_error(["webhookSubscription"], NO_TOPIC)])
        uri = _uri_of(asked) or ""
        errors = self._errors(asked, uri)
        if errors:
            return _refused(errors)
        made = _changed(Subscription(next(numbers), topic, uri, now_s, now_s), asked, uri, now_s)
        if self._is_taken(made):
            return _refused([_error(_ADDRESS, TAKEN)])
        self.held[made.id] = made
        return {"webhookSubscription": made.shown(api_version), "userErrors": []}

    def _update(self, id_: str, asked: Json, api_version: str, now_s: float) -> Json:
        known = self.held.get(id_)
        if known is None:
            return _refused([_error(["id"], UNKNOWN_ID)])
        uri = _uri_of(asked)
        errors = self._errors(asked, known.uri if uri is None else uri)
        if errors:
            return _refused(errors)
        made = _changed(known, asked, known.uri if uri is None else uri, now_s)
        if self._is_taken(made):
            return _refused([_error(_ADDRESS, TAKEN)])
        self.held[id_] = made
        return {"webhookSubscription": made.shown(api_version), "userErrors": []}

    def _is_taken(self, made: Subscription) -> bool:
        return any(
            (one.topic, one.uri, one.format, one.filter)
            == (made.topic, made.uri, made.format, made.filter)
            for one in self.held.values()
            if one.id != made.id
        )

    def _errors(self, asked: Json, uri: str) -> list[Json]:
        errors = [_error(_ADDRESS, text) for text in self._address_errors(uri)]
        if asked.get("format") == "XML" and uri.startswith(("pubsub://", "arn:")):
            text = "Format can only be used with format: 'json'"
            errors.append(_error(["webhookSubscription", "format"], text))
        name = asked.get("name")
        if name is not None and not _NAME.fullmatch(name):
            text = "Name can only contain alphanumeric characters, underscores, and hyphens"
            errors.append(_error(["webhookSubscription", "name"], text))
        listed = asked.get("includeFields")
        used = _FILTER_FIELD.findall(asked.get("filter") or "")
        if listed and any(one not in listed and one.split(".")[0] not in listed for one in used):
            text = "The specified filter is invalid, please ensure you specify the field(s)"
            errors.append(
                _error(["webhookSubscription", "filter"], f"{text} you wish to filter on.")
            )
        return errors

    def _address_errors(self, uri: str) -> list[str]:
        if not uri:
            return ["Address can't be blank"]
        if self.loopback and is_loopback(uri):
            return []
        if len(uri) > _URI_MAX:
            return ["Address is too big (maximum is 64 KB)"]
        if uri.startswith("pubsub://"):
            return [] if _PUBSUB.fullmatch(uri) else ["Address is invalid"]
        if uri.startswith("arn:"):
            good = _ARN.fullmatch(uri)
            return [] if good else ["Address is invalid", "Address is not a valid AWS ARN"]
        try:
            parts = urlsplit(uri)
            host = (parts.hostname or "").rstrip(".")
        except ValueError:
            return ["Address is invalid"]
        if not parts.scheme or not host:
            return ["Address is invalid"]
        errors = []
        if parts.scheme != "https":
            errors.append(f"Address protocol {parts.scheme}:// is not supported")
        theirs = any(host == one or host.endswith(f".{one}") for one in _SHOPIFYS)
        if theirs or host == "::1" or _INTERNAL.fullmatch(host):
            errors.append("Address cannot be a Shopify or an internal domain")
        return errors


def _needed(topic: str) -> list[tuple[str, ...]]:
    return [scopes for begin, scopes in _SCOPES if topic.startswith(begin)][:1]


def _uri_of(asked: Mapping[str, Any]) -> str | None:
    """The address that is asked for; None where none is given."""
    found = asked.get("uri", asked.get("callbackUrl"))
    return None if found is None else str(found).strip()


def _changed(known: Subscription, asked: Json, uri: str, now_s: float) -> Subscription:
    made = replace(known, uri=uri, updated_at_s=now_s)
    if "format" in asked:
        made = replace(made, format=asked["format"] or "JSON")
    if "filter" in asked:
        made = replace(made, filter=asked["filter"] or None)
    if "name" in asked:
        made = replace(made, name=asked["name"] or None)
    if "includeFields" in asked:
        made = replace(made, include_fields=tuple(asked["includeFields"] or ()))
    if "metafieldNamespaces" in asked:
        spaces = tuple(asked["metafieldNamespaces"] or ())
        made = replace(made, metafield_namespaces=spaces)
    if "metafields" in asked:
        pairs = tuple((one["namespace"], one["key"]) for one in asked["metafields"] or ())
        made = replace(made, metafields=pairs)
    return made


def _endpoint(uri: str) -> Json:
    if uri.startswith("arn:"):
        return {"__typename": "WebhookEventBridgeEndpoint", "arn": uri}
    if uri.startswith("pubsub://"):
        project, _, topic = uri.removeprefix("pubsub://").partition(":")
        kind = "WebhookPubSubEndpoint"
        return {"__typename": kind, "pubSubProject": project, "pubSubTopic": topic}
    return {"__typename": "WebhookHttpEndpoint", "callbackUrl": uri}


def _refused(errors: list[Json]) -> Json:
    return {"webhookSubscription": None, "userErrors": errors}


def _error(field_: list[str], message: str) -> Json:
    return {"field": field_, "message": message}


def _instant(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

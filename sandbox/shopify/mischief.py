"""Deliveries that go wrong: unreadable though signed, readable though odd, or not signed well."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from sandbox.shopify.model import Delivery, JsonObject
from sandbox.shopify.signing import webhook_signature

# Ingest takes bodies up to 6 MiB; this one is correctly signed and too large.
OVERSIZED_BYTES = 6 * 1024 * 1024 + 1024
_NESTING = 100_000
# Both names of an order; with one of them left it could still be told apart.
_NAMELESS: JsonObject = {"id": None, "admin_graphql_api_id": None}


@dataclass(frozen=True)
class Unreadable:
    """A body that is correctly signed and cannot be understood under its topic."""

    kind: str
    topic: str
    body: bytes


def unreadable_bodies(
    order: JsonObject, product: JsonObject, level: JsonObject
) -> list[Unreadable]:
    """One of each kind that must be stored and then dead-lettered."""
    good = json.dumps(order, ensure_ascii=False).encode()
    nested = b"[" * _NESTING + b"]" * _NESTING
    return [
        Unreadable("malformed.not_json", "orders/paid", b"<html>we are moving</html>"),
        Unreadable("malformed.empty", "orders/updated", b""),
        Unreadable("malformed.truncated", "orders/paid", good[: len(good) // 2]),
        Unreadable("malformed.utf8", "orders/create", good.replace(b'"name"', b'"n\xff\xfee"', 1)),
        Unreadable("malformed.nested", "orders/paid", nested),
        Unreadable("malformed.nested_member", "orders/paid", b'{"id":1,"a":' + nested + b"}"),
        Unreadable("malformed.null", "orders/paid", b"null"),
        Unreadable("malformed.list", "orders/create", b"[" + good + b"]"),
        Unreadable("malformed.null_id", "orders/paid", _dumped({**order, **_NAMELESS})),
        Unreadable("wrong_topic.level_as_order", "orders/paid", _dumped(level)),
        Unreadable("wrong_topic.product_as_order", "orders/create", _dumped(product)),
        Unreadable("wrong_topic.order_as_level", "inventory_levels/update", good),
    ]


def odd_marks(rng: Random) -> tuple[tuple[str, object], ...]:
    """Two odd fields for an otherwise good order; none of them may cost the order."""
    oddities: tuple[tuple[str, object], ...] = (
        ("customer", None),
        ("customer", "guest"),
        ("client_details", None),
        ("client_details", "none"),
        ("shipping_address", []),
        ("billing_address", 5),
        ("note_attributes", None),
        ("note_attributes", [None, {"name": None, "value": 3}, "ttclid"]),
        ("discount_codes", None),
        ("landing_site", 12),
        ("phone", {"raw": "none"}),
        ("email", ["a@example.com"]),
        ("tags", 7),
        ("test", None),
        ("total_tax", 1.5),
        ("total_weight", 2**70),
        ("closed_at", "yesterday"),
        ("refunds", None),
        ("fulfillments", {}),
        ("tax_lines", None),
        ("customer_locale", False),
        ("order_number", "one"),
    )
    return tuple(rng.sample(oddities, 2))


def forged(rng: Random, genuine: Delivery) -> Delivery:
    """The delivery with a signature that must be refused: 401, and the genuine one unharmed.

    The webhook id stays, so a receiver that remembers ids before it verifies loses the real one.
    """
    spoil = rng.choice(_SPOILERS)
    return replace(spoil(genuine), kind="forged", expected_status=401)


def unsigned(genuine: Delivery) -> Delivery:
    """The delivery without its signature header: 401."""
    headers = tuple(pair for pair in genuine.headers if not _is_signature(pair[0]))
    return replace(genuine, headers=headers, kind="unsigned", expected_status=401)


def _other_secret(genuine: Delivery) -> Delivery:
    return _with_signature(genuine, webhook_signature("somebody-else", genuine.body))


def _other_body(genuine: Delivery) -> Delivery:
    return replace(genuine, body=genuine.body + b" ")


def _cut_short(genuine: Delivery) -> Delivery:
    return _with_signature(genuine, _signature(genuine)[:-5])


def _in_hex(genuine: Delivery) -> Delivery:
    return _with_signature(genuine, base64.b64decode(_signature(genuine)).hex())


def _blank(genuine: Delivery) -> Delivery:
    return _with_signature(genuine, "")


def _nonsense(genuine: Delivery) -> Delivery:
    return _with_signature(genuine, "not base64 at all")


_SPOILERS: tuple[Callable[[Delivery], Delivery], ...] = (
    _other_secret,
    _other_body,
    _cut_short,
    _in_hex,
    _blank,
    _nonsense,
)


def _signature(delivery: Delivery) -> str:
    return delivery.header("hmac-sha256") or ""


def _with_signature(delivery: Delivery, signature: str) -> Delivery:
    headers = tuple(
        (name, signature if _is_signature(name) else value) for name, value in delivery.headers
    )
    return replace(delivery, headers=headers)


def _is_signature(name: str) -> bool:
    return name.lower().endswith("shopify-hmac-sha256")


def _dumped(body: JsonObject) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()

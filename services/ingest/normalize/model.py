"""What normalising takes and gives: the shop, the delivery, the resource, the state, the facts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from tidewire.commerce.v1 import fact_pb2, order_pb2, record_pb2

Fields = dict[str, Any]
"""Keyword arguments of a protobuf message, nested messages included.

Whole trees of them go into one constructor: a message handed to another message is copied, and an
order of forty messages would be copied level by level. Trees may share parts, so nobody writes to
one that is built.
"""


@dataclass(frozen=True, slots=True)
class ShopContext:
    """The shop that a delivery claims to come from, as its connections know it."""

    shop: str
    """Handle: the first label of its myshopify.com domain."""
    country: str
    """ISO 3166-1 alpha-2; empty where unknown. Reads local telephone numbers."""
    currency: str
    """ISO 4217. Read where a body names none."""


@dataclass(frozen=True, slots=True)
class DeliveryMeta:
    """What is known of a delivery besides its body."""

    body_hash: int
    """First 8 bytes of the body's SHA-256, big-endian."""
    received_at: Timestamp
    """When the request had arrived."""
    triggered_at: Timestamp | None = None
    """When Shopify triggered it; None where it did not say."""


class Part(Enum):
    """How much of a resource a delivery tells."""

    WHOLE = "whole"
    SCOPES = "scopes"
    """A shop's granted scopes and nothing else."""
    UNINSTALLED = "uninstalled"
    """A whole shop that has removed the app."""


@dataclass(frozen=True, slots=True)
class Normalized:
    """One delivery, understood. `message` is None for a deletion and only then."""

    kind: record_pb2.ResourceKind.ValueType
    resource_id: str
    version: record_pb2.Version
    message: Message | None
    deleted: bool = False
    flags: tuple[order_pb2.Flag, ...] = ()
    part: Part = Part.WHOLE
    read_back: bool = False
    """Read from the Admin API: it lacks fields that webhooks have (`graphql.LACKED`)."""


@dataclass(frozen=True, slots=True)
class TopicNotUsed:
    """A delivery that is stored and otherwise not used. `reason` is stable and greppable."""

    topic: str
    reason: str = "topic_not_used"


@dataclass(frozen=True, slots=True)
class StateView:
    """The newest version of one resource, unsealed.

    A tombstone (`deleted`) of an order keeps a message of its id, `paid`, `cancelled_at` and
    `closed_at`, so that a delivery that comes after the deletion cannot pay or cancel it twice;
    every other tombstone has no message. A redacted one is never written again.
    """

    kind: record_pb2.ResourceKind.ValueType
    resource_id: str
    version: record_pb2.Version
    deleted: bool
    redacted: bool
    message: Message | None
    tied: bool = False
    """Another body carried the same `updated_at`: re-read the resource from Shopify."""
    told: record_pb2.Version | None = None
    """Version of the newest delivery that was a webhook; an order has its details from that one.
    None where that is `version`; empty where every delivery so far was read back."""


@dataclass(frozen=True, slots=True)
class NewFact:
    """Something that happened. `kind` is the name of the field that `fact` sets."""

    kind: str
    fact_id: str
    fact: fact_pb2.Fact


@dataclass(frozen=True, slots=True)
class Applied:
    """What a delivery does to the state. `new_state` is None where it changes nothing."""

    new_state: StateView | None
    facts: tuple[NewFact, ...]
    result: record_pb2.SeenResult.ValueType

"""Deliveries on their way through the normalizer, and the segments they came in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tidewire.ingest.v1 import delivery_pb2


@dataclass(slots=True)
class OpenSegment:
    """A message of WEBHOOKS (or a parked delivery) that is not settled yet."""

    sequence: int
    acknowledge: Callable[[], Awaitable[None]]
    still_working: Callable[[], Awaitable[None]]
    postpone: Callable[[], Awaitable[None]]
    """Has it delivered again after a while."""
    remaining: int
    postponed: bool = field(default=False, kw_only=True)
    """Whether a delivery of it could not be dealt with now. The others are found to be done."""
    size_bytes: int
    received_s: float
    committing_ns: int
    stored_ns: int
    """When the stream had it, by the server's clock; the end of the receiving span."""


@dataclass(frozen=True, slots=True)
class Job:
    """One delivery of a segment."""

    segment: OpenSegment
    index: int
    delivery: delivery_pb2.Delivery

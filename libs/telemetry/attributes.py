"""Every attribute that a span may carry, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

AttributeValue = str | int | float | bool

ID_ATTRIBUTES: Final[Mapping[str, str]] = {
    "delivery_id": "the webhook id that the sender gave a delivery",
    "resource_id": "an order's, product's or other resource's id at its owner",
    "fact_id": "the id of a fact",
    "event_id": "the id under which an event is sent upstream",
    "segment_id": "the id of a group commit",
    "request_id": "the id that a caller gave its request, or an upstream its answer",
}
"""Attributes that name one thing: a trace can be found by their values."""

ATTRIBUTES: Final[Mapping[str, str]] = {
    **ID_ATTRIBUTES,
    "attempt": "number of this try, from 1",
    "batch_size": "units in the batch",
    "bytes": "size of what was read or written",
    "code": "the upstream's own code",
    "connection": "id of the connection",
    "dialect": "wire shape in use",
    "duplicate": "whether it was seen before",
    "durable": "name of the durable consumer",
    "error.code": "stable code of the error",
    "error.kind": "what to do about the error",
    "event_name": "name of the event upstream",
    "facts": "number of facts published",
    "http.request.method": "method of the request",
    "http.response.status_code": "status of the answer",
    "kind": "kind of resource or fact",
    "lane": "number of the lane",
    "marked": "how the delivery came, when not by webhook: injected, reconciled, replayed",
    "messaging.destination.name": "stream or subject prefix, without the part that names a shop",
    "outcome": "how a delivery or event ended",
    "reason": "why it was ignored, refused or set aside",
    "retries": "tries after the first",
    "rpc.code": "status code of the call",
    "rpc.method": "full method name",
    "sequence": "number in the stream",
    "shop": "domain of the shop, which is a business and no person",
    "sink": "where an event goes",
    "source": "who sent the delivery",
    "topic": "what the delivery says it is about",
    "upstream": "name of the service called",
    "url.path": "path of the request, without its query",
    "verdict": "what became of the message",
    "waited_ms": "time spent waiting for a turn",
}
"""Every attribute a span may carry. None may hold a secret, or a person's data."""

"""Webhook bodies as versioned resources, and facts from what was stored and what is new.

Pure: no IO, no await, no clock. It builds the generated messages itself, because a layer of
dataclasses between would cost more than the whole transform may.
"""

from services.ingest.normalize.bodies import parse_body
from services.ingest.normalize.model import (
    Applied,
    DeliveryMeta,
    NewFact,
    Normalized,
    Part,
    ShopContext,
    StateView,
    TopicNotUsed,
)
from services.ingest.normalize.sequence import DETAILS, apply, compare
from services.ingest.normalize.topics import TOPICS, normalize

__all__ = [
    "DETAILS",
    "TOPICS",
    "Applied",
    "DeliveryMeta",
    "NewFact",
    "Normalized",
    "Part",
    "ShopContext",
    "StateView",
    "TopicNotUsed",
    "apply",
    "compare",
    "normalize",
    "parse_body",
]

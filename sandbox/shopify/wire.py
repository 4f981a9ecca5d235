"""From something that happened in a shop to the bytes and headers that Shopify posts."""

from __future__ import annotations

import gzip
import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random

from sandbox.shopify.model import Delivery, JsonObject, Shop
from sandbox.shopify.signing import webhook_signature

API_VERSION = "2026-10"
CHUNKED = ("Transfer-Encoding", "chunked")
"""A delivery with this header is sent in chunks."""

_NEWER_NAMES_SHARE = 0.1


@dataclass(frozen=True)
class Told:
    """One thing that Shopify tells of. `at` is when it was triggered, to the microsecond.

    Things told of one merchant action share `event_id`.
    """

    topic: str
    body: JsonObject
    at: datetime
    event_id: str
    kind: str


def random_uuid(rng: Random) -> str:
    """A version 4 UUID that the seed decides."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def triggered_at(at: datetime, rng: Random) -> str:
    """The header's form: UTC with nine fractional digits."""
    whole = at.astimezone(UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{whole.microsecond:06d}{rng.randrange(1000):03d}Z"


def serialised(body: object, rng: Random) -> bytes:
    """`body` as JSON in one of the forms that Shopify has been seen to send.

    No one re-serialisation reproduces them all, which is why only wire bytes can be verified.
    """
    draw = rng.random()
    if draw < 0.15:
        return json.dumps(body, indent=2, ensure_ascii=False).encode()
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=draw < 0.3)
    if draw < 0.85:
        text = text.replace("/", "\\/")
    return text.encode()


@dataclass(frozen=True)
class Parcel:
    """Bytes to be signed and addressed as they are, whatever they hold."""

    topic: str
    body: bytes
    at: datetime
    kind: str
    event_id: str | None = None
    extra_headers: tuple[tuple[str, str], ...] = ()
    expected_status: int = 200


class Dispatcher:
    """Signs and addresses deliveries; all its choices come from `rng`."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng

    def deliver(self, shop: Shop, told: Told) -> Delivery:
        """The delivery of one thing told, correctly signed."""
        body = serialised(told.body, self._rng)
        return self.post(shop, Parcel(told.topic, body, told.at, told.kind, told.event_id))

    def deliver_gzipped(self, shop: Shop, told: Told) -> Delivery:
        """The same with a compressed body; the signature covers the compressed bytes."""
        body = gzip.compress(serialised(told.body, self._rng), mtime=0)
        coding = (("Content-Encoding", "gzip"),)
        return self.post(shop, Parcel(told.topic, body, told.at, told.kind, told.event_id, coding))

    def post(self, shop: Shop, parcel: Parcel) -> Delivery:
        """A correctly signed delivery of the parcel's bytes."""
        # During a rotation some deliveries still carry the older secret's signature.
        secret = shop.secrets[-1] if self._rng.random() < 0.05 else shop.secrets[0]
        values = {
            "Topic": parcel.topic,
            "Hmac-Sha256": webhook_signature(secret, parcel.body),
            "Shop-Domain": shop.domain,
            "API-Version": API_VERSION,
            "Webhook-Id": random_uuid(self._rng),
            "Event-Id": parcel.event_id or random_uuid(self._rng),
            "Triggered-At": triggered_at(parcel.at, self._rng),
        }
        headers = (*self._names(values), *parcel.extra_headers)
        return Delivery(
            shop.domain, parcel.topic, headers, parcel.body, parcel.kind, parcel.expected_status
        )

    def _names(self, values: dict[str, str]) -> tuple[tuple[str, str], ...]:
        common = (
            ("User-Agent", "Shopify-Captain-Hook"),
            ("Accept", "*/*"),
            ("Accept-Encoding", "gzip"),
            ("Content-Type", "application/json"),
        )
        if self._rng.random() >= _NEWER_NAMES_SHARE:
            return (*common, *((f"X-Shopify-{name}", value) for name, value in values.items()))
        newer = {name: value for name, value in values.items() if name != "Event-Id"}
        return (*common, *((f"shopify-{name.lower()}", value) for name, value in newer.items()))

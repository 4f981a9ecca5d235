"""The words of the sandbox's Shopify side: a shop, what it sells, a delivery."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import TypeAlias

JsonObject: TypeAlias = dict[str, object]


@dataclass(frozen=True)
class Shop:
    """A store that sends deliveries. `secrets` are good for signing, the newest first."""

    domain: str
    secrets: tuple[str, ...]
    country: str
    currency: str
    active_since: datetime

    def __repr__(self) -> str:
        return f"Shop({self.domain!r}, {self.country}, {self.currency})"


@dataclass(frozen=True)
class Delivery:
    """One HTTP request that Shopify makes.

    `headers` are in wire order, names as sent. `kind` says what the generator had in mind.
    `expected_status` is what a correct receiver answers when it can store.
    """

    shop: str
    topic: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    kind: str
    expected_status: int = 200

    def header(self, suffix: str) -> str | None:
        """The `X-Shopify-<suffix>` header, in its older or newer name; None where absent."""
        wanted = {f"x-shopify-{suffix.lower()}", f"shopify-{suffix.lower()}"}
        return next((value for name, value in self.headers if name.lower() in wanted), None)

    @property
    def webhook_id(self) -> str:
        """The id by which Shopify's retries are known; empty where the header is missing."""
        return self.header("webhook-id") or ""

    def __repr__(self) -> str:
        return f"Delivery({self.shop!r}, {self.topic!r}, {self.kind!r}, {len(self.body)} B)"


@dataclass(frozen=True)
class Variant:
    """One thing on the shelf. The price is in minor units of the shop's currency."""

    variant_id: int
    inventory_item_id: int
    title: str
    sku: str | None
    price_minor: int


@dataclass(frozen=True)
class Product:
    product_id: int
    title: str
    handle: str
    vendor: str
    variants: tuple[Variant, ...]


@dataclass(frozen=True)
class Line:
    """`quantity` of a variant; the discount is for the whole line, in minor units."""

    line_id: int
    product: Product
    variant: Variant
    quantity: int
    discount_minor: int = 0

    @property
    def total_minor(self) -> int:
        """What the line costs before its discount."""
        return self.variant.price_minor * self.quantity


class Ids:
    """Shopify-like numbers, all different and below 2^53."""

    def __init__(self, rng: Random, first: int) -> None:
        self._rng = rng
        self._next = first

    def take(self) -> int:
        """The next number, a little above the last."""
        self._next += self._rng.randrange(1, 98)
        return self._next


def stamp(at: datetime, offset_minutes: int) -> str:
    """`at` to the second, with the shop's own offset, as most fields have it."""
    zone = timezone(timedelta(minutes=offset_minutes))
    return at.astimezone(zone).replace(microsecond=0).isoformat()


def stamp_z(at: datetime, *, fraction: bool = False) -> str:
    """`at` in UTC with a `Z`, to the second or to the millisecond."""
    spec = "milliseconds" if fraction else "seconds"
    return at.astimezone(UTC).isoformat(timespec=spec).replace("+00:00", "Z")

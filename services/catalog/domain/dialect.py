"""What a dialect is: how items look on the wire, where they are sent, and how many at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.catalog.domain.items import Item
from services.catalog.domain.settings import CatalogSettings


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request of a dialect, without host and credentials."""

    method: str
    path: str
    """With its query, where it has one."""
    body: bytes
    limits: tuple[str, ...]
    """Names of the limits that it counts under."""


class Dialect(Protocol):
    """Pure functions from items to requests."""

    @property
    def uploads_max(self) -> int:
        """Items in one request."""

    @property
    def deletes_max(self) -> int:
        """Ids in one request."""

    def encode(self, item: Item) -> bytes:
        """The item as JSON, always the same bytes for the same item."""

    def upload(self, catalog: CatalogSettings, items: Sequence[bytes]) -> HttpRequest:
        """Creates or replaces items that `encode` has made."""

    def delete(self, catalog: CatalogSettings, sku_ids: Sequence[str]) -> HttpRequest:
        """Takes items out."""

"""Keys of the bucket `catalog_sync`. By lane, so that an owner of a lane reads what is its own."""

from __future__ import annotations

from typing import Final

from libs.bus import subjects
from libs.bus.subjects import token

STREAM: Final = subjects.bucket_stream(subjects.CATALOG_SYNC)


def source(shop: str, product_id: str) -> str:
    """A product as it is known."""
    return _key(f"source.{subjects.lane(shop)}.{token(shop)}.{token(product_id)}")


def sources(shop: str) -> str:
    """All products of a shop."""
    return _key(f"source.{subjects.lane(shop)}.{token(shop)}.*")


def sync(shop: str, connection_id: str, product_id: str) -> str:
    """A product's items in one catalog."""
    return _key(f"sync.{subjects.lane(shop)}.{token(connection_id)}.{token(product_id)}")


def syncs(shop: str, connection_id: str) -> str:
    """All items of one catalog."""
    return _key(f"sync.{subjects.lane(shop)}.{token(connection_id)}.*")


def status(shop: str, connection_id: str) -> str:
    """How a catalog is."""
    return _key(f"status.{subjects.lane(shop)}.{token(connection_id)}")


def flight(shop: str, connection_id: str) -> str:
    """The submit that a catalog has under way."""
    return _key(f"flight.{subjects.lane(shop)}.{token(connection_id)}")


def late(shop: str, connection_id: str) -> str:
    """What was last sent to a catalog by somebody who no longer owned its lane."""
    return _key(f"late.{subjects.lane(shop)}.{token(connection_id)}")


def late_in(lane: int) -> str:
    """The same of all catalogs of a lane."""
    return _key(f"late.{lane}.*")


def run(shop: str) -> str:
    """The newest sync of a shop."""
    return _key(f"run.{subjects.lane(shop)}.{token(shop)}")


def runs_in(lane: int) -> str:
    """The newest syncs of all shops of a lane."""
    return _key(f"run.{lane}.*")


def shop(handle: str) -> str:
    """What is known of a shop itself."""
    return _key(f"shop.{subjects.lane(handle)}.{token(handle)}")


def product_of(subject: str) -> str:
    """The product that a key of `source` or `sync` is about."""
    return subjects.text_of(subject.rpartition(".")[2])


def lease(lane: int) -> str:
    """Name of the lease of a lane's owner."""
    return f"catalog.lane.{lane}"


def _key(key: str) -> str:
    return subjects.in_bucket(subjects.CATALOG_SYNC, key)

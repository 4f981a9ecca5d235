"""What is stored beside products and items: shops, syncs, catalogs, and submits under way.

Structs in msgpack; a field is added with a default and never given another meaning. Large ones are
compressed. Times are nanoseconds since 1970, 0 where there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from libs.zstd import Zstd
from services.catalog.domain.model import Product
from services.catalog.domain.states import SyncPhase
from services.catalog.domain.sync import SyncProduct


class Run(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A sync of a shop: asked for, under way, or the last one that there was."""

    run_id: str
    shop: str
    kind: int
    phase: int = SyncPhase.QUEUED
    operation_id: str = ""
    """Of the bulk operation at Shopify."""
    begun_ns: int = 0
    """When the export was asked for: what changed later is newer than it."""
    resend_before_ns: int = 0
    """Items that were taken before are sent again."""
    take_out_many: bool = False
    """Somebody has said that it is right that most products are gone."""
    products_total: int = 0
    products_done: int = 0
    items: int = 0
    items_changed: int = 0
    items_deleted: int = 0
    tries: int = 0
    started_ns: int = 0
    ended_ns: int = 0
    error: str = ""
    full_ended_ns: int = 0
    """When the last full one came to its end, whatever this one is; so the next three."""
    read_as: str = ""
    """Digest of what was wanted of Shopify then."""
    mapped_as: str = ""
    """Digest of the settings, shop and rates that all items were last mapped with."""
    compared_read_as: str = ""
    """As `read_as`, of this one; counts once it has come to its end."""
    compared_mapped_as: str = ""
    resent_ns: int = 0
    """When items were last sent again so that they do not expire."""
    former_operation_id: str = ""
    """Of the bulk operation of the last sync before: it is none of this one's."""


class ShopRecord(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What is known of a shop itself."""

    currency: str = ""
    domain: str = ""
    country: str = ""
    language: str = ""


class Status(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """How a catalog is, as its sender last told."""

    states: Mapping[int, int] = {}
    """Items by state."""
    waiting: int = 0
    in_flight: int = 0
    last_submit_ns: int = 0
    next_submit_ns: int = 0
    """While items wait for the spacing; else 0."""
    spacing_s: float = 0.0
    """Learnt from TikTok where it asked for more than the settings say."""
    held_by: str = ""
    held_note: str = ""
    next_resend_ns: int = 0


class FlightItem(msgspec.Struct, frozen=True, array_like=True):
    """One item of a submit."""

    product_id: str
    sku_id: str
    digest: int
    availability: int


class Flight(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A submit under way: written before its request leaves, and again with TikTok's answer."""

    act: str
    items: tuple[FlightItem, ...]
    sent_ns: int
    feed_log_id: str = ""
    """Empty: the request may have left, and what became of it is not known."""
    over: bool = False
    """Nothing is under way any more."""


_COMPRESSED_FROM_BYTES: Final = 16 * 1024
"""An ordinary product is smaller, and is not made to pay for those of 2,048 variants: in a seed
that would be a hundredth of its time."""

_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
"""No struct begins so: to msgpack its first byte is a number."""

_zstd = Zstd()

_ENCODER: Final = msgspec.msgpack.Encoder()
_PRODUCTS: Final = msgspec.msgpack.Decoder(Product)
_SYNCS: Final = msgspec.msgpack.Decoder(SyncProduct)
_RUNS: Final = msgspec.msgpack.Decoder(Run)
_SHOPS: Final = msgspec.msgpack.Decoder(ShopRecord)
_STATUSES: Final = msgspec.msgpack.Decoder(Status)
_FLIGHTS: Final = msgspec.msgpack.Decoder(Flight)


def encode(record: msgspec.Struct) -> bytes:
    """A record as it is stored."""
    data = _ENCODER.encode(record)
    return data if len(data) < _COMPRESSED_FROM_BYTES else _zstd.compressor.compress(data)


def product(data: bytes) -> Product:
    return _PRODUCTS.decode(_plain(data))


def sync_product(data: bytes) -> SyncProduct:
    return _SYNCS.decode(_plain(data))


def run(data: bytes) -> Run:
    return _RUNS.decode(_plain(data))


def shop(data: bytes) -> ShopRecord:
    return _SHOPS.decode(_plain(data))


def status(data: bytes) -> Status:
    return _STATUSES.decode(_plain(data))


def flight(data: bytes) -> Flight:
    return _FLIGHTS.decode(_plain(data))


def _plain(data: bytes) -> bytes:
    return _zstd.decompressor.decompress(data) if data.startswith(_ZSTD_MAGIC) else data

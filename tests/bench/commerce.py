"""Paid orders as facts in COMMERCE, written as ingest writes them."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from nats.aio.client import Client

from libs.bus import streams, subjects
from libs.bus.commit_log import Entry
from libs.bus.jetstream_log import JetStreamLog
from libs.clock import SystemClock
from libs.foundation import connected
from libs.ids import RandomIds
from libs.keys import KvKeySource, load_kek
from libs.resources import FACT_TTL_S
from libs.vault import Vault
from sandbox.shopify.model import Shop
from services.ingest.normalize import DeliveryMeta, Normalized, ShopContext, apply, normalize
from tests.bench.bed import STREAM_SCALE_MIB, Bed
from tests.bench.load import paid_orders
from tests.bench.shops import COUNTRY, CURRENCY, handle_of, pixel_of
from tidewire.commerce.v1 import fact_pb2, record_pb2

_BATCH: Final = 250
_KEYS_WITHIN_S: Final = 120.0
"""A thousand shops get their first key at once, three synced writes each."""


async def store_facts(bed: Bed, shops: Sequence[Shop], count: int, now: datetime) -> float:
    """Writes `count` paid orders into COMMERCE, the shops' in turn; gives their mean bytes."""
    client = await connected(bed.nats.url)
    try:
        await streams.create_missing(client, replicas=bed.nats.count, scale_mib=STREAM_SCALE_MIB)
        vault = await _vault(client, bed)
        await vault.prepare(map(handle_of, shops))
        log = JetStreamLog(client, subjects.COMMERCE, RandomIds(SystemClock()))
        entries = list(_entries(vault, shops, count, now))
        for start in range(0, count, _BATCH):
            await log.commit(entries[start : start + _BATCH])
    finally:
        await client.close()
    return sum(len(entry.data) for entry in entries) / count


async def _vault(client: Client, bed: Bed) -> Vault:
    kek = load_kek(bed.kek_file)
    return Vault(await KvKeySource.open(client.jetstream(), kek, timeout_s=_KEYS_WITHIN_S))


def _entries(vault: Vault, shops: Sequence[Shop], count: int, now: datetime) -> Iterator[Entry]:
    bodies = paid_orders(count, now)
    for number, (body, shop) in enumerate(zip(bodies, itertools.cycle(shops), strict=False)):
        fact = _paid(body, handle_of(shop), now)
        record = record_pb2.FactRecord(
            fact_id=fact.order_paid.order.order_id,
            shop=handle_of(shop),
            kind="order_paid",
            delivery_id=f"bench-{number}",
            payload=vault.seal(fact, handle_of(shop)),
            sinks=[f"events.{pixel_of(shop)}"],
        )
        record.received_at.FromDatetime(now)
        name = subjects.fact(record.kind, record.shop, record.fact_id)
        yield Entry(name, record.SerializeToString(), expected=0, ttl_s=FACT_TTL_S)


def _paid(body: bytes, shop: str, now: datetime) -> fact_pb2.Fact:
    received = Timestamp()
    received.FromDatetime(now)
    body_hash = int.from_bytes(hashlib.sha256(body).digest()[:8], "big")
    context = ShopContext(shop=shop, country=COUNTRY, currency=CURRENCY)
    said = normalize("orders/paid", body, context, DeliveryMeta(body_hash, received, received))
    assert isinstance(said, Normalized)
    return next(one.fact for one in apply(None, said).facts if one.kind == "order_paid")

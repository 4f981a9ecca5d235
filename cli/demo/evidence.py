"""Reads everything that the verdict is made of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from google.protobuf.message import Message
from nats.aio.client import Client

from cli.demo.scenery import PixelPlan
from cli.demo.verdict import DeliveryKey, Evidence
from libs.bus import subjects
from libs.bus.scan import scan
from libs.clock import SystemClock
from libs.connections import shop_handle
from libs.keys import KvKeySource, load_kek
from libs.ledger import read_ledger, read_outcomes
from libs.resources import MESSAGES
from libs.vault import Vault
from sandbox.shopify.oracle import Expected, OrderState
from sandbox.shopify.sender import Sent
from tidewire.commerce.v1 import inventory_pb2, order_pb2, record_pb2
from tidewire.delivery.v1 import outcome_pb2
from tidewire.ingest.v1 import delivery_pb2


async def gather_evidence(
    nats: Client,
    kek_file: Path,
    sandbox: Mapping[str, Any],
    sent: Sequence[Sent],
    expected: Expected,
    storm_pixels: Sequence[PixelPlan],
    all_pixels: Sequence[PixelPlan],
    *,
    played: AbstractSet[str] = frozenset(),
) -> Evidence:
    """What the streams hold, beside what the simulators, the sender and the oracle say.

    Raises:
        ServiceError: RETRYABLE, where NATS does not answer.
    """
    keys = await KvKeySource.open(nats.jetstream(), load_kek(kek_file))
    vault = Vault(keys)
    return Evidence(
        ledger=(await read_ledger(nats, SystemClock())).total(),
        seen=[
            record_pb2.SeenRecord.FromString(stored.data)
            async for stored in scan(nats, subjects.COMMERCE, "commerce.seen.>")
        ],
        outcomes=await read_outcomes(nats),
        parked=await _parked(nats),
        buried=await _buried(nats),
        orders=await _orders(nats, vault),
        stock=await _stock(nats, vault),
        products_deleted=await _deleted(nats, "product"),
        sandbox=sandbox,
        sent=sent,
        expected=expected,
        pixels=storm_pixels,
        unit_sinks=_sinks_by_shop(all_pixels),
        played=played,
    )


async def _parked(nats: Client) -> set[DeliveryKey]:
    found = set()
    async for stored in scan(nats, subjects.PARKED, "parked.ingest.>"):
        delivery = delivery_pb2.Delivery.FromString(stored.data)
        found.add(DeliveryKey(delivery.shop, delivery.delivery_id))
    return found


async def _buried(nats: Client) -> set[DeliveryKey]:
    found = set()
    async for stored in scan(nats, subjects.DEAD_LETTERS, "dlq.ingest.>"):
        letter = outcome_pb2.DeadLetter.FromString(stored.data)
        found.add(DeliveryKey(letter.shop, letter.delivery_id))
    return found


async def _orders(nats: Client, vault: Vault) -> dict[tuple[str, str], OrderState]:
    found = {}
    async for record, message in _states(nats, vault, "order"):
        order = cast("order_pb2.Order | None", message)
        updated_at = record.version.updated_at
        found[record.shop, record.resource_id] = OrderState(
            paid=order is not None and order.paid,
            cancelled=order is not None and order.HasField("cancelled_at"),
            deleted=record.deleted,
            updated_at=datetime.fromtimestamp(updated_at.seconds, UTC),
        )
    return found


async def _stock(nats: Client, vault: Vault) -> dict[tuple[str, str, str], int | None]:
    found: dict[tuple[str, str, str], int | None] = {}
    async for record, message in _states(nats, vault, "inventory_level"):
        if message is not None:
            level = cast("inventory_pb2.InventoryLevel", message)
            key = (record.shop, level.inventory_item_id, level.location_id)
            found[key] = level.available if level.HasField("available") else None
    return found


async def _deleted(nats: Client, kind: str) -> set[tuple[str, str]]:
    found = set()
    async for stored in scan(nats, subjects.COMMERCE, f"commerce.state.{kind}.>"):
        record = record_pb2.StateRecord.FromString(stored.data)
        if record.deleted:
            found.add((record.shop, record.resource_id))
    return found


async def _states(
    nats: Client, vault: Vault, kind: str
) -> AsyncIterator[tuple[record_pb2.StateRecord, Message | None]]:
    """The newest versions of all resources of a kind; None where only the tombstone is left."""
    async for stored in scan(nats, subjects.COMMERCE, f"commerce.state.{kind}.>"):
        record = record_pb2.StateRecord.FromString(stored.data)
        message = None
        if record.HasField("payload"):
            opened = await vault.open_bytes(record.payload, record.shop)
            message = MESSAGES[record.kind].FromString(opened)
        yield record, message


def _sinks_by_shop(pixels: Sequence[PixelPlan]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for pixel in pixels:
        handle = shop_handle(pixel.shop) or pixel.shop
        counts[handle] = counts.get(handle, 0) + 1
    return counts

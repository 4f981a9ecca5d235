"""Reads everything that the verdict is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nats.aio.client import Client
from tidewire.commerce.v1 import record_pb2
from tidewire.delivery.v1 import outcome_pb2
from tidewire.ingest.v1 import delivery_pb2

from cli.demo.scenery import PixelPlan
from cli.demo.verdict import DeliveryKey, Evidence
from libs.bus import subjects
from libs.bus.scan import scan
from libs.connections import shop_handle
from libs.ledger import read_ledger, read_outcomes
from sandbox.shopify.oracle import Expected
from sandbox.shopify.sender import Sent


async def gather_evidence(
    nats: Client,
    sandbox: Mapping[str, Any],
    sent: Sequence[Sent],
    expected: Expected,
    storm_pixels: Sequence[PixelPlan],
    all_pixels: Sequence[PixelPlan],
) -> Evidence:
    """What the streams hold, beside what the simulators, the sender and the oracle say.

    Raises:
        ServiceError: RETRYABLE, where NATS does not answer.
    """
    return Evidence(
        ledger=await read_ledger(nats),
        seen=[
            record_pb2.SeenRecord.FromString(stored.data)
            async for stored in scan(nats, subjects.COMMERCE, "commerce.seen.>")
        ],
        outcomes=await read_outcomes(nats),
        parked=await _parked(nats),
        buried=await _buried(nats),
        sandbox=sandbox,
        sent=sent,
        expected=expected,
        pixels=storm_pixels,
        unit_sinks=_sinks_by_shop(all_pixels),
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


def _sinks_by_shop(pixels: Sequence[PixelPlan]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for pixel in pixels:
        handle = shop_handle(pixel.shop) or pixel.shop
        counts[handle] = counts.get(handle, 0) + 1
    return counts

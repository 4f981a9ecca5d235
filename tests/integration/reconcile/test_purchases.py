"""What becomes of a purchase whose webhook was lost: from Shopify to TikTok, over the wire."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from libs.bus import subjects
from libs.bus.scan import scan
from libs.rpc.client import call
from tests.fakes.nats_server import NatsServer
from tests.integration.reconcile.conftest import ago, an_order
from tests.integration.reconcile.shopify import TOKEN, Served, serving
from tests.integration.rpc.rig import Rig, eventually, new_id, rig_at
from tidewire.delivery.v1 import outcome_pb2
from tidewire.ingest.v1 import ingest_service_pb2 as ingest

ACTIVE_S = 3600.0


@dataclass
class Scene:
    rig: Rig
    shopify: Served
    domain: str

    def put(self, *orders: dict[str, Any]) -> None:
        self.shopify.put(orders=orders, domain=self.domain)

    def purchases(self) -> list[str]:
        """Orders of which pixel C1 was told, in order, repetitions included."""
        events = self.rig.tiktok.ledger.full()["events"]
        assert isinstance(events, list)
        keys = [event["key"] for event in events]
        return [key[2] for key in keys if key[:2] == ["C1", "Purchase"]]

    async def told(self) -> list[str]:
        return self.purchases()

    async def ignored(self) -> dict[str, str]:
        """Units of pixel C1 that were not sent, with the reason."""
        found = {}
        async for one in scan(self.rig.foundation.nats, subjects.OUTCOMES, "outcome.>"):
            if ".by_event." in one.subject:
                continue
            outcome = outcome_pb2.Outcome.FromString(one.data)
            is_ours = (outcome.shop, outcome.sink) == (self.rig.shop, "events.C1")
            if is_ours and outcome.kind == outcome_pb2.OUTCOME_KIND_IGNORED:
                found[outcome.unit] = outcome.reason
        return found

    async def webhook(self, body: dict[str, Any]) -> None:
        request = ingest.InjectRequest(
            request_id=new_id(),
            shop=self.rig.shop,
            topic="orders/paid",
            body=json.dumps(body).encode(),
        )
        request.triggered_at.FromJsonString(body["updated_at"])
        await call(self.rig.ingest.Inject, request, timeout_s=10)


@pytest.fixture
async def scene(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Scene]:
    shop = f"s{new_id()}"
    domain = f"{shop}.myshopify.com"
    async with (
        serving({domain: TOKEN}) as shopify,
        rig_at(
            nats_server,
            tmp_path,
            shop=shop,
            entry={
                "active_since": ago(ACTIVE_S),
                "shopify": {"webhook_secrets": ["secret"], "access_token": TOKEN},
            },
            ingest_changes={
                "shopify_base_url": shopify.template,
                "reconcile_every_s": 1.0,
                "reconcile_settle_s": 1.0,
                "reconcile_overlap_s": 3600.0,
            },
        ) as rig,
    ):
        yield Scene(rig, shopify, domain)


async def test_a_purchase_whose_webhook_was_lost_is_told_once_also_when_the_webhook_comes_late(
    scene: Scene,
) -> None:
    lost = an_order(71, seconds_ago=600)

    scene.put(lost)
    await eventually(scene.told, lambda told: len(told) == 1)
    await scene.webhook(lost)
    await scene.webhook(an_order(72, seconds_ago=30))
    await eventually(scene.told, lambda told: len(told) == 2)

    first, second = scene.purchases()
    assert "71" in first
    assert "72" in second


async def test_an_order_that_was_paid_before_activation_is_read_and_not_reported(
    scene: Scene,
) -> None:
    old = ago(2 * ACTIVE_S)
    edited = an_order(81, seconds_ago=600, created_at=old, processed_at=old)

    scene.put(edited, an_order(82, seconds_ago=300))
    await eventually(scene.told, lambda told: len(told) == 1)
    ignored = await eventually(scene.ignored, bool)

    assert ignored == {"order_paid.81": "before_activation"}
    assert "82" in scene.purchases()[0]

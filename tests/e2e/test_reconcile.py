"""Webhooks that Shopify never sent: the real processes find them out and repair them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.stack import Stack
from libs.http.session import http_session
from sandbox.shopify.model import Delivery
from sandbox.shopify.sender import Manners, send_all
from sandbox.shopify.storm import default_shops, make_storm
from tests.integration.ingest.harness import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

_NAMES = ("sandbox", "ingest-http", "ingest-normalizer", "events")


async def test_an_order_of_which_no_webhook_was_sent_is_a_purchase_all_the_same(
    tmp_path: Path,
) -> None:
    now = datetime.now(UTC)
    shop = default_shops(now)[0]
    storm = make_storm(9, 400, (shop,), now - timedelta(minutes=10))
    bought = _bought(storm.deliveries, storm.expected.purchases[shop.domain])
    lost = dict(list(bought.items())[:3])
    mentioned = [order_id.encode() for order_id in lost]
    sent = [one for one in storm.deliveries if not any(number in one.body for number in mentioned)]
    environ = {
        **os.environ,
        "TIDEWIRE_RECONCILE_EVERY_S": "2",
        "TIDEWIRE_RECONCILE_OVERLAP_S": str(7 * 86_400),
    }
    async with Stack(tmp_path, environ) as stack, http_session() as session:
        stack.connections_file.write_text(_connections(shop.domain, shop.secrets), encoding="utf-8")
        await stack.start_all(_NAMES)
        await send_all(stack.webhooks_url, sent, Manners(connections=8))
        loading = {"shop": shop.domain, "orders": list(bought.values())}
        async with session.post(
            f"{stack.sandbox_url}/_sandbox/shopify/orders", json=loading
        ) as answer:
            assert (await answer.json())["taken"] == len(bought)

        wanted = storm.expected.purchases[shop.domain]

        async def told() -> list[str]:
            url = f"{stack.sandbox_url}/_sandbox/ledger?full=1"
            async with session.get(url) as answer:
                events = (await answer.json())["events"]
            return [event["key"][2] for event in events if event["key"][1] == "Purchase"]

        async def all_told() -> bool:
            return set(await told()) >= wanted

        await eventually(all_told, "every purchase is at TikTok")
        found = await told()
        async with session.get(f"{stack.sandbox_url}/_sandbox/shopify/ledger") as answer:
            asked = await answer.json()

    assert len(lost) == 3
    assert sorted(found) == sorted(wanted)
    assert set(asked["outcomes"]) == {"ok"}


def _bought(deliveries: Sequence[Delivery], purchases: set[str]) -> dict[str, dict[str, Any]]:
    """The newest body of each order of ordinary shopping that is a purchase, by order id."""
    found: dict[str, dict[str, Any]] = {}
    for one in deliveries:
        if one.kind != "order.card" or not one.topic.startswith("orders/"):
            continue
        body = json.loads(one.body)
        if body["financial_status"] == "paid" and f"purchase.{body['id']}" in purchases:
            found[str(body["id"])] = body
    return found


def _connections(domain: str, secrets: tuple[str, ...]) -> str:
    entry = {
        "shop": domain,
        "country": "US",
        "currency": "USD",
        "active_since": (datetime.now(UTC) - timedelta(days=30)).isoformat(),
        "shopify": {"webhook_secrets": list(secrets), "access_token": "shpat_example"},
        "tiktok_events": [{"access_token": "token", "pixel_code": "C1"}],
    }
    return yaml.safe_dump({"connections": [entry]})

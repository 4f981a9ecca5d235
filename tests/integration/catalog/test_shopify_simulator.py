"""What the catalog service reads, against the simulator of Shopify and the truth that it holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from libs.clock import SystemClock
from libs.errors import Kind, ServiceError
from libs.http.session import http_session
from libs.telemetry import Metrics
from sandbox.shopify.catalog_model import product_truth
from services.catalog.adapters.bulk_download import BulkDownload
from services.catalog.adapters.plain_hosts import PlainHosts
from services.catalog.adapters.shopify import ShopifyReads
from services.catalog.domain.model import MarketPrice, Money, Product, Text
from services.catalog.ports import BulkState, ShopFacts, Wanted
from tests.integration.reconcile.shopify import RecordingLimiter, admin_of, connections_file
from tests.integration.sandbox.bulk_rig import TOKEN, Bulk, bulk_shop

SHOP = "example"
FULL = Wanted(languages=("fr",), countries=("FR", "US"), metafields=("custom.material",))


@dataclass
class Rig:
    sandbox: Bulk
    reads: ShopifyReads

    async def ended(self, wanted: Wanted = FULL) -> BulkState:
        """An export once it is over."""
        operation_id = await self.reads.start_bulk(SHOP, wanted)
        while True:
            state = await self.reads.bulk(SHOP, operation_id)
            if state.status not in {"created", "running"}:
                return state
            await asyncio.sleep(0.01)  # each look moves the simulator on

    async def exported(self, wanted: Wanted = FULL, *, after: str = "") -> list[Product]:
        state = await self.ended(wanted)
        async with aclosing(self.reads.products(SHOP, state.url, wanted, after=after)) as portions:
            return [one async for portion in portions for one in portion]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(bulk_shop())
        session = await stack.enter_async_context(http_session())
        connections = connections_file(tmp_path / "c.yaml", {SHOP: TOKEN})
        template = f"{sandbox.url}/shopify/{{shop}}"
        admin = admin_of(template, session, connections, RecordingLimiter(), Metrics())
        plain = PlainHosts.of(sandbox.url)
        download = BulkDownload(session=session, clock=SystemClock(), plain=plain)
        yield Rig(sandbox, ShopifyReads(admin, download, tmp_path / "spool"))


def truth_of(product: Product) -> dict[str, Any]:
    """The part of a product that can be held against the simulator's own words."""
    return {
        "id": int(product.product_id),
        "title": product.title,
        "body_html": product.body_html,
        "vendor": product.vendor,
        "status": product.status.upper(),
        "tags": list(product.tags),
        "category": product.category or None,
        "published": product.published,
        "media": [int(one.image_id) for one in product.images],
        "variants": [
            {
                "id": int(one.variant_id),
                "sku": one.sku,
                "values": list(one.option_values),
                "inventory_item": int(one.inventory_item_id),
                "inventory_quantity": one.quantity,
                "tracked": one.tracked,
                "levels": {int(at.location_id): at.available for at in one.levels},
                "media": [int(one.image_id)] if one.image_id else [],
            }
            for one in product.variants
        ],
    }


def expected_of(truth: dict[str, Any]) -> dict[str, Any]:
    keys = ("id", "title", "body_html", "vendor", "status", "tags", "category")
    ready = [one["id"] for one in truth["media"] if one["url"] and one["status"] == "READY"]
    return {
        **{key: truth[key] for key in keys},
        "published": truth["published_at"] is not None,
        "media": ready,
        "variants": [
            {
                **{key: one[key] for key in ("id", "sku", "values", "inventory_quantity", "media")},
                "inventory_item": one["inventory_item"]["id"],
                "tracked": one["inventory_item"]["tracked"],
                "levels": {
                    at["location"]: at["available"] for at in one["inventory_item"]["levels"]
                },
            }
            for one in truth["variants"]
        ],
    }


async def test_an_export_is_what_the_shop_has(rig: Rig) -> None:
    await rig.sandbox.pace(shuffle=True)

    found = await rig.exported()

    shop = rig.sandbox.shop
    assert [truth_of(one) for one in found] == [
        expected_of(product_truth(one)) for one in shop.products.values()
    ]


async def test_an_export_has_texts_prices_weights_and_metafields(rig: Rig) -> None:
    lamp, mat = await rig.exported()

    small, large = lamp.variants
    assert lamp.texts == {"fr": Text("Lampe", "<p>Lumière</p>", {"Size": "Taille"})}
    assert (small.option_texts, large.option_texts) == ({"fr": ("Petit",)}, {"fr": ("Grand",)})
    assert (small.price, small.compare_at) == (Money(1950, "USD"), Money(2950, "USD"))
    assert small.prices["FR"] == MarketPrice(Money(1800, "EUR"), Money(2700, "EUR"))
    assert (small.weight, small.weight_unit) == ("1.25", "kg")
    assert lamp.metafields == {"custom.material": "oak"}
    assert (mat.texts, mat.metafields) == ({}, {})


async def test_a_product_read_alone_is_the_same_as_in_an_export(rig: Rig) -> None:
    exported = await rig.exported()

    assert [await rig.reads.product(SHOP, one.product_id, FULL) for one in exported] == exported
    assert await rig.reads.product(SHOP, "404", FULL) is None


async def test_an_export_is_taken_up_behind_a_product(rig: Rig) -> None:
    assert [one.product_id for one in await rig.exported(after="11")] == ["12"]


async def test_a_shop_tells_what_it_is(rig: Rig) -> None:
    assert await rig.reads.shop(SHOP) == ShopFacts(
        currency="USD", primary_domain="example.myshopify.com", country="US", language="en"
    )


async def test_an_operation_that_was_started_is_found_again(rig: Rig) -> None:
    state = await rig.ended()
    started_ns = rig.sandbox.clock.now_ns()

    found = await rig.reads.find_bulk(SHOP, started_ns - 60_000_000_000)

    assert [one.operation_id for one in found] == [state.operation_id]
    assert await rig.reads.find_bulk(SHOP, started_ns + 60_000_000_000) == []


async def test_the_sixth_operation_of_a_shop_has_to_wait(rig: Rig) -> None:
    await rig.sandbox.pace(duration_s=600.0)
    for _ in range(5):
        await rig.reads.start_bulk(SHOP, Wanted())

    with pytest.raises(ServiceError) as raised:
        await rig.reads.start_bulk(SHOP, Wanted())

    assert (raised.value.kind, raised.value.code) == (Kind.THROTTLED, "bulk_busy")

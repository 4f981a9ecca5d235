"""Who does the work of a lane: one process at a time, and the next one when it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from random import Random

from libs.bus import subjects
from libs.bus.api import js_api
from libs.connections import FileConnections, ShopView
from sandbox.shopify.catalog_changes import Changes
from sandbox.shopify.catalog_plan import CatalogPlan
from services.catalog.domain.states import SyncKind, SyncPhase
from tests.integration.catalog.house import CLOCK, DOMAIN, SHOP, House
from tests.integration.ingest.harness import eventually

PLAN = CatalogPlan(shop=DOMAIN, variants=60, odd=())


def now_s() -> int:
    return int(CLOCK.now_ns() / 1e9)


async def expired(house: House) -> None:
    """The leases of a killed owner run out, as they do after 15 s."""
    await js_api(house.nats, f"STREAM.PURGE.{subjects.bucket_stream(subjects.LEASES)}", {})


class LateConnections(FileConnections):
    """Connections that are not told for a while, as when the token service starts last."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, poll_s=0.1)
        self.are_told = asyncio.Event()
        self.asked = 0

    def shops(self) -> Iterable[ShopView]:
        return super().shops() if self.are_told.is_set() else ()

    async def told(self) -> None:
        self.asked += 1
        await self.are_told.wait()


async def test_what_changed_before_the_connections_were_told_is_not_lost(house: House) -> None:
    shop = house.stock(PLAN)
    async with house.running() as engine:
        await house.rested(engine)
    await house.told(Changes(shop, Random(2)).change_price(now_s()))
    connections = LateConnections(house.connections_file)

    async with house.running(connections):
        await eventually(lambda: _all_ask(connections), "every lane has asked")
        connections.are_told.set()
        assert await house.equal()


async def _all_ask(connections: LateConnections) -> bool:
    return connections.asked == subjects.LANES


async def test_two_services_share_the_lanes_and_nothing_is_sent_twice(house: House) -> None:
    shop = house.stock(PLAN)
    async with house.running() as one, house.running() as other:
        await house.rested(one)
        assert await house.equal()
        await other.start(SHOP, SyncKind.FULL)
        progress = await house.rested(other)
        await house.told(Changes(shop, Random(2)).change_price(now_s()))
        assert await house.equal()

    assert progress.items_changed == 0
    assert sum(each.items for each in house.submits()) == len(shop.variants) + 1


async def test_the_lane_of_a_killed_owner_is_taken_over_with_its_sync_and_its_submit(
    house: House,
) -> None:
    house.stock(PLAN)
    house.make_catalog("7001", ingestion_ms=300)
    async with house.doomed():
        await eventually(lambda: _has_submitted(house), "something is in flight")
    await expired(house)

    async with house.running() as engine:
        progress = await house.rested(engine)
        assert await house.equal()

    assert progress.phase is SyncPhase.DONE


async def _has_submitted(house: House) -> bool:
    return bool(house.submits())


async def test_while_the_lease_of_a_killed_owner_lasts_nobody_takes_its_lane(
    house: House,
) -> None:
    shop = house.stock(PLAN)
    async with house.doomed() as first:
        await house.rested(first)
    async with house.running() as engine:
        await house.told(Changes(shop, Random(2)).change_price(now_s()))
        submits = len(house.submits())
        assert (await engine.start(SHOP, SyncKind.REMAP)).progress.phase is SyncPhase.QUEUED
        await expired(house)

        assert await house.equal()
        progress = await house.rested(engine)
        assert progress.kind is SyncKind.REMAP
        assert len(house.submits()) == submits + 1

"""Stores are kept connected against the simulator, which judges by Shopify's recorded answers."""

from __future__ import annotations

from libs.bus.commit_log import MemoryLog
from libs.bus.lease import Lease
from libs.clock import FakeClock
from libs.http.session import http_session
from libs.telemetry import Metrics
from sandbox.shopify_admin.premises import STATIC
from services.auth.adapters.shopify_subscriptions import ShopifyStores
from services.auth.care import ShopifyCare
from services.auth.domain.scopes import Use
from services.auth.domain.subscriptions import wanted_topics
from services.auth.keeper import LEASE_NAME, Keeper
from services.auth.ports import Place
from tests.integration.auth.store_admin import OneToken, admin_of
from tests.integration.auth.test_keeper import OURS, Noted
from tests.integration.reconcile.shopify import DOMAIN, serving


async def test_the_simulator_takes_all_subscriptions_and_one_that_it_lost_is_made_again() -> None:
    kept, clock, log = Noted(), FakeClock(), MemoryLog()
    kept.connect("example", frozenset(Use))

    async def release() -> None:
        log.newest.clear()

    async with serving() as served, http_session() as session:
        stores = ShopifyStores(admin_of(served.template, session, Metrics(), OneToken()))
        keeper = Keeper(
            kept=kept,
            stores=stores,
            lease=Lease(log, clock, LEASE_NAME, "a"),
            release=release,
            metrics=Metrics(),
            clock=clock,
            care=ShopifyCare(address=OURS, api_version="2026-10"),
        )
        await keeper.look("example")
        held = served.sandbox.town.known(DOMAIN, STATIC).held
        held.pop(next(iter(held)))

        await keeper.look("example")

        assert sorted(one.topic for one in held.values()) == sorted(
            one.name for one in wanted_topics(frozenset(Use))
        )
        health = kept.health()
        assert (health.healed, list(health.problems)) == (1, [])
        assert await stores.place("example") == Place("US", "USD")
        assert await stores.is_alive("example")

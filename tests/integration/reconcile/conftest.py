"""A suite of ingest with shops that have Admin tokens, and a simulator that has their orders."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from libs.bus import subjects
from libs.bus.jetstream_log import JetStreamLog
from libs.clock import Clock
from libs.connections import FileConnections
from libs.http.session import http_session
from libs.keys import MemoryKeySource
from libs.limits import Limiter
from libs.telemetry import Metrics
from services.ingest.adapters.marks import Watermarks
from services.ingest.adapters.shopify import ShopifyReader
from services.ingest.domain.reconciling import Rules
from services.ingest.reconciler import Inject, Reconciler, ShopLeases
from tests.fakes.nats_server import NatsServer
from tests.fakes.own_limiter import OwnLimiter
from tests.integration.ingest.harness import (
    Suite,
    connection,
    eventually,
    fresh_streams,
    running,
)
from tests.integration.reconcile.shopify import (
    CLOCK,
    DOMAIN,
    TOKEN,
    Served,
    admin_of,
    connections_file,
    serving,
)
from tests.unit.ingest.normalize.bodies_of import order, product

SHOP = "example"
OTHER = "other"
OTHER_DOMAIN = "other.myshopify.com"
ALWAYS = Rules(every_s=0.0, overlap_s=300.0, settle_s=5.0, reach_s=7 * 86_400.0)


def ago(seconds: float) -> str:
    """An instant so long ago, as Shopify writes it."""
    at = CLOCK.now_ns() / 1e9 - seconds
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def an_order(order_id: int, seconds_ago: float = 600, **changes: Any) -> dict[str, Any]:
    at = ago(seconds_ago)
    times = {"created_at": at, "updated_at": at, "processed_at": at}
    return order(**{**times, "id": order_id, "refunds": [], **changes})


def a_product(product_id: int, seconds_ago: float = 600, **changes: Any) -> dict[str, Any]:
    return product(**{"id": product_id, "updated_at": ago(seconds_ago), **changes})


@dataclass
class Field:
    """Where reconcilers are tried."""

    suite: Suite
    shopify: Served
    connections: FileConnections
    stack: AsyncExitStack

    async def reconciler(
        self,
        rules: Rules = ALWAYS,
        *,
        limiter: Limiter | None = None,
        metrics: Metrics | None = None,
        clock: Clock = CLOCK,
    ) -> Reconciler:
        """A replica, with its committer running."""
        suite = self.suite
        session = await self.stack.enter_async_context(http_session())
        committer = suite.committer()
        await self.stack.enter_async_context(running(committer))
        metrics = metrics or suite.metrics
        admin = admin_of(
            self.shopify.template, session, self.connections, limiter or OwnLimiter(CLOCK), metrics
        )
        return Reconciler(
            states=suite.log,
            leases=ShopLeases(suite.nats, self._log(subjects.LEASES), CLOCK, suite.ids),
            watermarks=self.watermarks,
            reader=ShopifyReader(admin),
            inject=Inject(keys=suite.keys, committer=committer, tracer=suite.tracer, clock=CLOCK),
            shops=self.connections,
            metrics=metrics,
            clock=clock,
            rules=rules,
        )

    @property
    def watermarks(self) -> Watermarks:
        return Watermarks(self._log(subjects.WATERMARKS))

    def _log(self, bucket: str) -> JetStreamLog:
        return JetStreamLog(self.suite.nats, subjects.bucket_stream(bucket), self.suite.ids)

    async def webhook(
        self, delivery_id: str, body: dict[str, Any], topic: str, *, triggered: str | None = None
    ) -> None:
        """A webhook comes and is normalised."""
        delivery = await self.suite.delivery(
            delivery_id, json.dumps(body).encode(), shop=SHOP, topic=topic
        )
        delivery.triggered_at.FromJsonString(triggered or body["updated_at"])
        await self.suite.store([delivery])
        await self.normalised()

    async def normalised(self) -> None:
        """All that is in WEBHOOKS is in COMMERCE."""
        async with running(self.suite.normalizer()):
            await eventually(self.suite.all_acknowledged, "all deliveries are decided")

    async def compared(self, reconciler: Reconciler | None = None) -> None:
        """One round of all shops, and what it brought is normalised."""
        await (reconciler or await self.reconciler()).compare_all()
        await self.normalised()

    async def injected(self) -> list[str]:
        """Ids of the deliveries that a reconciler stored, in order, repetitions included."""
        return [
            one.delivery_id
            for one in await self.suite.received()
            if one.delivery_id.startswith("reconcile.")
        ]

    def repairs(self, metrics: Metrics | None = None) -> dict[tuple[str, str], int]:
        """Repairs by kind and reason."""
        return {
            (dict(labels)["kind"], dict(labels)["reason"]): getattr(one, "value", 0)
            for name, _, series in (metrics or self.suite.metrics).series()
            if name == "tidewire_reconcile_repairs_total"
            for labels, one in series
        }


@pytest.fixture
async def field(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Field]:
    path = tmp_path / "connections.yaml"
    tokens = {DOMAIN: TOKEN, OTHER_DOMAIN: "shpat_other"}
    connections = connections_file(path, {SHOP: TOKEN, OTHER: "shpat_other"})
    async with (
        connection(nats_server.url) as client,
        serving(tokens) as served,
        AsyncExitStack() as stack,
    ):
        await fresh_streams(client, nats_server)
        suite = Suite(client, connections, MemoryKeySource(), path)
        yield Field(suite, served, connections, stack)

"""The Admin API client against the simulator, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from libs.connections import FileConnections
from libs.errors import Kind, ServiceError
from libs.http.session import http_session
from libs.limits import Priority
from libs.metric_names import SHOPIFY_NOTICES, UPSTREAM_CALLS
from libs.shopify.admin import Operation, ShopifyAdmin, Told
from libs.telemetry import Metrics
from tests.integration.reconcile.shopify import (
    TOKEN,
    RecordingLimiter,
    Served,
    admin_of,
    connections_file,
    serving,
)
from tests.unit.ingest.normalize.bodies_of import order

SHOP = "example"
BUCKET = "shopify.example.graphql"
ORDERS = Operation(
    "ChangedOrders",
    "query ChangedOrders($first: Int!) { orders(first: $first) { nodes { id email } } }",
    cost=7,
)


@dataclass
class Bench:
    served: Served
    session: aiohttp.ClientSession
    connections: FileConnections
    limiter: RecordingLimiter
    metrics: Metrics

    def admin(self, **settings: Any) -> ShopifyAdmin:
        return admin_of(
            self.served.template,
            self.session,
            self.connections,
            self.limiter,
            self.metrics,
            **settings,
        )

    async def ask(self, first: int = 10, **settings: Any) -> Told:
        return await self.admin(**settings).call(
            SHOP, ORDERS, {"first": first}, size=first, priority=Priority.BACKFILL
        )

    async def refused(self, first: int = 10, **settings: Any) -> ServiceError:
        with pytest.raises(ServiceError) as raised:
            await self.ask(first, **settings)
        return raised.value

    def fault(self, **effect: Any) -> None:
        script = msgspec.json.encode({"effect": effect, "times": 1})
        self.served.sandbox.faults.post(script, 0.0)

    def notices(self) -> Mapping[str, float]:
        return {
            dict(labels)["reason"]: getattr(one, "value", 0)
            for name, _, series in self.metrics.series()
            if name == SHOPIFY_NOTICES
            for labels, one in series
        }


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    connections = connections_file(tmp_path / "c.yaml", {SHOP: TOKEN, "bare": None})
    async with serving() as served, http_session() as session:
        served.put(orders=[order()])
        yield Bench(served, session, connections, RecordingLimiter(), Metrics())


async def test_a_call_is_answered_with_data_and_its_version(bench: Bench) -> None:
    told = await bench.ask()

    (node,) = told.data["orders"]["nodes"]
    assert node["id"] == "gid://shopify/Order/1001"
    assert (told.api_version, told.denied) == ("2026-10", ())


async def test_a_call_takes_a_turn_at_its_cost_and_tells_what_the_bucket_holds(
    bench: Bench,
) -> None:
    admin = bench.admin()
    for _ in range(2):
        await admin.call(SHOP, ORDERS, {"first": 100}, size=100, priority=Priority.BACKFILL)

    guessed, learned = bench.limiter.turns
    assert guessed == ((BUCKET,), 7, Priority.BACKFILL, SHOP)
    assert learned == ((BUCKET,), 12, Priority.BACKFILL, SHOP)
    name, seen = bench.limiter.seen[0]
    assert (name, seen.capacity, seen.restore_per_s) == (BUCKET, 2000, 100)
    assert 1900 < seen.available < 2000


async def test_a_connection_chooses_its_version_of_the_api(bench: Bench, tmp_path: Path) -> None:
    bench.connections = connections_file(tmp_path / "d.yaml", {SHOP: TOKEN}, api_version="2026-04")

    assert (await bench.ask()).api_version == "2026-04"


async def test_a_version_that_falls_forward_is_counted_each_time_and_told_once(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    admin = bench.admin(api_version="2024-04")
    for _ in range(2):
        told = await admin.call(SHOP, ORDERS, {"first": 1})

    assert told.api_version == "2026-01"
    assert bench.notices() == {"version_fell_forward": 2}
    assert capsys.readouterr().out.count("2024-04 was served as 2026-01") == 1


async def test_a_throttle_in_the_body_says_when_the_bucket_will_hold_enough(bench: Bench) -> None:
    bench.served.sandbox.bucket("example.myshopify.com").available = 2.0

    error = await bench.refused(100)

    assert (error.kind, error.code) == (Kind.THROTTLED, "throttled")
    assert error.retry_after_s == pytest.approx((12 - 2) / 100, abs=0.01)
    assert [(limits, code) for limits, _, code in bench.limiter.reports] == [
        ((BUCKET,), "throttled")
    ]
    assert bench.limiter.seen[-1][1].available == pytest.approx(2.0, abs=1.0)


async def test_a_throttle_as_429_says_what_its_header_says(bench: Bench) -> None:
    bench.fault(kind="throttled", as_429=True)

    error = await bench.refused()

    assert (error.kind, error.retry_after_s) == (Kind.THROTTLED, 2.0)
    assert bench.limiter.reports == [((BUCKET,), 2.0, "throttled")]


async def test_a_query_that_costs_too_much_never_works(bench: Bench) -> None:
    heavy = " ".join(
        f"a{n}: orders(first: 250) {{ nodes {{ lineItems(first: 250) {{ nodes {{ id }} }} }} }}"
        for n in range(4)
    )
    operation = Operation("Heavy", f"query Heavy {{ {heavy} }}", cost=1)

    with pytest.raises(ServiceError) as raised:
        await bench.admin().call(SHOP, operation, {})

    assert (raised.value.kind, raised.value.code) == (Kind.PERMANENT, "max_cost_exceeded")


async def test_an_operation_that_the_schema_does_not_know_never_works(bench: Bench) -> None:
    operation = Operation("Wrong", "query Wrong { orders(first: 1) { nodes { nothing } } }", cost=1)

    with pytest.raises(ServiceError) as raised:
        await bench.admin().call(SHOP, operation, {})

    assert (raised.value.kind, raised.value.code) == (Kind.PERMANENT, "graphql_error")
    assert "nothing" in raised.value.message


async def test_a_missing_scope_is_named(bench: Bench) -> None:
    bench.fault(kind="denied", scope="`read_orders` access scope.")

    error = await bench.refused()

    assert (error.kind, error.code) == (Kind.AUTH, "access_denied")
    assert "read_orders" in error.message


async def test_a_field_that_the_app_may_not_see_comes_as_null_beside_the_rest(
    bench: Bench,
) -> None:
    bench.fault(kind="denied", scope="protected customer data", field="email")

    told = await bench.ask()

    assert told.data["orders"]["nodes"][0]["email"] is None
    assert told.denied == ("orders.nodes.0.email",)
    assert bench.notices() == {"fields_denied": 1}


async def test_a_dead_token_is_an_error_of_credentials_and_is_tried_once(bench: Bench) -> None:
    bench.fault(kind="expired_token")

    error = await bench.refused()

    assert (error.kind, error.code) == (Kind.AUTH, "upstream_status_401")
    assert len(bench.served.sandbox.ledger.calls) == 1


async def test_a_shop_without_a_token_is_not_called(bench: Bench) -> None:
    with pytest.raises(ServiceError) as raised:
        await bench.admin().call("bare", ORDERS, {"first": 1})

    assert (raised.value.kind, raised.value.code) == (Kind.AUTH, "access_token_missing")
    assert bench.served.sandbox.ledger.calls == []
    assert bench.limiter.turns == []


@pytest.mark.parametrize(
    ("effect", "code"),
    [
        ({"kind": "http_status", "status": 503}, "upstream_status_503"),
        ({"kind": "hang"}, "upstream_timeout"),
    ],
)
async def test_what_may_pass_is_to_be_tried_again(
    bench: Bench, effect: dict[str, Any], code: str
) -> None:
    bench.fault(**effect)

    error = await bench.refused(timeout_s=0.3)

    assert (error.kind, error.code) == (Kind.RETRYABLE, code)
    results = {
        dict(labels)["result"]
        for name, _, series in bench.metrics.series()
        if name == UPSTREAM_CALLS
        for labels, _ in series
    }
    assert results == {"retryable"}


async def test_a_base_url_without_a_place_for_the_shop_is_refused(bench: Bench) -> None:
    with pytest.raises(ServiceError) as raised:
        admin_of(
            "https://shopify.example",
            bench.session,
            bench.connections,
            bench.limiter,
            bench.metrics,
        )

    assert raised.value.code == "base_url_without_shop"


async def test_no_error_and_no_request_shows_the_token(bench: Bench) -> None:
    bench.fault(kind="expired_token")

    error = await bench.refused()

    assert TOKEN not in f"{error!r} {error} {error.__cause__!r}"

"""The load: what it must be for the comparison to be fair."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime

import pytest

from libs.bus import subjects
from sandbox.shopify.model import Delivery
from tests.bench.bare import is_signed
from tests.bench.load import Burst, Job, deliveries_of, paid_orders
from tests.bench.shops import bench_shops, handle_of, pixel_of

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def _deliveries(mix: str, count: int, body_bytes: int = 4096) -> list[Delivery]:
    job = Job("http://127.0.0.1:1/", mix, count, NOW.timestamp(), body_bytes=body_bytes)
    return list(deliveries_of(job))


@pytest.mark.parametrize("body_bytes", [4096, 8192])
def test_a_burst_has_bodies_of_one_size_that_the_bare_handlers_accept(body_bytes: int) -> None:
    found = _deliveries("same", 80, body_bytes)

    assert {len(one.body) for one in found} == {body_bytes}
    assert all(is_signed(one.body, dict(one.headers)["X-Shopify-Hmac-Sha256"]) for one in found)


def test_no_two_deliveries_of_a_burst_share_a_webhook_id() -> None:
    assert len({one.webhook_id for one in _deliveries("same", 200)}) == 200


def test_a_storm_holds_nothing_that_is_refused_at_the_door() -> None:
    found = _deliveries("storm", 450)

    assert len(found) == 450
    assert {one.expected_status for one in found} == {200}


def test_orders_come_from_all_shops() -> None:
    found = _deliveries("orders", 120)

    assert len(found) == 120
    assert len({one.shop for one in found}) == 6
    assert all(one.topic.startswith("orders/") for one in found)


def test_each_paid_order_is_of_a_person_with_a_phone_of_their_own() -> None:
    bodies = [json.loads(body) for body in itertools.islice(paid_orders(500, NOW), 500)]

    phones = {body["billing_address"]["phone"].removeprefix("+1 ") for body in bodies}
    assert len(phones) == len({body["customer"]["id"] for body in bodies}) == 500


def test_a_shops_paid_orders_are_all_its_own_and_each_another() -> None:
    job = Job("http://127.0.0.1:1/", "paid", 50, NOW.timestamp(), shop="bench-00007")
    found = list(deliveries_of(job))

    assert {(one.shop, one.topic) for one in found} == {
        ("bench-00007.myshopify.com", "orders/paid")
    }
    assert len({json.loads(one.body)["id"] for one in found}) == 50
    assert {one.expected_status for one in found} == {200}


@pytest.mark.parametrize("lane", [None, 3])
def test_shops_of_one_lane_are_told_apart_by_pixel_and_secret(lane: int | None) -> None:
    shops = bench_shops(20, NOW, lane=lane)

    lanes = {subjects.lane(handle_of(shop)) for shop in shops}
    assert lanes == {lane} if lane is not None else len(lanes) > 1
    assert len({pixel_of(shop) for shop in shops}) == len({shop.secrets for shop in shops}) == 20


def test_an_unknown_mix_is_refused() -> None:
    with pytest.raises(ValueError, match="no mix"):
        _deliveries("hail", 1)


def test_refusals_do_not_count_as_throughput() -> None:
    burst = Burst(2.0, answered=100, refused=40, broken=0, p50_ms=1.0, p99_ms=2.0, cores={})

    assert burst.per_s == 30.0

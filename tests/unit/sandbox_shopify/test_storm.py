from __future__ import annotations

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from sandbox.shopify.model import Delivery
from sandbox.shopify.signing import webhook_signature
from sandbox.shopify.storm import Storm, default_shops, make_storm, storm_waves

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SHOPS = default_shops(NOW)
SECRETS = {secret for shop in SHOPS for secret in shop.secrets}
ORDER_TOPICS = ("create", "paid", "updated", "cancelled", "fulfilled", "partially_fulfilled")


@pytest.fixture(scope="module")
def storm() -> Storm:
    return make_storm(11, 1500, SHOPS, NOW)


def _is_well_signed(delivery: Delivery) -> bool:
    signature = delivery.header("hmac-sha256")
    return signature in {webhook_signature(secret, delivery.body) for secret in SECRETS}


def _orders(storm: Storm) -> Iterator[tuple[Delivery, dict[str, Any]]]:
    """Deliveries of orders that are well-formed, by the generator's own labels."""
    for delivery in storm.deliveries:
        verb = delivery.topic.removeprefix("orders/")
        if delivery.kind.startswith("order.") and verb in ORDER_TOPICS:
            yield delivery, json.loads(delivery.body)


def test_the_same_seed_gives_the_same_bytes() -> None:
    first, second = (make_storm(3, 500, SHOPS, NOW) for _ in range(2))

    assert first.deliveries == second.deliveries
    assert first.expected == second.expected


def test_another_seed_gives_another_storm() -> None:
    first, second = (make_storm(seed, 500, SHOPS, NOW) for seed in (3, 4))

    shared = {d.webhook_id for d in first.deliveries} & {d.webhook_id for d in second.deliveries}
    assert not shared
    assert not set(first.expected.totals) & set(second.expected.totals)


def test_a_storm_has_as_many_deliveries_as_asked_for(storm: Storm) -> None:
    assert len(storm.deliveries) == 1500
    assert storm.expected.answers.total() == 1500


def test_a_storm_too_small_for_every_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="at least"):
        make_storm(1, 10, SHOPS, NOW)


def test_exactly_those_deliveries_verify_that_are_expected_to(storm: Storm) -> None:
    wrong = [d for d in storm.deliveries if _is_well_signed(d) != (d.expected_status != 401)]

    assert wrong == []
    assert storm.expected.answers[401] >= 15


def test_both_header_families_and_both_secrets_are_used(storm: Storm) -> None:
    names = {name for delivery in storm.deliveries for name, _ in delivery.headers}
    used = {
        secret
        for delivery in storm.deliveries
        for secret in SECRETS
        if delivery.header("hmac-sha256") == webhook_signature(secret, delivery.body)
    }

    assert {"X-Shopify-Hmac-Sha256", "shopify-hmac-sha256"} <= names
    assert {"shpss_aurora", "old_aurora"} <= used


def test_trigger_times_have_nine_fractional_digits(storm: Storm) -> None:
    times = [delivery.header("triggered-at") or "" for delivery in storm.deliveries]

    assert {len(time) for time in times} == {len("2024-08-07T22:58:21.978733396Z")}
    assert max(times) <= "2026-11-22T12:00:01"


def test_a_repetition_differs_in_nothing(storm: Storm) -> None:
    copies = defaultdict(set)
    sent: Counter[str] = Counter()
    for delivery in storm.deliveries:
        if delivery.expected_status == 200:
            copies[delivery.webhook_id].add((delivery.headers, delivery.body))
            sent[delivery.webhook_id] += 1

    assert all(len(versions) == 1 for versions in copies.values())
    assert sum(count - 1 for count in sent.values()) > 75


def test_some_event_ids_are_shared_by_deliveries_of_different_webhook_ids(storm: Storm) -> None:
    by_event = defaultdict(set)
    for delivery in storm.deliveries:
        if delivery.header("event-id"):
            by_event[delivery.header("event-id")].add(delivery.webhook_id)

    assert sum(len(webhook_ids) > 1 for webhook_ids in by_event.values()) > 50


def test_received_counts_each_verified_webhook_id_of_a_known_shop_once(storm: Storm) -> None:
    ids = defaultdict(set)
    for delivery in storm.deliveries:
        if delivery.expected_status == 200:
            ids[delivery.shop].add(delivery.webhook_id)

    stranger = ids.pop("stranger-in-town.myshopify.com")
    assert storm.expected.received == {shop: len(found) for shop, found in ids.items()}
    assert storm.expected.parked == {"stranger-in-town.myshopify.com": len(stranger)}


def test_a_purchase_is_expected_exactly_for_orders_shown_paid_that_are_not_silent(
    storm: Storm,
) -> None:
    silent = ("test_order", "point_of_sale", "draft_order", "own_echo", "too_old", "history")
    silent_kinds = {f"order.{kind}" for kind in (*silent, "before_activation")}
    due = defaultdict(set)
    for delivery, body in _orders(storm):
        if body["financial_status"] == "paid" and delivery.kind not in silent_kinds:
            due[delivery.shop].add(f"purchase.{body['id']}")

    assert storm.expected.purchases == due
    assert storm.expected.purchase_count > 80


def test_each_reason_for_silence_is_the_one_the_order_was_made_for(storm: Storm) -> None:
    made_for = {
        str(body["id"]): delivery.kind.removeprefix("order.").replace("history", "too_old")
        for delivery, body in _orders(storm)
        if str(body["id"]) in storm.expected.ignored
    }

    assert storm.expected.ignored == made_for
    assert len(set(made_for.values())) == 6


def test_no_order_is_first_and_only_heard_of_as_refunded(storm: Storm) -> None:
    statuses = defaultdict(set)
    for _, body in _orders(storm):
        statuses[body["id"]].add(body["financial_status"])

    open_questions = [
        found for found in statuses.values() if "paid" not in found and "refunded" in str(found)
    ]
    assert open_questions == []


def test_created_and_paid_often_share_their_second(storm: Storm) -> None:
    seconds: dict[str, dict[int, datetime]] = {"orders/create": {}, "orders/paid": {}}
    for delivery, body in _orders(storm):
        if delivery.topic in seconds:
            seconds[delivery.topic][body["id"]] = datetime.fromisoformat(body["updated_at"])

    paid, created = seconds["orders/paid"], seconds["orders/create"]
    ties = sum(paid[order_id] == created.get(order_id) for order_id in paid)
    assert ties > 30


def test_the_final_state_of_an_order_is_that_of_its_newest_version(storm: Storm) -> None:
    newest: dict[tuple[str, str], datetime] = {}
    for delivery, body in _orders(storm):
        at = datetime.fromisoformat(body["updated_at"])
        key = delivery.shop, str(body["id"])
        newest[key] = max(at, newest.get(key, at))

    told = {
        (shop, order_id): state.updated_at
        for shop, states in storm.expected.orders.items()
        for order_id, state in states.items()
    }
    assert told == newest
    kinds = [state for states in storm.expected.orders.values() for state in states.values()]
    assert any(state.deleted and not state.paid for state in kinds)
    assert any(state.cancelled and state.paid for state in kinds)
    assert any(state.cancelled and not state.paid for state in kinds)
    assert not any(state.deleted and state.paid for state in kinds)


def test_a_lost_fraction_of_an_id_would_show(storm: Storm) -> None:
    large = [body["id"] for delivery, body in _orders(storm) if delivery.kind == "order.big_id"]

    assert large
    assert all(int(float(order_id)) != order_id for order_id in large)


def test_allowed_cart_additions_are_the_quantities_of_delivered_versions(storm: Storm) -> None:
    seen = defaultdict(set)
    last: dict[str, tuple[str, set[str]]] = {}
    for delivery in storm.deliveries:
        if delivery.kind != "cart":
            continue
        body = json.loads(delivery.body)
        for line in body["line_items"]:
            seen[body["token"], str(line["variant_id"])].add(line["quantity"])
        held = {str(line["variant_id"]) for line in body["line_items"]}
        last[body["token"]] = max(last.get(body["token"], ("", held)), (body["updated_at"], held))

    additions = {k: v for found in storm.expected.additions.values() for k, v in found.items()}
    assert {key: set(found.quantities) for key, found in additions.items()} == seen
    assert all(found.required == (key[1] in last[key[0]][1]) for key, found in additions.items())
    assert any(len(found.quantities) > 1 for found in additions.values())


def test_checkouts_are_counted_by_token(storm: Storm) -> None:
    tokens = defaultdict(set)
    for delivery in storm.deliveries:
        if delivery.kind == "checkout":
            tokens[delivery.shop].add(f"checkout.{json.loads(delivery.body)['token']}")

    assert storm.expected.checkouts == tokens


def test_every_dead_delivery_is_signed_and_unfit_for_its_topic(storm: Storm) -> None:
    dead = [
        d for d in storm.deliveries if d.webhook_id in storm.expected.dead and d.kind != "forged"
    ]

    assert {d.kind for d in dead if d.expected_status == 200} == {
        d.kind for d in storm.deliveries if d.kind.startswith(("malformed.", "wrong_topic."))
    }
    assert len({d.kind for d in dead}) == 12


def test_what_is_called_malformed_but_parses_lacks_what_an_order_needs(storm: Storm) -> None:
    for delivery in storm.deliveries:
        if not delivery.kind.startswith("malformed.") or delivery.kind.startswith(
            "malformed.nested"
        ):
            continue
        try:
            parsed = json.loads(delivery.body)
        except ValueError:
            continue
        assert not isinstance(parsed, dict) or parsed.get("id") is None


def test_a_gzip_body_is_signed_as_it_travels(storm: Storm) -> None:
    packed = [delivery for delivery in storm.deliveries if delivery.kind == "gzip"]

    assert packed
    assert all(_is_well_signed(delivery) for delivery in packed)
    assert all("id" in json.loads(gzip.decompress(delivery.body)) for delivery in packed)


def test_stock_ends_where_the_last_triggered_change_left_it(storm: Storm) -> None:
    newest: dict[tuple[str, str, str], tuple[str, int | None]] = {}
    for delivery in storm.deliveries:
        if delivery.topic != "inventory_levels/update" or delivery.kind != "catalog":
            continue
        body = json.loads(delivery.body)
        key = delivery.shop, str(body["inventory_item_id"]), str(body["location_id"])
        told = delivery.header("triggered-at") or "", body["available"]
        newest[key] = max(newest.get(key, told), told, key=lambda pair: pair[0])

    assert {key: pair[1] for key, pair in newest.items()} == {
        (shop, *level): available
        for shop, levels in storm.expected.stock.items()
        for level, available in levels.items()
    }


def test_orders_are_as_large_and_as_varied_as_real_ones(storm: Storm) -> None:
    sizes = sorted(len(delivery.body) for delivery, _ in _orders(storm))
    currencies = {body["presentment_currency"] for _, body in _orders(storm)}
    bodies = [delivery.body for delivery, _ in _orders(storm)]

    assert 6_000 < sizes[len(sizes) // 2] < 12_000
    assert {"USD", "EUR", "GBP", "JPY", "BHD", "UYU"} <= currencies
    assert any(b"\\/" in body for body in bodies)
    assert any(body.startswith(b'{\n  "') for body in bodies)
    assert any(b"ttclid=" in body for body in bodies)
    assert any(b'"_ttp"' in body for body in bodies)


def test_amounts_have_the_decimals_of_their_currency(storm: Storm) -> None:
    decimals = defaultdict(set)
    for totals in storm.expected.totals.values():
        for currency, amount in totals:
            decimals[currency].add(len(amount.partition(".")[2]))

    assert decimals["JPY"] == {0}
    assert decimals["BHD"] == {3}
    assert decimals["USD"] == {2}


def test_waves_add_up_and_share_no_resource() -> None:
    waves = list(storm_waves(5, 1200, SHOPS, NOW, wave_size=450))

    sizes = [len(wave.deliveries) for wave in waves]
    orders = [set(wave.expected.totals) for wave in waves]
    merged = waves[0].expected
    merged.merge(waves[1].expected)
    assert sizes == [450, 750]
    assert not orders[0] & orders[1]
    assert merged.answers.total() == 1200
    assert merged.purchase_count == len(orders[0] | orders[1])


def test_nothing_personal_shows_in_a_repr(storm: Storm) -> None:
    assert "shpss" not in repr(SHOPS)
    assert not any("@" in repr(delivery) for delivery in storm.deliveries[:50])

"""The reconciler on a real nats-server, against the simulator over HTTP."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import msgspec
import pytest

from libs.bus import subjects
from libs.bus.api import js_api
from libs.ids import system_random
from libs.limits import DeclaredLimits, LimiterPart
from libs.resources import MESSAGES
from libs.telemetry import Metrics
from services.ingest.domain.reconciling import Mark
from tests.integration.ingest.harness import eventually, opened_order, running
from tests.integration.reconcile.conftest import (
    ALWAYS,
    OTHER,
    OTHER_DOMAIN,
    SHOP,
    Field,
    a_product,
    ago,
    an_order,
)
from tests.integration.reconcile.shopify import CLOCK, DOMAIN, RecordingLimiter, connections_file
from tests.unit.ingest.normalize.bodies_of import line
from tidewire.commerce.v1 import fact_pb2, record_pb2
from tidewire.ingest.v1 import delivery_pb2

# -- what is missing -----------------------------------------------------------------------------


async def test_a_webhook_that_never_came_is_repaired_once(field: Field) -> None:
    come, lost = an_order(1), an_order(2)
    field.shopify.put(orders=[come, lost], products=[a_product(9)])
    await field.webhook("w1", come, "orders/paid")

    for _ in range(3):
        await field.compared()

    ids = await field.injected()
    assert sorted(one.split(".")[1:3] for one in ids) == [["order", "2"], ["product", "9"]]
    assert set(await field.suite.facts()) == {"1", "2"}
    assert field.repairs() == {("order", "missing"): 1, ("product", "missing"): 1}
    (delivery,) = [d for d in await field.suite.received() if d.topic == "reconcile/orders"]
    assert delivery.source == delivery_pb2.SOURCE_RECONCILER
    assert await field.suite.dead_letters() == []


async def test_a_webhook_that_comes_after_the_repair_pays_nothing_again_and_adds_the_browser(
    field: Field,
) -> None:
    lost = an_order(2)
    field.shopify.put(orders=[lost])
    await field.compared()
    before = await field.suite.facts()

    await field.webhook("late", lost, "orders/paid")
    await field.compared()

    assert await field.suite.facts() == before
    assert (await opened_order(field.suite, "2")).client.user_agent == "Mozilla/5.0"
    assert len(await field.injected()) == 1


async def test_an_order_whose_payment_was_not_told_is_paid_with_the_browser_it_was_placed_with(
    field: Field,
) -> None:
    paid = an_order(3)
    await field.webhook("placed", {**paid, "financial_status": "pending"}, "orders/create")
    field.shopify.put(orders=[paid])

    await field.compared()

    assert set(await field.suite.facts()) == {"3"}
    stored = await opened_order(field.suite, "3")
    assert (stored.paid, stored.client.user_agent) == (True, "Mozilla/5.0")
    assert field.repairs() == {("order", "older"): 1}
    (fact,) = await field.suite.stored("COMMERCE", "commerce.fact.order_paid.>")
    record = record_pb2.FactRecord.FromString(fact.data)
    told = fact_pb2.Fact.FromString(await field.suite.vault.open_bytes(record.payload, SHOP))
    assert told.order_paid.order.client.user_agent == "Mozilla/5.0"


async def test_what_was_injected_once_is_not_injected_again_whatever_became_of_it(
    field: Field,
) -> None:
    field.shopify.put(orders=[an_order(7, seconds_ago=60)])
    await field.compared()
    name = subjects.state("order", SHOP, "7")
    await js_api(field.suite.nats, "STREAM.PURGE.COMMERCE", {"filter": name})

    await field.compared()

    assert len(await field.injected()) == 1


async def test_what_has_just_changed_is_left_to_its_webhook(field: Field) -> None:
    field.shopify.put(orders=[an_order(4, seconds_ago=1)])

    await field.compared(await field.reconciler(replace(ALWAYS, settle_s=60)))

    assert await field.injected() == []


async def test_an_order_that_was_deleted_is_not_read_back(field: Field) -> None:
    field.shopify.put(orders=[an_order(5)])
    gone = msgspec.json.encode({"id": 5})
    delivery = await field.suite.delivery("gone", gone, topic="orders/delete")
    await field.suite.store([delivery])
    await field.normalised()

    await field.compared()

    assert await field.injected() == []


async def test_an_order_of_more_lines_than_come_at_once_is_read_whole(field: Field) -> None:
    lines = [line(number, 1) for number in range(1, 321)]
    field.shopify.put(orders=[an_order(6, line_items=lines)])

    await field.compared()

    stored = await opened_order(field.suite, "6")
    assert [one.line_id for one in stored.line_items] == [str(n) for n in range(1, 321)]


async def test_many_pages_are_gone_through(field: Field) -> None:
    known = [an_order(number, seconds_ago=4000 - number) for number in range(1, 601)]
    field.shopify.put(orders=known)
    await field.suite.store(
        [
            await field.suite.delivery(f"w{body['id']}", msgspec.json.encode(body))
            for body in known
            if body["id"] not in {1, 300, 600}
        ]
    )
    await field.normalised()

    await field.compared()

    assert {one.split(".")[2] for one in await field.injected()} == {"1", "300", "600"}
    assert len(await field.suite.facts()) == 600
    ledger = field.shopify.sandbox.ledger
    assert ledger.count(operation="ChangedOrders", shop=DOMAIN) == 3
    assert ledger.count(operation="ReadOrders") == 3


# -- from when on --------------------------------------------------------------------------------


async def test_what_shopify_lists_late_is_found_within_the_overlap_and_not_beyond(
    field: Field,
) -> None:
    now_s = CLOCK.now_ns() / 1e9
    await field.watermarks.save(
        SHOP, "order", Mark(through_s=now_s - 1000, is_complete=True, ran_at_s=0.0)
    )
    field.shopify.put(orders=[an_order(1, 1200), an_order(2, 1400)])

    await field.compared()

    assert [one.split(".")[2] for one in await field.injected()] == ["1"]
    mark = await field.watermarks.load(SHOP, "order")
    assert mark is not None
    assert mark.is_complete
    assert mark.through_s == pytest.approx(now_s - ALWAYS.settle_s, abs=30)


async def test_a_run_that_breaks_off_goes_on_where_it_was(field: Field) -> None:
    field.shopify.put(orders=[an_order(number, 4000 - number) for number in range(1, 301)])
    field.shopify.sandbox.bucket(DOMAIN).restore_per_s = 20_000.0
    match = {"operation": "ChangedOrders", "shop": DOMAIN}
    script = {"match": match, "skip": 1, "times": 1}
    effect = {"effect": {"kind": "http_status", "status": 503}}
    field.shopify.sandbox.faults.post(msgspec.json.encode({**script, **effect}), 0.0)

    await field.compared()
    cut = await field.watermarks.load(SHOP, "order")
    injected = len(await field.injected())
    await field.compared()

    assert cut is not None
    assert (cut.is_complete, injected) == (False, 250)
    assert len(await field.injected()) == len(set(await field.injected())) == 300


async def test_more_of_one_second_than_a_run_gets_through_is_gone_through_by_several(
    field: Field,
) -> None:
    at = ago(3000)
    field.shopify.put(orders=[an_order(number, updated_at=at) for number in range(1, 601)])
    field.shopify.sandbox.bucket(DOMAIN).restore_per_s = 20_000.0
    reconciler = await field.reconciler(replace(ALWAYS, pages_max=1))

    cursors = []
    for _ in range(4):
        await field.compared(reconciler)
        mark = await field.watermarks.load(SHOP, "order")
        assert mark is not None
        cursors.append((mark.cursor is not None, mark.is_complete))

    # The first run reaches the second, the next ones go on within it.
    assert cursors == [(False, False), (True, False), (True, False), (False, True)]
    assert len(await field.injected()) == len(set(await field.injected())) == 600


async def test_a_cursor_that_shopify_takes_no_more_is_dropped(field: Field) -> None:
    field.shopify.put(orders=[an_order(1, 600)])
    now_s = CLOCK.now_ns() / 1e9
    await field.watermarks.save(
        SHOP,
        "order",
        Mark(through_s=now_s - 1000, is_complete=False, ran_at_s=0.0, cursor="worn out"),
    )

    await field.compared()
    first = len(await field.injected())
    await field.compared()

    assert (first, len(await field.injected())) == (0, 1)


async def test_a_first_run_looks_no_further_back_than_it_may(field: Field) -> None:
    field.shopify.put(orders=[an_order(1, 3000), an_order(2, 5000)])

    await field.compared(await field.reconciler(replace(ALWAYS, reach_s=4000)))

    assert [one.split(".")[2] for one in await field.injected()] == ["1"]


# -- limits and faults ---------------------------------------------------------------------------


async def test_a_backfill_that_follows_the_bucket_is_never_throttled(field: Field) -> None:
    bucket = field.shopify.sandbox.bucket(DOMAIN)
    bucket.restore_per_s = 2000.0
    field.shopify.put(orders=[an_order(number) for number in range(1, 81)])

    await field.compared()

    ledger = field.shopify.sandbox.ledger
    assert len(await field.injected()) == 80
    assert ledger.count(outcome="throttled") == 0
    assert sum(call.requested for call in ledger.calls) > 4 * bucket.capacity


async def test_replicas_that_share_the_real_limiter_are_never_throttled_together(
    field: Field,
) -> None:
    for domain in (DOMAIN, OTHER_DOMAIN):
        field.shopify.sandbox.bucket(domain).restore_per_s = 1000.0
    field.shopify.put(orders=[an_order(number) for number in range(1, 41)])
    field.shopify.put(orders=[an_order(number) for number in range(1, 41)], domain=OTHER_DOMAIN)
    parts = [
        LimiterPart(
            field.suite.nats,
            declared=DeclaredLimits("shopify.*.graphql=2000@1000/s"),
            clock=CLOCK,
            ids=field.suite.ids,
            random=system_random,
            metrics=Metrics(),
        )
        for _ in range(2)
    ]

    async with running(parts[0]), running(parts[1]):
        replicas = [await field.reconciler(limiter=part.limiter) for part in parts]
        await asyncio.gather(*(one.compare_all() for one in replicas))

    assert len(await field.injected()) == 80
    assert field.shopify.sandbox.ledger.count(outcome="throttled") == 0


async def test_a_throttle_is_waited_out(field: Field) -> None:
    field.shopify.put(orders=[an_order(number) for number in range(1, 33)])
    bucket = field.shopify.sandbox.bucket(DOMAIN)
    bucket.capacity = bucket.available = 1000.0
    bucket.restore_per_s = 300.0

    await field.compared(await field.reconciler(limiter=RecordingLimiter()))

    assert len(await field.injected()) == 32
    assert field.shopify.sandbox.ledger.count(outcome="throttled") > 0


async def test_a_dead_token_is_told_once_and_leaves_other_shops_alone(
    field: Field, capsys: pytest.CaptureFixture[str]
) -> None:
    field.shopify.put(orders=[an_order(1)])
    field.shopify.put(orders=[an_order(2)], domain=OTHER_DOMAIN)
    script = {"match": {"shop": DOMAIN}, "effect": {"kind": "expired_token"}}
    field.shopify.sandbox.faults.post(msgspec.json.encode(script), 0.0)
    reconciler = await field.reconciler()

    for _ in range(3):
        await reconciler.compare_all()

    received = await field.suite.received()
    assert [(one.shop, one.topic) for one in received] == [(OTHER, "reconcile/orders")]
    assert capsys.readouterr().out.count("upstream_status_401") == 1
    assert field.shopify.sandbox.ledger.count(shop=DOMAIN) == 3


async def test_a_shop_that_may_not_show_its_orders_is_still_compared_by_its_products(
    field: Field,
) -> None:
    field.shopify.put(orders=[an_order(1)], products=[a_product(9)])
    script = {"match": {"operation": "ChangedOrders"}, "effect": {"kind": "denied"}}
    field.shopify.sandbox.faults.post(msgspec.json.encode(script), 0.0)

    await field.compared()

    assert [one.split(".")[1] for one in await field.injected()] == ["product"]


async def test_a_shop_whose_token_works_again_is_compared(field: Field) -> None:
    field.shopify.put(orders=[an_order(1)])
    script = {"match": {"shop": DOMAIN}, "effect": {"kind": "expired_token"}, "times": 1}
    field.shopify.sandbox.faults.post(msgspec.json.encode(script), 0.0)
    reconciler = await field.reconciler()

    await reconciler.compare_all()
    await reconciler.compare_all()

    assert len(await field.injected()) == 1


async def test_a_shop_without_a_token_is_told_of_once_and_nothing_is_asked(
    field: Field, capsys: pytest.CaptureFixture[str]
) -> None:
    field.connections = connections_file(field.suite.connections_file, {SHOP: None, OTHER: None})
    reconciler = await field.reconciler()

    for _ in range(3):
        await reconciler.compare_all()

    lines = [one for one in capsys.readouterr().out.splitlines() if "without_token" in one]
    assert len(lines) == 2
    assert field.shopify.sandbox.ledger.calls == []


# -- replicas ------------------------------------------------------------------------------------


async def test_two_replicas_compare_a_shop_once(field: Field) -> None:
    field.shopify.put(orders=[an_order(number) for number in range(1, 21)])
    rules = replace(ALWAYS, every_s=300.0)
    replicas = [await field.reconciler(rules) for _ in range(2)]

    await asyncio.gather(*(one.compare_all() for one in replicas))
    await replicas[1].compare_all()

    assert len(await field.injected()) == 20
    assert field.shopify.sandbox.ledger.count(operation="ChangedOrders", shop=DOMAIN) == 1


async def test_a_replica_that_died_over_a_shop_leaves_it_to_the_next(field: Field) -> None:
    field.shopify.put(orders=[an_order(1)])
    # Of this shop: the round asks for both at once, and the other's question must not take it.
    match = {"operation": "ChangedOrders", "shop": DOMAIN}
    script = {"match": match, "times": 1, "effect": {"kind": "hang"}}
    field.shopify.sandbox.faults.post(msgspec.json.encode(script), 0.0)
    dying = asyncio.create_task((await field.reconciler()).compare_all())

    async def asked() -> bool:
        return field.shopify.sandbox.ledger.count(operation="ChangedOrders", shop=DOMAIN) > 0

    await eventually(asked, "the first replica has asked")
    dying.cancel()
    await asyncio.wait({dying})
    await field.compared()

    assert len(await field.injected()) == 1


async def test_the_part_compares_when_it_starts_and_stops_while_a_shop_does_not_answer(
    field: Field,
) -> None:
    field.shopify.put(orders=[an_order(1)])
    field.shopify.put(orders=[an_order(2)], domain=OTHER_DOMAIN)
    faults = field.shopify.sandbox.faults
    script = {"match": {"shop": OTHER_DOMAIN}, "effect": {"kind": "hang"}}
    faults.post(msgspec.json.encode(script), 0.0)

    async with running(await field.reconciler(replace(ALWAYS, every_s=300.0))):

        async def repaired_and_hanging() -> bool:
            hangs = field.shopify.sandbox.ledger.count(shop=OTHER_DOMAIN)
            return hangs > 0 and len(await field.injected()) == 1

        await eventually(repaired_and_hanging, "one shop is repaired, the other does not answer")
        began_s = CLOCK.monotonic_s()
    stopped_s = CLOCK.monotonic_s() - began_s
    faults.clear()
    await field.compared()

    # Less than the 5 s after which the call itself is given up; and the shop is free at once.
    assert stopped_s < 4.0
    assert len(await field.injected()) == 2


# -- ties ----------------------------------------------------------------------------------------


async def tied_product(field: Field) -> None:
    """Two bodies of one second are told, the newer one first triggered; the second is stored."""
    at = ago(60)
    for place, title in enumerate(("One", "Other")):
        body = a_product(9, updated_at=at, title=title)
        await field.webhook(f"p{place}", body, "products/update")
    assert (await field.suite.state("product", "9")).tied
    field.shopify.put(products=[a_product(9, updated_at=at, title="True")])


async def title_of(field: Field) -> str:
    record = await field.suite.state("product", "9")
    data = await field.suite.vault.open_bytes(record.payload, SHOP)
    return str(getattr(MESSAGES[record.kind].FromString(data), "title", ""))


async def test_a_tied_product_is_read_again_by_the_next_run_and_then_no_more(field: Field) -> None:
    await tied_product(field)

    for _ in range(2):
        await field.compared()

    assert await title_of(field) == "True"
    assert not (await field.suite.state("product", "9")).tied
    assert field.repairs() == {("product", "tied"): 1}


async def test_a_tie_that_is_noted_is_read_again_once_shortly_after(field: Field) -> None:
    await tied_product(field)
    metrics = Metrics()
    reconciler = await field.reconciler(replace(ALWAYS, every_s=300, reach_s=1), metrics=metrics)

    async with running(reconciler):
        for _ in range(5):
            reconciler.note_tied(SHOP, "9")

        async def read() -> bool:
            return len(await field.injected()) == 1

        await eventually(read, "the product is read again")
    await field.normalised()

    assert await title_of(field) == "True"
    assert field.repairs(metrics) == {("product", "tied"): 1}
    assert field.shopify.sandbox.ledger.count(operation="ReadProducts") == 1


async def test_the_normalizer_notes_ties(field: Field) -> None:
    noted: list[tuple[str, str]] = []
    processor = field.suite.processor(on_tied=lambda shop, product: noted.append((shop, product)))
    at = ago(60)
    bodies = [a_product(9, updated_at=at, title=title) for title in ("One", "Other")]
    await field.suite.store(
        [
            await field.suite.delivery(
                f"p{place}", msgspec.json.encode(body), topic="products/update"
            )
            for place, body in enumerate([*bodies, a_product(10)])
        ]
    )

    async with running(field.suite.normalizer(processor)):
        await eventually(field.suite.all_acknowledged, "all is decided")

    assert set(noted) == {(SHOP, "9")}

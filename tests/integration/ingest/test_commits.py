"""The commit protocol on a real nats-server: one delivery has one effect, whoever races whom."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise

from libs.bus import subjects
from libs.bus.api import js_api
from libs.errors import Kind, ServiceError
from services.ingest.work import Job
from tests.fakes.nats_server import NatsServer
from tests.integration.ingest.harness import (
    SHOP,
    HookedLog,
    Suite,
    connection,
    eventually,
    job_of,
    open_segment,
    opened_order,
    order_body,
    running,
)
from tests.unit.ingest.normalize.bodies_of import product

FIRST, LATER = "2026-09-01T12:00:00Z", "2026-09-01T13:00:00Z"


async def test_a_delivery_repeated_within_a_batch_makes_one_fact(suite: Suite) -> None:
    (delivery,) = await suite.orders(1)

    await suite.processor().process([job_of(delivery, index=n) for n in range(10)])

    assert list(await suite.seen()) == ["w1"]
    assert len(await suite.facts()) == 1
    assert await suite.overwritten() == 0


async def test_a_delivery_repeated_in_later_batches_changes_nothing(suite: Suite) -> None:
    (delivery,) = await suite.orders(1)
    await suite.processor().process([job_of(delivery)])
    facts = await suite.facts()

    for sequence in (2, 3):
        await suite.processor().process([job_of(delivery, sequence)])

    assert await suite.facts() == facts
    assert await suite.overwritten() == 0


async def test_two_deliveries_that_tell_of_one_payment_make_one_fact(suite: Suite) -> None:
    created = await suite.delivery("w1", order_body(updated_at=FIRST), topic="orders/create")
    paid = await suite.delivery("w2", order_body(updated_at=LATER), topic="orders/paid")

    for delivery in (created, paid):
        await suite.processor().process([job_of(delivery)])

    assert set(await suite.seen()) == {"w1", "w2"}
    assert len(await suite.facts()) == 1


async def test_two_normalizers_with_the_same_deliveries_make_each_fact_once(
    suite: Suite, nats_server: NatsServer
) -> None:
    jobs = [job_of(delivery) for delivery in await suite.orders(60)]
    async with connection(nats_server.url) as other:
        rival = Suite(other, suite.connections, suite.keys, suite.connections_file)
        for start in range(0, 60, 20):
            part = jobs[start : start + 20]
            await asyncio.gather(suite.processor().process(part), rival.processor().process(part))

    assert len(await suite.seen()) == 60
    assert len(await suite.facts()) == 60
    assert await suite.overwritten() == 0


async def test_two_normalizers_with_different_news_of_one_order_end_with_the_newest(
    suite: Suite, nats_server: NatsServer
) -> None:
    hours = range(10, 22)
    news = [
        await suite.delivery(f"w{hour}", order_body(updated_at=f"2026-09-01T{hour}:00:00Z"))
        for hour in hours
    ]
    async with connection(nats_server.url) as other:
        rival = Suite(other, suite.connections, suite.keys, suite.connections_file)
        for older, newer in pairwise(news):
            await asyncio.gather(
                suite.processor().process([job_of(newer)]),
                rival.processor().process([job_of(older)]),
            )

    state = await suite.state("order", "1001")
    assert state.version.updated_at.ToJsonString() == "2026-09-01T21:00:00Z"
    assert len(await suite.seen()) == len(hours)
    assert len(await suite.facts()) == 1


async def test_a_conflict_is_read_again_and_merged(suite: Suite) -> None:
    """The rival's newer version stays, and what only ours tells is kept with it."""
    cancelled = order_body(updated_at=FIRST, cancelled_at=FIRST)
    ours = job_of(await suite.delivery("ours", cancelled, topic="orders/cancelled"))
    newer = order_body(updated_at=LATER, cancelled_at=None)
    theirs = job_of(await suite.delivery("theirs", newer, topic="orders/updated"))

    async def rival_is_quicker() -> None:
        await suite.processor().process([theirs])

    log = HookedLog(suite.log, before=rival_is_quicker)
    await suite.processor(log).process([ours])

    order = await opened_order(suite, "1001")
    assert log.conflicts == 1
    assert order.updated_at.ToJsonString() == LATER
    assert order.cancelled_at.ToJsonString() == FIRST
    assert len(await suite.facts("order_paid")) == 1
    assert len(await suite.facts("order_cancelled")) == 1


async def test_an_older_version_cannot_overwrite_a_newer_one_that_came_between(
    suite: Suite,
) -> None:
    """No fact and no marker is shared: the state's own sequence is all that stands between."""
    bodies = {at: json.dumps(product(updated_at=at)).encode() for at in (FIRST, LATER)}
    older = await suite.delivery("w1", bodies[FIRST], topic="products/update")
    newer = await suite.delivery("w2", bodies[LATER], topic="products/update")

    async def rival_is_quicker() -> None:
        await suite.processor().process([job_of(newer)])

    log = HookedLog(suite.log, before=rival_is_quicker)
    await suite.processor(log).process([job_of(older)])

    state = await suite.state("product", "201")
    assert log.conflicts == 1
    assert state.version.updated_at.ToJsonString() == LATER


async def test_a_delivery_that_a_rival_has_just_decided_is_not_decided_again(suite: Suite) -> None:
    """It touches no state: its marker alone stands between."""
    job = job_of(await suite.delivery("w1", b"{}", topic="themes/publish"))

    async def rival_is_quicker() -> None:
        await suite.processor().process([job])

    log = HookedLog(suite.log, before=rival_is_quicker)
    await suite.processor(log).process([job])

    assert (log.conflicts, log.sizes) == (1, [])
    assert await suite.overwritten() == 0


async def test_a_fact_outlives_its_state_and_is_not_published_again(suite: Suite) -> None:
    await suite.processor().process([job_of(await suite.delivery("w1", order_body()))])
    facts = await suite.facts()
    name = subjects.state("order", SHOP, "1001")
    await js_api(suite.nats, f"STREAM.PURGE.{subjects.COMMERCE}", {"filter": name})

    await suite.processor().process([job_of(await suite.delivery("w2", order_body()))])

    assert len(facts) == 1
    assert await suite.facts() == facts
    assert set(await suite.seen()) == {"w1", "w2"}


async def test_a_commit_whose_answer_got_lost_is_not_made_twice(suite: Suite) -> None:
    async def lost() -> None:
        raise ServiceError(Kind.RETRYABLE, "nats_unavailable")

    deliveries = await suite.orders(5)
    await suite.store(deliveries)
    log = HookedLog(suite.log, after=lost)

    async with running(suite.normalizer(suite.processor(log))):
        await eventually(suite.all_acknowledged, "the segment is acknowledged")

    assert len(await suite.facts()) == 5
    assert await suite.overwritten() == 0


async def test_a_segment_that_comes_again_after_a_crash_makes_no_second_fact(suite: Suite) -> None:
    """The crash is between the commit and the acknowledgement."""
    deliveries = await suite.orders(20)
    sequence = await suite.store(deliveries)
    segment = open_segment(sequence, remaining=20)
    await suite.processor().process([Job(segment, n, one) for n, one in enumerate(deliveries)])
    facts = await suite.facts()

    async with running(suite.normalizer()):
        await eventually(suite.all_acknowledged, "the segment is acknowledged")

    assert len(facts) == 20
    assert await suite.facts() == facts
    assert await suite.overwritten() == 0

"""A normalizer whose mapping fails for everybody stops, and goes on once it works."""

from __future__ import annotations

from typing import Any

import pytest

from libs.bus.burial import BurialPolicy, BurialWatch
from libs.clock import FakeClock
from libs.errors import permanent
from services.ingest.batch import BatchProcessor
from tests.integration.ingest.harness import OTHER, SHOP, Suite, eventually, running
from tidewire.ingest.v1 import delivery_pb2

_BATCH = 5
_UNITS = 10


class Moody(BatchProcessor):
    """A processor that understands no order while its mapping is broken."""

    broken = True

    def _understood(self, *args: Any) -> Any:
        if self.broken:
            raise permanent("wrong_shape", "expected a number", path="$.total_price")
        return super()._understood(*args)


@pytest.fixture
def clock(suite: Suite) -> FakeClock:
    """The clock of the suite's watch."""
    clock = FakeClock()
    policy = BurialPolicy(units_max=_UNITS, shops_least=2, probe_s=60.0)
    suite.burials = BurialWatch(clock, policy, shops_known=lambda: 2)
    return clock


async def stored_orders(suite: Suite) -> None:
    """Two hundred of two shops, ten to a segment."""
    ours, theirs = await suite.orders(100), await suite.orders(100, shop=OTHER, first=101)
    for start in range(0, 100, 5):
        await suite.store([*ours[start : start + 5], *theirs[start : start + 5]])


async def test_a_mapping_that_fails_for_all_leaves_the_stream_as_it_is_until_it_works(
    suite: Suite, clock: FakeClock
) -> None:
    await stored_orders(suite)
    processor = suite.processor(kind=Moody)
    assert isinstance(processor, Moody)
    normalizer = suite.normalizer(processor, batch_deliveries=_BATCH)

    async with running(normalizer):

        async def is_still() -> bool:
            return suite.burials.stopped is not None and normalizer._under_way == 0

        await eventually(is_still, "dead letters have stopped it")
        at_first = len(await suite.dead_letters())

        clock.advance(60.0)

        async def one_more() -> bool:
            return len(await suite.dead_letters()) > at_first and await is_still()

        await eventually(one_more, "one is tried again")
        after_the_probe = len(await suite.dead_letters())

        processor.broken = False
        clock.advance(60.0)
        await eventually(suite.all_acknowledged, "all are normalised")

    # What was under way when the bound was met is buried as well: a batch being written, one that
    # waits for it, one being read.
    assert _UNITS <= at_first <= _UNITS + 3 * _BATCH
    assert after_the_probe == at_first + 1
    assert len(await suite.facts()) == 200 - after_the_probe
    assert suite.burials.stopped is None


async def test_a_shop_that_sends_only_poison_stops_no_other(suite: Suite, clock: FakeClock) -> None:
    poison = [await suite.delivery(f"p{n}", b"<html>", shop=OTHER) for n in range(100)]
    await suite.store(poison)
    await suite.store(await suite.orders(20, shop=SHOP))

    async with running(suite.normalizer(batch_deliveries=_BATCH)):
        await eventually(suite.all_acknowledged, "all are dealt with")

    assert len(await suite.dead_letters()) == 100
    assert len(await suite.facts()) == 20


async def test_replays_that_fail_do_not_stop_what_is_live(suite: Suite, clock: FakeClock) -> None:
    for shop in (SHOP, OTHER):
        tried = [await suite.delivery(f"replay.{n}", b"<html>", shop=shop) for n in range(50)]
        for delivery in tried:
            delivery.source = delivery_pb2.SOURCE_REPLAY
        await suite.store(tried)

    async with running(suite.normalizer(batch_deliveries=_BATCH)):
        await eventually(suite.all_acknowledged, "all are dealt with")

    assert len(await suite.dead_letters()) == 100
    assert suite.burials.stopped is None

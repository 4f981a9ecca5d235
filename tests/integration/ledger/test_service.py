"""LedgerService over real gRPC and NATS, its metrics, and the command that asks it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cli.ledger import Wish, show_ledger
from libs.errors import Kind, ServiceError
from libs.rpc.client import call
from libs.telemetry.metrics import render_prometheus
from tests.fakes import callers
from tests.integration.ledger.served import WITHIN_S, Served, served
from tests.integration.ledger.world import OTHER, SHOP, SINK, World
from tidewire.delivery.v1 import ledger_service_pb2 as pb
from tidewire.delivery.v1 import outcome_pb2

DEAD = outcome_pb2.OUTCOME_KIND_DEAD


@pytest.fixture
async def ledger(world: World) -> AsyncIterator[Served]:
    async with served(world) as made:
        yield made


async def get(ledger: Served, **asked: Any) -> pb.LedgerServiceGetResponse:
    """The first answer after the ledger was read for the first time."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                answer: pb.LedgerServiceGetResponse = await call(
                    ledger.stub.Get, pb.LedgerServiceGetRequest(**asked), timeout_s=10
                )
            except ServiceError as error:
                if error.code != "ledger_not_read":
                    raise
                await asyncio.sleep(0.02)
            else:
                return answer


async def now(world: World, ledger: Served, **asked: Any) -> pb.LedgerServiceGetResponse:
    """An answer that knows what was written before."""
    world.clock.advance(2)
    return await get(ledger, **asked)


async def pages(ledger: Served, **asked: Any) -> list[list[tuple[str, str, str]]]:
    """Sink, unit and place of what is in flight, page by page."""
    found, token = [], ""
    while True:
        request = pb.ListInFlightRequest(page_token=token, **asked)
        answer = await call(ledger.stub.ListInFlight, request, timeout_s=10)
        found.append([(one.sink, one.unit, one.place) for one in answer.units])
        token = answer.next_page_token
        if not token:
            return found


async def lose(world: World, fact_id: str) -> str:
    """A unit whose fact is acknowledged without an outcome."""
    unit = await world.deliver(fact_id)
    await world.open_lane()
    [message] = await world.take(1)
    await message.ack_sync()
    return unit


def metric(ledger: Served, name: str) -> float:
    lines = render_prometheus(ledger.metrics).splitlines()
    return float(next(line for line in lines if line.startswith(name)).rpartition(" ")[2])


# -- the service ---------------------------------------------------------------------------------


async def test_an_answer_holds_the_sum_and_the_rows_asked_for(world: World, ledger: Served) -> None:
    unit = await world.deliver("1", to=(SINK, OTHER))
    await world.deliver_nothing("2", "stale")
    await world.end(unit, DEAD, sink=OTHER, reason="permanent/upstream_40002")

    whole = await now(world, ledger, rows=True)
    other = await get(ledger, sink=OTHER)
    nothing = await get(ledger, day="2020-01-01")

    assert (whole.total.received, whole.total.deliveries) == (3, 2)
    assert dict(whole.total.ignored) == {"stale": 1}
    assert dict(whole.total.in_flight) == {"lane": 1}
    assert [(row.shop, row.sink, row.received) for row in whole.rows] == [
        (SHOP, SINK, 2),
        (SHOP, OTHER, 1),
    ]
    assert dict(other.total.dead) == {"permanent/upstream_40002": 1}
    assert not other.rows
    assert nothing.total == pb.LedgerRow()
    assert whole.balanced
    assert not whole.HasField("unbalanced_since")


async def test_what_was_lost_is_unaccounted_and_says_since_when(
    world: World, ledger: Served
) -> None:
    await lose(world, "1")

    answer = await now(world, ledger)

    assert answer.total.unaccounted == 1
    assert not answer.total.in_flight
    assert not answer.balanced
    assert answer.HasField("unbalanced_since")


async def test_units_in_flight_are_listed_in_pages_with_their_places(
    world: World, ledger: Served
) -> None:
    lost = await lose(world, "0")
    units = [await world.deliver(str(number), to=(SINK, OTHER)) for number in range(1, 4)]
    await world.park(units[0])
    await now(world, ledger)

    found = await pages(ledger, page_size=3)
    of_other = await pages(ledger, sink=OTHER)
    of_nobody = await pages(ledger, shop="nobody")

    assert [len(page) for page in found] == [3, 3, 1]
    assert [one for page in found for one in page] == [
        (SINK, lost, ""),
        (SINK, units[0], "parked"),
        (SINK, units[1], "lane"),
        (SINK, units[2], "lane"),
        *((OTHER, unit, "lane") for unit in units),
    ]
    assert of_other == [[(OTHER, unit, "lane") for unit in units]]
    assert of_nobody == [[]]


async def test_a_unit_in_flight_tells_how_often_it_was_tried_and_when_it_came(
    world: World, ledger: Served
) -> None:
    unit = await world.deliver("1")
    await world.end(unit, outcome_pb2.OUTCOME_KIND_ATTEMPTED, attempts=4)
    await now(world, ledger)

    answer = await call(ledger.stub.ListInFlight, pb.ListInFlightRequest(), timeout_s=10)

    [found] = answer.units
    assert found.attempts == 4
    assert 0 <= world.clock.now_ns() - found.received_at.ToNanoseconds() < 60_000_000_000


@pytest.mark.parametrize("token", ["!", "bm90aGluZw==", "WyJhIl0="])
async def test_a_page_token_that_is_none_is_refused(ledger: Served, token: str) -> None:
    await get(ledger)

    with pytest.raises(ServiceError) as caught:
        await call(ledger.stub.ListInFlight, pb.ListInFlightRequest(page_token=token), timeout_s=10)

    assert (caught.value.code, caught.value.path) == ("page_token_invalid", "page_token")


async def test_until_it_was_read_once_the_ledger_cannot_be_asked(world: World) -> None:
    units = [await world.deliver(str(number)) for number in range(3)]

    async with served(world, open_max=2) as ledger:
        for _ in range(3):
            with pytest.raises(ServiceError) as caught:
                await call(ledger.stub.Get, pb.LedgerServiceGetRequest(), timeout_s=10)
            assert (caught.value.kind, caught.value.code) == (Kind.RETRYABLE, "ledger_not_read")

    assert len(units) == 3


async def test_the_metrics_show_what_is_missing_where_the_rest_is_and_how_old(
    world: World, ledger: Served
) -> None:
    await lose(world, "0")
    await world.deliver("1")
    parked = await world.deliver("2")
    await world.park(parked)
    await now(world, ledger)

    world.clock.advance(100)

    assert metric(ledger, "tidewire_ledger_unaccounted_units") == 1
    assert metric(ledger, 'tidewire_ledger_in_flight_units{place="lane"}') == 1
    assert metric(ledger, 'tidewire_ledger_in_flight_units{place="parked"}') == 1
    assert 100 <= metric(ledger, "tidewire_ledger_oldest_seconds") < 160
    assert 100 <= metric(ledger, "tidewire_ledger_read_age_seconds") < 160


# -- the command ---------------------------------------------------------------------------------


async def ask(world: World, ledger: Served, **wish: Any) -> int:
    await get(ledger)
    world.clock.advance(2)
    return await show_ledger(Wish(**wish), ledger.callee, clock=world.clock)


def json_in(said: str) -> dict[str, Any]:
    """What the command printed; the service of this test writes its log there too."""
    made: dict[str, Any] = json.loads(said[said.index("\n{\n") :])
    return made


async def test_the_command_prints_what_was_received_and_how_it_ended(
    world: World, ledger: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    unit = await world.deliver("1")
    await world.end(unit)
    await world.deliver_nothing("2", "stale")

    plain = await ask(world, ledger, rows=True)
    said = capsys.readouterr().out
    as_json = await ask(world, ledger, as_json=True, rows=True)
    made = json_in(capsys.readouterr().out)

    assert (plain, as_json) == (0, 0)
    assert "ignored: stale" in said
    assert SHOP in said
    assert (made["received"], made["delivered"], made["in_flight"]) == (2, 1, 0)
    assert (made["ignored"], made["dead"], made["balanced"]) == ({"stale": 1}, {}, True)
    assert [row["received"] for row in made["rows"]] == [2]


async def test_the_command_fails_where_something_is_missing_for_a_minute(
    world: World, ledger: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    await lose(world, "1")
    began_s = world.clock.now_s

    code = await ask(world, ledger, as_json=True)

    made = json_in(capsys.readouterr().out)
    assert code == 1
    assert (made["unaccounted"], made["in_flight"], made["balanced"]) == (1, 0, False)
    assert made["unbalanced_since"]
    assert 60 <= world.clock.now_s - began_s < 90


async def test_the_command_waits_for_what_is_on_its_way_no_longer_than_it_moves(
    world: World, ledger: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    await world.deliver("1")
    began_s = world.clock.now_s

    at_once = await ask(world, ledger, as_json=True)
    after_s = world.clock.now_s
    in_the_end = await ask(world, ledger, as_json=True, wait_s=300)

    capsys.readouterr()
    assert (at_once, in_the_end) == (0, 0)
    assert after_s - began_s < 10
    assert 60 <= world.clock.now_s - after_s < 90


async def test_the_command_says_that_nobody_answers(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    nobody = await show_ledger(Wish(), callers.callee(1), clock=world.clock)

    assert nobody == 2
    assert capsys.readouterr().out == ""

"""Queues of units that wait for their connection, and the lease of the one who drains them."""

from __future__ import annotations

import pytest
from nats.aio.client import Client

from libs.bus import api, parking, subjects
from libs.bus.lease import Lease
from libs.bus.parking import ParkingLot
from libs.clock import FakeClock, SystemClock
from libs.errors import ServiceError
from libs.telemetry import Telemetry
from tests.integration.bus.conftest import LogOf
from tests.integration.rpc.rig import new_id
from tidewire.delivery.v1 import gate_pb2


@pytest.fixture
def lot(nats: Client, log_of: LogOf) -> ParkingLot:
    return ParkingLot(nats, log_of(subjects.PARKED), "events", Telemetry.recording().metrics)


def parked(connection: str, *units: str) -> list[gate_pb2.ParkedUnit]:
    return [gate_pb2.ParkedUnit(connection_id=connection, unit=unit) for unit in units]


async def units_of(lot: ParkingLot, connection: str) -> list[str]:
    return [one.unit for _, one in await lot.waiting(connection, limit=1000)]


async def test_what_is_parked_waits_in_order_by_connection(lot: ParkingLot) -> None:
    one, other = f"{new_id()}.events.C1", f"{new_id()}.events.C2"

    await lot.park([*parked(one, "a", "b"), *parked(other, "x"), *parked(one, "c")])

    assert await units_of(lot, one) == ["a", "b", "c"]
    assert await units_of(lot, other) == ["x"]


async def test_more_than_one_write_holds_is_parked_whole_and_in_order(lot: ParkingLot) -> None:
    connection = new_id()
    names = [f"u{number}" for number in range(1_201)]

    await lot.park(parked(connection, *names))

    first = await units_of(lot, connection)
    assert first == names[: len(first)]
    await lot.count()
    assert lot.depths[connection] == 1_201


async def test_another_replica_learns_what_is_parked(
    nats: Client, log_of: LogOf, lot: ParkingLot
) -> None:
    connection = f"{new_id()}.events.C1"
    other = ParkingLot(nats, log_of(subjects.PARKED), "events", Telemetry.recording().metrics)
    await lot.park(parked(connection, "a"))

    before = other.is_behind(connection)
    await other.count()

    assert (before, other.is_behind(connection)) == (False, True)


async def test_a_count_that_is_older_than_what_was_parked_meanwhile_is_not_believed(
    lot: ParkingLot, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = new_id()

    async def slow(nats: Client, name: str, request: dict[str, object]) -> object:
        answer = await api.js_api(nats, name, request)
        await lot.park(parked(connection, "a"))
        return answer

    monkeypatch.setattr(parking, "js_api", slow)

    await lot.count()

    assert lot.is_behind(connection)


async def test_what_is_done_is_taken_out_and_what_is_not_stays(lot: ParkingLot) -> None:
    connection = new_id()
    await lot.park(parked(connection, "a", "b", "c", "d"))
    sequences = [sequence for sequence, _ in await lot.waiting(connection, limit=10)]

    # `a` is done, `b` is not, `c` is.
    await lot.remove(connection, [sequences[0], sequences[2]], through=sequences[0])

    assert await units_of(lot, connection) == ["b", "d"]


async def test_a_queue_that_is_empty_holds_nobody_back(lot: ParkingLot) -> None:
    connection = new_id()
    await lot.park(parked(connection, "a"))
    [(sequence, _)] = await lot.waiting(connection, limit=10)

    await lot.remove(connection, [], through=sequence)
    await lot.count()

    assert not lot.is_behind(connection)


def lease(log_of: LogOf, name: str, owner: str, clock: FakeClock | SystemClock) -> Lease:
    log = log_of(subjects.bucket_stream(subjects.LEASES))
    return Lease(log, clock, name, owner, lasts_s=1)


async def test_one_of_two_holds_a_lease_and_may_renew_it(nats: Client, log_of: LogOf) -> None:
    name = new_id()
    one, other = (lease(log_of, name, who, SystemClock()) for who in "ab")

    assert [await one.hold(), await other.hold(), await one.hold()] == [True, False, True]


async def test_a_lease_that_is_given_up_can_be_taken_at_once(nats: Client, log_of: LogOf) -> None:
    name = new_id()
    one, other = (lease(log_of, name, who, SystemClock()) for who in "ab")
    await one.hold()

    await one.release(nats)

    assert (one.is_held, await other.hold()) == (False, True)


async def test_a_lease_of_a_holder_that_is_gone_runs_out(nats: Client, log_of: LogOf) -> None:
    name = new_id()
    one, other = (lease(log_of, name, who, SystemClock()) for who in "ab")
    await one.hold()

    tries = 0
    while not await other.hold():
        tries += 1
        await SystemClock().sleep(0.1)

    assert tries > 0
    assert await one.hold() is False


async def test_a_holder_that_slept_knows_that_its_time_is_over(log_of: LogOf) -> None:
    clock = FakeClock()
    one = lease(log_of, new_id(), "a", clock)
    await one.hold()

    clock.advance(1.0)

    assert not one.is_held


async def test_a_queue_cannot_be_counted_without_a_server(nats: Client, lot: ParkingLot) -> None:
    await nats.close()

    with pytest.raises(ServiceError, match="nats_unavailable"):
        await lot.count()

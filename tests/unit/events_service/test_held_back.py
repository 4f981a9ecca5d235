"""A run of dead letters: what stops the work, and what becomes of what is in hand then."""

from __future__ import annotations

from tests.unit.events_service.fakes import SHOP, TIMEOUT, order_paid, unit
from tests.unit.events_service.house import House
from tidewire.delivery.v1 import gate_pb2, outcome_pb2


async def test_units_given_up_as_exhausted_are_a_run_too() -> None:
    house = House()

    for n in range(3):
        await house.bury(unit(order_paid(str(n)), str(n)))

    assert house.burials.stopped is not None


async def test_a_run_of_refusals_stops_the_work_and_one_success_starts_it_again() -> None:
    house = House()
    house.tiktok.bad = frozenset(f"purchase.{n}" for n in range(3))
    for n in range(3):
        await house.handle(unit(order_paid(str(n)), str(n)))
    stopped = house.burials.stopped

    await house.handle(unit(order_paid("9"), "9"))

    assert stopped is not None
    assert (stopped.sort, dict(stopped.reasons)) == ("order_paid", {"permanent": 3})
    assert house.burials.stopped is None


async def test_what_is_in_hand_when_the_work_stops_is_held_back_and_not_given_up() -> None:
    house = House()
    house.tiktok.bad = frozenset(f"purchase.{n}" for n in range(8))

    results = await house.handle(*[unit(order_paid(str(n)), str(n)) for n in range(8)])

    assert [one.code if one else "" for one in results] == [""] * 3 + ["gate_shut"] * 5
    assert len(house.letters.letters) == len(house.outcomes.kept) == 3


async def test_what_was_lost_to_time_stops_nothing() -> None:
    house = House()

    for n in range(5):
        name = f"order_paid.{n}"
        reference = gate_pb2.ParkedUnit(sink="events.C1", unit=name, shop=SHOP, subject="x")
        await house.handlers.lose(reference)

    assert len(house.letters.letters) == 5
    assert house.burials.stopped is None


async def test_what_is_held_back_did_not_arrive_and_waits_for_longer_than_47_hours() -> None:
    house = House()
    house.tiktok.bad = frozenset(f"purchase.{n}" for n in range(8))
    units = [unit(order_paid(str(n)), str(n)) for n in range(8)]
    await house.handle(*units)
    held = house.outcomes.tried["events.C1", "order_paid.7"]
    house.clock.advance(60 * 3600)
    house.tiktok.bad = frozenset()

    results = await house.handle(*units[3:])

    assert not held.HasField("first_attempt_at")
    assert held.attempts == 0
    assert results == [None] * 5
    kinds = [house.outcome(name=f"order_paid.{n}").kind for n in range(8)]
    assert kinds == [outcome_pb2.OUTCOME_KIND_DEAD] * 3 + [outcome_pb2.OUTCOME_KIND_DELIVERED] * 5


async def test_what_is_held_back_after_a_try_that_may_have_arrived_is_not_forgotten() -> None:
    house = House()
    units = [unit(order_paid(str(n)), str(n)) for n in range(4)]
    house.tiktok.troubles = [TIMEOUT]
    await house.handle(*units)
    house.tiktok.bad = frozenset(f"purchase.{n}" for n in range(4))

    await house.handle(*units)

    held = house.outcomes.tried["events.C1", "order_paid.3"]
    assert ("events.C1", "order_paid.3") not in house.outcomes.kept
    assert held.HasField("first_attempt_at")

    house.tiktok.bad = frozenset()
    await house.handle(units[3])

    # It was refused, but not for good: the fault may have been ours.
    assert house.outcome(name="order_paid.3").kind == outcome_pb2.OUTCOME_KIND_DELIVERED


async def test_what_could_not_be_mapped_and_is_held_back_has_no_try_to_forget() -> None:
    house = House()
    await stop_the_work(house)
    tried = outcome_pb2.Outcome(
        sink="events.C1", unit="order_paid.9", kind=outcome_pb2.OUTCOME_KIND_ATTEMPTED
    )
    house.outcomes.tried[tried.sink, tried.unit] = tried

    results = await house.handle(unit(b"sealed for another", "9"))

    assert [one.code if one else "" for one in results] == ["gate_shut"]
    assert house.outcomes.tried[tried.sink, tried.unit] is tried


async def stop_the_work(house: House) -> None:
    for n in range(3):
        await house.bury(unit(order_paid(str(n)), str(n)))

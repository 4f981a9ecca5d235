"""A run of dead letters stops work; one shop's trouble does not."""

from __future__ import annotations

from typing import Final

import pytest

from libs.bus.burial import READINESS, BurialPolicy, BurialWatch, Stopped, tell
from libs.clock import FakeClock
from libs.lifecycle import Readiness

POLICY: Final = BurialPolicy(units_max=12, shops_least=3, within_s=100.0, probe_s=10.0)
ORDERS: Final = "orders/paid"


class Watched:
    """A watch, and what it has told."""

    def __init__(self, shops_known: int = 10, policy: BurialPolicy = POLICY) -> None:
        self.clock = FakeClock()
        self.told: list[Stopped | None] = []
        self.watch = BurialWatch(
            self.clock, policy, shops_known=lambda: shops_known, changed=self.told.append
        )

    def bury(self, *shops: str, sort: str = ORDERS, reason: str = "mapping") -> None:
        for shop in shops:
            self.watch.buried(sort, shop, reason)

    @property
    def is_stopped(self) -> bool:
        return self.watch.stopped is not None


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_a_run_over_several_shops_stops_work_at_its_bound(watched: Watched) -> None:
    watched.bury(*"abc" * 3, *"ab")
    before = watched.is_stopped

    watched.bury("c")

    assert (before, watched.is_stopped) == (False, True)
    (told,) = watched.told
    assert told is not None
    assert (told.sort, told.shops, dict(told.reasons)) == (ORDERS, 3, {"mapping": 12})


def test_a_shop_that_has_only_poison_stops_nobody(watched: Watched) -> None:
    watched.bury(*"a" * 1_000)

    assert not watched.is_stopped
    assert watched.watch.allowance(0) is None


def test_a_flood_of_one_shop_and_a_stray_letter_of_two_others_stop_nobody(
    watched: Watched,
) -> None:
    watched.bury(*"a" * 500, "b", "c", *"a" * 500)

    assert not watched.is_stopped


@pytest.mark.parametrize(("known", "shops"), [(1, "a"), (2, "ab")])
def test_fewer_shops_than_asked_for_are_all_there_are(known: int, shops: str) -> None:
    watched = Watched(shops_known=known)

    watched.bury(*shops * 12)

    assert watched.is_stopped


def test_one_unit_that_ends_well_ends_the_run_of_its_sort(watched: Watched) -> None:
    watched.bury(*"abcd" * 2, *"abc")
    watched.watch.ended_well(ORDERS)

    watched.bury(*"abcd" * 2, *"abc")

    assert not watched.is_stopped


def test_carts_that_end_well_say_nothing_of_orders(watched: Watched) -> None:
    for shop in "abcd" * 3:
        watched.bury(shop)
        watched.watch.ended_well("carts/update")

    assert watched.is_stopped


def test_burials_of_different_sorts_are_not_one_run(watched: Watched) -> None:
    watched.bury(*"abcd" * 2, sort=ORDERS)
    watched.bury(*"abcd" * 2, sort="refunds/create")

    assert not watched.is_stopped


def test_a_few_burials_a_day_are_no_run(watched: Watched) -> None:
    for _ in range(20):
        watched.bury("a", "b", "c")
        watched.clock.advance(50.0)

    assert not watched.is_stopped


def test_what_comes_in_a_header_does_not_fill_the_memory(watched: Watched) -> None:
    for number in range(10_000):
        watched.bury("a", sort=f"topic/{number}")

    assert len(watched.watch._runs) <= 64


def test_a_policy_of_none_never_stops() -> None:
    watched = Watched(policy=BurialPolicy(units_max=0))

    watched.bury(*"abcd" * 500)

    assert not watched.is_stopped


def test_while_stopped_one_unit_is_tried_after_a_wait_and_then_after_another(
    watched: Watched,
) -> None:
    watched.bury(*"abcd" * 3)

    at_once = watched.watch.allowance(0)
    watched.clock.advance(10.0)
    due = watched.watch.allowance(0)
    under_way = watched.watch.allowance(1)
    watched.bury("a")
    again = watched.watch.allowance(0)

    assert (at_once, due, under_way, again) == (0, 1, 0, 0)
    assert len(watched.told) == 1


def test_a_probe_that_ends_well_lets_work_go_on(watched: Watched) -> None:
    watched.bury(*"abcd" * 3)
    watched.clock.advance(10.0)

    watched.watch.ended_well("carts/update")
    after_another_sort = watched.watch.allowance(0)
    watched.watch.ended_well(ORDERS)

    assert after_another_sort == 1
    assert watched.watch.allowance(0) is None
    assert watched.told[-1] is None


def test_a_person_lets_work_go_on(watched: Watched) -> None:
    watched.bury(*"abcd" * 3)

    watched.watch.reset()
    watched.bury(*"abc")

    assert not watched.is_stopped


def test_readiness_names_the_dead_letters_while_work_is_stopped(watched: Watched) -> None:
    readiness = Readiness()
    readiness.expect([])
    changed = tell(readiness)
    watched.bury(*"abcd" * 3)

    changed(watched.watch.stopped)
    while_stopped = readiness.awaited
    changed(None)

    assert (while_stopped, readiness.is_ready) == ([READINESS], True)

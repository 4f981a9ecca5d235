"""Who gets the next slots."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from libs.limits.gcra import HORIZON_NS, SECOND_NS, Limit, LimitState, fresh_state, throttled
from libs.limits.plan import Demand, plan
from libs.limits.port import Priority

NOW_NS = 1_790_000_000 * SECOND_NS
WIDE = Limit.of_windows("wide", [(1000, 1)])
SLOW = Limit.of_windows("slow", [(2, 1)])
OTHER = Limit.of_windows("other", [(50, 1)])


def _idle(*limits: Limit) -> dict[str, LimitState]:
    return {limit.name: fresh_state(limit, NOW_NS - 9 * SECOND_NS) for limit in limits}


def _demand(
    line: str, *limits: Limit, count: int = 1, priority: Priority = Priority.LIVE
) -> Demand[str]:
    return Demand(line, limits, 1, priority, count)


@settings(deadline=None)
@given(
    wanted=st.lists(
        st.tuples(
            st.sets(st.sampled_from([WIDE, SLOW, OTHER]), min_size=1),
            st.integers(1, 40),
            st.sampled_from(Priority),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_each_slot_is_charged_to_all_of_its_limits_or_is_not_given(
    wanted: list[tuple[set[Limit], int, Priority]],
) -> None:
    demands = [
        Demand(str(number), tuple(sorted(limits, key=lambda one: -one.windows[0].units)), 1, p, n)
        for number, (limits, n, p) in enumerate(wanted)
    ]
    limits_of = {one.line: one.limits for one in demands}

    made = plan(demands, _idle(WIDE, SLOW, OTHER), NOW_NS)

    charged = Counter(limit.name for _, line in made.slots for limit in limits_of[line])
    assert {name: state.granted for name, state in made.states.items()} == dict(charged)
    given = Counter(line for _, line in made.slots)
    assert all(given[one.line] <= one.count for one in demands)


@settings(deadline=None)
@given(priority=st.sampled_from(Priority), limit=st.sampled_from([WIDE, SLOW, OTHER]))
def test_no_priority_reserves_further_ahead_than_it_may(priority: Priority, limit: Limit) -> None:
    made = plan([_demand("a", limit, count=512, priority=priority)], _idle(limit), NOW_NS)

    ahead = [slot - NOW_NS for slot, _ in made.slots]
    assert ahead[0] == 0
    assert max(ahead) <= HORIZON_NS[priority]
    assert made.retry_ns is None or made.retry_ns > NOW_NS


def test_the_more_urgent_come_first_and_lines_of_one_priority_in_turn() -> None:
    demands = [
        _demand("replay", OTHER, priority=Priority.REPLAY),
        _demand("backfill", OTHER, priority=Priority.BACKFILL),
        _demand("a", OTHER, count=5),
        _demand("b", OTHER, count=2),
    ]

    made = plan(demands, _idle(OTHER), NOW_NS)

    assert [line for _, line in made.slots] == ["a", "b", "a", "b", "a", "a", "a"]
    assert {line for line, _ in made.blocked} == {"replay", "backfill"}


def test_a_slow_limit_takes_no_place_in_the_wide_one_before_it_is_ready() -> None:
    slow = [_demand("slow", WIDE, SLOW, count=3)]

    first = plan(slow, _idle(WIDE, SLOW), NOW_NS)
    others = plan(
        [*slow, _demand("fast", WIDE, count=100)], {**_idle(WIDE), **first.states}, NOW_NS
    )

    assert [slot - NOW_NS for slot, _ in first.slots] == [0]
    assert Counter(line for _, line in others.slots) == {"fast": 100}
    assert others.slots[-1][0] - NOW_NS < 110_000_000


def test_a_busy_wide_limit_holds_nobody_up_that_is_under_a_slow_one_too() -> None:
    busy = plan([_demand("fast", WIDE, count=400)], _idle(WIDE), NOW_NS)

    made = plan([_demand("slow", WIDE, SLOW)], {**_idle(SLOW), **busy.states}, NOW_NS)

    assert len(made.slots) == 1


def test_nobody_has_a_slot_while_a_limit_is_paused() -> None:
    paused = {
        name: throttled(state, NOW_NS, retry_after_s=2.0, code="429")
        for name, state in _idle(OTHER).items()
    }

    made = plan([_demand("a", OTHER)], paused, NOW_NS)

    assert made.slots == []
    assert made.blocked["a", Priority.LIVE] == NOW_NS + 2 * SECOND_NS

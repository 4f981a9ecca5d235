"""The arithmetic of limits: what any window admits, whoever reserves and whatever is lost."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.limits.declared import DeclaredLimits
from libs.limits.gcra import (
    LATE_MAX_NS,
    SECOND_NS,
    Bucket,
    Limit,
    LimitState,
    aligned,
    bucket_level,
    charged,
    fresh_state,
    observed,
    pace_at,
    slot_ns,
    throttled,
)
from libs.limits.port import BucketSeen, Priority

NOW_NS = 1_790_000_000 * SECOND_NS


def _idle(limit: Limit) -> LimitState:
    return fresh_state(limit, NOW_NS - 86_400 * SECOND_NS)


def _spend(
    limit: Limit, state: LimitState, at_ns: int, weight: int = 1, priority: Priority = Priority.LIVE
) -> tuple[int, LimitState]:
    slot = slot_ns(limit, state, weight=weight, priority=priority, earliest_ns=at_ns)
    return slot, charged(limit, state, weight=weight, at_ns=slot)


def _most(spent: Sequence[tuple[int, int]], length_s: int) -> int:
    """The most units in any window of `length_s` seconds."""
    return max(
        (
            sum(weight for at, weight in spent if start <= at < start + length_s * SECOND_NS)
            for start, _ in spent
        ),
        default=0,
    )


calls = st.lists(
    st.tuples(
        st.one_of(st.just(0), st.integers(0, 3 * SECOND_NS)),
        st.integers(1, 7),
        st.integers(-20_000_000, 20_000_000),
    ),
    max_size=80,
)


@settings(deadline=None)
@given(calls=calls, units=st.integers(1, 60))
def test_no_second_holds_more_than_the_limit_whatever_the_calls_weigh(
    calls: list[tuple[int, int, int]], units: int
) -> None:
    limit = Limit.of_windows("a", [(units, 1)])
    state, now_ns, spent = _idle(limit), NOW_NS, []

    for later_ns, weight, _ in calls:
        now_ns += later_ns
        slot, state = _spend(limit, state, now_ns, min(weight, units))
        spent.append((slot, min(weight, units)))

    assert _most(spent, 1) <= units


@settings(deadline=None)
@given(
    calls=calls,
    units=st.sampled_from([1, 10, 50, 200]),
    late=st.lists(st.integers(0, 20_000_000), min_size=80),
)
def test_calls_that_are_late_by_less_than_the_pace_leaves_make_no_second_too_full(
    calls: list[tuple[int, int, int]], units: int, late: list[int]
) -> None:
    limit = Limit.of_windows("a", [(units, 1)])
    state, now_ns, spent = _idle(limit), NOW_NS, []

    for (later_ns, _, _), late_ns in zip(calls, late, strict=False):
        now_ns += later_ns
        slot, state = _spend(limit, state, now_ns)
        spent.append((slot + late_ns, 1))

    assert limit.late_ns < 20_000_000
    assert _most(spent, 1) <= units


@settings(deadline=None)
@given(
    calls=st.lists(st.integers(0, 40 * SECOND_NS), max_size=60),
    burst=st.integers(1, 30),
    lost_at=st.integers(0, 60),
)
def test_a_lost_record_never_makes_a_minute_or_a_second_too_full(
    calls: list[int], burst: int, lost_at: int
) -> None:
    limit = Limit.of_windows("a", [(100, 1), (1000, 60)])
    state, now_ns, spent = _idle(limit), NOW_NS, list[tuple[int, int]]()

    for number, later_ns in enumerate(calls):
        now_ns += later_ns
        if number == lost_at:
            # Others may hold slots half a second ahead of the loss.
            now_ns = max([now_ns, *(slot - SECOND_NS // 2 for slot, _ in spent)])
            state = fresh_state(limit, now_ns)
        for _ in range(burst):
            slot, state = _spend(limit, state, now_ns)
            spent.append((slot, 1))
            now_ns = max(now_ns, slot - SECOND_NS // 2)

    assert _most(spent, 1) <= 100
    assert _most(spent, 60) <= 1000


def test_losing_the_record_again_and_again_gives_no_burst_each_time() -> None:
    limit = Limit.of_windows("a", [(1000, 1), (36_000, 3600)])
    spent = 0

    for start_s in range(0, 3600, 40):
        state = fresh_state(limit, NOW_NS + start_s * SECOND_NS)
        while True:
            slot, after = _spend(limit, state, NOW_NS + start_s * SECOND_NS)
            if slot >= NOW_NS + (start_s + 40) * SECOND_NS:
                break
            state, spent = after, spent + 1

    assert 30_000 < spent <= 36_000


def test_a_burst_of_a_long_window_comes_at_the_pace_of_the_short_one() -> None:
    limit = Limit.of_windows("a", [(100, 1), (1000, 60)])
    state, spent = _idle(limit), list[int]()

    for _ in range(30):
        slot, state = _spend(limit, state, NOW_NS)
        spent.append(slot - NOW_NS)

    assert spent[9] == pytest.approx(9 / 98 * 1e9, rel=1e-3)
    assert spent[29] - spent[28] == pytest.approx(60 / 980 * 1e9, rel=1e-3)


@pytest.mark.parametrize("act", ["upload", "delete"])
def test_a_new_catalog_is_written_to_at_once_and_never_more_than_tiktok_allows(act: str) -> None:
    limit = DeclaredLimits().limit(f"tiktok.catalog.{act}.7001")
    assert limit is not None
    state, now_ns, spent = fresh_state(limit, NOW_NS), NOW_NS, []

    for number in range(3000):
        if number in (5, 1500):
            # Lost, though calls were made under it a moment ago.
            state = fresh_state(limit, now_ns)
        now_ns, state = _spend(limit, state, now_ns)
        spent.append((now_ns, 1))

    assert spent[0][0] - NOW_NS <= 5 * SECOND_NS
    assert _most(spent, 1) == 1
    assert _most(spent, 3600) <= 1000


def test_a_record_of_the_hour_alone_gets_its_second_and_keeps_its_hour() -> None:
    hour = Limit.of_windows("a", [(1000, 3600)])
    both = Limit.of_windows("a", [(1, 1), (1000, 3600)])
    state, now_ns, spent = fresh_state(hour, NOW_NS - 3600 * SECOND_NS), NOW_NS, []

    for number in range(1500):
        now_ns, state = _spend(hour if number < 900 else both, state, now_ns)
        spent.append((now_ns, 1))
        state = aligned(both, state, now_ns) if number >= 899 else state

    assert _most(spent, 1) == 1
    assert 950 <= _most(spent, 3600) <= 1000


def test_the_whole_of_a_paced_limit_is_used() -> None:
    limit = Limit.of_windows("a", [(1000, 1), (600_000, 60), (86_400_000, 86_400)])
    state, last = _idle(limit), 0

    for _ in range(9_801):
        last, state = _spend(limit, state, NOW_NS)

    assert last - NOW_NS == pytest.approx(10 * SECOND_NS, rel=1e-4)


@settings(deadline=None)
@given(calls=calls, units=st.integers(2, 1000))
def test_slots_never_come_before_the_ones_given_already(
    calls: list[tuple[int, int, int]], units: int
) -> None:
    limit = Limit.of_windows("a", [(units, 1)])
    state, last = _idle(limit), 0

    for later_ns, _, _ in calls:
        slot, state = _spend(limit, state, NOW_NS + later_ns)
        assert slot >= NOW_NS + later_ns
        assert slot > last
        last = slot


def test_a_limit_of_which_nothing_is_known_starts_a_window_from_now() -> None:
    for windows, starts_s in (([(50, 1)], 1), ([(1000, 3600)], 60), ([(50, 1), (9, 86_400)], 1)):
        limit = Limit.of_windows("a", windows)
        slot, _ = _spend(limit, fresh_state(limit, NOW_NS), NOW_NS)
        assert slot - NOW_NS == pytest.approx(starts_s * SECOND_NS, rel=1e-2)


@settings(deadline=None)
@given(
    asked=st.lists(
        st.tuples(st.integers(0, 20 * SECOND_NS), st.integers(1, 1000), st.sampled_from(Priority)),
        max_size=60,
    )
)
def test_a_bucket_never_overflows_at_its_upstream(
    asked: list[tuple[int, int, Priority]],
) -> None:
    limit = Limit("a", bucket=Bucket(1000.0, 50.0))
    state, now_ns = fresh_state(limit, NOW_NS), NOW_NS
    level, seen_ns = 1000.0, NOW_NS

    for later_ns, weight, priority in asked:
        now_ns += later_ns
        slot, state = _spend(limit, state, now_ns, weight, priority)
        now_ns = max(now_ns, slot)
        level = max(level - 50.0 * (slot - seen_ns) / SECOND_NS, 0.0) + weight
        seen_ns = slot
        assert level <= 1000.0 + 1e-6


def test_a_bucket_slows_before_it_is_full_and_sooner_for_what_can_wait() -> None:
    limit = Limit("a", bucket=Bucket(1000.0, 50.0))
    at_once = {}

    for priority in Priority:
        state, at_once[priority] = _idle(limit), 0
        while (spent := _spend(limit, state, NOW_NS, 10, priority))[0] <= NOW_NS + 1_000:
            state = spent[1]
            at_once[priority] += 10

    assert at_once == {Priority.LIVE: 900, Priority.BACKFILL: 700, Priority.REPLAY: 500}


def test_a_bucket_that_is_fuller_upstream_is_believed_at_once_and_an_emptier_one_by_halves() -> (
    None
):
    limit = Limit("a", bucket=Bucket(1000.0, 50.0))
    state = _idle(limit)

    fuller = observed(limit, state, NOW_NS, BucketSeen(2000.0, 400.0, 100.0))
    emptier = observed(limit, fuller, NOW_NS, BucketSeen(2000.0, 2000.0, 100.0))

    assert limit.bucket is not None
    assert bucket_level(limit.bucket, fuller, NOW_NS) == pytest.approx(1600, rel=1e-3)
    assert bucket_level(limit.bucket, emptier, NOW_NS) == pytest.approx(800, rel=1e-3)
    assert (fuller.capacity, fuller.restore_per_s) == (2000.0, 100.0)


def test_a_throttle_pauses_then_slows_and_recovers_by_itself() -> None:
    limit = Limit.of_windows("a", [(50, 1)])

    state = throttled(_idle(limit), NOW_NS, retry_after_s=3.0, code="429")
    first, after = _spend(limit, state, NOW_NS)
    second, _ = _spend(limit, after, NOW_NS)

    assert first == NOW_NS + 3 * SECOND_NS
    assert second - first == pytest.approx(SECOND_NS / (50 * 0.98 * 0.75), rel=1e-2)
    assert pace_at(state, NOW_NS) == pytest.approx(0.7)
    assert pace_at(state, NOW_NS + 18 * SECOND_NS) == pytest.approx(1.0)


def test_reports_of_one_overload_count_once() -> None:
    state = throttled(LimitState(clocks=()), NOW_NS, retry_after_s=None, code="40100")
    again = state

    for number in range(8):
        at_ns = NOW_NS + number * 1_000_000
        again = throttled(again, at_ns, retry_after_s=None, code="40100")

    assert again == state


def test_throttles_in_a_row_pause_longer_each_time_and_never_for_ever() -> None:
    state, now_ns, pauses = LimitState(clocks=()), NOW_NS, []

    for _ in range(8):
        state = throttled(state, now_ns, retry_after_s=None, code="40100")
        pauses.append((state.paused_until_ns - now_ns) / SECOND_NS)
        now_ns = state.paused_until_ns
    asked = throttled(state, now_ns, retry_after_s=1e9, code="40100")

    assert pauses == [1, 2, 4, 8, 15, 15, 15, 15]
    assert state.pace >= 0.1
    assert asked.paused_until_ns - now_ns == 300 * SECOND_NS


def test_a_record_survives_its_encoding_and_other_windows_than_it_was_written_for() -> None:
    old = Limit.of_windows("a", [(50, 1), (9, 86_400)])
    new = Limit.of_windows("a", [(50, 1), (2000, 60)])
    _, state = _spend(old, _idle(old), NOW_NS)

    read = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=LimitState)
    fitted = aligned(new, read, NOW_NS)

    assert read == state
    assert fitted.clocks[0] == state.clocks[0]
    assert fitted.clocks[1] == fresh_state(new, NOW_NS).clocks[1]


def test_a_slot_may_be_used_late_by_no_more_than_its_window_forgives() -> None:
    assert Limit.of_windows("a", [(50, 1)]).late_ns == pytest.approx(15_306_122, rel=1e-3)
    assert Limit.of_windows("a", [(50, 60)]).late_ns == LATE_MAX_NS
    assert Limit("a", bucket=Bucket(40.0, 2.0)).late_ns == LATE_MAX_NS

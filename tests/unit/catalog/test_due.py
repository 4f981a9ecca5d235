"""Which sync a shop should have next."""

from __future__ import annotations

import pytest

from services.catalog.domain.due import (
    DAY_NS,
    Due,
    History,
    Intervals,
    due,
    is_too_much_gone,
    next_resend_ns,
)
from services.catalog.domain.states import SyncKind

NOW = 100 * DAY_NS
EVERY = Intervals(full_days=7, resend_days=7)
DONE = History(NOW - DAY_NS, "read", "mapped", NOW - DAY_NS)


def found(history: History, *, read: str = "read", mapped: str = "mapped") -> SyncKind | None:
    due_now = due(history, read, mapped, EVERY, NOW)
    return None if due_now is None else due_now.kind


def test_a_shop_that_was_never_read_is_read() -> None:
    assert found(History()) is SyncKind.FULL


def test_nothing_is_due_while_everything_is_as_it_was() -> None:
    assert found(DONE) is None


def test_what_must_be_asked_of_shopify_anew_is_a_full_sync_and_all_else_a_remap() -> None:
    assert found(DONE, read="other") is SyncKind.FULL
    assert found(DONE, mapped="other") is SyncKind.REMAP


def test_a_full_sync_comes_round_even_if_nothing_has_changed() -> None:
    assert found(History(NOW - 8 * DAY_NS, "read", "mapped", NOW)) is SyncKind.FULL


def test_items_are_sent_again_before_they_expire_but_for_those_of_the_last_day() -> None:
    history = History(NOW - DAY_NS, "read", "mapped", NOW - 8 * DAY_NS)

    assert due(history, "read", "mapped", EVERY, NOW) == Due(SyncKind.RESEND, NOW - DAY_NS)


@pytest.mark.parametrize("resent_ns", [0, NOW - 3 * DAY_NS])
def test_the_next_resend_counts_from_the_last_or_from_the_first_sync(resent_ns: int) -> None:
    history = History(NOW - 3 * DAY_NS, "read", "mapped", resent_ns)

    assert next_resend_ns(history, EVERY) == NOW + 4 * DAY_NS
    assert found(history) is None


def test_never_means_never() -> None:
    never = Intervals(full_days=0, resend_days=0)
    old = History(DAY_NS, "read", "mapped", DAY_NS)

    assert due(old, "read", "mapped", never, NOW) is None
    assert next_resend_ns(old, never) == 0


def test_what_was_given_up_is_not_begun_again_at_once() -> None:
    hour_ns = DAY_NS // 24

    assert found(History(failed_ns=NOW - hour_ns // 2)) is None
    assert found(History(failed_ns=NOW - 2 * hour_ns)) is SyncKind.FULL


@pytest.mark.parametrize(
    ("gone", "known", "too_much"),
    [(0, 0, False), (50, 50, False), (51, 60, True), (51, 200, False), (5000, 9999, True)],
)
def test_a_catalog_is_not_emptied_because_an_export_lacks_most_of_it(
    gone: int, known: int, *, too_much: bool
) -> None:
    assert is_too_much_gone(gone, known) is too_much

from __future__ import annotations

from dataclasses import replace

import pytest

from services.ingest.domain.reconciling import (
    Held,
    Listed,
    Mark,
    Rules,
    delivery_id,
    is_due,
    is_missing,
    since_s,
)

RULES = Rules(every_s=300, overlap_s=60, settle_s=120, reach_s=1000)
LISTED = Listed(gid="gid://shopify/Order/7", resource_id="7", updated_at_s=100, rank=4)
HELD = Held(updated_at_s=100, rank=4, is_final=False, is_tied=False)


@pytest.mark.parametrize(
    ("held", "missing"),
    [
        (None, True),
        (HELD, False),
        (replace(HELD, updated_at_s=99, rank=9), True),
        (replace(HELD, updated_at_s=101, rank=0), False),
        (replace(HELD, rank=1), True),
        (replace(HELD, rank=5), False),
        (replace(HELD, updated_at_s=1, is_final=True), False),
        (replace(HELD, is_tied=True), True),
        (replace(HELD, updated_at_s=101, is_tied=True), False),
    ],
    ids=[
        "never came",
        "same",
        "older",
        "newer",
        "placed but the payment of the same second was lost",
        "further in the same second",
        "deleted or redacted",
        "tied",
        "tied and newer than the list",
    ],
)
def test_what_shopify_lists_is_missing_where_nothing_as_new_is_stored(
    held: Held | None, *, missing: bool
) -> None:
    assert is_missing(LISTED, held) == missing


def test_a_first_run_looks_back_as_far_as_the_rule_says_but_never_before_activation() -> None:
    assert since_s(None, 500.0, 10_000.0, RULES) == 9_000.0
    assert since_s(None, 9_500.0, 10_000.0, RULES) == 9_500.0


def test_a_run_begins_before_the_last_ones_end_unless_that_one_was_cut_short() -> None:
    assert (
        since_s(Mark(through_s=5_000.0, is_complete=True, ran_at_s=1.0), 0.0, 10_000.0, RULES)
        == 4_940.0
    )
    assert (
        since_s(Mark(through_s=5_000.0, is_complete=False, ran_at_s=1.0), 0.0, 10_000.0, RULES)
        == 5_000.0
    )


def test_a_shop_that_somebody_just_compared_is_not_due() -> None:
    assert is_due(None, 10_000.0, RULES)
    assert not is_due(Mark(through_s=0.0, is_complete=True, ran_at_s=9_800.0), 10_000.0, RULES)
    assert is_due(Mark(through_s=0.0, is_complete=True, ran_at_s=9_725.0), 10_000.0, RULES)


def test_one_version_of_a_resource_has_one_delivery_id_and_another_version_another() -> None:
    ids = {
        delivery_id(kind, one)
        for kind in ("order", "product")
        for one in (LISTED, replace(LISTED, updated_at_s=101), replace(LISTED, rank=5))
    }

    assert delivery_id("order", LISTED) == delivery_id("order", replace(LISTED, gid="other"))
    assert len(ids) == 6

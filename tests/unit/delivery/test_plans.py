"""A plan token is good for what was looked at and for nothing else."""

from __future__ import annotations

import pytest

from libs.errors import ServiceError
from services.delivery.domain.plans import plan_token, planned_until


def test_a_plan_gives_back_how_far_the_dry_run_saw() -> None:
    assert planned_until(plan_token("replay", b"filter", 41), "replay", b"filter") == 41


@pytest.mark.parametrize(
    "token",
    [
        plan_token("drop", b"filter", 41),
        plan_token("replay", b"other", 41),
        plan_token("replay", b"filter", 41).replace("41-", "42-", 1),
        "41-",
        "x",
    ],
)
def test_what_is_no_plan_of_this_is_refused(token: str) -> None:
    with pytest.raises(ServiceError) as refused:
        planned_until(token, "replay", b"filter")

    assert refused.value.code == "plan_token_of_another_plan"

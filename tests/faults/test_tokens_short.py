"""The races of the token service in short: real processes, one race and one round of each kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.token_house import Store, housed
from tests.faults.token_judge import Plan, Strike, complaints
from tests.faults.token_races import at_expiry, nats_killed
from tests.faults.token_rounds import played, store_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

_ROUNDS = (
    Plan(1, Strike.PAUSE, "grace", asked=True, staged=True, delay_s=0.1, seconds=0.2),
    Plan(2, Strike.KILL, "strict", asked=False, staged=True, delay_s=0.0, seconds=0.0),
    Plan(3, Strike.KILL, "grace", asked=True, staged=True, delay_s=0.2, seconds=0.0),
)
"""In this order nobody waits for one that was killed."""


async def test_one_refresh_is_made_and_no_dead_token_used_whoever_is_struck(tmp_path: Path) -> None:
    expiry, outage = Store("expiry", "strict"), Store("outage", "strict")
    stores = [expiry, outage, *(store_of(plan) for plan in _ROUNDS)]

    async with housed(tmp_path, stores) as house:
        raced = [
            await at_expiry(house, expiry, killed=False),
            await nats_killed(house, outage, away_s=3.0),
        ]
        seen = [await played(house, plan) for plan in _ROUNDS]
        ledger = await house.ledger()

    assert [one.complaints for one in raced] == [(), ()]
    assert [one.refreshes_most for one in raced] == [1, 1]
    wrong = {one.plan.named(): list(complaints(one)) for one in seen}
    assert not any(wrong.values()), wrong
    assert [(one.refreshes, one.lost) for one in seen] == [(2, False), (1, True), (2, False)]
    assert (ledger["calls_dead"], ledger["grants_lost"]) == (0, 0)

"""When `tidewire ledger` is content, when it waits, and when it gives up."""

from __future__ import annotations

from typing import Any

import pytest

from cli.ledger import Waited, as_dict, verdict
from tidewire.delivery.v1 import ledger_service_pb2 as pb


def answer(
    *,
    balanced: bool = True,
    missed_s: int | None = None,
    segments: int = 0,
    **figures: Any,
) -> pb.LedgerServiceGetResponse:
    made = pb.LedgerServiceGetResponse(
        balanced=balanced, unnormalised_segments=segments, total=pb.LedgerRow(**figures)
    )
    made.read_at.FromSeconds(1_000_000)
    if missed_s is not None:
        made.unbalanced_since.FromSeconds(1_000_000 - missed_s)
    return made


QUIET = answer(received=2, delivered=2)
MOVING = answer(received=2, delivered=1, in_flight={"lane": 1})
NOT_READ = answer(segments=1)


def lost(missed_s: int | None) -> pb.LedgerServiceGetResponse:
    return answer(balanced=False, missed_s=missed_s, received=2, delivered=1, unaccounted=1)


@pytest.mark.parametrize(
    ("found", "waited", "wait_s", "code"),
    [
        (QUIET, Waited(), 300.0, 0),
        # Balanced is balanced, whatever is still on its way.
        (MOVING, Waited(), 0.0, 0),
        # Where asked to, it waits until that has ended, …
        (MOVING, Waited(1, 0), 300.0, None),
        (NOT_READ, Waited(1, 0), 300.0, None),
        (MOVING, Waited(299, 59), 300.0, None),
        # … but not for what does not move, and not for ever.
        (MOVING, Waited(100, 60), 300.0, 0),
        (MOVING, Waited(300, 0), 300.0, 0),
        # What is missing may turn up, …
        (lost(0), Waited(), 0.0, None),
        (lost(59), Waited(59, 0), 0.0, None),
        # … unless it was missed for a minute, by the service or by us.
        (lost(60), Waited(), 0.0, 1),
        (lost(0), Waited(60, 60), 0.0, 1),
        (lost(None), Waited(60, 60), 0.0, 1),
        # Where each time something else is missing, that has an end too.
        (lost(1), Waited(120, 0), 0.0, 1),
        (lost(1), Waited(120, 0), 300.0, None),
    ],
)
def test_the_exit_code_is_given_when_there_is_nothing_more_to_wait_for(
    found: pb.LedgerServiceGetResponse, waited: Waited, wait_s: float, code: int | None
) -> None:
    assert verdict(found, waited, wait_s) == code


def test_as_data_it_has_the_names_that_others_rely_on() -> None:
    made = as_dict(answer(received=3, delivered=1, ignored={"stale": 1}, in_flight={"parked": 1}))

    expected = {
        "received": 3,
        "delivered": 1,
        "delivered_uncertain": 0,
        "ignored": {"stale": 1},
        "dead": {},
        "in_flight": 1,
        "balanced": True,
    }
    assert {name: made[name] for name in expected} == expected
    assert made["in_flight_by_place"] == {"parked": 1}
    assert "rows" not in made

"""How a rate of deliveries is read off the receiver's ledger."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bench.delivery import Pass, _pass_of

CORES = {"events": 0.9, "nats": 0.2, "sandbox": 0.1}
MIB = {"events": 100.0, "nats": 50.0, "sandbox": 40.0}


def ledger(**changes: Any) -> dict[str, Any]:
    return {
        "events_unique": 100,
        "events_received": 100,
        "events_duplicate": 0,
        "requests": 4,
        "arrivals": {"C1": [(11.0, 25), (12.0, 25)], "C2": [(11.5, 25), (14.0, 25)]},
        **changes,
    }


def passed(found: dict[str, Any], ready_s: float = 10.0) -> Pass:
    return _pass_of(found, 100, ready_s, CORES, MIB)


def test_the_clock_runs_from_ready_to_the_last_request_of_any_pixel() -> None:
    assert (passed(ledger()).per_s, passed(ledger()).events_a_request) == (25.0, 25.0)


def test_what_was_sent_before_the_service_called_itself_ready_is_not_for_free() -> None:
    assert passed(ledger(), ready_s=13.0).seconds == 3.0


def test_a_round_that_lost_an_event_is_no_measurement() -> None:
    with pytest.raises(RuntimeError, match="99 of 100"):
        passed(ledger(events_unique=99))


def test_what_came_twice_is_counted() -> None:
    assert passed(ledger(events_duplicate=7, events_received=107)).twice == 7

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sandbox.tiktok.effects import EmptyBody, ExpiredToken
from sandbox.tiktok.faults import FaultBook, Sighting

SIGHTING = Sighting("/open_api/v1.3/event/track/", "C1", "t1", ("pur.1", "atc.2", "pur.3"))
EXPIRED = {"effect": {"kind": "expired_token"}}


def book(*faults: dict[str, Any], seed: int = 0) -> FaultBook:
    found = FaultBook(seed)
    found.post(msgspec.json.encode(faults), 100.0)
    return found


def strikes(faults: FaultBook, sighting: Sighting = SIGHTING, now_s: float = 100.0) -> bool:
    return faults.plan(sighting, now_s).effect is not None


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({}, True),
        ({"path": "/open_api/v1.3/event/"}, True),
        ({"path": "/open_api/v1.3/pixel/"}, False),
        ({"pixel": "C1"}, True),
        ({"pixel": "C2"}, False),
        ({"token": "t1"}, True),
        ({"token": "t2"}, False),
        ({"event_id": "atc.*"}, True),
        ({"event_id": "atc"}, False),
        ({"pixel": "C1", "token": "t2"}, False),
        ({"probability": 0.0}, False),
    ],
)
def test_a_fault_strikes_what_fits_every_field(match: dict[str, Any], *, expected: bool) -> None:
    assert strikes(book(EXPIRED | {"match": match})) is expected


def test_a_fault_wears_off_after_its_times() -> None:
    faults = book(EXPIRED | {"times": 2, "skip": 1})

    assert [strikes(faults) for _ in range(5)] == [False, True, True, False, False]


def test_a_fault_wears_off_after_its_time() -> None:
    faults = book(EXPIRED | {"duration_s": 10})

    assert [strikes(faults, now_s=now_s) for now_s in (100, 109.9, 110)] == [True, True, False]


def test_probability_is_a_share_that_the_seed_repeats() -> None:
    def run(seed: int) -> list[bool]:
        faults = book(EXPIRED | {"match": {"probability": 0.3}}, seed=seed)
        return [strikes(faults) for _ in range(1000)]

    assert run(1) == run(1)
    assert run(1) != run(2)
    assert 250 < sum(run(1)) < 350


def test_the_pattern_tells_which_events_are_struck() -> None:
    faults = book({"match": {"event_id": "pur.*"}, "effect": {"kind": "refuse_event"}})

    assert faults.plan(SIGHTING, 100.0).struck == {0, 2}


def test_latencies_add_up_and_the_first_effect_decides() -> None:
    faults = book(
        {"latency_ms": 5},
        {"latency_ms": [10, 20]},
        {"latency_ms": 1, "effect": {"kind": "empty_body"}},
        {"latency_ms": 1000} | EXPIRED,
    )

    plan = faults.plan(SIGHTING, 100.0)

    assert isinstance(plan.effect, EmptyBody)
    assert 16 <= plan.latency_ms <= 26


def test_a_spent_fault_gives_way_to_the_next() -> None:
    faults = book({"times": 1, "effect": {"kind": "empty_body"}}, EXPIRED)

    faults.plan(SIGHTING, 100.0)

    assert isinstance(faults.plan(SIGHTING, 100.0).effect, ExpiredToken)


@pytest.mark.parametrize(
    "script",
    [
        b"not json",
        b'[{"effect": {"kind": "unheard_of"}}]',
        b'[{"effect": {"kind": "hang", "seconds": 3}}]',
        b'[{"efect": {"kind": "hang"}}]',
        b'[{"match": {"pixle": "C1"}}]',
        b'[{"effect": {"kind": "hang"}}, {"times": "2"}]',
    ],
)
def test_a_script_with_one_wrong_word_is_refused_whole(script: bytes) -> None:
    faults = FaultBook()

    with pytest.raises(msgspec.DecodeError):
        faults.post(script, 100.0)

    assert faults.listing(100.0) == []


def test_the_listing_hides_tokens_and_counts_hits() -> None:
    faults = book(EXPIRED | {"match": {"token": "t1"}, "times": 1})
    faults.plan(SIGHTING, 100.0)

    listed = msgspec.json.encode(faults.listing(100.0))

    assert b"t1" not in listed
    assert msgspec.json.decode(listed)[0] == {
        "fault": EXPIRED | {"match": {"token": "***"}, "times": 1},
        "hits": 1,
        "spent": True,
    }

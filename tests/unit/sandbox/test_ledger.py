from __future__ import annotations

from typing import Any

from sandbox.tiktok.answers import Reply
from sandbox.tiktok.ledger import DEDUP_WINDOW_S, Arrival, Ledger
from sandbox.tiktok.verdict import Claim, Event, Judgement
from tests.unit.sandbox.samples import NOW_S, PIXEL


def purchase(event_id: str, name: str = "Purchase") -> Event:
    return Event(name, event_id, int(NOW_S), 16.0, "EUR", 0b100001)


def record(
    ledger: Ledger, *events: Event, after_s: float = 0.0, is_test: bool = False, **changed: Any
) -> None:
    claim = Claim(changed.get("pixel", PIXEL), is_test, list(events), changed.get("notes", []))
    ids = tuple(event.event_id for event in events)
    reply = Reply(
        changed.get("label", "0"), 200, b"", tuple(events[: changed.get("kept", len(events))])
    )
    arrival = Arrival("/open_api/v1.3/event/track/", NOW_S + after_s, 100.0 + after_s)
    ledger.record(arrival, Judgement(0, "OK", claim, claim.source_id, ids), reply)


def counts(ledger: Ledger, *names: str) -> list[Any]:
    summary = ledger.summary()
    return [summary[name] for name in names]


def test_the_same_key_counts_once_within_48_hours_and_again_after_them() -> None:
    ledger = Ledger()

    for after_s in (0.0, DEDUP_WINDOW_S - 1.0, float(DEDUP_WINDOW_S)):
        record(ledger, purchase("1"), after_s=after_s)

    assert counts(ledger, "events_accepted", "events_unique", "events_duplicate") == [3, 2, 1]


def test_the_window_runs_from_the_first_copy() -> None:
    ledger = Ledger()

    for hours in (0, 40, 50):
        record(ledger, purchase("1"), after_s=hours * 3600.0)

    assert counts(ledger, "events_unique") == [2]


def test_name_and_pixel_belong_to_the_key() -> None:
    ledger = Ledger()

    record(ledger, purchase("1"), purchase("1", "CompletePayment"))
    record(ledger, purchase("1"), pixel="C2")

    assert counts(ledger, "events_unique", "by_event") == [
        3,
        {"Purchase": 2, "CompletePayment": 1},
    ]


def test_an_event_repeated_within_one_batch_is_a_duplicate() -> None:
    ledger = Ledger()

    record(ledger, purchase("1"), purchase("1"))

    assert counts(ledger, "events_unique", "events_duplicate") == [1, 1]


def test_test_events_are_kept_apart() -> None:
    ledger = Ledger()

    record(ledger, purchase("1"), is_test=True)
    record(ledger, purchase("1"))

    assert counts(ledger, "events_test", "events_accepted", "events_unique") == [1, 1, 1]


def test_every_event_received_is_in_exactly_one_count() -> None:
    ledger = Ledger()
    record(ledger, purchase("1"), purchase("2"))
    record(ledger, purchase("3"), is_test=True)
    record(ledger, purchase("4"), purchase("5"), label="40002", kept=0)
    record(ledger, purchase("6"), label="http_503", kept=0)
    record(ledger, purchase("7"), purchase("8"), label="20001", kept=1)
    record(ledger, purchase("9"), label="silent")

    received, *parts = counts(
        ledger, "events_received", "events_accepted", "events_test", "events_refused",
        "events_dropped",
    )  # fmt: skip

    assert received == sum(parts) == 9
    assert parts == [4, 1, 3, 1]
    assert counts(ledger, "refused") == [{"40002": 1}]


def test_the_peak_is_of_any_second_not_of_clock_seconds() -> None:
    ledger = Ledger()

    for after_s in (0.6, 0.9, 1.2, 1.5, 1.6):
        record(ledger, purchase(str(after_s)), purchase(f"{after_s}b"), after_s=after_s)

    assert counts(ledger, "peak_per_s") == [{"requests": 4, "events": 8}]
    assert ledger.summary()["by_pixel"] == {
        PIXEL: {"accepted": 10, "unique": 10, "peak_per_s": {"requests": 4, "events": 8}}
    }


def test_warnings_are_counted_without_their_indexes_and_bounded() -> None:
    ledger = Ledger()

    record(ledger, purchase("1"), notes=["data.0.user.x: unknown", "data.7.user.x: unknown"])
    record(ledger, purchase("2"), notes=[f"field_{i}: unknown" for i in range(300)])

    [warnings] = counts(ledger, "warnings")
    assert warnings["data.*.user.x: unknown"] == 2
    assert len(warnings) == 201


def test_the_full_ledger_shows_what_was_kept_and_nothing_personal() -> None:
    ledger = Ledger()

    record(ledger, purchase("1"))

    assert ledger.full()["events"] == [
        {
            "key": [PIXEL, "Purchase", "1"],
            "event_time": int(NOW_S),
            "value": 16.0,
            "currency": "EUR",
            "received_at": NOW_S,
            "request": 1,
            "is_test": False,
            "is_duplicate": False,
            "match": {
                "email": True,
                "phone": False,
                "external_id": False,
                "ttclid": False,
                "ttp": False,
                "ip": True,
            },
        }
    ]


def test_beyond_its_limit_the_list_stops_and_the_counts_go_on() -> None:
    ledger = Ledger(events_listed_max=2)

    record(ledger, *[purchase(str(index)) for index in range(5)])

    assert len(ledger.full()["events"]) == 2  # type: ignore[arg-type]
    assert counts(ledger, "events_unique", "events_not_listed") == [5, 3]


def test_reset_forgets_the_dedup_window_too() -> None:
    ledger = Ledger()
    record(ledger, purchase("1"))

    ledger.reset()
    record(ledger, purchase("1"))

    assert counts(ledger, "requests", "events_unique", "events_duplicate") == [1, 1, 0]


def test_a_key_is_had_within_the_window_of_its_pixel_and_name() -> None:
    ledger = Ledger()
    record(ledger, purchase("1"))

    last_s = NOW_S + DEDUP_WINDOW_S - 1
    assert ledger.has(PIXEL, purchase("1"), last_s)
    assert not ledger.has(PIXEL, purchase("1"), last_s + 1)
    assert not ledger.has("C2", purchase("1"), NOW_S)
    assert not ledger.has(PIXEL, purchase("1", "CompletePayment"), NOW_S)


def test_events_are_listed_from_a_place_on() -> None:
    ledger = Ledger()
    record(ledger, purchase("1"), purchase("2"), purchase("3"))

    assert [line["key"] for line in ledger.events(2)] == [[PIXEL, "Purchase", "3"]]
    assert ledger.events(3) == []

from __future__ import annotations

from typing import Any

import pytest

from sandbox.tiktok import pixel_track
from sandbox.tiktok.config import Rules
from sandbox.tiktok.verdict import Claim, Refused
from tests.unit.sandbox.samples import (
    GONE,
    NOW_S,
    pixel_batch_body,
    pixel_body,
    pixel_event,
    sha256,
    spoiled,
)

REFUSED: list[tuple[str, Any, int]] = [
    ("pixel_code", GONE, 40002),
    ("pixel_code", 7, 40002),
    ("event", GONE, 40002),
    ("event_id", 1001, 40002),
    ("timestamp", "", 40002),
    ("timestamp", 1790000000, 40002),
    ("timestamp", "1790000000", 40002),
    ("timestamp", "2026-09-21T14:13:20", 40002),
    ("timestamp", "2026-09-21", 40002),
    ("timestamp", "yesterday", 40002),
    ("timestamp", "2036-09-21T14:13:20Z", 40002),
    ("partner_name", "Adobe", 40063),
    ("event_time", 1_790_000_000, 40002),
    ("user", {"email": sha256("a")}, 40002),
    ("context.page", GONE, 40002),
    ("context.page.url", "thank", 40002),
    ("context.ip", "192.168.0.1", 40002),
    ("context.ad.callback", ["E.C.P.abc"], 40002),
    ("context.user.email", "a@example.com", 40062),
    ("context.user.email", [sha256("a")], 40002),
    ("context.user.phone_number", "+1", 40062),
    ("context.user.external_id", "7", 40062),
    ("context.user.emails", [sha256("a")], 40002),
    ("context.user.phone_numbers", [sha256("a")], 40002),
    ("context.user.phone", sha256("+1"), 40002),
    ("properties.contents.0.content_id", 1, 40002),
    ("properties.contents.0.content_type", "thing", 40002),
    ("properties.value", "16.0", 40002),
    ("properties.currency", "XYZ", 40002),
]


def one(body: object, rules: Rules | None = None) -> Claim:
    return pixel_track.check_one(body, rules or Rules(), NOW_S)


def batch(body: object) -> Claim:
    return pixel_track.check_batch(body, Rules(), NOW_S)


@pytest.mark.parametrize(("path", "value", "code"), REFUSED)
def test_one_wrong_field_is_refused_by_its_own_path(path: str, value: Any, code: int) -> None:
    with pytest.raises(Refused) as refused:
        one(spoiled(pixel_body(), path, value))

    assert refused.value.code == code
    assert refused.value.path == path or refused.value.path.startswith(f"{path}.")


def test_a_careful_event_is_accepted_with_all_its_match_keys() -> None:
    claim = one(pixel_body())

    assert claim.notes == []
    assert claim.events[0] == ("CompletePayment", "pur.1", 1_790_000_000, 16.0, "EUR", 0b111111)


def test_a_test_event_code_marks_the_request() -> None:
    assert one(spoiled(pixel_body(), "test_event_code", "TEST1")).is_test
    assert batch(spoiled(pixel_batch_body(), "test_event_code", "TEST1")).is_test


def test_an_event_without_a_time_has_the_servers() -> None:
    claim = one(spoiled(pixel_body(), "timestamp", GONE))

    assert claim.events[0].event_time_s == int(NOW_S)


def test_a_time_with_an_offset_is_an_instant() -> None:
    claim = one(spoiled(pixel_body(), "timestamp", "2026-09-21T16:13:20+02:00"))

    assert claim.events[0].event_time_s == 1_790_000_000


@pytest.mark.parametrize("body", [[pixel_body()], pixel_batch_body()])
def test_pixel_track_takes_no_batch(body: object) -> None:
    with pytest.raises(Refused) as refused:
        one(body)

    assert refused.value.code == 40061


def test_a_batch_names_its_bad_event_as_tiktok_does() -> None:
    body = pixel_batch_body(pixel_event("1"), pixel_event("2"))
    body["batch"][1]["properties"]["contents"][0]["content_id"] = 7

    with pytest.raises(Refused) as refused:
        batch(body)

    assert refused.value.path == "Batch.1.properties.contents.0.content_id"


def test_fifty_events_are_a_batch_and_fifty_one_are_not() -> None:
    assert len(batch(pixel_batch_body(*[pixel_event(str(i)) for i in range(50)])).events) == 50
    with pytest.raises(Refused) as refused:
        batch(pixel_batch_body(*[pixel_event(str(i)) for i in range(51)]))
    assert refused.value.code == 40061


@pytest.mark.parametrize("kind", ["page", 1])
def test_a_batch_holds_track_events_only(kind: object) -> None:
    with pytest.raises(Refused) as refused:
        batch(spoiled(pixel_batch_body(), "batch.0.type", kind))

    assert refused.value.path == "Batch.0.type"


def test_the_guides_lists_are_accepted_under_their_switch_and_counted_as_match_keys() -> None:
    body = spoiled(pixel_body(), "context.user", {"emails": [sha256("a")]})

    claim = one(body, Rules(accept_guide_lists=True))

    assert claim.events[0].match & 0b11 == 0b01


def test_the_guides_lists_hold_hashes_only() -> None:
    body = spoiled(pixel_body(), "context.user.emails", ["a@example.com"])

    with pytest.raises(Refused) as refused:
        one(body, Rules(accept_guide_lists=True))

    assert refused.value.code == 40062

from __future__ import annotations

from typing import Any

import pytest

from sandbox.tiktok import event_track
from sandbox.tiktok.config import Rules
from sandbox.tiktok.verdict import Claim, Refused
from tests.unit.sandbox.samples import GONE, NOW_S, PIXEL, event, sha256, spoiled, track_body

EMPTY_HASH = sha256("")

REFUSED: list[tuple[str, Any, int]] = [
    ("event_source", GONE, 40002),
    ("event_source", "server", 40002),
    ("event_source", "app", 40118),
    ("event_source_id", GONE, 40002),
    ("event_source_id", 7, 40002),
    ("test_event_code", "", 40002),
    ("partner_name", "Tidewire", 40063),
    ("pixel_code", PIXEL, 40002),
    ("context", {"user": {}}, 40002),
    ("timestamp", "2026-09-21T14:13:20Z", 40002),
    ("data", GONE, 40002),
    ("data", [], 40002),
    ("data", {"0": event()}, 40002),
    ("data", [event()] * 1001, 40061),
    ("data.0.event", GONE, 40002),
    ("data.0.event", "", 40002),
    ("data.0.event", None, 40002),
    ("data.0.event_time", GONE, 40002),
    ("data.0.event_time", (int(NOW_S) - 5) * 1000, 40002),
    ("data.0.event_time", NOW_S, 40002),
    ("data.0.event_time", str(int(NOW_S)), 40002),
    ("data.0.event_time", "2026-09-21T14:13:20Z", 40002),
    ("data.0.event_time", True, 40002),
    ("data.0.event_time", int(NOW_S) + 86_401, 40002),
    ("data.0.event_time", 1_577_836_799, 40002),
    ("data.0.event_id", GONE, 40002),
    ("data.0.event_id", 1001, 40002),
    ("data.0.context", {"ip": "203.0.113.9"}, 40002),
    ("data.0.timestamp", "2026-09-21T14:13:20Z", 40002),
    ("data.0.user", [], 40002),
    ("data.0.user", {}, 40002),
    ("data.0.user", "me", 40002),
    ("data.0.user.email", "a@example.com", 40062),
    ("data.0.user.email", [sha256("a"), "b@example.com"], 40062),
    ("data.0.user.email", sha256("a").upper(), 40062),
    ("data.0.user.email", sha256("a")[:63], 40062),
    ("data.0.user.email", sha256("a") + "\n", 40062),
    ("data.0.user.email", "", 40002),
    ("data.0.user.email", [], 40002),
    ("data.0.user.email", [""], 40062),
    ("data.0.user.email", EMPTY_HASH, 40002),
    ("data.0.user.email", [EMPTY_HASH], 40002),
    ("data.0.user.email", 7, 40002),
    ("data.0.user.phone", "+4915112345678", 40062),
    ("data.0.user.external_id", "customer-7", 40062),
    ("data.0.user.external_id", 7, 40002),
    ("data.0.user.first_name", "jane", 40062),
    ("data.0.user.first_name", [sha256("jane")], 40002),
    ("data.0.user.last_name", "doe", 40062),
    ("data.0.user.zip_code", "10115", 40062),
    ("data.0.user.city", sha256("berlin"), 40002),
    ("data.0.user.state", sha256("be"), 40002),
    ("data.0.user.country", sha256("de").upper(), 40002),
    ("data.0.user.ttclid", ["E.C.P.abc"], 40002),
    ("data.0.user.ttclid", None, 40002),
    ("data.0.user.ttp", 1, 40002),
    ("data.0.user.ip", "not an address", 40002),
    ("data.0.user.ip", "10.1.2.3", 40002),
    ("data.0.user.ip", "127.0.0.1", 40002),
    ("data.0.user.ip", "::1", 40002),
    ("data.0.user.ip", "fd00::1", 40002),
    ("data.0.user.ip", "::ffff:192.168.1.1", 40002),
    ("data.0.user.ip", 3405803785, 40002),
    ("data.0.user.emails", [sha256("a")], 40002),
    ("data.0.user.phone_number", sha256("+1"), 40002),
    ("data.0.properties.value", "16.00", 40002),
    ("data.0.properties.value", float("nan"), 40002),
    ("data.0.properties.value", float("inf"), 40002),
    ("data.0.properties.value", -1, 40002),
    ("data.0.properties.value", True, 40002),
    ("data.0.properties.value", None, 40002),
    ("data.0.properties.currency", "eur", 40002),
    ("data.0.properties.currency", "UYU", 40002),
    ("data.0.properties.currency", "", 40002),
    ("data.0.properties.content_type", "products", 40002),
    ("data.0.properties.content_ids", [7], 40002),
    ("data.0.properties.num_items", 2.0, 40002),
    ("data.0.properties.order_id", 1001, 40002),
    ("data.0.properties.contents", [], 40002),
    ("data.0.properties.contents", {"content_id": "1"}, 40002),
    ("data.0.properties.contents.0", {}, 40002),
    ("data.0.properties.contents.0.content_id", 1077218, 40002),
    ("data.0.properties.contents.0.price", "8.00", 40002),
    ("data.0.properties.contents.0.quantity", 0, 40002),
    ("data.0.properties.contents.0.quantity", 2.0, 40002),
    ("data.0.properties.contents.0.quantity", "2", 40002),
    ("data.0.page", {}, 40002),
    ("data.0.page.url", GONE, 40002),
    ("data.0.page.url", "/thank", 40002),
    ("data.0.page.url", "https://", 40002),
    ("data.0.limited_data_use", "false", 40002),
]

ACCEPTED: list[tuple[str, Any]] = [
    ("test_event_code", "TEST1"),
    ("data.0.user.email", sha256("a")),
    ("data.0.user", GONE),
    ("data.0.properties", GONE),
    ("data.0.properties.value", 0),
    ("data.0.properties.num_items", 0),
    ("data.0.properties.contents.0.quantity", GONE),
    ("data.0.page.referrer", GONE),
    ("data.0.user.ip", "2a02:8108:1::1"),
    ("data.0.event", "MyOwnEvent"),
    ("data.0.user.ttclid", "x" * 5000),
]


def claim_of(body: object, rules: Rules | None = None) -> Claim:
    return event_track.check(body, rules or Rules(), NOW_S)


def refusal_of(body: object, rules: Rules | None = None) -> tuple[int, str]:
    with pytest.raises(Refused) as refused:
        claim_of(body, rules)
    return refused.value.code, refused.value.path


@pytest.mark.parametrize(("path", "value", "code"), REFUSED)
def test_one_wrong_field_is_refused_by_its_own_path(path: str, value: Any, code: int) -> None:
    body = spoiled(track_body(), path, value)

    found_code, found_path = refusal_of(body)

    assert found_code == code
    assert found_path == path or found_path.startswith(f"{path}.")


@pytest.mark.parametrize(("path", "value"), ACCEPTED)
def test_what_the_reference_allows_is_accepted(path: str, value: Any) -> None:
    claim = claim_of(spoiled(track_body(), path, value))

    assert len(claim.events) == 1


def test_a_careful_event_is_accepted_without_a_note() -> None:
    claim = claim_of(track_body())

    assert claim.source_id == PIXEL
    assert claim.notes == []
    assert claim.events[0][:5] == ("Purchase", "pur.1", int(NOW_S) - 5, 16, "EUR")
    assert claim.events[0].match == 0b111111


def test_a_test_event_code_marks_the_whole_request() -> None:
    assert claim_of(spoiled(track_body(), "test_event_code", "TEST1")).is_test
    assert not claim_of(spoiled(track_body(), "data.0.test_event_code", "TEST1")).is_test


def test_the_first_bad_event_of_a_batch_is_named() -> None:
    events = [event(str(index)) for index in range(5)]
    events[2]["event_id"] = 3
    events[4]["user"]["email"] = "clear@example.com"

    assert refusal_of(track_body(*events)) == (40002, "data.2.event_id")


def test_a_batch_of_a_thousand_is_accepted() -> None:
    claim = claim_of(track_body(*[event(str(index)) for index in range(1000)]))

    assert len(claim.events) == 1000


@pytest.mark.parametrize("body", [None, [], [track_body()], "{}", 7])
def test_a_body_that_is_no_object_is_refused(body: object) -> None:
    assert refusal_of(body) == (40002, "")


def test_limited_data_use_needs_the_visitors_address() -> None:
    body = track_body(event() | {"limited_data_use": True})

    assert len(claim_of(body).events) == 1
    assert refusal_of(spoiled(body, "data.0.user.ip", GONE)) == (40002, "data.0.user.ip")


def test_unknown_fields_are_noted_and_not_refused() -> None:
    body = spoiled(track_body(), "data.0.user.lead_id", "1")
    body = spoiled(body, "gtm_version", "1.0")
    body = spoiled(body, "data.0.properties.contents.0.content_type", "product")

    assert claim_of(body).notes == [
        "gtm_version: unknown field",
        "data.0.user.lead_id: unknown field",
        "data.0.properties.contents.0.content_type: belongs beside contents",
    ]


def test_a_city_that_was_not_normalised_is_noted() -> None:
    claim = claim_of(spoiled(track_body(), "data.0.user.city", "New York"))

    assert claim.notes == ["data.0.user.city: not in lower case without spaces"]


def test_an_event_older_than_any_click_window_is_noted() -> None:
    claim = claim_of(spoiled(track_body(), "data.0.event_time", int(NOW_S) - 28 * 86_400 - 1))

    assert claim.notes == ["data.0.event_time: older than 28 days"]


def test_only_standard_events_come_from_offline_sources() -> None:
    body = spoiled(track_body(), "event_source", "offline")

    assert len(claim_of(body).events) == 1
    assert refusal_of(spoiled(body, "data.0.event", "Mine")) == (40002, "data.0.event")


def test_offline_events_need_no_page() -> None:
    body = spoiled(track_body(), "event_source", "offline")

    assert len(claim_of(spoiled(body, "data.0.page", GONE)).events) == 1


@pytest.mark.parametrize(
    ("rules", "path", "value"),
    [
        (Rules(require_page_url=False), "data.0.page", GONE),
        (Rules(require_event_id=False), "data.0.event_id", GONE),
        (Rules(refuse_empty=False), "data.0.user.first_name", ""),
        (Rules(refuse_empty=False), "data.0.properties.contents", []),
        (Rules(accept_empty_hash=True), "data.0.user.phone", EMPTY_HASH),
        (Rules(accept_plain_external_id=True), "data.0.user.external_id", "customer-7"),
        (Rules(allow_private_ip=True), "data.0.user.ip", "127.0.0.1"),
        (Rules(partner_names=frozenset({"Ours"})), "partner_name", "Ours"),
    ],
)
def test_each_switch_opens_just_its_own_rule(rules: Rules, path: str, value: Any) -> None:
    body = spoiled(track_body(), path, value)

    assert len(claim_of(body, rules).events) == 1
    assert refusal_of(body)

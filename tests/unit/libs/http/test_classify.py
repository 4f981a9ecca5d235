from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import Kind, ServiceError
from libs.http import classify
from libs.http.classify import may_have_arrived, retry_after_s, status_error

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


def headers(retry_after: str) -> dict[str, str]:
    return {"Content-Type": "text/plain", "retry-AFTER": retry_after}


@pytest.mark.parametrize(
    ("text", "expected_s"),
    [
        ("3", 3.0),
        ("2.0", 2.0),
        ("0", 0.0),
        ("-4", 0.0),
        ("Sun, 22 Nov 2026 12:01:30 GMT", 90.0),
        ("Sun, 22 Nov 2026 12:01:30 -0000", 90.0),
        ("Sun, 22 Nov 2026 11:00:00 GMT", 0.0),
        ("999999999", 86_400.0),
        ("inf", 5.0),
        ("nan", 5.0),
        ("soon", 5.0),
        ("", 5.0),
    ],
)
def test_both_forms_of_retry_after_count(text: str, expected_s: float) -> None:
    assert retry_after_s(headers(text), NOW) == expected_s


def test_a_429_that_does_not_say_is_five_seconds() -> None:
    assert retry_after_s({}, NOW) == 5.0


@given(text=st.text())
def test_no_retry_after_whatever_it_holds_leaves_the_day(text: str) -> None:
    assert 0 <= retry_after_s(headers(text), NOW) <= 86_400


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, Kind.PERMANENT),
        (400, Kind.PERMANENT),
        (401, Kind.AUTH),
        (403, Kind.AUTH),
        (404, Kind.PERMANENT),
        (408, Kind.RETRYABLE),
        (422, Kind.PERMANENT),
        (425, Kind.RETRYABLE),
        (429, Kind.THROTTLED),
        (500, Kind.RETRYABLE),
        (503, Kind.RETRYABLE),
        (599, Kind.RETRYABLE),
    ],
)
def test_a_status_says_what_to_do_next(status: int, kind: Kind) -> None:
    error = status_error("shop", status, {}, NOW)

    assert error is not None
    assert (error.kind, error.code) == (kind, f"upstream_status_{status}")


@pytest.mark.parametrize("status", [200, 201, 204])
def test_a_status_of_success_is_no_error(status: int) -> None:
    assert status_error("shop", status, {}, NOW) is None


def test_a_wait_comes_with_429_always_and_with_5xx_if_asked_for() -> None:
    waits_s = [
        error.retry_after_s
        for error in (
            status_error("shop", 429, headers("7"), NOW),
            status_error("shop", 429, {}, NOW),
            status_error("shop", 503, headers("8"), NOW),
            status_error("shop", 503, {}, NOW),
        )
        if error
    ]

    assert waits_s == [7.0, 5.0, 8.0, None]


@pytest.mark.parametrize(
    ("kind", "code", "expected"),
    [
        (Kind.RETRYABLE, classify.UNREACHABLE, False),
        (Kind.RETRYABLE, classify.BUDGET_SPENT, False),
        (Kind.RETRYABLE, classify.TIMEOUT, True),
        (Kind.RETRYABLE, classify.RESET, True),
        (Kind.RETRYABLE, classify.TRUNCATED, True),
        (Kind.RETRYABLE, "upstream_status_502", True),
        (Kind.PERMANENT, classify.TOO_LARGE, True),
        (Kind.PERMANENT, "upstream_status_422", False),
        (Kind.THROTTLED, "upstream_status_429", False),
        (Kind.AUTH, "upstream_status_401", False),
    ],
)
def test_only_what_cannot_have_arrived_counts_as_not_arrived(
    kind: Kind, code: str, *, expected: bool
) -> None:
    assert may_have_arrived(ServiceError(kind, code)) is expected


def test_a_date_without_a_zone_is_in_gmt() -> None:
    later = (NOW + timedelta(seconds=30)).strftime("%a, %d %b %Y %H:%M:%S")

    assert retry_after_s(headers(later), NOW) == 30.0

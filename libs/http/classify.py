"""What a request or its failure amounts to: pure functions from answers and statuses to errors."""

from __future__ import annotations

import email.utils
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from libs.errors import Kind, ServiceError

UNREACHABLE: Final = "upstream_unreachable"
"""Certainly not arrived: no connection came about."""

BUDGET_SPENT: Final = "upstream_budget_spent"
"""Certainly not arrived: the caller's time was over before the request was sent."""

TIMEOUT: Final = "upstream_timeout"
"""Perhaps arrived: no answer in time."""

RESET: Final = "upstream_reset"
"""Perhaps arrived: the connection broke after it stood."""

TRUNCATED: Final = "upstream_truncated"
"""Arrived, most likely: the answer ended before its end."""

UNREADABLE: Final = "upstream_unreadable"
"""Arrived, most likely: what came back is not HTTP."""

TOO_LARGE: Final = "upstream_answer_too_large"
"""Arrived: the answer is longer than the request allows."""

RETRY_AFTER_DEFAULT_S: Final = 5.0
_RETRY_AFTER_MOST_S: Final = 86_400.0

_NOT_SENT = frozenset({UNREACHABLE, BUDGET_SPENT})
_RETRYABLE_STATUSES = frozenset({408, 425})


def may_have_arrived(error: ServiceError) -> bool:
    """Whether the upstream may have acted on the request that ended in `error`.

    If so, a write without an idempotency key must be looked up before it is sent again. A refusal
    (throttled, credentials, other 4xx) is an answer: the upstream did not act.
    """
    if error.kind is Kind.RETRYABLE:
        return error.code not in _NOT_SENT
    return error.code == TOO_LARGE


def status_error(
    upstream: str, status: int, headers: Mapping[str, str], now: datetime
) -> ServiceError | None:
    """The error that an HTTP status amounts to; None below 300.

    408, 425 and 5xx are RETRYABLE, 429 is THROTTLED, 401 and 403 are AUTH, and the rest is
    PERMANENT, a redirect too: we follow none, because it would carry credentials elsewhere.
    The code is `upstream_status_<status>`.
    """
    if status < 300:
        return None
    code, message = f"upstream_status_{status}", f"{upstream} answered {status}"
    if status == 429:
        wait_s = retry_after_s(headers, now)
        return ServiceError(Kind.THROTTLED, code, message, retry_after_s=wait_s)
    if status in (401, 403):
        return ServiceError(Kind.AUTH, code, message)
    if status in _RETRYABLE_STATUSES or status >= 500:
        asked_s = asked_wait_s(headers, now)
        return ServiceError(Kind.RETRYABLE, code, message, retry_after_s=asked_s)
    return ServiceError(Kind.PERMANENT, code, message)


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float:
    """Seconds the upstream asks us to wait, at most a day; 5.0 if it does not say, or unreadably.

    Both forms of the header count, a number and a date (RFC 9110, 10.2.3), and the decimal
    fraction that Shopify sends. A date in the past is 0.0. An unreadable one is no error: what it
    comes with is one already, and a slip in a header must not decide what becomes of a message.
    """
    text = _header(headers)
    asked_s = _number(text)
    if asked_s is None:
        asked_s = _seconds_until(text, now)
    if asked_s is None:
        return RETRY_AFTER_DEFAULT_S
    return min(max(asked_s, 0.0), _RETRY_AFTER_MOST_S)


def asked_wait_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """As `retry_after_s`; None where the answer asks for no wait."""
    return retry_after_s(headers, now) if _header(headers) else None


def _header(headers: Mapping[str, str]) -> str:
    return next((text for name, text in headers.items() if name.lower() == "retry-after"), "")


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _seconds_until(text: str, now: datetime) -> float | None:
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:  # "-0000" and no zone at all: HTTP dates are in GMT
        moment = moment.replace(tzinfo=UTC)
    return (moment - now).total_seconds()

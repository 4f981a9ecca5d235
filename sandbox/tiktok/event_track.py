"""Events API 2.0, `event/track`: what a request claims, or why it is refused. Pure.

Rules: TikTok's endpoint reference 1771101303285761. The first bad event sinks the whole batch, and
the message names it, as the live service does (`data.0.event_id`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

from sandbox.tiktok import checks, commerce
from sandbox.tiktok.checks import Table
from sandbox.tiktok.config import Rules
from sandbox.tiktok.verdict import Claim, Event, Problem, Refused

EVENTS_MAX = 1000
STALE_AFTER_S = 28 * 86_400
"""Older web events match no click any more: 28 days is the longest click window."""

NOT_SECONDS = Problem(40002, "not a unix time in seconds")
NOT_ALLOWED = Problem(40118, "event_source app is open to the allow-list only")
NEEDS_IP = Problem(40002, "is required when limited_data_use is true")
NOT_STANDARD = Problem(40002, "offline sources take standard events only")

_STANDARD_NAMES = (
    "ViewContent Search AddToWishlist AddToCart InitiateCheckout AddPaymentInfo "
    "CompleteRegistration Contact CustomizeProduct Download FindLocation Schedule StartTrial "
    "SubmitApplication ApplicationApproval Subscribe Purchase Lead "
    "CompletePayment SubmitForm PlaceAnOrder ClickButton"
)
STANDARD_EVENTS = frozenset(_STANDARD_NAMES.split())
"""The 18 web standard events, and the four older names that still work."""

_OLD = checks.never("belongs to Events API 1.0")
ENVELOPE: Table = {
    "event_source": checks.one_of("web", "app", "offline", "crm"),
    "event_source_id": checks.text,
    "data": lambda _events: None,
    "test_event_code": checks.text,
    "partner_name": checks.text,
} | dict.fromkeys(("pixel_code", "context", "timestamp", "event", "batch"), _OLD)
EVENT: Table = {
    "event": checks.text,
    "event_time": checks.whole,
    "event_id": checks.text,
    "user": checks.an_object,
    "properties": checks.an_object,
    "page": checks.an_object,
    "limited_data_use": checks.boolean,
    "attribution_share": checks.share,
    "ad": checks.an_object,
    "app": checks.an_object,
    "lead": checks.an_object,
} | dict.fromkeys(("pixel_code", "context", "timestamp", "type"), _OLD)
LEAD: Table = {"lead_id": checks.text, "lead_event_source": checks.text}

_CLEAR_FIELDS = ("city", "state", "country")


class _Batch(NamedTuple):
    """What every event of a request is judged by."""

    source: str
    user_table: Table
    rules: Rules
    now_s: float
    notes: list[str]


@functools.lru_cache(maxsize=64)
def user_table(rules: Rules) -> Table:
    """The checks of `user` under `rules`."""
    hashed = checks.hashed_even_empty if rules.accept_empty_hash else checks.hashed
    external_id = checks.text if rules.accept_plain_external_id else hashed
    listed = checks.one_or_many(hashed)
    return {
        "email": listed,
        "phone": listed,
        "external_id": checks.one_or_many(external_id),
        "ip": checks.any_address if rules.allow_private_ip else checks.public_address,
        **dict.fromkeys(("ttclid", "ttp", "user_agent", "locale"), checks.text),
        **dict.fromkeys(("first_name", "last_name", "zip_code"), hashed),
        **dict.fromkeys(_CLEAR_FIELDS, checks.clear),
        **dict.fromkeys(("idfa", "idfv", "gaid", "att_status"), checks.text),
        **dict.fromkeys(("emails", "phone_number", "phone_numbers"), _OLD),
    }


def check(body: object, rules: Rules, now_s: float) -> Claim:
    """What `body` claims, at the Unix time `now_s`.

    Raises:
        Refused: with the code that TikTok answers and the path of the first field at fault.
    """
    if not isinstance(body, dict):
        raise Refused(checks.NOT_OBJECT, "")
    notes: list[str] = []
    checks.check_fields(body, ENVELOPE, "", refuse_empty=rules.refuse_empty, notes=notes)
    checks.require(body, ("event_source", "event_source_id", "data"), "")
    commerce.check_envelope(body, rules)
    source = body["event_source"]
    if source == "app" and not rules.allow_app_source:
        raise Refused(NOT_ALLOWED, "event_source")
    batch = _Batch(source, user_table(rules), rules, now_s, notes)
    events = [
        _event(event, f"data.{index}", batch)
        for index, event in enumerate(commerce.events_of(body, "data", EVENTS_MAX))
    ]
    return Claim(body["event_source_id"], bool(body.get("test_event_code")), events, notes)


def _event(event: object, at: str, batch: _Batch) -> Event:
    if not isinstance(event, dict):
        raise Refused(checks.NOT_OBJECT, at)
    rules = batch.rules
    checks.check_fields(event, EVENT, at, refuse_empty=rules.refuse_empty, notes=batch.notes)
    required = ("event", "event_time", "event_id") if rules.require_event_id else _UNIDENTIFIED
    checks.require(event, required, at)
    _check_time(event["event_time"], at, batch)
    user = event.get("user") or {}
    _check_user(user, at, batch)
    _check_source(event, user, at, batch)
    properties = event.get("properties") or {}
    commerce.check_properties(properties, at, "content", rules, batch.notes)
    return Event(
        event["event"],
        event.get("event_id") or "",
        event["event_time"],
        properties.get("value"),
        properties.get("currency"),
        commerce.match_bits(user),
    )


_UNIDENTIFIED = ("event", "event_time")


def _check_time(event_time_s: int, at: str, batch: _Batch) -> None:
    latest_s = batch.now_s + batch.rules.event_time_ahead_s
    if not batch.rules.event_time_min_s <= event_time_s <= latest_s:
        raise Refused(NOT_SECONDS, f"{at}.event_time", event_time_s)
    if event_time_s < batch.now_s - STALE_AFTER_S:
        batch.notes.append(f"{at}.event_time: older than 28 days")


def _check_user(user: Mapping[str, Any], at: str, batch: _Batch) -> None:
    refuse_empty = batch.rules.refuse_empty
    at = f"{at}.user"
    checks.check_fields(user, batch.user_table, at, refuse_empty=refuse_empty, notes=batch.notes)
    for key in _CLEAR_FIELDS:
        value = user.get(key)
        if value and value != value.lower().replace(" ", ""):
            batch.notes.append(f"{at}.{key}: not in lower case without spaces")


def _check_source(
    event: Mapping[str, Any], user: Mapping[str, Any], at: str, batch: _Batch
) -> None:
    rules, notes = batch.rules, batch.notes
    if batch.source == "web":
        commerce.check_page(event, at, rules, notes)
    if batch.source == "offline" and event["event"] not in STANDARD_EVENTS:
        raise Refused(NOT_STANDARD, f"{at}.event", event["event"])
    if batch.source == "app":
        checks.require(event.get("app") or {}, ("app_id",), f"{at}.app")
    if lead := event.get("lead"):
        refuse_empty = rules.refuse_empty
        checks.check_fields(lead, LEAD, f"{at}.lead", refuse_empty=refuse_empty, notes=notes)
    if event.get("limited_data_use") and batch.source in {"web", "app"}:
        _require_ip(user, at)


def _require_ip(user: Mapping[str, object], at: str) -> None:
    if not user.get("ip"):
        raise Refused(NEEDS_IP, f"{at}.user.ip")

"""Events API 1.0, `pixel/track` and `pixel/batch`: what a request claims, or why it is refused.

Rules: the official SDK's models (1.1.3), where every leaf under `context.user` is one string. The
lists `emails` and `phone_numbers` are TikTok's for offline events only; `Rules.accept_guide_lists`
lets web events carry them. Pure.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sandbox.tiktok import checks, commerce
from sandbox.tiktok.checks import Table
from sandbox.tiktok.config import Rules
from sandbox.tiktok.verdict import Claim, Event, Problem, Refused

EVENTS_MAX = 50

NOT_ISO = Problem(40002, "not an ISO 8601 time with its offset")
ONE_ONLY = Problem(40061, "pixel/track takes one event")

_NEW = checks.never("belongs to Events API 2.0")
_NEW_FIELDS = ("event_source", "event_source_id", "event_time", "user", "page", "limited_data_use")
_EVENT_FIELDS: Table = {
    "event": checks.text,
    "event_id": checks.text,
    "timestamp": checks.text,
    "context": checks.an_object,
    "properties": checks.an_object,
} | dict.fromkeys(_NEW_FIELDS, _NEW)
_ENVELOPE_FIELDS: Table = {
    "pixel_code": checks.text,
    "test_event_code": checks.text,
    "partner_name": checks.text,
}
TRACK: Table = {**_EVENT_FIELDS, **_ENVELOPE_FIELDS}
BATCH_EVENT: Table = {**_EVENT_FIELDS, "type": checks.one_of("track")}
BATCH: Table = {
    **_ENVELOPE_FIELDS,
    "batch": lambda _events: None,
} | dict.fromkeys(("data", *_NEW_FIELDS), _NEW)
AD: Table = {"callback": checks.text}


@functools.lru_cache(maxsize=64)
def context_table(rules: Rules) -> Table:
    """The checks of `context` under `rules`."""
    return {
        "ad": checks.an_object,
        "page": checks.an_object,
        "user": checks.an_object,
        "ip": checks.any_address if rules.allow_private_ip else checks.public_address,
        "user_agent": checks.text,
    }


@functools.lru_cache(maxsize=64)
def user_table(rules: Rules) -> Table:
    """The checks of `context.user` under `rules`."""
    hashed = checks.hashed_even_empty if rules.accept_empty_hash else checks.hashed
    offline_only = checks.never("is a field of offline events")
    listed = checks.many(hashed) if rules.accept_guide_lists else offline_only
    return {
        "email": hashed,
        "phone_number": hashed,
        "external_id": checks.text if rules.accept_plain_external_id else hashed,
        "ttp": checks.text,
        "emails": listed,
        "phone_numbers": listed,
        "phone": _NEW,
        "ttclid": _NEW,
    }


def check_one(body: object, rules: Rules, now_s: float) -> Claim:
    """What a `pixel/track` body claims, at the Unix time `now_s`.

    Raises:
        Refused: with the code that TikTok answers and the path of the first field at fault.
    """
    if isinstance(body, list) or (isinstance(body, dict) and {"batch", "data"} & body.keys()):
        raise Refused(ONE_ONLY, "")
    notes: list[str] = []
    envelope = _envelope(body, TRACK, ("pixel_code",), rules, notes)
    event = _event(envelope, "", now_s, rules, notes)
    return _claim(envelope, [event], notes)


def check_batch(body: object, rules: Rules, now_s: float) -> Claim:
    """What a `pixel/batch` body claims, at the Unix time `now_s`.

    Raises:
        Refused: as `check_one`; the path begins with `Batch.<index>`, as TikTok's own does.
    """
    notes: list[str] = []
    envelope = _envelope(body, BATCH, ("pixel_code", "batch"), rules, notes)
    events = []
    for index, found in enumerate(commerce.events_of(envelope, "batch", EVENTS_MAX)):
        at = f"Batch.{index}"
        _check_batch_event(found, at, rules, notes)
        events.append(_event(found, at, now_s, rules, notes))
    return _claim(envelope, events, notes)


def _envelope(
    body: object, table: Table, required: tuple[str, ...], rules: Rules, notes: list[str]
) -> Mapping[str, Any]:
    if not isinstance(body, dict):
        raise Refused(checks.NOT_OBJECT, "")
    checks.check_fields(body, table, "", refuse_empty=rules.refuse_empty, notes=notes)
    checks.require(body, required, "")
    commerce.check_envelope(body, rules)
    return body


def _check_batch_event(found: object, at: str, rules: Rules, notes: list[str]) -> None:
    if not isinstance(found, dict):
        raise Refused(checks.NOT_OBJECT, at)
    checks.check_fields(found, BATCH_EVENT, at, refuse_empty=rules.refuse_empty, notes=notes)
    if "type" not in found:
        notes.append(f"{at}.type: missing")


def _claim(envelope: Mapping[str, Any], events: list[Event], notes: list[str]) -> Claim:
    return Claim(envelope["pixel_code"], bool(envelope.get("test_event_code")), events, notes)


def _event(
    found: Mapping[str, Any], at: str, now_s: float, rules: Rules, notes: list[str]
) -> Event:
    checks.require(found, ("event", "event_id") if rules.require_event_id else ("event",), at)
    event_time_s = _event_time_s(found, at, now_s, rules)
    match = _match_of_context(found.get("context") or {}, at, rules, notes)
    properties = found.get("properties") or {}
    commerce.check_properties(properties, at, "properties", rules, notes)
    return Event(
        found["event"],
        found.get("event_id") or "",
        event_time_s,
        properties.get("value"),
        properties.get("currency"),
        match,
    )


def _event_time_s(found: Mapping[str, Any], at: str, now_s: float, rules: Rules) -> int:
    stamp = found.get("timestamp")
    if not stamp:
        return int(now_s)
    path = checks.join(at, "timestamp")
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        raise Refused(NOT_ISO, path, stamp) from None
    if moment.tzinfo is None or "T" not in stamp:
        raise Refused(NOT_ISO, path, stamp)
    event_time_s = int(moment.timestamp())
    if not rules.event_time_min_s <= event_time_s <= now_s + rules.event_time_ahead_s:
        raise Refused(NOT_ISO, path, stamp)
    return event_time_s


def _match_of_context(context: Mapping[str, Any], at: str, rules: Rules, notes: list[str]) -> int:
    at = checks.join(at, "context")
    refuse_empty = rules.refuse_empty
    table = context_table(rules)
    checks.check_fields(context, table, at, refuse_empty=refuse_empty, notes=notes)
    user, ad = context.get("user") or {}, context.get("ad") or {}
    table = user_table(rules)
    checks.check_fields(user, table, f"{at}.user", refuse_empty=refuse_empty, notes=notes)
    checks.check_fields(ad, AD, f"{at}.ad", refuse_empty=refuse_empty, notes=notes)
    commerce.check_page(context, at, rules, notes)
    return commerce.match_bits(
        {
            "email": user.get("email") or user.get("emails"),
            "phone": user.get("phone_number") or user.get("phone_numbers"),
            "external_id": user.get("external_id"),
            "ttclid": ad.get("callback"),
            "ttp": user.get("ttp"),
            "ip": context.get("ip"),
        }
    )

"""Golden cases of the events mapping: what happened, its settings, and the requests it makes."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from services.events.domain.conversions import decide_cart, decide_checkout, decide_purchase
from services.events.domain.dialects import dialect_of
from services.events.domain.model import (
    CartLinesAdded,
    Conversion,
    Ignored,
    MatchKeys,
    PaidOrder,
    StartedCheckout,
)
from services.events.domain.settings import EventSettings

HERE = Path(__file__).parent
Happened = PaidOrder | StartedCheckout | CartLinesAdded
KINDS: dict[str, type[Happened]] = {
    "paid_order": PaidOrder,
    "started_checkout": StartedCheckout,
    "cart_lines_added": CartLinesAdded,
}


class Case(msgspec.Struct, forbid_unknown_fields=True):
    """One `input.json`. `match_keys` stand in for those of the identity, where it is given."""

    why: str
    now_s: int
    settings: dict[str, Any]
    happened: list[dict[str, Any]]
    match_keys: dict[str, Any] | None = None


def case_names() -> list[str]:
    return sorted(path.parent.name for path in HERE.glob("*/input.json"))


def load(name: str) -> Case:
    return msgspec.json.decode((HERE / name / "input.json").read_bytes(), type=Case)


def outcome(case: Case) -> dict[str, Any]:
    """What the mapping makes of `case`, amounts as decimals."""
    settings = msgspec.convert(case.settings, EventSettings)
    conversions: list[Conversion] = []
    ignored: list[str] = []
    for happened in case.happened:
        for found in _decided(happened, settings, case.now_s):
            if isinstance(found, Ignored):
                ignored.append(found.reason.value)
            else:
                conversions.append(found)
    if case.match_keys is not None:
        keys = msgspec.convert(case.match_keys, MatchKeys)
        conversions = [replace(conversion, match=keys) for conversion in conversions]
    requests = dialect_of(settings.dialect).encode(conversions, settings)
    return {
        "requests": [
            {"path": request.path, "body": json.loads(request.body, parse_float=Decimal)}
            for request in requests
        ],
        "notes": [note.value for conversion in conversions for note in conversion.notes],
        "ignored": ignored,
    }


def digits(document: Any) -> Any:
    """`document` with every fraction as its digits, so that 120.0 is not 120.00 nor a string."""
    if isinstance(document, Decimal):
        return {"number": str(document)}
    if isinstance(document, dict):
        return {key: digits(value) for key, value in document.items()}
    if isinstance(document, list):
        return [digits(value) for value in document]
    return document


def rendered(document: dict[str, Any]) -> bytes:
    encoded = msgspec.json.Encoder(decimal_format="number").encode(document)
    return msgspec.json.format(encoded, indent=2) + b"\n"


def _decided(
    happened: dict[str, Any], settings: EventSettings, now_s: int
) -> tuple[Conversion | Ignored, ...]:
    ((kind, fields),) = happened.items()
    fact: Happened = msgspec.convert(fields, KINDS[kind])
    match fact:
        case PaidOrder() as order:
            return (decide_purchase(order, settings, now_s),)
        case StartedCheckout() as checkout:
            return (decide_checkout(checkout, settings, now_s),)
        case CartLinesAdded() as cart:
            added = decide_cart(cart, settings, now_s)
            return (added,) if isinstance(added, Ignored) else added

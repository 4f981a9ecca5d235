"""Events that a careful sender makes, and a way to spoil them one field at a time."""

from __future__ import annotations

import copy
import hashlib
from typing import Any

NOW_S = 1_790_000_000.0
TOKEN = "token-of-the-tests"
PIXEL = "C1234567890ABC"
GONE = object()


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def event(event_id: str = "pur.1") -> dict[str, Any]:
    return {
        "event": "Purchase",
        "event_time": int(NOW_S) - 5,
        "event_id": event_id,
        "user": {
            "email": [sha256("a@example.com"), sha256("b@example.com")],
            "phone": sha256("+4915112345678"),
            "external_id": [sha256("7")],
            "ttclid": "E.C.P.abc",
            "ttp": "ttp-1",
            "ip": "203.0.113.9",
            "user_agent": "UA/1.0",
            "locale": "de-DE",
            "first_name": sha256("jane"),
            "zip_code": sha256("10115"),
            "city": "berlin",
            "country": "de",
        },
        "properties": {
            "contents": [{"content_id": "1077218", "price": 8.0, "quantity": 2, "brand": "B"}],
            "content_type": "product",
            "currency": "EUR",
            "value": 16,
            "num_items": 2,
            "order_id": "1001",
        },
        "page": {"url": "https://shop.example/thank?x=1", "referrer": "https://shop.example/"},
        "limited_data_use": False,
    }


def track_body(*events: dict[str, Any]) -> dict[str, Any]:
    return {"event_source": "web", "event_source_id": PIXEL, "data": list(events) or [event()]}


def pixel_event(event_id: str = "pur.1") -> dict[str, Any]:
    return {
        "event": "CompletePayment",
        "event_id": event_id,
        "timestamp": "2026-09-21T14:13:20Z",
        "context": {
            "ad": {"callback": "E.C.P.abc"},
            "page": {"url": "https://shop.example/thank", "referrer": "https://shop.example/"},
            "user": {
                "external_id": sha256("7"),
                "phone_number": sha256("+4915112345678"),
                "email": sha256("a@example.com"),
                "ttp": "ttp-1",
            },
            "ip": "2001:db8::1",
            "user_agent": "UA/1.0",
        },
        "properties": {
            "contents": [
                {"content_id": "1", "content_type": "product", "price": 8.0, "quantity": 2}
            ],
            "currency": "EUR",
            "value": 16.0,
        },
    }


def pixel_body(event_id: str = "pur.1") -> dict[str, Any]:
    return {"pixel_code": PIXEL, **pixel_event(event_id)}


def pixel_batch_body(*events: dict[str, Any]) -> dict[str, Any]:
    batch = [{"type": "track", **one} for one in events or (pixel_event(),)]
    return {"pixel_code": PIXEL, "batch": batch}


def spoiled(body: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """`body` with the field at the dotted `path` set to `value`, or gone when it is GONE."""
    body = copy.deepcopy(body)
    *parents, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    found: Any = body
    for step in parents:
        found = found[step]
    if value is GONE:
        del found[last]
    else:
        found[last] = value
    return body

"""What both generations of the Events API say in the same way: goods, money, page, envelope."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sandbox.tiktok import checks
from sandbox.tiktok.config import Rules
from sandbox.tiktok.verdict import MATCH_KEYS, Problem, Refused

PARTNER_UNKNOWN = Problem(40063, "partner_name is not one that TikTok gave out")
TOO_MANY = Problem(40061, "the batch is too large")
NONE_SENT = Problem(40002, "must hold at least one event")

CONTENT_TYPE = checks.one_of("product", "product_group")
PAGE: checks.Table = {"url": checks.url, "referrer": checks.text}
CONTENT: checks.Table = {
    "content_id": checks.text,
    "price": checks.amount,
    "quantity": checks.count,
    "content_name": checks.text,
    "content_category": checks.text,
    "brand": checks.text,
    "content_type": CONTENT_TYPE,
    "status": checks.text,
}
PROPERTIES: checks.Table = {
    "contents": checks.many(checks.an_object),
    "content_ids": checks.texts,
    "content_type": CONTENT_TYPE,
    "currency": checks.currency,
    "value": checks.amount,
    "num_items": checks.whole,
    "order_id": checks.text,
    "shop_id": checks.text,
    "description": checks.text,
    "search_string": checks.text,
    "query": checks.text,
    "status": checks.text,
    "customer_type": checks.one_of("new", "returning"),
}


_MATCH_BITS = tuple((key, 1 << place) for place, key in enumerate(MATCH_KEYS))


def check_properties(
    found: Mapping[str, Any], at: str, misplaced: str, rules: Rules, notes: list[str]
) -> None:
    """Checks `properties` and its contents.

    `misplaced` is where this generation does not look for `content_type` (`content` or
    `properties`); there it is tolerated, with a note.
    """
    at = checks.join(at, "properties")
    checks.check_fields(found, PROPERTIES, at, refuse_empty=rules.refuse_empty, notes=notes)
    if found.get("value") is not None and not found.get("currency"):
        notes.append(f"{at}.value: without a currency")
    if misplaced == "properties" and "content_type" in found:
        notes.append(f"{at}.content_type: belongs inside each content")
    for index, content in enumerate(found.get("contents") or ()):
        _check_content(content, f"{at}.contents.{index}", misplaced, rules, notes)


def _check_content(
    content: Mapping[str, object], at: str, misplaced: str, rules: Rules, notes: list[str]
) -> None:
    if not content and rules.refuse_empty:
        raise Refused(checks.EMPTY, at)
    checks.check_fields(content, CONTENT, at, refuse_empty=rules.refuse_empty, notes=notes)
    if "content_id" not in content:
        notes.append(f"{at}.content_id: missing")
    if misplaced == "content" and "content_type" in content:
        notes.append(f"{at}.content_type: belongs beside contents")


def check_page(found: Mapping[str, Any], at: str, rules: Rules, notes: list[str]) -> None:
    """Checks `page` of the object `found`; a web event needs its url."""
    page = found.get("page") or {}
    page_at = checks.join(at, "page")
    checks.check_fields(page, PAGE, page_at, refuse_empty=rules.refuse_empty, notes=notes)
    if rules.require_page_url:
        checks.require(page, ("url",), page_at)


def check_envelope(body: Mapping[str, Any], rules: Rules) -> None:
    """Refuses a partner name that nobody gave out."""
    name = body.get("partner_name")
    if name is not None and name not in rules.partner_names:
        raise Refused(PARTNER_UNKNOWN, "partner_name")


def events_of(body: Mapping[str, Any], key: str, most: int) -> list[Any]:
    """The events under `key`: one to `most` of them."""
    events = body[key]
    if not isinstance(events, list):
        raise Refused(checks.NOT_LIST, key)
    if not events:
        raise Refused(NONE_SENT, key)
    if len(events) > most:
        raise Refused(TOO_MANY, key)
    return events


def match_bits(present: Mapping[str, object]) -> int:
    """The MATCH_KEYS that `present` has, as bits."""
    bits = 0
    for key, bit in _MATCH_BITS:
        if present.get(key):
            bits |= bit
    return bits

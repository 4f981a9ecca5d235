"""Bodies of webhooks as one may show them: the shape whole, and only values known to be harmless.

Shopify adds fields, and shops and apps put anything anywhere. So nothing is shown because nobody
thought of hiding it: a value is shown where its key says what it is and it looks like that, and
where nothing around it is about a person. All else says what it was, as `***email` or `***text`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

MASK: Final = "***"
DEPTH_MAX: Final = 32
"""What lies deeper is masked as a whole; no body of Shopify comes near."""

_PERSONAL: Final = re.compile(
    r"customers?|.*address(es)?|client_details|.*attributes|properties|payment_.*|receipt|billing"
    r"|shipping|compan(y|ies)|recipients?|staff.*|user|person|destination|origin_location"
    r"|metafields|buyer.*|data_request"
)
"""Keys of what is about a person, or may hold anything: nothing below is shown."""
_PERSONAL_TOPICS: Final = ("customers/", "customer_", "profiles/", "companies/", "company_")

_FIELD_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_FREE_KEYS: Final = re.compile(r".*attributes|properties|metafields|receipt")
"""Keys of objects whose own keys are anybody's: they are hidden as values are."""

_TIMES: Final = r".*_at"
_TIME: Final = r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?)?"

_MONEYS: Final = (
    r"(.*_)?(amount|price|total|subtotal|tax|taxes|discounts?|outstanding|refunds?|tip|rate|cost"
    r"|duties|fees?)"
)
_MONEY: Final = r"-?\d{1,12}(\.\d{1,6})?"

_CURRENCIES: Final = r"(.*_)?currency(_code)?"
_CURRENCY: Final = r"[A-Z]{3}"

_IDS: Final = (
    r"id|order_number|(line_item|product|variant|order|checkout|inventory_item|location|app"
    r"|fulfillment|refund|transaction|parent|shop|collection|image)_id"
)
_ID: Final = r"\d{1,20}"

_GRAPHQL_IDS: Final = r"admin_graphql_api_id"
_GRAPHQL_ID: Final = r"gid://shopify/(?!Customer|Company|Staff)[A-Za-z]{1,40}/\d{1,20}"

_COUNTS: Final = r"(.*_)?(quantity|available|count|grams|position|weight|size|index)"
_COUNT: Final = r"-?\d{1,9}(\.\d{1,3})?"

_WORDS: Final = (
    r"status|(financial|fulfillment|shipment)_status|cancel_reason|source_name|kind|weight_unit"
    r"|inventory_(policy|management)|(target|value|restock)_type|target_selection"
    r"|allocation_method|published_scope"
)
_WORD: Final = r"[a-z]{1,20}(_[a-z]{1,20}){0,3}"

_SHAPES: Final = tuple(
    (re.compile(keys), re.compile(shape))
    for keys, shape in (
        (_TIMES, _TIME),
        (_MONEYS, _MONEY),
        (_CURRENCIES, _CURRENCY),
        (_IDS, _ID),
        (_GRAPHQL_IDS, _GRAPHQL_ID),
        (_COUNTS, _COUNT),
        (_WORDS, _WORD),
    )
)
"""What is shown: keys, and what their values must look like as a whole."""

_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+")
_IP: Final = re.compile(r"(\d{1,3}\.){3}\d{1,3}|[0-9a-fA-F:]*:[0-9a-fA-F:]*:[0-9a-fA-F:.]*")
_PHONE: Final = re.compile(r"\+?[\d\s().-]{7,24}")
_LABELS: Final = (
    (re.compile(r"(.*_)?e?mail"), "email"),
    (re.compile(r"(.*_)?phone(_.*)?"), "phone"),
    (re.compile(r"(.*_)?ip(_address)?"), "ip"),
    (re.compile(r"(.*_)?name"), "name"),
    (re.compile(r"address\d?|city|zip|province.*|country.*|latitude|longitude"), "address"),
)


def masked_body(parsed: object, topic: str) -> object:
    """`parsed` JSON of a webhook, of the same shape, fit to be seen by anybody."""
    return _masked(parsed, "", personal=topic.startswith(_PERSONAL_TOPICS), depth=0)


def _masked(value: object, key: str, *, personal: bool, depth: int) -> object:
    if depth > DEPTH_MAX:
        return f"{MASK}deep"
    if isinstance(value, Mapping):
        return _masked_object(value, key, personal=personal, depth=depth)
    if isinstance(value, list):
        return [_masked(one, key, personal=personal, depth=depth + 1) for one in value]
    # Whether something is there is what a mapping most often fails on, and says nothing.
    if value is None or isinstance(value, bool) or value == "":
        return value
    if not personal and _is_harmless(key, value):
        return _plain(value)
    return MASK + _label(key, value)


def _masked_object(
    value: Mapping[str, Any], key: str, *, personal: bool, depth: int
) -> dict[str, object]:
    free = _FREE_KEYS.fullmatch(key) is not None
    shown: dict[str, object] = {}
    for place, (name, inner) in enumerate(value.items()):
        known = not free and _FIELD_NAME.fullmatch(name) is not None
        shown[name if known else f"{MASK}key{place}"] = _masked(
            inner,
            name if known else "",
            personal=personal or not known or _PERSONAL.fullmatch(name) is not None,
            depth=depth + 1,
        )
    return shown


def _is_harmless(key: str, value: object) -> bool:
    text = str(value)
    return any(name.fullmatch(key) and shape.fullmatch(text) for name, shape in _SHAPES)


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Decimal) else value


def _label(key: str, value: object) -> str:
    """What a hidden value was: by how it looks, else by its key."""
    if not isinstance(value, str):
        return "number"
    if _EMAIL.search(value):
        return "email"
    if _IP.fullmatch(value):
        return "ip"
    named = next((label for name, label in _LABELS if name.fullmatch(key)), "")
    if named:
        return named
    return "phone" if _PHONE.fullmatch(value) else "text"

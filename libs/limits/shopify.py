"""What Shopify says of its own limits, in its two forms. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from libs.limits.port import BucketSeen

CALL_LIMIT_HEADER: Final = "X-Shopify-Shop-Api-Call-Limit"

_REST_BUCKET_S: Final = 20.0
"""Every plan's REST bucket drains in this time: 40 at 2/s, 80 at 4/s, 400 at 20/s."""

_DIGITS_MAX: Final = 9


def graphql_bucket(body: Mapping[str, Any]) -> BucketSeen | None:
    """The bucket in `extensions.cost.throttleStatus` of a GraphQL answer; None without one.

    `currentlyAvailable` has the call's own cost taken already.
    """
    status: Any = body
    for name in ("extensions", "cost", "throttleStatus"):
        status = status.get(name) if isinstance(status, Mapping) else None
    if not isinstance(status, Mapping):
        return None
    capacity = _number(status.get("maximumAvailable"))
    available = _number(status.get("currentlyAvailable"))
    restore = _number(status.get("restoreRate"))
    if capacity is None or available is None or restore is None or capacity * restore <= 0:
        return None
    return BucketSeen(capacity, min(max(available, 0.0), capacity), restore)


def rest_bucket(headers: Mapping[str, str]) -> BucketSeen | None:
    """The bucket in `X-Shopify-Shop-Api-Call-Limit: used/capacity`; None without one.

    The header does not tell the rate; it follows from the capacity.
    """
    text = next(
        (value for name, value in headers.items() if name.lower() == CALL_LIMIT_HEADER.lower()), ""
    )
    used, _, capacity = (part.strip() for part in text.partition("/"))
    if not _is_count(used) or not _is_count(capacity) or int(capacity) == 0:
        return None
    most = float(capacity)
    return BucketSeen(most, max(most - int(used), 0.0), most / _REST_BUCKET_S)


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # A huge integer has no float: it is no capacity either.
    return float(value) if abs(value) < 1e12 and math.isfinite(value) else None

"""Instants in every form that Shopify writes them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from services.ingest.normalize.model import Fields

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_FRACTION = re.compile(r"[.,](\d{1,9})")
_LENGTH = range(16, 41)


@lru_cache(maxsize=4096)
def instant(text: str) -> tuple[Fields, bool]:
    """`text` as the fields of a Timestamp, and whether it named its offset (UTC is taken if not).

    Takes `Z` and `-05:00`, and up to nine digits of a second. Cached because the times of one
    order are mostly the same second.

    Raises:
        ValueError: if it is no ISO 8601 date with a time, or before 1970.
    """
    if len(text) not in _LENGTH:
        raise ValueError("not a date with a time")
    read = datetime.fromisoformat(text)
    zoned = read.tzinfo is not None
    since = (read if zoned else read.replace(tzinfo=UTC)) - _EPOCH
    if since < timedelta():
        raise ValueError("before 1970")
    fraction = _FRACTION.search(text)
    nanos = int(fraction[1].ljust(9, "0")) if fraction else 0
    return {"seconds": since // _SECOND, "nanos": nanos}, zoned

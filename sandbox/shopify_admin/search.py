"""Searches by change, the only ones that the shop answers."""

from __future__ import annotations

import operator
import re
from datetime import datetime
from typing import Final

_TERM: Final = re.compile(r"updated_at:(>=|<=|>|<)['\"]?([^'\"\s]+)['\"]?")
_COMPARISONS: Final = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}

Bounds = list[tuple[str, float]]
"""Comparisons with a time of change."""


class SearchError(ValueError):
    """A search that this shop cannot answer."""


def bounds_of(query: str) -> Bounds:
    """The comparisons with `updated_at` that a search is made of.

    Raises:
        SearchError: it is made of more.
    """
    rest = _TERM.sub("", query).strip()
    if rest:
        raise SearchError(f"this shop searches by updated_at alone, not by {rest!r}")
    return [
        (comparison, datetime.fromisoformat(text).timestamp())
        for comparison, text in _TERM.findall(query)
    ]


def fits(changed_at_s: float, bounds: Bounds) -> bool:
    """Whether a change, in Unix time, is within."""
    return all(_COMPARISONS[comparison](changed_at_s, bound) for comparison, bound in bounds)

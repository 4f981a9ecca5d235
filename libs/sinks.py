"""Which facts which sink uses. Each delivery gives each sink of its shop a fact, or a reason."""

from __future__ import annotations

from typing import Final

EVENTS_FACTS: Final = ("order_paid", "checkout_started", "cart_lines_added", "events_tracked")
"""What the events service reports to TikTok."""

_BY_SERVICE: Final = {"events": frozenset(EVENTS_FACTS)}


def uses(sink: str, fact_kind: str) -> bool:
    """Whether a sink such as `events.C123` uses facts of this kind."""
    return fact_kind in _BY_SERVICE.get(sink.partition(".")[0], frozenset())


def unit_of(fact_kind: str, fact_id: str) -> str:
    """Name of the unit of work that a fact is, in outcomes and ledgers."""
    return f"{fact_kind}.{fact_id}"

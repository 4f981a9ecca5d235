"""The ledger: every unit of work and how it ended, folded from the messages themselves.

Unit = (distinct delivery, sink its shop has). received = delivered + delivered_uncertain +
ignored(reason) + dead(reason) + in flight(place) + unaccounted. What is in flight was found at its
place; what was found nowhere is unaccounted and never called in flight: were one of them the
remainder, the ledger would balance by definition (ADR 14).
"""

from __future__ import annotations

from libs.ledger.books import Books, OpenUnit, UnitKey
from libs.ledger.figures import EVERYTHING, Ledger, RowKey, Scope, day_of, day_text
from libs.ledger.places import LANE, PARKED
from libs.ledger.reader import LedgerReader, Reading, read_ledger, read_outcomes

__all__ = [
    "EVERYTHING",
    "LANE",
    "PARKED",
    "Books",
    "Ledger",
    "LedgerReader",
    "OpenUnit",
    "Reading",
    "RowKey",
    "Scope",
    "UnitKey",
    "day_of",
    "day_text",
    "read_ledger",
    "read_outcomes",
]

"""Which sync a shop should have next. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from services.catalog.domain.states import SyncKind

DAY_NS: Final = 86_400 * 1_000_000_000

MAPPING_VERSION: Final = 1
"""Raised when the mapping changes so that items must be made anew; part of what is compared."""

_AFTER_FAILURE_NS: Final = 3_600 * 1_000_000_000
"""What was given up waits for a person; now and then it is tried by itself."""

RESENT_AGE_NS: Final = DAY_NS
"""What was taken within the last day is fresh enough when the others are sent again."""


@dataclass(frozen=True, slots=True)
class History:
    """What has been done of a shop."""

    full_ended_ns: int = 0
    read_as: str = ""
    mapped_as: str = ""
    resent_ns: int = 0
    failed_ns: int = 0
    """When the newest sync was given up, if it was."""


@dataclass(frozen=True, slots=True)
class Intervals:
    """How often it is done anyway; 0: never."""

    full_days: float
    resend_days: float


@dataclass(frozen=True, slots=True)
class Due:
    """A sync that should begin."""

    kind: SyncKind
    resend_before_ns: int = 0


def due(
    history: History, read_as: str, mapped_as: str, every: Intervals, now_ns: int
) -> Due | None:
    """What is to be done now; None: nothing.

    `read_as` and `mapped_as` are what the shop's catalogs want and how they are mapped today.
    """
    if now_ns < history.failed_ns + _AFTER_FAILURE_NS:
        return None
    if not history.full_ended_ns or history.read_as != read_as:
        return Due(SyncKind.FULL)
    if every.full_days and now_ns >= history.full_ended_ns + every.full_days * DAY_NS:
        return Due(SyncKind.FULL)
    if history.mapped_as != mapped_as:
        return Due(SyncKind.REMAP)
    resent_ns = max(history.resent_ns, history.full_ended_ns if not history.resent_ns else 0)
    if every.resend_days and now_ns >= resent_ns + every.resend_days * DAY_NS:
        return Due(SyncKind.RESEND, now_ns - RESENT_AGE_NS)
    return None


def next_resend_ns(history: History, every: Intervals) -> int:
    """When items are sent again next; 0: never, or not known yet."""
    since_ns = history.resent_ns or history.full_ended_ns
    return int(since_ns + every.resend_days * DAY_NS) if since_ns and every.resend_days else 0


def digest(*parts: object) -> str:
    """A short digest of what can be written down the same way each time."""
    return blake2b(repr(parts).encode(), digest_size=8).hexdigest()


MANY: Final = 50
"""So few products may always go; beyond it, half of them at most in one sync."""


def is_too_much_gone(gone: int, known: int) -> bool:
    """Whether so many are missing that an error is likelier than that they are gone.

    A token that lost a scope, or a filter, shows an empty shop: a catalog that sells is not emptied
    for that.
    """
    return gone > MANY and gone * 2 > known

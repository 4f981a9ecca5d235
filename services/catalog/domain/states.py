"""How items and syncs stand. The numbers are stored and sent: never reused."""

from __future__ import annotations

from enum import IntEnum


class ItemState(IntEnum):
    """State of an item in a catalog."""

    PENDING = 1
    """Wanted, and not yet sent or not yet answered."""
    ACCEPTED = 2
    WARNED = 3
    """Accepted with a warning."""
    REFUSED = 4
    """By us before it was sent, or by TikTok; tried again when it changes."""
    IN_REVIEW = 5
    LIVE = 6
    REJECTED = 7
    """By TikTok's review."""
    DELETING = 8


class IssueSource(IntEnum):
    """Who found an issue."""

    MAPPING = 1
    """We did, before sending."""
    TIKTOK = 2
    """TikTok's answer or feed log."""
    REVIEW = 3


class SyncKind(IntEnum):
    """Why all of a shop's items are looked at."""

    FULL = 1
    """All products are read from Shopify; what is gone is deleted."""
    REMAP = 2
    """What is known of products is mapped again."""
    RESEND = 3
    """As a remap, and everything is sent again."""


class SyncPhase(IntEnum):
    """Where a sync stands."""

    QUEUED = 1
    EXPORTING = 2
    COMPARING = 3
    SENDING = 4
    """All is compared; items are on their way to TikTok."""
    DONE = 5
    FAILED = 6

    @property
    def is_end(self) -> bool:
        """Whether nothing comes after it."""
        return self in {SyncPhase.DONE, SyncPhase.FAILED}

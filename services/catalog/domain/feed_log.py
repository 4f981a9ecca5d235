"""What TikTok says of a submit and of its items. Facts only: nothing is decided here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Issue:
    """What TikTok found wrong with one item, in its own words."""

    sku_id: str
    is_error: bool
    """An error keeps the item out; a warning does not."""
    field: str
    text: str
    fix: str
    """TikTok's advice; may be empty."""
    place: int | None = None
    """Position of the item in the request, from 0, where TikTok says it: `sku_id` may be empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedLog:
    """A feed log as it was read. While it has not `ended` the rest may change."""

    ended: bool
    failed: bool = False
    """The submit failed as a whole."""
    added: int = 0
    updated: int = 0
    deleted: int = 0
    errors: int = 0
    warnings: int = 0
    issues: tuple[Issue, ...] = ()
    """Of all items, whether TikTok showed them in its answer or in its file only."""
    complete: bool = True
    """False where the file with the rest of the issues could not be read: then items that are not
    named may have been refused all the same."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """TikTok's answer to a submit."""

    feed_log_id: str
    """Empty where the answer was final: there is nothing more to read."""
    request_id: str = ""
    issues: tuple[Issue, ...] = ()
    """What a final answer says of single items."""
    complete: bool = True
    """False where a final answer says that some were not taken, and not which."""


@dataclass(frozen=True, slots=True)
class Review:
    """What became of an accepted item in TikTok's review."""

    sku_id: str
    status: str
    """`processing`, `approved` or `rejected`, as TikTok says it, in lower case."""
    is_usable: bool
    """Approved, activated and to be had."""
    reasons: tuple[str, ...] = ()
    """Why it was rejected, or what keeps the review from ending (an image that cannot be read)."""


@dataclass(frozen=True, slots=True)
class CatalogFacts:
    """What TikTok says a catalog is."""

    region: str
    currency: str
    channel: str
    name: str = ""

"""What the reconciler decides: from when on to ask, and what of the answer to read whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How the reconciler looks back. All in seconds."""

    every_s: float
    """Between two runs for one shop."""
    overlap_s: float
    """Read again before the watermark: a change may reach Shopify's search index late."""
    settle_s: float
    """What changed so recently is left for its webhook, which is on its way."""
    reach_s: float
    """How far back the first run looks, and never further than the shop's activation."""
    pages_max: int = 40
    """Of one kind in one run: 10,000 resources. The next run goes on from there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """How far one kind of one shop has been compared."""

    through_s: float
    """Unix time up to which nothing is missing."""
    is_complete: bool
    """False where the last run stopped at its bound: the next begins there, without overlap."""
    ran_at_s: float
    """When the last run began."""
    cursor: str | None = None
    """Where in the list of what has changed since `through_s` the next run goes on: more may have
    changed in one second, by a bulk edit, than one run gets through. None: at its beginning."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One resource as a list of the Admin API shows it."""

    gid: str
    resource_id: str
    updated_at_s: int
    rank: int = 0
    """Of an order, how far its life has come; as `Version.lifecycle_rank`."""


@dataclass(frozen=True, slots=True)
class Held:
    """What is stored of a resource."""

    updated_at_s: int
    rank: int
    is_final: bool
    """Deleted or redacted: whatever Shopify still lists, it is not written again."""
    is_tied: bool
    """Two bodies of the same second differed, so that which one is stored is a guess."""


_NOTHING: Final = Mark(through_s=0.0, is_complete=True, ran_at_s=0.0)


def is_due(mark: Mark | None, now_s: float, rules: Rules) -> bool:
    """Whether nobody has run lately. A tenth of slack: clocks and timers of replicas differ."""
    return now_s - (mark or _NOTHING).ran_at_s >= 0.9 * rules.every_s


def since_s(mark: Mark | None, active_since_s: float, now_s: float, rules: Rules) -> float:
    """Unix time from which to list what has changed."""
    if mark is None:
        return max(active_since_s, now_s - rules.reach_s)
    return mark.through_s - (rules.overlap_s if mark.is_complete else 0.0)


def is_missing(listed: Listed, held: Held | None) -> bool:
    """Whether what Shopify lists never arrived, or only something older or doubtful did.

    Within one second the rank decides, as it does between deliveries: an order is often placed and
    paid in the same second, and the webhook that was lost may be the second of the two.
    """
    if held is None:
        return True
    if held.is_final:
        return False
    if held.is_tied and listed.updated_at_s == held.updated_at_s:
        return True
    return (listed.updated_at_s, listed.rank) > (held.updated_at_s, held.rank)


def delivery_id(kind: str, listed: Listed) -> str:
    """The same for the same version, whoever finds it and however often."""
    return f"reconcile.{kind}.{listed.resource_id}.{listed.updated_at_s}.{listed.rank}"

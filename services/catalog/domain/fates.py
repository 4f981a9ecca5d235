"""What TikTok's answers make of the records of items. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from services.catalog.domain.states import IssueSource, ItemState
from services.catalog.domain.sync import TAKEN, SyncIssue, SyncItem, SyncProduct


class Fate(StrEnum):
    """What became of an item that was sent."""

    TAKEN = "taken"
    REFUSED = "refused"
    AGAIN = "again"
    """It was not taken, and what was wrong was not the item."""
    UNKNOWN = "unknown"
    """Nobody knows."""
    GONE = "gone"
    """It is out of the catalog."""
    KEPT = "kept"
    """It could not be taken out."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One item of a submit, as it was sent."""

    product_id: str
    sku_id: str
    digest: int
    availability: int


@dataclass(frozen=True, slots=True)
class Settled:
    """How one item of a submit ended."""

    sent: Sent
    fate: Fate
    issues: tuple[SyncIssue, ...] = ()


def settled(before: SyncProduct, ends: Sequence[Settled], now_ns: int) -> SyncProduct:
    """The record of a product after some of its items' fates are known.

    What changed meanwhile stays wanted: an answer counts for what was sent. What is no longer an
    item of the product, and came to TikTok all the same, is to be taken out.
    """
    by_id = {end.sent.sku_id: end for end in ends}
    known = {one.sku_id for one in before.items}
    items = [
        kept
        for one in before.items
        if (kept := _ended(one, by_id[one.sku_id], now_ns) if one.sku_id in by_id else one)
        is not None
    ]
    for end in ends:
        if end.sent.sku_id in known or not end.sent.digest:
            continue
        if end.fate is Fate.TAKEN:
            items.append(_stray(end.sent, now_ns, accepted=True))
        elif end.fate is Fate.UNKNOWN:
            items.append(_stray(end.sent, now_ns, accepted=False))
    return msgspec.structs.replace(before, items=tuple(items))


def _stray(sent: Sent, now_ns: int, *, accepted: bool) -> SyncItem:
    """What TikTok has, or may have, of an item that was given up while it was on its way."""
    return SyncItem(
        sku_id=sent.sku_id,
        variant_id="",
        state=ItemState.DELETING,
        accepted=sent.digest if accepted else 0,
        availability=sent.availability if accepted else 0,
        accepted_ns=now_ns if accepted else 0,
        maybe=not accepted,
        changed_ns=now_ns,
    )


def _ended(was: SyncItem, end: Settled, now_ns: int) -> SyncItem | None:
    match end.fate:
        case Fate.TAKEN:
            return _taken(was, end, now_ns)
        case Fate.REFUSED:
            return _refused(was, end, now_ns)
        case Fate.AGAIN:
            return msgspec.structs.replace(was, issues=end.issues or was.issues)
        case Fate.UNKNOWN:
            return msgspec.structs.replace(was, maybe=True, issues=end.issues or was.issues)
        case Fate.GONE:
            return _gone(was, now_ns)
        case Fate.KEPT:
            if was.wanted:
                # It came back meanwhile, and TikTok has it still.
                return was
            return msgspec.structs.replace(was, kept=True, issues=end.issues, changed_ns=now_ns)


def _taken(was: SyncItem, end: Settled, now_ns: int) -> SyncItem:
    taken = msgspec.structs.replace(
        was,
        accepted=end.sent.digest,
        availability=end.sent.availability,
        accepted_ns=now_ns,
        refused=0,
        refused_issues=(),
        maybe=False,
        again=False,
    )
    if was.wanted != end.sent.digest:
        # Changed, removed or unfit while it was on its way: that state stands.
        return taken
    if was.accepted == end.sent.digest and was.state in TAKEN:
        # Sent again as it was: the review goes on from where it is.
        said = tuple(one for one in was.issues if one.source == IssueSource.REVIEW)
        in_review = was.state not in (ItemState.ACCEPTED, ItemState.WARNED)
        if in_review or bool(end.issues) == (was.state == ItemState.WARNED):
            return msgspec.structs.replace(taken, issues=(*end.issues, *said))
    state = ItemState.WARNED if end.issues else ItemState.ACCEPTED
    return msgspec.structs.replace(
        taken, state=state, issues=end.issues, changed_ns=now_ns, reviewed_ns=0
    )


def _refused(was: SyncItem, end: Settled, now_ns: int) -> SyncItem | None:
    # An earlier request with it may have arrived all the same, so `maybe` stands.
    refused = msgspec.structs.replace(
        was, refused=end.sent.digest, refused_issues=end.issues, again=False
    )
    if was.wanted == end.sent.digest:
        return msgspec.structs.replace(
            refused, state=ItemState.REFUSED, issues=end.issues, changed_ns=now_ns
        )
    if was.wanted == 0 and not refused.is_in_catalog and was.state == ItemState.DELETING:
        return None
    return refused


def _gone(was: SyncItem, now_ns: int) -> SyncItem | None:
    out = msgspec.structs.replace(was, accepted=0, availability=0, accepted_ns=0, maybe=False)
    if was.wanted or was.state == ItemState.REFUSED:
        # It came back meanwhile, or is kept to say why it is not there.
        return out
    return (
        None if was.state == ItemState.DELETING else msgspec.structs.replace(out, changed_ns=now_ns)
    )


def looked_at(
    before: SyncProduct,
    found: Mapping[str, tuple[ItemState | None, tuple[SyncIssue, ...]]],
    asked_ns: int,
    now_ns: int,
) -> SyncProduct:
    """The record after TikTok's review was asked about some items.

    A state of None: TikTok does not have the item although it had taken it. It is sent again. What
    was taken after `asked_ns`, when the question was put, is not what was looked at.
    """
    items = []
    for one in before.items:
        if one.sku_id not in found or one.state not in TAKEN or one.accepted_ns > asked_ns:
            items.append(one)
            continue
        state, issues = found[one.sku_id]
        if state is None:
            items.append(
                msgspec.structs.replace(
                    one,
                    accepted=0,
                    availability=0,
                    # Should it be there all the same, it is to be taken out when it goes.
                    maybe=True,
                    state=ItemState.PENDING,
                    issues=(),
                    changed_ns=now_ns,
                )
            )
            continue
        warnings = tuple(issue for issue in one.issues if issue.source == IssueSource.TIKTOK)
        changed = state != one.state
        items.append(
            msgspec.structs.replace(
                one,
                state=state,
                issues=warnings + issues,
                reviewed_ns=now_ns,
                changed_ns=now_ns if changed else one.changed_ns,
            )
        )
    return msgspec.structs.replace(before, items=tuple(items))


def marked_maybe(before: SyncProduct, sent: Sequence[Sent], now_ns: int) -> SyncProduct:
    """The record where a request with these items may have left before its sender was lost.

    What is no longer an item of the product is to be taken out.
    """
    names = {one.sku_id for one in sent}
    known = {one.sku_id for one in before.items}
    strays = (
        _stray(one, now_ns, accepted=False)
        for one in sent
        if one.digest and one.sku_id not in known
    )
    return msgspec.structs.replace(
        before,
        items=(
            *(
                msgspec.structs.replace(one, maybe=True) if one.sku_id in names else one
                for one in before.items
            ),
            *strays,
        ),
    )

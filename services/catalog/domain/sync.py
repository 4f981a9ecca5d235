"""What TikTok has of a product's items and what it should have. Pure: decides, and sends nothing.

Structs, because they are stored as they are, packed per product. A field is added with a default at
the end and never given another meaning. A hash is the first 8 bytes of an item's digest on the
wire; 0 means that there is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from services.catalog.domain.items import Mapped, Refusal
from services.catalog.domain.states import IssueSource, ItemState

RESEND_AFTER_S: Final = 7 * 86_400
"""TikTok's diagnostics speak of 30 days until an item expires; one vendor saw it go stale after 7.
"""


TAKEN: Final = frozenset(
    {ItemState.ACCEPTED, ItemState.WARNED, ItemState.IN_REVIEW, ItemState.LIVE, ItemState.REJECTED}
)
"""TikTok has the item as it should be; what its review says of it comes on top."""


class SyncIssue(msgspec.Struct, frozen=True, array_like=True):
    """Something that is wrong with an item."""

    source: int
    is_error: bool
    code: str
    field: str
    text: str
    fix: str = ""


class SyncItem(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One item in one catalog."""

    sku_id: str
    variant_id: str
    inventory_item_id: str = ""
    state: int = ItemState.PENDING
    wanted: int = 0
    """What TikTok should have; 0: nothing."""
    wanted_availability: int = 0
    accepted: int = 0
    """What TikTok has taken; 0: nothing."""
    availability: int = 0
    """Of what was taken."""
    refused: int = 0
    """What was refused last: not sent again as it is."""
    maybe: bool = False
    """A request with it has left and nobody knows what became of it: TikTok may have it."""
    again: bool = False
    """To be sent once more although TikTok has it, so that it does not expire."""
    issues: tuple[SyncIssue, ...] = ()
    accepted_ns: int = 0
    changed_ns: int = 0
    reviewed_ns: int = 0

    @property
    def is_in_catalog(self) -> bool:
        """Whether TikTok has it, or may have it, in whatever version."""
        return self.accepted != 0 or self.maybe

    @property
    def waits_for_upload(self) -> bool:
        if self.wanted in (0, self.refused):
            return False
        return self.again or self.wanted != self.accepted or self.maybe

    @property
    def waits_for_delete(self) -> bool:
        return self.wanted == 0 and self.is_in_catalog

    @property
    def is_urgent(self) -> bool:
        """Whether buyers could be sold what is not there, or not find what is."""
        return (
            self.waits_for_upload
            and self.accepted != 0
            and self.wanted_availability != self.availability
        )


class SyncProduct(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """All items that a product has or had in one catalog."""

    product_id: str
    items: tuple[SyncItem, ...] = ()
    excluded: str = ""
    """Why the product is not for sale there; empty where it is."""
    reread: bool = False
    """What is known of it lacks something, so it is to be read from Shopify."""

    @property
    def ids(self) -> dict[str, str]:
        """The id that each variant was given."""
        return {one.variant_id: one.sku_id for one in self.items if one.state != ItemState.DELETING}

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is anywhere any more."""
        return not self.items and not self.reread


@dataclass(frozen=True, slots=True)
class Encoded:
    """An item as it goes over the wire."""

    digest: int
    availability: int


def planned(
    before: SyncProduct | None,
    product_id: str,
    mapped: Mapped,
    encoded: Mapping[str, Encoded],
    *,
    inventory_items: Mapping[str, str],
    now_ns: int,
    resend_before_ns: int = 0,
    reread: bool = False,
) -> SyncProduct:
    """The record of a product after its items were mapped anew.

    `encoded` has each item of `mapped` by its id, `inventory_items` the inventory item of each
    variant. Items taken before `resend_before_ns` are to be sent again.
    """
    known: dict[str, SyncItem] = {one.sku_id: one for one in before.items} if before else {}
    items: list[SyncItem] = []
    for item in mapped.items:
        found = encoded[item.sku_id]
        was = known.pop(item.sku_id, None) or SyncItem(
            sku_id=item.sku_id, variant_id=item.variant_id, changed_ns=now_ns
        )
        items.append(
            _wanted(
                was,
                found,
                variant_id=item.variant_id,
                inventory_item_id=inventory_items.get(item.variant_id, ""),
                now_ns=now_ns,
                again=was.again or 0 < was.accepted_ns < resend_before_ns,
            )
        )
    for refusal in mapped.refusals:
        fallen = known.pop(refusal.sku_id, None) or SyncItem(
            sku_id=refusal.sku_id, variant_id=refusal.variant_id, changed_ns=now_ns
        )
        items.append(_unfit(fallen, refusal, inventory_items.get(refusal.variant_id, ""), now_ns))
    items += [gone for one in known.values() if (gone := _unwanted(one, now_ns)) is not None]
    return SyncProduct(
        product_id=product_id, items=tuple(items), excluded=mapped.excluded, reread=reread
    )


def _wanted(
    was: SyncItem,
    found: Encoded,
    *,
    variant_id: str,
    inventory_item_id: str,
    now_ns: int,
    again: bool,
) -> SyncItem:
    changed = msgspec.structs.replace(
        was,
        variant_id=variant_id,
        inventory_item_id=inventory_item_id,
        wanted=found.digest,
        wanted_availability=found.availability,
        again=again,
    )
    if changed.wanted == changed.refused:
        state = ItemState.REFUSED
    elif changed.wanted != changed.accepted or changed.maybe:
        state = ItemState.PENDING
    else:
        # TikTok has it as it should be; what its review says stands.
        state = ItemState(changed.state) if changed.state in TAKEN else ItemState.ACCEPTED
    if state != changed.state:
        # What was wrong with it was wrong with what it was.
        changed = msgspec.structs.replace(changed, state=state, issues=(), changed_ns=now_ns)
    return changed


def _unfit(was: SyncItem, refusal: Refusal, inventory_item_id: str, now_ns: int) -> SyncItem:
    issue = SyncIssue(IssueSource.MAPPING, True, refusal.code, refusal.field, refusal.message)  # noqa: FBT003  # a row
    same = was.state == ItemState.REFUSED and was.issues == (issue,) and was.wanted == 0
    return msgspec.structs.replace(
        was,
        variant_id=refusal.variant_id,
        inventory_item_id=inventory_item_id,
        state=ItemState.REFUSED,
        wanted=0,
        wanted_availability=0,
        again=False,
        issues=(issue,),
        changed_ns=was.changed_ns if same else now_ns,
    )


def _unwanted(was: SyncItem, now_ns: int) -> SyncItem | None:
    """An item whose variant is gone; None where nothing is left to be done about it."""
    if not was.is_in_catalog:
        return None
    if was.state == ItemState.DELETING:
        return was
    return msgspec.structs.replace(
        was,
        state=ItemState.DELETING,
        wanted=0,
        wanted_availability=0,
        again=False,
        issues=(),
        changed_ns=now_ns,
    )


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

    What changed meanwhile stays wanted: an answer counts for what was sent.
    """
    by_id = {end.sent.sku_id: end for end in ends}
    items = [
        kept
        for one in before.items
        if (kept := _ended(one, by_id[one.sku_id], now_ns) if one.sku_id in by_id else one)
        is not None
    ]
    return msgspec.structs.replace(before, items=tuple(items))


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
            return msgspec.structs.replace(was, issues=end.issues, changed_ns=now_ns)


def _taken(was: SyncItem, end: Settled, now_ns: int) -> SyncItem:
    taken = msgspec.structs.replace(
        was,
        accepted=end.sent.digest,
        availability=end.sent.availability,
        accepted_ns=now_ns,
        refused=0,
        maybe=False,
        again=False,
    )
    if was.wanted != end.sent.digest:
        # Changed, removed or unfit while it was on its way: that state stands.
        return taken
    if was.accepted == end.sent.digest and was.state in TAKEN and not end.issues:
        # Sent again as it was: the review goes on from where it is.
        return taken
    state = ItemState.WARNED if end.issues else ItemState.ACCEPTED
    return msgspec.structs.replace(
        taken, state=state, issues=end.issues, changed_ns=now_ns, reviewed_ns=0
    )


def _refused(was: SyncItem, end: Settled, now_ns: int) -> SyncItem | None:
    # An earlier request with it may have arrived all the same, so `maybe` stands.
    refused = msgspec.structs.replace(was, refused=end.sent.digest, again=False)
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
    now_ns: int,
) -> SyncProduct:
    """The record after TikTok's review was asked about some items.

    A state of None: TikTok does not have the item although it had taken it. It is sent again.
    """
    items = []
    for one in before.items:
        if one.sku_id not in found or one.state not in TAKEN:
            items.append(one)
            continue
        state, issues = found[one.sku_id]
        if state is None:
            items.append(
                msgspec.structs.replace(
                    one, accepted=0, availability=0, state=ItemState.PENDING, changed_ns=now_ns
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


def marked_maybe(before: SyncProduct, sku_ids: Iterable[str]) -> SyncProduct:
    """The record where a request with these items may have left before its sender was lost."""
    names = frozenset(sku_ids)
    return msgspec.structs.replace(
        before,
        items=tuple(
            msgspec.structs.replace(one, maybe=True) if one.sku_id in names else one
            for one in before.items
        ),
    )

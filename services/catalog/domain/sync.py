"""What TikTok has of a product's items and what it should have. Pure: decides, and sends nothing.

Structs, because they are stored as they are, packed per product. A field is added with a default at
the end and never given another meaning. A hash is the first 8 bytes of an item's digest on the
wire; 0 means that there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from services.catalog.domain.items import Availability, Mapped, Refusal
from services.catalog.domain.states import IssueSource, ItemState

RESEND_AFTER_S: Final = 7 * 86_400
"""TikTok's diagnostics speak of 30 days until an item expires; one vendor saw it go stale after 7.
"""


TAKEN: Final = frozenset(
    {ItemState.ACCEPTED, ItemState.WARNED, ItemState.IN_REVIEW, ItemState.LIVE, ItemState.REJECTED}
)
"""TikTok has the item as it should be; what its review says of it comes on top."""


UNDER_REVIEW: Final = frozenset({ItemState.ACCEPTED, ItemState.WARNED, ItemState.IN_REVIEW})
NOT_TO_BE_HAD: Final = frozenset({Availability.OUT_OF_STOCK, Availability.DISCONTINUED})
"""Nothing of it is advertised, however good it is."""


MAPPING_FAILED: Final = "mapping_failed"
"""Code of the issue of items that could not be made: a fault of ours."""


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
    kept: bool = False
    """TikTok would not take it out: not asked again before the product is compared anew."""
    refused_issues: tuple[SyncIssue, ...] = ()
    """Why what is `refused` was; `issues` may be of another version by now."""

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
        return self.wanted == 0 and self.is_in_catalog and not self.kept

    @property
    def is_under_review(self) -> bool:
        """Whether TikTok's review may still say something new of it, as it is.

        What is approved and not to be had is live as soon as it is sent with stock, and not before.
        """
        is_approved = self.state == ItemState.ACCEPTED and self.reviewed_ns > 0
        return self.state in UNDER_REVIEW and not (
            is_approved and self.availability in NOT_TO_BE_HAD
        )

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
    known = {one.sku_id: _afresh(one) for one in before.items} if before else {}
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


def _afresh(was: SyncItem) -> SyncItem:
    """An item before it is compared anew: what was given up may be tried again."""
    if was.kept:
        was = msgspec.structs.replace(was, kept=False)
    if any(one.code == MAPPING_FAILED for one in was.refused_issues):
        was = msgspec.structs.replace(was, refused=0, refused_issues=())
    issues = tuple(one for one in was.issues if one.code != MAPPING_FAILED)
    if len(issues) == len(was.issues):
        return was
    return msgspec.structs.replace(was, issues=issues)


def unmapped(before: SyncProduct, now_ns: int) -> SyncProduct:
    """The record of a product whose items could not be made.

    What TikTok has of it stays, and what waited to be sent waits no more; each item says why.
    """
    return msgspec.structs.replace(
        before,
        items=tuple(
            _unmapped(one, now_ns) if one.state != ItemState.DELETING else one
            for one in before.items
        ),
    )


def _unmapped(was: SyncItem, now_ns: int) -> SyncItem:
    others = tuple(one for one in was.issues if one.code != MAPPING_FAILED)
    issue = SyncIssue(
        IssueSource.MAPPING,
        was.waits_for_upload or was.state == ItemState.REFUSED,
        MAPPING_FAILED,
        "",
        "the product as it is now cannot be made into items: a fault of this program",
        "report it with the product; it is tried again when the product changes",
    )
    if not was.waits_for_upload:
        return msgspec.structs.replace(was, issues=(*others, issue))
    return msgspec.structs.replace(
        was,
        state=ItemState.REFUSED,
        refused=was.wanted,
        refused_issues=(issue,),
        again=False,
        issues=(issue,),
        changed_ns=now_ns,
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
        return _refused_again(was, changed, now_ns)
    if changed.wanted != changed.accepted or changed.maybe:
        state = ItemState.PENDING
    else:
        # TikTok has it as it should be; what its review says stands.
        state = ItemState(changed.state) if changed.state in TAKEN else ItemState.ACCEPTED
    if state != changed.state:
        # What was wrong with it was wrong with what it was.
        changed = msgspec.structs.replace(changed, state=state, issues=(), changed_ns=now_ns)
    return changed


def _refused_again(was: SyncItem, changed: SyncItem, now_ns: int) -> SyncItem:
    """An item that is as it was when it was refused, for the reasons that were given then."""
    if was.state == ItemState.REFUSED and was.wanted == changed.wanted:
        return changed
    return msgspec.structs.replace(
        changed, state=ItemState.REFUSED, issues=changed.refused_issues, changed_ns=now_ns
    )


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

"""What TikTok has of a product and what it should have, through every kind of answer."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from services.catalog.domain.fates import (
    Fate,
    Sent,
    Settled,
    looked_at,
    marked_maybe,
    settled,
)
from services.catalog.domain.items import Mapped, Refusal
from services.catalog.domain.states import IssueSource, ItemState
from services.catalog.domain.sync import (
    Encoded,
    SyncIssue,
    SyncItem,
    SyncProduct,
    planned,
    unmapped,
)
from tests.unit.catalog.items_of import item

WARNING = SyncIssue(IssueSource.TIKTOK, False, "", "age_group", "Invalid value")  # noqa: FBT003  # a row
ERROR = SyncIssue(IssueSource.TIKTOK, True, "", "image_url", "Cannot be read")  # noqa: FBT003  # a row


def plan(
    before: SyncProduct | None,
    wanted: dict[str, int],
    *,
    unfit: tuple[str, ...] = (),
    availability: int = 1,
    at: int = 10,
    resend_before_ns: int = 0,
) -> SyncProduct:
    """A product's record after its items were mapped to these digests."""
    mapped = Mapped(
        items=tuple(item(sku_id=sku, variant_id=f"v-{sku}") for sku in wanted),
        refusals=tuple(
            Refusal(f"v-{sku}", sku, "brand_missing", "vendor", "give a vendor") for sku in unfit
        ),
    )
    encoded = {sku: Encoded(digest, availability) for sku, digest in wanted.items()}
    return planned(
        before,
        "1",
        mapped,
        encoded,
        inventory_items={f"v-{sku}": f"i-{sku}" for sku in wanted},
        now_ns=at,
        resend_before_ns=resend_before_ns,
    )


def end(record: SyncProduct, sku: str, fate: Fate, *issues: SyncIssue, at: int = 20) -> SyncProduct:
    """The record after an item, sent as it is wanted, met its fate."""
    one = only(record, sku)
    sent = Sent("1", sku, one.wanted, one.wanted_availability)
    return settled(record, [Settled(sent, fate, issues)], at)


def only(record: SyncProduct, sku: str) -> SyncItem:
    return next(one for one in record.items if one.sku_id == sku)


def test_a_new_item_waits_until_it_is_taken_and_then_no_more() -> None:
    record = plan(None, {"A": 7})
    assert only(record, "A").waits_for_upload
    assert only(record, "A").state == ItemState.PENDING

    taken = end(record, "A", Fate.TAKEN)

    assert only(taken, "A").state == ItemState.ACCEPTED
    assert only(taken, "A").accepted_ns == 20
    assert not only(taken, "A").waits_for_upload
    assert plan(taken, {"A": 7}, at=30) == taken


def test_an_item_that_changed_while_it_was_on_its_way_waits_again() -> None:
    record = plan(None, {"A": 7})
    sent = Sent("1", "A", 7, 1)
    changed = plan(record, {"A": 8})

    after = settled(changed, [Settled(sent, Fate.TAKEN)], 20)

    assert only(after, "A").accepted == 7
    assert only(after, "A").waits_for_upload


def test_a_refused_item_is_tried_again_only_when_it_has_changed() -> None:
    refused = end(plan(None, {"A": 7}), "A", Fate.REFUSED, ERROR)
    assert only(refused, "A").state == ItemState.REFUSED
    assert only(refused, "A").issues == (ERROR,)
    assert not only(plan(refused, {"A": 7}, at=30), "A").waits_for_upload

    mended = plan(refused, {"A": 8}, at=30)

    assert only(mended, "A").waits_for_upload
    assert only(mended, "A").state == ItemState.PENDING
    assert only(mended, "A").issues == ()


def test_an_item_that_is_again_as_tiktok_refused_it_says_why_whatever_came_between() -> None:
    refused = end(plan(None, {"A": 7}), "A", Fate.REFUSED, ERROR)
    other = plan(refused, {"A": 8}, at=30)
    unfit = plan(refused, {}, unfit=("A",), at=30)
    # TikTok's answer comes when the item is another already.
    changed = plan(plan(None, {"A": 7}), {"A": 8})
    late = settled(changed, [Settled(Sent("1", "A", 7, 1), Fate.REFUSED, (ERROR,))], 20)

    for between in (other, unfit, late):
        back = only(plan(between, {"A": 7}, at=40), "A")

        assert (back.state, back.issues, back.changed_ns) == (ItemState.REFUSED, (ERROR,), 40)
        assert not back.waits_for_upload


def test_what_was_refused_and_is_taken_later_is_refused_no_more() -> None:
    refused = end(plan(None, {"A": 7}), "A", Fate.REFUSED, ERROR)
    taken = end(plan(refused, {"A": 8}, at=30), "A", Fate.TAKEN)

    back = only(plan(taken, {"A": 7}, at=40), "A")

    assert back.waits_for_upload
    assert back.issues == back.refused_issues == ()


def test_what_could_not_be_made_is_tried_again_whatever_came_between() -> None:
    failed = unmapped(plan(None, {"A": 7}), 20)
    assert not only(failed, "A").waits_for_upload

    for between in (failed, plan(failed, {}, unfit=("A",), at=30)):
        assert only(plan(between, {"A": 7}, at=40), "A").waits_for_upload


def test_a_refusal_of_a_change_leaves_the_older_version_in_the_catalog() -> None:
    taken = end(plan(None, {"A": 7}), "A", Fate.TAKEN)

    refused = end(plan(taken, {"A": 8}), "A", Fate.REFUSED, ERROR)

    assert only(refused, "A").is_in_catalog
    assert only(refused, "A").state == ItemState.REFUSED


def test_going_back_to_what_tiktok_has_needs_no_sending() -> None:
    taken = end(plan(None, {"A": 7}), "A", Fate.TAKEN)
    refused = end(plan(taken, {"A": 8}), "A", Fate.REFUSED, ERROR)

    back = plan(refused, {"A": 7}, at=40)

    assert not only(back, "A").waits_for_upload
    assert only(back, "A").state == ItemState.ACCEPTED
    assert only(back, "A").issues == ()


def test_a_warned_item_is_in_the_catalog_and_says_what_is_wrong() -> None:
    warned = end(plan(None, {"A": 7}), "A", Fate.TAKEN, WARNING)

    assert only(warned, "A").state == ItemState.WARNED
    assert only(warned, "A").issues == (WARNING,)
    assert not only(warned, "A").waits_for_upload


def test_an_item_that_is_gone_is_taken_out_and_then_forgotten() -> None:
    taken = end(plan(None, {"A": 7}), "A", Fate.TAKEN)
    leaving = plan(taken, {})
    assert only(leaving, "A").waits_for_delete
    assert only(leaving, "A").state == ItemState.DELETING

    gone = end(leaving, "A", Fate.GONE)

    assert gone.items == ()
    assert gone.is_over


def test_an_item_that_never_arrived_is_forgotten_at_once() -> None:
    assert plan(plan(None, {"A": 7}), {}).items == ()


def test_an_item_that_goes_while_it_is_on_its_way_is_taken_out_afterwards() -> None:
    sent = Sent("1", "A", 7, 1)
    record = marked_maybe(plan(None, {"A": 7}), [Sent("1", "A", 7, 1)], 15)
    leaving = plan(record, {})
    assert only(leaving, "A").waits_for_delete

    after = settled(leaving, [Settled(sent, Fate.TAKEN)], 20)

    assert only(after, "A").waits_for_delete
    assert only(after, "A").state == ItemState.DELETING


def test_a_delete_that_ends_after_the_item_came_back_does_not_lose_it() -> None:
    taken = end(plan(None, {"A": 7}), "A", Fate.TAKEN)
    leaving = plan(taken, {})
    back = plan(leaving, {"A": 7}, at=30)

    after = settled(back, [Settled(Sent("1", "A", 0, 0), Fate.GONE)], 40)

    assert only(after, "A").waits_for_upload


def test_what_cannot_be_mapped_any_more_is_taken_out_and_says_why() -> None:
    taken = end(plan(None, {"A": 7}), "A", Fate.TAKEN)

    unfit = plan(taken, {}, unfit=("A",))

    assert only(unfit, "A").waits_for_delete
    assert only(unfit, "A").state == ItemState.REFUSED
    assert only(unfit, "A").issues[0].field == "vendor"
    gone = end(unfit, "A", Fate.GONE)
    assert only(gone, "A").state == ItemState.REFUSED
    assert not only(gone, "A").is_in_catalog


def test_a_change_of_availability_of_what_tiktok_has_is_urgent() -> None:
    taken = end(plan(None, {"A": 7}), "A", Fate.TAKEN)

    assert not only(plan(None, {"A": 7}), "A").is_urgent
    assert not only(plan(taken, {"A": 8}), "A").is_urgent
    assert only(plan(taken, {"A": 8}, availability=4), "A").is_urgent


def test_an_item_of_unknown_fate_is_sent_again_and_taken_out_if_it_goes() -> None:
    unknown = end(plan(None, {"A": 7}), "A", Fate.UNKNOWN)

    assert only(unknown, "A").waits_for_upload
    assert only(plan(unknown, {}), "A").waits_for_delete


def test_items_older_than_asked_are_sent_again_and_keep_their_state() -> None:
    taken = end(plan(None, {"A": 7, "B": 9}), "A", Fate.TAKEN, at=20)
    taken = end(taken, "B", Fate.TAKEN, at=50)

    again = plan(taken, {"A": 7, "B": 9}, resend_before_ns=30, at=60)

    assert only(again, "A").waits_for_upload
    assert only(again, "A").state == ItemState.ACCEPTED
    assert not only(again, "B").waits_for_upload
    fresh = end(again, "A", Fate.TAKEN, at=70)
    assert only(fresh, "A").accepted_ns == 70
    assert not only(fresh, "A").waits_for_upload


def test_a_review_changes_the_state_and_keeps_the_warnings() -> None:
    warned = end(plan(None, {"A": 7}), "A", Fate.TAKEN, WARNING)
    reason = msgspec.structs.replace(ERROR, source=IssueSource.REVIEW, field="")

    after = looked_at(warned, {"A": (ItemState.REJECTED, (reason,))}, 85, 90)

    assert only(after, "A").state == ItemState.REJECTED
    assert only(after, "A").issues == (WARNING, reason)
    assert only(after, "A").reviewed_ns == 90


def test_what_tiktok_has_lost_is_sent_again() -> None:
    taken = end(plan(None, {"A": 7}), "A", Fate.TAKEN)

    after = looked_at(taken, {"A": (None, ())}, 85, 90)

    assert only(after, "A").waits_for_upload
    assert only(after, "A").state == ItemState.PENDING


def test_a_variant_keeps_its_id_until_it_is_gone() -> None:
    taken = end(plan(None, {"A": 7}), "A", Fate.TAKEN)

    assert taken.ids == {"v-A": "A"}
    assert plan(taken, {}).ids == {}


@dataclass
class Upstream:
    """A TikTok that does what it is told, or does not, and does not always say which."""

    has: dict[str, int] = field(default_factory=dict)

    def act(self, sent: Sent, fate: Fate, *, arrives: bool) -> None:
        if fate in (Fate.TAKEN, Fate.GONE) or (fate is Fate.UNKNOWN and arrives):
            if sent.digest:
                self.has[sent.sku_id] = sent.digest
            else:
                self.has.pop(sent.sku_id, None)


SKUS = ("A", "B", "C")
steps = st.one_of(
    st.tuples(st.just("shop"), st.dictionaries(st.sampled_from(SKUS), st.integers(1, 4))),
    st.tuples(st.just("send"), st.sampled_from(list(Fate)), st.booleans()),
    st.tuples(st.just("resend"), st.integers(0, 50)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, max_size=25), st.dictionaries(st.sampled_from(SKUS), st.integers(1, 4)))
def test_whatever_happens_tiktok_ends_with_what_the_shop_has(
    story: list[tuple[object, ...]], last: dict[str, int]
) -> None:
    upstream, record, now = Upstream(), SyncProduct(product_id="1"), 100
    shop: dict[str, int] = {}

    def send(fate: Fate, *, arrives: bool) -> None:
        nonlocal record
        uploads = [one for one in record.items if one.waits_for_upload]
        deletes = [one for one in record.items if one.waits_for_delete]
        # What is wanted may change while it is on its way: the answer comes after the next change.
        for one in uploads or deletes:
            sent = Sent("1", one.sku_id, one.wanted, one.wanted_availability)
            real = (
                {Fate.GONE: Fate.TAKEN, Fate.KEPT: Fate.REFUSED}
                if uploads
                else {Fate.TAKEN: Fate.GONE, Fate.REFUSED: Fate.AGAIN}
            )
            met = real.get(fate, fate)
            upstream.act(sent, met, arrives=arrives)
            record = settled(record, [Settled(sent, met)], now)

    for step in story:
        now += 1
        match step:
            case ("shop", dict() as wanted):
                shop = wanted
                record = plan(record, shop, at=now)
            case ("send", Fate() as fate, bool() as arrives):
                send(fate, arrives=arrives)
            case ("resend", int() as since):
                record = plan(record, shop, at=now, resend_before_ns=now - since)
    # A refusal stands until the item changes, so the shop's last word is one nobody has refused.
    shop = {sku: digest + 100 for sku, digest in last.items()}
    record = plan(record, shop, at=now)
    for _ in range(3):
        send(Fate.TAKEN, arrives=True)

    assert upstream.has == shop
    assert not any(one.waits_for_upload or one.waits_for_delete for one in record.items)

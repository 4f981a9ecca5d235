"""What is made of TikTok's reviews, and of what it no longer has."""

from __future__ import annotations

from services.catalog.domain.feed_log import Review
from services.catalog.domain.states import IssueSource, ItemState
from services.catalog.ports import Held
from services.catalog.reviewer import Reviewer
from tests.unit.catalog.engine_parts import ID, Rig, shoe
from tests.unit.catalog.goods import product, variant
from tests.unit.catalog.test_book import taken

HOUR_S = 3600


async def reviewed(rig: Rig, *reviews: Review) -> None:
    rig.tiktok.reviewed = list(reviews)
    catalog = rig.book.catalogs[ID]
    reviewer = Reviewer(rig.book, catalog, rig.tiktok, rig.gate, rig.store, rig.clock, every_s=1.0)
    await reviewer.look()


async def with_taken() -> Rig:
    rig = Rig()
    await rig.opened()
    await rig.has(shoe())
    await rig.book.settle(ID, taken(rig))
    rig.clock.advance(1)
    return rig


async def test_a_review_is_looked_at_until_it_has_ended() -> None:
    rig = await with_taken()
    await reviewed(rig, Review("SHOE-1", "processing", False))  # noqa: FBT003  # a row
    assert rig.record().items[0].state == ItemState.IN_REVIEW

    await reviewed(rig, Review("SHOE-1", "rejected", False, ("Prohibited",)))  # noqa: FBT003
    await reviewed(rig)

    assert rig.record().items[0].state == ItemState.REJECTED
    assert rig.record().items[0].issues[0].text == "Prohibited"
    assert len(rig.tiktok.asked) == 2


async def test_what_tiktok_has_lost_is_sent_again_once_it_should_have_shown_it() -> None:
    rig = await with_taken()
    await reviewed(rig)
    assert rig.record().items[0].state == ItemState.ACCEPTED

    rig.clock.advance(HOUR_S)
    await reviewed(rig)

    (item,) = rig.record().items
    assert item.state == ItemState.PENDING
    assert item.is_in_catalog, "should it be there all the same, it can be taken out"
    assert rig.book.catalogs[ID].waiting.uploads == 1


async def test_a_review_of_an_older_version_is_not_taken_for_the_newer_one() -> None:
    rig = await with_taken()

    async def sent_anew() -> None:
        await rig.has(shoe(title="Newer"))
        rig.clock.advance(1)
        await rig.book.settle(ID, taken(rig))

    rig.tiktok.during = [sent_anew]
    await reviewed(rig, Review("SHOE-1", "approved", True))  # noqa: FBT003  # a row
    assert rig.record().items[0].state == ItemState.ACCEPTED

    await reviewed(rig, Review("SHOE-1", "approved", True))  # noqa: FBT003

    assert rig.record().items[0].state == ItemState.LIVE


async def test_what_is_approved_and_cannot_be_advertised_is_not_called_live() -> None:
    rig = await with_taken()
    unusable = Review("SHOE-1", "approved", False)  # noqa: FBT003  # a row
    await reviewed(rig, unusable)

    (item,) = rig.record().items
    (issue,) = item.issues
    assert (item.state, issue.source, issue.is_error) == (
        ItemState.ACCEPTED,
        IssueSource.REVIEW,
        False,
    )
    assert "Catalog Manager" in issue.text

    await reviewed(rig, Review("SHOE-1", "approved", True))  # noqa: FBT003

    (item,) = rig.record().items
    assert (item.state, item.issues) == (ItemState.LIVE, ())


async def test_what_is_approved_and_out_of_stock_is_asked_about_when_it_is_back() -> None:
    rig = Rig()
    await rig.opened()
    gone, back = (product(variant(quantity=count, sku="SHOE-1")) for count in (0, 5))
    await rig.has(gone)
    await rig.book.settle(ID, taken(rig))
    rig.clock.advance(1)
    await reviewed(rig, Review("SHOE-1", "processing", False))  # noqa: FBT003
    await reviewed(rig, Review("SHOE-1", "approved", False))  # noqa: FBT003
    (item,) = rig.record().items
    assert item.state == ItemState.ACCEPTED
    assert "cannot be had" in item.issues[0].text

    await reviewed(rig)
    assert len(rig.tiktok.asked) == 2, "nothing new can be said of it"
    await rig.has(back)
    await rig.book.settle(ID, taken(rig))
    rig.clock.advance(1)
    await reviewed(rig, Review("SHOE-1", "approved", True))  # noqa: FBT003

    (item,) = rig.record().items
    assert (item.state, item.issues) == (ItemState.LIVE, ())


async def test_a_held_catalog_is_not_asked_about() -> None:
    rig = await with_taken()
    rig.gate.held = Held("credentials", "", 5.0)

    await reviewed(rig)

    assert rig.tiktok.asked == []

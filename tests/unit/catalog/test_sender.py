"""One catalog's sender, on a clock that only waits move."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from libs.errors import Kind, ServiceError
from services.catalog.domain.answers import CATALOG_BUSY, SUBMIT_TOO_SOON, RefusedError
from services.catalog.domain.feed_log import FeedLog, Issue
from services.catalog.domain.model import Image
from services.catalog.domain.states import ItemState
from services.catalog.ports import Held
from tests.unit.catalog.engine_parts import ID, Rig, shoe, until

GONE: dict[str, Any] = {"status": "deleted", "published": False, "variants": ()}


async def test_a_busy_catalog_is_waited_for_as_long_as_tiktok_asks() -> None:
    rig = Rig()
    sender = rig.sender(await rig.opened())
    busy = RefusedError(Kind.THROTTLED, 40202, "running", code=CATALOG_BUSY, retry_after_s=10.0)
    rig.tiktok.answers = [busy]
    await rig.has(shoe())

    await until(lambda: rig.record().items[0].state == ItemState.ACCEPTED, sender)

    (first, _), (second, _) = rig.tiktok.submits
    assert second - first == pytest.approx(10.0)


@pytest.mark.parametrize("in_log", [True, False])
async def test_once_a_minute_is_waited_out_and_refuses_nothing(*, in_log: bool) -> None:
    rig = Rig()
    sender = rig.sender(await rig.opened())
    words = "You can only submit once a minute"
    if in_log:
        rows = (Issue("SHOE-1", is_error=True, field="", text=words, fix=""),)
        rig.tiktok.logs = [FeedLog(ended=True, errors=1, issues=rows)]
    else:
        rig.tiktok.answers = [
            RefusedError(Kind.THROTTLED, 40100, words, code=SUBMIT_TOO_SOON, retry_after_s=60.0)
        ]
    await rig.has(shoe())
    states: set[int] = set()

    def done() -> bool:
        states.add(rig.record().items[0].state)
        return ItemState.ACCEPTED in states

    await until(done, sender)

    (first, _), (second, _) = rig.tiktok.submits
    assert 60 <= second - first < 62
    assert states == {ItemState.PENDING, ItemState.ACCEPTED}
    assert sender.status().spacing_s == 60


async def test_what_tiktok_tells_nothing_of_is_sent_ever_later_and_then_given_up() -> None:
    rig = Rig()
    sender = rig.sender(await rig.opened())
    rig.tiktok.endless = True
    await rig.has(shoe())

    await until(lambda: rig.record().items[0].state == ItemState.REFUSED, sender)

    times = [at for at, _ in rig.tiktok.submits]
    waits = [later - before for before, later in pairwise(times)]
    assert len(times) == 5
    assert waits == sorted(waits)
    assert waits[-1] > waits[0] + 5
    (item,) = rig.record().items
    assert item.issues[-1].code == "fate_unknown"
    assert item.is_in_catalog, "TikTok may have it"


@pytest.mark.parametrize(
    ("rounds", "state", "codes"),
    [(1, ItemState.ACCEPTED, []), (5, ItemState.WARNED, ["counted_short"])],
)
async def test_what_tiktok_counts_short_is_sent_again_and_never_taken_for_right_in_silence(
    rounds: int, state: ItemState, codes: list[str]
) -> None:
    rig = Rig()
    sender = rig.sender(await rig.opened())
    short = FeedLog(ended=True, added=1)
    rig.tiktok.logs = [*[short] * rounds, FeedLog(ended=True, added=2)]
    await rig.has(shoe("1"), shoe("2"))
    seen: list[int] = []

    def done() -> bool:
        seen.append(rig.record().items[0].state)
        return seen[-1] == state

    await until(done, sender)

    assert set(seen) == {ItemState.PENDING, state}
    assert len(rig.tiktok.submits) == max(2, rounds)
    assert [one.code for one in rig.record("2").items[0].issues] == codes


async def test_a_delete_that_tiktok_refuses_is_not_sent_again_before_the_product_is_compared() -> (
    None
):
    rig = Rig()
    sender = rig.sender(await rig.opened())
    await rig.has(shoe())
    await until(lambda: rig.record().items[0].state == ItemState.ACCEPTED, sender)
    rows = (Issue("SHOE-1", is_error=True, field="", text="It is in use", fix=""),)
    rig.tiktok.logs = [FeedLog(ended=True, errors=1, issues=rows)] * 5

    await rig.has(shoe(**GONE))
    catalog = rig.book.catalogs[ID]
    await until(lambda: catalog.waiting.pending() == 0, sender)

    (item,) = rig.record().items
    assert (item.state, item.issues[0].text) == (ItemState.DELETING, "It is in use")
    submits = len(rig.tiktok.submits)
    assert sender.is_at_rest(rig.clock.monotonic_s())
    rig.tiktok.logs.clear()
    await rig.has(shoe(**GONE), anew=True)
    await until(lambda: not rig.record().items, sender)
    assert len(rig.tiktok.submits) == submits + 1


async def test_an_item_that_goes_while_it_is_sent_is_taken_out_after_it() -> None:
    rig = Rig()
    sender = rig.sender(await rig.opened())
    await rig.has(shoe())
    rig.tiktok.during = [lambda: rig.has(shoe(**GONE))]

    await until(lambda: len(rig.tiktok.submits) == 2 and not rig.record().items, sender)

    assert b"SHOE-1" in rig.tiktok.submits[1][1].body
    assert "delete" in rig.tiktok.submits[1][1].path


@pytest.mark.parametrize("left", [True, False])
async def test_what_an_owner_was_lost_with_is_taken_up_though_nats_fails_first(
    *, left: bool
) -> None:
    rig = Rig()
    sender = rig.sender(await rig.opened())
    await rig.has(shoe())
    if left:
        rig.tiktok.endless = True
        await until(lambda: len(rig.tiktok.submits) == 1, sender)
        rig.tiktok.endless = False
    else:
        rig.is_owner = False
        with pytest.raises(ServiceError, match="not_the_owner"):
            await sender.run()
        rig.is_owner = True
        assert not rig.tiktok.submits
    book = rig.new_book()
    catalog = await rig.opened(book)
    successor = rig.sender(catalog, book)
    rig.log.failing = 2

    await until(lambda: rig.record().items[0].state == ItemState.ACCEPTED, successor)

    assert len(rig.tiktok.submits) <= 2
    assert rig.record().items[0].maybe is False


async def test_a_sender_whose_successor_sends_can_send_no_more() -> None:
    rig = Rig()
    stale = rig.sender(await rig.opened())
    await rig.has(shoe())
    await until(lambda: rig.record().items[0].state == ItemState.ACCEPTED, stale)
    book = rig.new_book()
    successor = rig.sender(await rig.opened(book), book)
    await rig.has(shoe(title="Other"), book=book)
    await until(lambda: len(rig.tiktok.submits) == 2, successor)

    await rig.has(shoe(title="Stale"))
    with pytest.raises(ServiceError, match="not_the_owner"):
        await stale._step()

    assert len(rig.tiktok.submits) == 2


async def test_new_settings_end_a_hold_at_once_and_new_items_do_not() -> None:
    rig = Rig()
    catalog = await rig.opened()
    sender = rig.sender(catalog)
    whole = RefusedError(Kind.PERMANENT, 40002, "bc_id: wrong", divisible=False)
    rig.tiktok.answers = [whole]
    await rig.has(shoe())
    await sender._step()
    await rig.has(shoe("2"))
    assert catalog.woken.is_set()
    held = sender._in_the_way()
    assert held is not None
    assert (held.reason, held.note) == ("tiktok", "bc_id: wrong")
    assert len(rig.tiktok.submits) == 1

    catalog.settings = replace(catalog.settings, feed_id="5")
    assert sender._in_the_way() is None
    await until(lambda: catalog.waiting.pending() == 0, sender)


async def test_a_pause_by_a_person_ends_a_hold_when_it_ends() -> None:
    rig = Rig()
    catalog = await rig.opened()
    sender = rig.sender(catalog)
    rig.tiktok.answers = [RefusedError(Kind.PERMANENT, 40002, "bc_id: wrong", divisible=False)]
    await rig.has(shoe())
    await sender._step()
    assert sender._in_the_way() is not None

    rig.gate.held = Held("operator", "", 5.0)
    held = sender._in_the_way()
    rig.gate.held = None

    assert held is not None
    assert held.reason == "operator"
    assert sender._in_the_way() is None


@pytest.mark.parametrize(
    ("reason", "rests"), [("operator", True), ("credentials", True), ("outage", False)]
)
async def test_only_what_a_person_must_mend_lets_a_sync_end_with_items_waiting(
    reason: str, *, rests: bool
) -> None:
    rig = Rig()
    sender = rig.sender(await rig.opened())
    await rig.has(shoe())
    assert not sender.is_at_rest(rig.clock.monotonic_s())
    rig.gate.held = Held(reason, "", 5.0)

    await until(lambda: sender.is_held, sender)

    assert sender.is_at_rest(rig.clock.monotonic_s()) is rests


async def test_what_changed_later_does_not_keep_a_sync_from_its_end() -> None:
    rig = Rig()
    sender = rig.sender(await rig.opened())
    since_s = rig.clock.monotonic_s()
    rig.clock.advance(1.0)

    await rig.has(shoe())

    assert sender.is_at_rest(since_s)
    assert not sender.is_at_rest(rig.clock.monotonic_s())


async def test_images_are_told_of_with_the_answer() -> None:
    rig = Rig(check_images=True)
    sender = rig.sender(await rig.opened())
    await rig.has(shoe())

    await until(lambda: rig.record().items[0].state == ItemState.WARNED, sender)

    assert rig.record().items[0].issues[0].code == "image_too_small"


class SlowImages:
    """The first image of a submit is seen at once, the others never."""

    async def look(self, urls: Sequence[str], found: MutableMapping[str, str]) -> None:
        found[urls[0]] = "unreachable"
        await asyncio.Event().wait()


async def test_images_that_cannot_be_seen_keep_an_answer_for_half_a_minute_only() -> None:
    rig = Rig(check_images=True)
    rig.images = SlowImages()
    sender = rig.sender(await rig.opened())
    await rig.has(shoe("1"), shoe("2", images=(Image("https://example.com/2.jpg"),)))
    # What was found is not gone where it could not be recorded at once.
    rig.tiktok.during = [lambda: fail_next_read(rig)]

    await until(lambda: rig.record("2").items[0].state == ItemState.ACCEPTED, sender)

    assert rig.record("1").items[0].issues[0].code == "image_unreachable"
    assert rig.record("2").items[0].issues == ()
    assert len(rig.tiktok.submits) == 1
    assert 30 <= rig.clock.now_s - rig.clock.start_s < 40


async def fail_next_read(rig: Rig) -> None:
    rig.log.failing = 1


async def test_what_a_lost_request_may_have_brought_is_taken_out_though_it_has_gone() -> None:
    rig = Rig()
    sender = rig.sender(await rig.opened())
    await rig.has(shoe())
    rig.is_owner = False
    with pytest.raises(ServiceError, match="not_the_owner"):
        await sender.run()
    rig.is_owner = True
    await rig.has(shoe(**GONE))
    assert not rig.record().items
    book = rig.new_book()
    successor = rig.sender(await rig.opened(book), book)

    await until(lambda: bool(rig.tiktok.submits) and not rig.record().items, successor)

    assert "delete" in rig.tiktok.submits[0][1].path

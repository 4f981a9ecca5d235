"""Which webhooks a store has to send, and what is changed where it does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.auth.domain.scopes import Use, scopes_to_ask
from services.auth.domain.subscriptions import (
    COMPLIANCE_TOPICS,
    LIFECYCLE,
    Found,
    Plan,
    Wanted,
    healed,
    plan,
    same_address,
    wanted_topics,
)
from services.ingest.normalize.topics import TOPICS

OURS = "https://hooks.example/webhooks/shopify"
FOREIGN = "https://elsewhere.example/hooks"
ALL_USES = frozenset(Use)
ALL = scopes_to_ask(ALL_USES)
PAID = Wanted("orders/paid", ("read_orders",))


def there(number: int = 1, **changes: object) -> Found:
    return replace(Found(f"gid://s/{number}", "ORDERS_PAID", OURS), **changes)  # type: ignore[arg-type]


def made_of(found: Sequence[Found], want: Sequence[Wanted] = (PAID,)) -> Plan:
    return plan(want, found, OURS, granted=ALL, api_version="2026-10")


def test_whatever_a_store_is_used_for_it_tells_of_its_own_life() -> None:
    assert {one.topic for one in wanted_topics(())} == {
        "app/uninstalled",
        "app/scopes_update",
        "shop/update",
    }


@pytest.mark.parametrize(
    ("use", "has", "has_not"),
    [
        (Use.EVENTS, {"orders/paid", "carts/update", "checkouts/create"}, {"products/update"}),
        (Use.CATALOG, {"products/delete", "inventory_levels/update"}, {"orders/paid"}),
        (Use.TIKTOK_SHOP, {"fulfillments/create", "orders/cancelled"}, {"carts/create"}),
    ],
)
def test_a_use_brings_its_topics(use: Use, has: set[str], has_not: set[str]) -> None:
    topics = {one.topic for one in wanted_topics({use})}

    assert has | {one.topic for one in LIFECYCLE} <= topics
    assert not has_not & topics


def test_a_topic_that_two_uses_need_is_wanted_once() -> None:
    topics = [one.topic for one in wanted_topics(ALL_USES)]

    assert len(topics) == len(set(topics))


def test_every_topic_that_is_subscribed_to_is_one_that_is_read() -> None:
    topics = {one.topic for one in wanted_topics(ALL_USES)}

    assert topics | set(COMPLIANCE_TOPICS) <= TOPICS


def test_the_scopes_that_are_asked_for_let_every_topic_be_subscribed_to() -> None:
    for use in Use:
        made = plan(wanted_topics({use}), (), OURS, granted=scopes_to_ask({use}))
        assert made.barred == ()


def test_fields_always_hold_when_a_resource_changed_and_what_is_filtered_on() -> None:
    lean = Wanted("orders/paid", include_fields=("id",), filter="total_price:>=10 AND note:x")

    assert lean.fields == ("id", "note", "total_price", "updated_at")
    assert PAID.fields == ()


def test_what_lacks_is_made_and_what_is_there_is_left() -> None:
    assert made_of([]) == Plan(creates=(PAID,))
    assert made_of([there()]) == Plan(in_place=1)


@pytest.mark.parametrize(
    "change",
    [{"filter": "total_price:>10"}, {"include_fields": ("id",)}, {"format": "XML"}],
)
def test_one_of_ours_that_was_altered_is_set_right(change: dict[str, Any]) -> None:
    altered = there(**change)

    assert made_of([altered]) == Plan(updates=((altered, PAID),))


def test_of_two_for_one_topic_the_right_one_stays() -> None:
    altered, right = there(1, filter="x:1"), there(2)

    assert made_of([altered, right]) == Plan(deletes=(altered,), in_place=1)


def test_one_of_ours_that_nobody_wants_goes() -> None:
    stray = there(name="THEMES_CREATE")

    assert made_of([stray], ()) == Plan(deletes=(stray,))


@pytest.mark.parametrize(
    "uri", [FOREIGN, OURS + "/more", "pubsub://hooks:webhooks", "arn:aws:events:x", "https://[bad"]
)
def test_a_foreign_subscription_is_neither_used_nor_touched(uri: str) -> None:
    assert made_of([there(uri=uri), there(2, uri=uri, name="X")]) == Plan(creates=(PAID,))


def test_a_topic_whose_scope_is_missing_is_not_tried() -> None:
    made = plan([PAID, *LIFECYCLE], (), OURS, granted=["read_products"])

    assert made.barred == (PAID,)
    assert made.creates == LIFECYCLE


def test_a_subscription_whose_scope_was_taken_away_is_left_for_when_it_is_back() -> None:
    made = plan([PAID], [there(filter="x:1")], OURS, granted=())

    assert made == Plan(barred=(PAID,))


def test_bodies_of_another_version_are_told_and_not_subscribed_to_again() -> None:
    made = made_of([there(api_version="2026-01")])

    assert made == Plan(in_place=1, other_versions=("2026-01",))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (OURS, OURS + "/", True),
        (OURS, "HTTPS://Hooks.Example:443/webhooks/shopify", True),
        (OURS, "http://hooks.example/webhooks/shopify", False),
        (OURS, "https://hooks.example/Webhooks/Shopify", False),
        ("pubsub://a:b", "pubsub://a:B", False),
        ("arn:aws:x", "arn:aws:x", True),
    ],
)
def test_an_address_is_the_same_however_it_is_written(one: str, other: str, same: bool) -> None:  # noqa: FBT001
    assert same_address(one, other) is same


@pytest.mark.parametrize(
    ("before", "creates", "in_place", "count"),
    [
        (0, 5, 0, 0),  # the first time
        (5, 1, 4, 1),  # one was deleted behind our back
        (5, 3, 5, 0),  # three more are wanted now
        (5, 4, 4, 1),  # both
        (5, 0, 2, 0),  # fewer are wanted now
    ],
)
def test_only_what_was_there_before_counts_as_healed(
    before: int, creates: int, in_place: int, count: int
) -> None:
    assert healed(before, Plan(creates=(PAID,) * creates, in_place=in_place)) == count


FOUND = st.lists(
    st.builds(
        Found,
        subscription_id=st.uuids().map(str),
        name=st.sampled_from([*(one.name for one in wanted_topics(ALL_USES)), "THEMES_CREATE"]),
        uri=st.sampled_from([OURS, FOREIGN]),
        include_fields=st.sampled_from([(), ("id",)]),
        filter=st.sampled_from(["", "id:1"]),
        format=st.sampled_from(["JSON", "XML"]),
    ),
    max_size=40,
    unique_by=lambda one: one.subscription_id,
)
USES = st.frozensets(st.sampled_from(list(Use)))
GRANTED = st.frozensets(st.sampled_from([*ALL, "read_themes"]))


def applied(made: Plan, found: Sequence[Found]) -> list[Found]:
    """What stands at the store once `made` is done."""
    gone = {one.subscription_id for one in made.deletes}
    right = {
        one.subscription_id: replace(
            one, include_fields=want.fields, filter=want.filter, format="JSON"
        )
        for one, want in made.updates
    }
    kept = [right.get(one.subscription_id, one) for one in found if one.subscription_id not in gone]
    new = [Found(f"new-{want.name}", want.name, OURS, want.fields) for want in made.creates]
    return kept + new


@given(uses=USES, found=FOUND, granted=GRANTED)
def test_a_plan_that_is_done_leaves_what_is_wanted_and_nothing_to_do(
    uses: frozenset[Use], found: list[Found], granted: frozenset[str]
) -> None:
    wanted = wanted_topics(uses)
    made = plan(wanted, found, OURS, granted=granted)

    after = applied(made, found)

    again = plan(wanted, after, OURS, granted=granted)
    assert again.is_empty
    assert again.in_place == len(wanted) - len(made.barred)
    barred = {one.name for one in made.barred}
    ours = [one.name for one in after if one.uri == OURS and one.name not in barred]
    assert sorted(ours) == sorted(one.name for one in wanted if one.name not in barred)


@given(uses=USES, found=FOUND, granted=GRANTED)
def test_no_plan_touches_what_is_foreign(
    uses: frozenset[Use], found: list[Found], granted: frozenset[str]
) -> None:
    made = plan(wanted_topics(uses), found, OURS, granted=granted)

    touched = [*made.deletes, *(one for one, _ in made.updates)]
    assert all(one.uri == OURS for one in touched)

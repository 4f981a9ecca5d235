"""Which events a TikTok Shop has to send, and what is changed where it does not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from services.auth.domain.shop_webhooks import EVENTS, SCOPES, missing_scopes, plan, problems
from services.auth.domain.subscriptions import Found, healed

OURS = "https://hooks.example/webhooks/tiktok-shop"
ELSEWHERE = "https://elsewhere.example/hooks"
NAMES = [one.name for one in EVENTS]


def sent(uri: str, *names: str) -> list[Found]:
    return [Found(name, name, uri) for name in names]


@pytest.mark.parametrize(
    ("found", "creates", "updates", "deletes", "in_place"),
    [
        pytest.param([], NAMES, [], [], 0, id="a shop that was just connected"),
        pytest.param(sent(OURS, *NAMES), [], [], [], len(NAMES), id="as it should be"),
        pytest.param(
            sent(OURS, *NAMES[1:]), NAMES[:1], [], [], len(NAMES) - 1, id="one was deleted"
        ),
        pytest.param(
            [*sent(ELSEWHERE, NAMES[0]), *sent(OURS, *NAMES[1:])],
            [],
            NAMES[:1],
            [],
            len(NAMES) - 1,
            id="one goes to a wrong address",
        ),
        pytest.param(
            [*sent(OURS, *NAMES), *sent(ELSEWHERE, "NEW_MESSAGE")],
            [],
            [],
            [],
            len(NAMES),
            id="a foreign one",
        ),
        pytest.param(
            sent(OURS, *NAMES, "NEW_MESSAGE"),
            [],
            [],
            ["NEW_MESSAGE"],
            len(NAMES),
            id="one that nobody wants is sent to us",
        ),
        pytest.param(
            sent(OURS.replace("hooks.example", "HOOKS.example:443") + "/", *NAMES),
            [],
            [],
            [],
            len(NAMES),
            id="the same address written in another way",
        ),
    ],
)
def test_a_shop_is_brought_from_what_is_there_to_what_is_wanted(
    found: Sequence[Found],
    creates: list[str],
    updates: list[str],
    deletes: list[str],
    in_place: int,
) -> None:
    made = plan(found, OURS, granted=SCOPES)

    assert [one.name for one in made.creates] == creates
    assert [want.name for _, want in made.updates] == updates
    assert [one.name for one in made.deletes] == deletes
    assert made.in_place == in_place
    assert made.barred == ()


@pytest.mark.parametrize(
    ("granted", "missing"),
    [
        (SCOPES, ()),
        ((*SCOPES, "seller.finance.info"), ()),
        ([one for one in SCOPES if one != "seller.order.info"], ("seller.order.info",)),
        (["seller.finance.info"], SCOPES),
        ([], ()),
    ],
)
def test_a_scope_is_missing_only_where_it_is_known_what_was_granted(
    granted: Sequence[str], missing: tuple[str, ...]
) -> None:
    assert missing_scopes(granted) == missing


def test_events_that_could_not_be_read_are_not_asked_for_and_not_ended() -> None:
    granted = [one for one in SCOPES if one != "seller.order.info"]

    made = plan(sent(OURS, "ORDER_STATUS_CHANGE"), OURS, granted=granted)

    assert [one.name for one in made.barred] == ["ORDER_STATUS_CHANGE", "RECIPIENT_ADDRESS_UPDATE"]
    assert len(made.creates) == len(NAMES) - 2
    assert made.deletes == ()
    assert "SELLER_DEAUTHORIZATION" in [one.name for one in made.creates]


def test_all_is_asked_for_where_it_is_not_known_what_was_granted() -> None:
    assert [one.name for one in plan([], OURS, granted=()).creates] == NAMES


def test_a_missing_scope_is_named_with_its_events_and_the_way_to_grant_it() -> None:
    granted = [one for one in SCOPES if one not in ("seller.order.info", "seller.product.write")]
    made = plan([], OURS, granted=granted)

    orders, stock = problems(made, missing_scopes(granted), "example")

    assert orders.startswith("seller.order.info is not granted")
    assert "ORDER_STATUS_CHANGE, RECIPIENT_ADDRESS_UPDATE" in orders
    assert "tidewire connect tiktok-shop --shop example" in orders
    assert stock.startswith("seller.product.write is not granted: enable")


def test_one_that_was_there_at_the_last_look_is_healed_and_a_new_one_is_not() -> None:
    lacks_one = plan(sent(OURS, *NAMES[1:]), OURS, granted=SCOPES)

    assert healed(len(NAMES), lacks_one) == 1
    assert healed(len(NAMES) - 1, lacks_one) == 0

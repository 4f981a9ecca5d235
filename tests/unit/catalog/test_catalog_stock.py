"""Whether an item can be had: counted stock, else the policy."""

from __future__ import annotations

import pytest

from services.catalog.domain.items import Availability
from services.catalog.domain.model import Level
from tests.unit.catalog.goods import item, product, variant

HERE, THERE = "501", "502"


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"quantity": 1}, Availability.IN_STOCK),
        ({"quantity": 0}, Availability.OUT_OF_STOCK),
        ({"quantity": -4}, Availability.OUT_OF_STOCK),
        ({"quantity": 0, "policy": "continue"}, Availability.AVAILABLE_FOR_ORDER),
        ({"quantity": 0, "policy": "CONTINUE"}, Availability.AVAILABLE_FOR_ORDER),
        ({"quantity": 3, "policy": "continue"}, Availability.IN_STOCK),
        ({"quantity": 0, "tracked": False}, Availability.IN_STOCK),
        ({"quantity": None, "tracked": True}, Availability.OUT_OF_STOCK),
        ({"quantity": None, "tracked": None}, Availability.IN_STOCK),
        ({"quantity": 0, "tracked": None}, Availability.OUT_OF_STOCK),
    ],
)
def test_counted_stock_decides_and_then_whether_it_sells_without(
    told: dict[str, object], expected: Availability
) -> None:
    assert item(product(variant(**told))).availability is expected


def test_a_preorder_is_what_sells_beyond_its_stock_and_has_the_settings_tag() -> None:
    given = product(variant(quantity=0, policy="continue"), tags=("new", "Pre-Order "))

    assert item(given, preorder_tag="pre-order").availability is Availability.PREORDER
    assert item(given, preorder_tag="other").availability is Availability.AVAILABLE_FOR_ORDER
    assert item(given).availability is Availability.AVAILABLE_FOR_ORDER


def test_the_tag_alone_makes_nothing_a_preorder() -> None:
    sold_out = product(variant(quantity=0), tags=("pre-order",))
    there = product(variant(quantity=1, policy="continue"), tags=("pre-order",))

    assert item(sold_out, preorder_tag="pre-order").availability is Availability.OUT_OF_STOCK
    assert item(there, preorder_tag="pre-order").availability is Availability.IN_STOCK


@pytest.mark.parametrize(
    ("levels", "online", "expected"),
    [
        ((Level(HERE, 0), Level(THERE, 2)), {}, Availability.IN_STOCK),
        ((Level(HERE, 0), Level(THERE, 2)), {HERE}, Availability.OUT_OF_STOCK),
        ((Level(HERE, 1), Level(THERE, 0)), {HERE}, Availability.IN_STOCK),
        ((Level(HERE, 3), Level(THERE, -3)), {}, Availability.OUT_OF_STOCK),
        ((Level(HERE, None),), {}, Availability.OUT_OF_STOCK),
        ((Level(HERE, 5, connected=False),), {}, Availability.OUT_OF_STOCK),
        ((Level(HERE, 5),), {"999"}, Availability.OUT_OF_STOCK),
    ],
)
def test_known_levels_of_the_locations_that_sell_online_count_and_the_sum_does_not(
    levels: tuple[Level, ...], online: set[str], expected: Availability
) -> None:
    given = product(variant(quantity=99, levels=levels))

    assert item(given, online_locations=frozenset(online)).availability is expected

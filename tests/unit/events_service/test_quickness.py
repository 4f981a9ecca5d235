"""While much is mapped the process still hears others: its limits, its lease, a quiet shop."""

from __future__ import annotations

import asyncio
from collections import Counter

from libs.bus.consumer import Unit
from tests.unit.events_service.fakes import order_paid, unit
from tests.unit.events_service.house import House
from tidewire.common.v1 import sealed_pb2

SHOPS = 5
UNITS = 40
MOST_AT_A_STRETCH = 8


async def test_many_units_of_many_shops_leave_a_look_at_the_network_between_a_few() -> None:
    house = House()
    turn = [0]
    opened: Counter[int] = Counter()
    open_bytes = house.opener.open_bytes

    async def counted(payload: sealed_pb2.Payload, shop: str) -> bytes:
        opened[turn[0]] += 1
        return await open_bytes(payload, shop)

    house.opener.open_bytes = counted  # type: ignore[method-assign]
    loop, working = asyncio.get_running_loop(), True

    def come_round() -> None:
        turn[0] += 1
        if working:
            loop.call_soon(come_round)

    come_round()
    batches: list[list[Unit]] = [
        [unit(order_paid(f"{shop}-{number}")) for number in range(UNITS)] for shop in range(SHOPS)
    ]
    try:
        await asyncio.gather(*(house.handle(*batch) for batch in batches))
    finally:
        working = False

    assert opened.total() == SHOPS * UNITS
    assert max(opened.values()) <= MOST_AT_A_STRETCH

"""What the end of a request says of TikTok, of one connection, and of nothing but ourselves."""

from __future__ import annotations

import pytest

from libs.errors import Kind, ServiceError
from libs.gates import connection_gate
from services.events.domain.answers import RefusedError
from services.events.domain.dialects import dialect_of
from services.events.gatekeeper import SINK
from tests.unit.events_service.fakes import (
    AUTH_AWAY,
    NO_TOKEN,
    PIXEL_THROTTLED,
    UNREACHABLE,
    conversion,
    order_paid,
    pixel,
    unit,
)
from tests.unit.events_service.house import House
from tidewire.delivery.v1 import gate_pb2

OUTAGE = gate_pb2.GATE_REASON_OUTAGE
CREDENTIALS = gate_pb2.GATE_REASON_CREDENTIALS
C1 = connection_gate("example.events.C1")
C2 = connection_gate("example.events.C2")


# -- trouble of our own --------------------------------------------------------------------------


async def test_a_token_that_cannot_be_had_opens_no_sink_that_an_outage_has_shut() -> None:
    house = House()
    house.tiktok.down = {"example.events.C1": NO_TOKEN}
    await house.gates.close(SINK, OUTAGE)
    house.clock.advance(1.0)

    results = await house.handlers.drain([unit(order_paid())], "events.C1")

    sink, connection = house.gates.shut(SINK), house.gates.shut(C1)
    assert results == [NO_TOKEN]
    assert sink is not None
    assert sink.probes == 0
    assert connection is not None
    assert (connection.reason, connection.code) == (CREDENTIALS, NO_TOKEN.code)


async def test_a_probe_that_never_reached_tiktok_gives_its_place_to_another_connection() -> None:
    house = House(pixel("C1"), pixel("C2"))
    house.tiktok.down = {"example.events.C1": NO_TOKEN}
    await house.gates.close(SINK, OUTAGE)
    house.clock.advance(1.0)

    await house.handlers.drain([unit(order_paid())], "events.C1")
    results = await house.handlers.drain([unit(order_paid())], "events.C2")

    assert results == [None]
    assert house.gates.shut(SINK) is None
    assert house.gates.shut(C1) is not None


async def test_a_token_that_cannot_be_had_is_no_sign_that_tiktok_works() -> None:
    house = House(pixel("C1"), pixel("C2"))
    house.tiktok.down = {"example.events.C1": UNREACHABLE, "example.events.C2": NO_TOKEN}
    for n in "1234":
        await house.handlers.drain([unit(order_paid(n), n)], "events.C1")

    await house.handlers.drain([unit(order_paid())], "events.C2")
    await house.handlers.drain([unit(order_paid("5"), "5")], "events.C1")

    assert house.gates.shut(SINK) is not None


async def test_a_token_service_that_is_away_shuts_what_needs_it_and_no_sink() -> None:
    house = House(pixel("C1"), pixel("C2"))
    house.tiktok.down = dict.fromkeys(["example.events.C1", "example.events.C2"], AUTH_AWAY)

    for n in "1234567":
        await house.handle(unit(order_paid(n), n))

    assert house.gates.shut(SINK) is None
    assert [(gate.name, gate.reason, gate.code) for gate in house.gates.all()] == [
        (C1, OUTAGE, AUTH_AWAY.code),
        (C2, OUTAGE, AUTH_AWAY.code),
    ]
    # What met the failure that shut its connection waits there too, and nothing is tried again.
    assert {one.sink for one in house.parking.units} == {"events.C1", "events.C2"}


async def test_a_token_service_that_is_away_puts_off_the_probe_of_its_connection_only() -> None:
    house = House()
    house.tiktok.down = {"example.events.C1": AUTH_AWAY}
    await house.gates.close(SINK, OUTAGE)
    await house.gates.close(C1, OUTAGE)
    house.clock.advance(1.0)

    await house.handlers.drain([unit(order_paid())], "events.C1")

    sink, connection = house.gates.shut(SINK), house.gates.shut(C1)
    assert sink is not None
    assert connection is not None
    assert (sink.probes, connection.probes) == (0, 1)


# -- throttles -----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [40132, 40133])
async def test_a_throttle_of_one_pixel_slows_no_other(code: int) -> None:
    house = House(pixel("C1"), pixel("C2"))
    throttled = RefusedError(Kind.THROTTLED, code, "R0", None, "")
    house.tiktok.down = {"example.events.C1": throttled}

    [first] = await house.handle(unit(order_paid("1"), "1"))
    [again] = await house.handle(unit(order_paid("2"), "2"))

    assert first is throttled
    assert house.limiter.reported == [(("tiktok.events.pixel.C1",), None, f"upstream_{code}")]
    assert again is not None
    assert (again.kind, again.code) == (Kind.THROTTLED, "connection_throttled")
    # The pixel has no limit of its own that would hold it: it is held all the same.
    assert [name for _, _, (_, name) in house.limiter.asked].count("tiktok.events.pixel.C1") == 1
    assert len(house.tiktok.delivered["example.events.C2"]) == 2
    assert house.gates.all() == []


async def test_a_throttled_pixel_is_tried_again_ever_later_until_it_is_let_through() -> None:
    house = House()
    waits_s = []
    house.tiktok.down = {"example.events.C1": PIXEL_THROTTLED}
    for _ in range(6):
        await house.handle(unit(order_paid()))
        held = house.gatekeeper.held_error(pixel())
        assert held is not None
        assert held.retry_after_s is not None
        waits_s.append(held.retry_after_s)
        house.clock.advance(held.retry_after_s)
    house.tiktok.down = {}
    results = await house.handle(unit(order_paid("1"), "1"))
    house.tiktok.down = {"example.events.C1": PIXEL_THROTTLED}

    await house.handle(unit(order_paid("2"), "2"))

    held = house.gatekeeper.held_error(pixel())
    assert waits_s == pytest.approx([1, 2, 4, 8, 15, 15])
    assert results == [None]
    assert held is not None
    assert held.retry_after_s == pytest.approx(1)


async def test_a_throttled_pixel_waits_as_long_as_tiktok_asks() -> None:
    house = House()
    asked = RefusedError(Kind.THROTTLED, 40132, "R0", None, "", retry_after_s=7.0)
    house.tiktok.down = {"example.events.C1": asked}

    await house.handle(unit(order_paid()))

    held = house.gatekeeper.held_error(pixel())
    assert held is not None
    assert held.retry_after_s == pytest.approx(7)


async def test_a_request_that_waited_for_its_turn_meets_the_throttle_of_one_before_it() -> None:
    house = House()
    passage = house.gatekeeper.begin(pixel())
    [request] = dialect_of(pixel().settings.dialect).encode([conversion("e")], pixel().settings)

    await house.gatekeeper.ended(passage, pixel(), request, PIXEL_THROTTLED)

    with pytest.raises(ServiceError, match="throttled"):
        house.gatekeeper.begin(pixel())
    assert house.gatekeeper.begin(pixel("C2")).sink_was_shut is False


async def test_requests_that_were_under_way_together_are_one_throttle() -> None:
    house = House()
    passages = [house.gatekeeper.begin(pixel()) for _ in range(3)]
    [request] = dialect_of(pixel().settings.dialect).encode([conversion("e")], pixel().settings)

    for passage in passages:
        await house.gatekeeper.ended(passage, pixel(), request, PIXEL_THROTTLED)

    held = house.gatekeeper.held_error(pixel())
    assert held is not None
    assert held.retry_after_s == pytest.approx(1)


async def test_a_throttle_that_is_not_tiktoks_is_reported_to_no_limit() -> None:
    house = House()
    house.tiktok.down = {"example.events.C1": ServiceError(Kind.THROTTLED, "rpc_busy")}

    await house.handle(unit(order_paid()))

    assert house.limiter.reported == []

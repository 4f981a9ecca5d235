"""What the end of a request says of TikTok, of one connection, and of nothing but ourselves."""

from __future__ import annotations

from libs.gates import connection_gate
from services.events.gatekeeper import SINK
from tests.unit.events_service.fakes import (
    AUTH_AWAY,
    NO_TOKEN,
    UNREACHABLE,
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

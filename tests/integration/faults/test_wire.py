"""The wire between two processes does what it is told, on real sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.faults.wire import Way, Wire

WITHIN_S = 2.0
STALL_S = 0.2


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


class Line:
    """A client's end of a connection through the wire."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def said_back(self, text: bytes, within_s: float = WITHIN_S) -> bytes:
        self.writer.write(text)
        return await asyncio.wait_for(self.reader.readexactly(len(text)), within_s)


OPEN: list[Line] = []


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    found = Wire(lambda: port)
    await found.open()
    yield found
    while OPEN:
        OPEN.pop().writer.close()
    await found.shut()
    server.close()


async def line_of(wire: Wire) -> Line:
    line = Line(*await asyncio.open_connection("127.0.0.1", wire.port))
    OPEN.append(line)
    return line


async def test_what_is_said_comes_back_whole(wire: Wire) -> None:
    line = await line_of(wire)
    text = bytes(range(256)) * 4000

    assert await line.said_back(text) == text


async def test_latency_holds_up_each_way_and_not_the_flow(wire: Wire) -> None:
    line = await line_of(wire)
    wire.latency_s = 0.1
    began_s = time.monotonic()

    for number in range(10):
        line.writer.write(bytes([number]))
        await asyncio.sleep(0.01)
    found = await asyncio.wait_for(line.reader.readexactly(10), WITHIN_S)

    assert found == bytes(range(10))
    assert 0.2 <= time.monotonic() - began_s < 1.0


@pytest.mark.parametrize("way", list(Way))
async def test_a_stalled_way_loses_nothing_once_it_is_mended(wire: Wire, way: Way) -> None:
    line = await line_of(wire)
    wire.stall(way)

    with pytest.raises(TimeoutError):
        await line.said_back(b"held up", STALL_S)
    await wire.mend()

    assert await asyncio.wait_for(line.reader.readexactly(7), WITHIN_S) == b"held up"


async def test_a_cut_resets_every_connection_and_new_ones_work(wire: Wire) -> None:
    lines = [await line_of(wire) for _ in range(3)]
    for line in lines:
        await line.said_back(b"up")

    await wire.cut()

    for line in lines:
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await line.said_back(b"down")
    assert await (await line_of(wire)).said_back(b"again") == b"again"


async def test_a_wire_that_is_shut_refuses_and_opens_on_the_same_port(wire: Wire) -> None:
    port = wire.port

    await wire.shut()
    with pytest.raises(ConnectionRefusedError):
        await line_of(wire)
    await wire.open()

    assert wire.port == port
    assert await (await line_of(wire)).said_back(b"again") == b"again"


async def test_a_target_that_is_not_there_resets_the_client() -> None:
    nowhere = Wire(lambda: 1)
    await nowhere.open()
    line = await line_of(nowhere)

    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await line.said_back(b"anybody")
    OPEN.pop().writer.close()
    await nowhere.shut()

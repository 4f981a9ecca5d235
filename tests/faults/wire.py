"""A wire between two processes that can be slow, one-sided, cut, or not there at all."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from enum import Enum
from typing import Final

_CHUNK_BYTES: Final = 64 * 1024
_CHUNKS_UNDER_WAY_MAX: Final = 64
_LINGER_OFF: Final = struct.pack("ii", 1, 0)


class Way(Enum):
    """A direction, as seen by whoever connects."""

    OUT = "to the server"
    BACK = "to the client"


class Wire:
    """A TCP proxy on loopback to `target()`, asked at each new connection for the port.

    `latency_s` holds up each piece by so long, without narrowing the wire. Where the target takes
    no connection, the client's is reset.
    """

    def __init__(self, target: Callable[[], int]) -> None:
        self.latency_s = 0.0
        self.port = 0
        self._target = target
        self._server: asyncio.Server | None = None
        self._flows = {way: _set_event() for way in Way}
        self._held: dict[Way, tuple[bytes, asyncio.Event]] = {}
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """Where to connect instead of to the target."""
        return f"127.0.0.1:{self.port}"

    async def open(self) -> None:
        """Takes connections, on the same port each time."""
        if self._server is None:
            self._server = await asyncio.start_server(
                self._serve, "127.0.0.1", self.port, reuse_address=True
            )
            self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Refuses connections, and cuts those that there are."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        await self.cut()

    async def cut(self) -> None:
        """Resets every connection; new ones are taken."""
        for task in tuple(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def stall(self, way: Way) -> None:
        """Lets nothing through in one direction; nothing is lost."""
        self._flows[way].clear()

    def stall_at(self, way: Way, words: bytes) -> asyncio.Event:
        """Lets nothing more through in one direction from the next `words` on.

        The event is set when they have come; they must come in one piece.
        """
        come = asyncio.Event()
        self._held[way] = (words, come)
        return come

    async def mend(self) -> None:
        """As a wire should be."""
        self.latency_s = 0.0
        self._held.clear()
        for flow in self._flows.values():
            flow.set()
        await self.open()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        writers = [writer]
        try:
            back, out = await asyncio.open_connection("127.0.0.1", self._target())
            writers.append(out)
            pumps = {
                asyncio.create_task(self._pump(reader, out, Way.OUT)),
                asyncio.create_task(self._pump(back, writer, Way.BACK)),
            }
            try:
                # One side's end is the end: neither HTTP nor NATS goes on with half a connection.
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await _ended(pumps)
            for one in writers:
                one.close()
        except OSError:
            _reset(writers)
        except asyncio.CancelledError:
            # Cut by us: the task ends here, nobody waits for its cancellation.
            _reset(writers)
        finally:
            self._serving.discard(task)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way
    ) -> None:
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS_UNDER_WAY_MAX)

        async def read() -> None:
            piece = b" "
            while piece:
                try:
                    piece = await reader.read(_CHUNK_BYTES)
                except OSError:
                    piece = b""
                await under_way.put((loop.time() + self.latency_s, piece))

        reading = asyncio.create_task(read())
        try:
            while True:
                due_s, piece = await under_way.get()
                if due_s > loop.time():
                    await asyncio.sleep(due_s - loop.time())
                await self._flows[way].wait()
                if not piece:
                    return
                before, rest = self._split(piece, way)
                writer.write(before)
                await writer.drain()
                await self._flows[way].wait()
                writer.write(rest)
                await writer.drain()
        except OSError:
            return
        finally:
            await _ended({reading})

    def _split(self, piece: bytes, way: Way) -> tuple[bytes, bytes]:
        """What may pass, and what must wait where it has the words that stall the wire."""
        words, come = self._held.get(way, (b"", None))
        at = piece.find(words)
        if come is None or at < 0:
            return piece, b""
        del self._held[way]
        self._flows[way].clear()
        come.set()
        return piece[:at], piece[at:]


def _set_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


async def _ended(tasks: set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _reset(writers: list[asyncio.StreamWriter]) -> None:
    for writer in writers:
        peer = writer.get_extra_info("socket")
        with contextlib.suppress(OSError):
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)
        writer.transport.abort()

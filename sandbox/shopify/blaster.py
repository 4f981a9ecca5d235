"""The bench's load: prepared requests over bare connections, as fast as one core can write them.

No retries, no redirects, no TLS; the sender has the manners. Requests are prepared before the
clock starts, so that the load takes as little as possible of the cores it shares with its target.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

from yarl import URL

from libs.clock import Clock, SystemClock
from sandbox.shopify.model import Delivery
from sandbox.shopify.wire import CHUNKED

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length:"


@dataclass
class BlastReport:
    """Answers by status and the latency of each, in seconds; `broken` connections lost one each."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    broken: int = 0

    @property
    def requests_per_s(self) -> float:
        return len(self.latencies_s) / self.seconds if self.seconds else 0.0

    def latency_s(self, share: float) -> float:
        """The latency that `share` (0.5 is the median) of requests kept; 0.0 if none was made."""
        ordered = sorted(self.latencies_s)
        return ordered[math.ceil(share * len(ordered)) - 1] if ordered else 0.0


def wire_request(url: URL, delivery: Delivery) -> bytes:
    """The delivery as the bytes of an HTTP/1.1 request."""
    lines = [f"POST {url.raw_path_qs} HTTP/1.1", f"Host: {url.host}:{url.port}"]
    lines += [f"{name}: {value}" for name, value in delivery.headers]
    if CHUNKED in delivery.headers:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(delivery.body), delivery.body)
    else:
        lines.append(f"Content-Length: {len(delivery.body)}")
        body = delivery.body
    return "\r\n".join(lines).encode() + _HEAD_END + body


async def blast(
    url: str, deliveries: Iterable[Delivery], connections: int = 64, clock: Clock | None = None
) -> BlastReport:
    """Posts every delivery once, each connection sending its next when the last is answered.

    A connection that breaks is opened again; its request counts as `broken`, not as answered.
    """
    target = URL(url)
    report = BlastReport()
    waiting = deque(wire_request(target, delivery) for delivery in deliveries)
    clock = clock or SystemClock()
    began_s = clock.monotonic_s()
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(_keep_connected(target, waiting, report, clock))
    report.seconds = clock.monotonic_s() - began_s
    return report


async def _keep_connected(
    target: URL, waiting: deque[bytes], report: BlastReport, clock: Clock
) -> None:
    loop = asyncio.get_running_loop()
    while waiting:
        _, line = await loop.create_connection(
            lambda: _Line(waiting, report, clock), target.host or "", target.port or 80
        )
        await line.closed


class _Line(asyncio.Protocol):
    """One connection: writes a request, reads its answer, writes the next."""

    def __init__(self, waiting: deque[bytes], report: BlastReport, clock: Clock) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting = waiting
        self._report = report
        self._now_s = clock.monotonic_s
        self._buffer = b""
        self._began_s = 0.0
        self._in_flight = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._send_next()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head_end = self._buffer.find(_HEAD_END)
        if head_end < 0:
            return
        head = self._buffer[:head_end]
        if len(self._buffer) < head_end + len(_HEAD_END) + _content_length(head):
            return
        self._buffer = b""
        self._in_flight = False
        self._report.statuses[int(head[9:12])] += 1
        self._report.latencies_s.append(self._now_s() - self._began_s)
        self._send_next()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._report.broken += self._in_flight
        if not self.closed.done():
            self.closed.set_result(None)

    def _send_next(self) -> None:
        assert self._transport is not None
        if not self._waiting or self._transport.is_closing():
            self._transport.close()
            return
        self._began_s = self._now_s()
        self._in_flight = True
        self._transport.write(self._waiting.popleft())


def _content_length(head: bytes) -> int:
    """The answer's body length; 0 where none is named. Answers in chunks are not expected here."""
    start = head.lower().find(_LENGTH)
    if start < 0:
        return 0
    return int(head[start + len(_LENGTH) :].split(b"\r\n", 1)[0])

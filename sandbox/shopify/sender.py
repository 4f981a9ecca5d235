"""Posts deliveries as Shopify does: kept-alive connections, five seconds, eight retries."""

from __future__ import annotations

import asyncio
import io
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field

import aiohttp
from yarl import URL

from libs.clock import Clock, SystemClock
from sandbox.shopify.model import Delivery
from sandbox.shopify.wire import CHUNKED

_CHUNK_BYTES = 4096
_AT_ONCE_BYTES_MAX = 2**20
# Failed deliveries that wait for their retry without holding a connection; beyond this they hold
# one, so that an endpoint that is down slows the sender instead of filling its memory.
_WAITING_MAX = 10_000


@dataclass(frozen=True)
class Manners:
    """How deliveries are made. The defaults are Shopify's, with a shorter wait between retries.

    Shopify spreads its 8 retries over four hours; here retry n comes after
    `backoff_s` * 2^(n - 1) seconds, at most `backoff_max_s`. With `settle_for_expected` the answer
    that a delivery expects (such as 401 for a forgery) ends it at once; Shopify would go on.
    """

    connections: int = 64
    timeout_s: float = 5.0
    retries: int = 8
    backoff_s: float = 0.05
    backoff_max_s: float = 5.0
    settle_for_expected: bool = True

    def wait_s(self, attempt: int) -> float:
        """Seconds to wait after the `attempt`th failure, counted from 1."""
        return min(self.backoff_max_s, self.backoff_s * 2.0 ** (attempt - 1))

    def is_final(self, delivery: Delivery, status: int | None, attempt: int) -> bool:
        """Whether this answer to the `attempt`th try (from 1) ends the delivery."""
        if attempt > self.retries:
            return True
        if status is None:
            return False
        expected = self.settle_for_expected and status == delivery.expected_status
        return expected or 200 <= status < 300


@dataclass(frozen=True)
class Sent:
    """What became of one delivery; `status` is None if the last try had no answer.

    `latency_s` is that of the last try.
    """

    delivery: Delivery
    status: int | None
    attempts: int
    latency_s: float


@dataclass
class Progress:
    """How far a sending is. Statuses count answers, retried ones too; None stands for no answer."""

    finished: int = 0
    attempts: int = 0
    statuses: Counter[int | None] = field(default_factory=Counter)


@dataclass(frozen=True)
class SendReport:
    """A finished sending, in the order in which deliveries ended."""

    sent: list[Sent]
    progress: Progress
    seconds: float

    @property
    def final_statuses(self) -> Counter[int | None]:
        """How many deliveries ended with each answer."""
        return Counter(each.status for each in self.sent)

    def latency_s(self, share: float) -> float:
        """The latency that `share` (0.5 is the median) of last tries kept; 0.0 if none was made."""
        ordered = sorted(each.latency_s for each in self.sent)
        if not ordered:
            return 0.0
        return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


async def send_all(
    url: str,
    deliveries: Iterable[Delivery],
    manners: Manners = Manners(),
    clock: Clock | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    progress: Progress | None = None,
) -> SendReport:
    """Posts every delivery to `url` and tells what became of each.

    `deliveries` is read as connections come free, so it may be a generator without end in memory.
    `on_progress` is called after every try, with one object that goes on changing: `progress`,
    where that of an earlier sending is to be gone on with.
    """
    timeout = aiohttp.ClientTimeout(total=manners.timeout_s)
    connector = aiohttp.TCPConnector(limit=manners.connections, force_close=False)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, auto_decompress=False
    ) as session:
        sending = _Sending(
            session, URL(url), manners, clock or SystemClock(), on_progress, progress or Progress()
        )
        return await sending.run(iter(deliveries))


class _Sending:
    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: URL,
        manners: Manners,
        clock: Clock,
        on_progress: Callable[[Progress], None] | None,
        progress: Progress,
    ) -> None:
        self._session = session
        self._url = url
        self._manners = manners
        self._clock = clock
        self._on_progress = on_progress or (lambda _: None)
        self._progress = progress
        self._sent: list[Sent] = []
        self._waiting = 0

    async def run(self, deliveries: Iterator[Delivery]) -> SendReport:
        began_s = self._clock.monotonic_s()
        async with asyncio.TaskGroup() as group:
            for _ in range(self._manners.connections):
                group.create_task(self._work(deliveries, group))
        seconds = self._clock.monotonic_s() - began_s
        return SendReport(self._sent, self._progress, seconds)

    async def _work(self, deliveries: Iterator[Delivery], group: asyncio.TaskGroup) -> None:
        for delivery in deliveries:
            if await self._try(delivery, attempt=1):
                continue
            if self._waiting < _WAITING_MAX:
                self._waiting += 1
                group.create_task(self._retry_aside(delivery))
            else:
                await self._retry(delivery)

    async def _retry_aside(self, delivery: Delivery) -> None:
        try:
            await self._retry(delivery)
        finally:
            self._waiting -= 1

    async def _retry(self, delivery: Delivery) -> None:
        attempt = 1
        finished = False
        while not finished:
            await self._clock.sleep(self._manners.wait_s(attempt))
            attempt += 1
            finished = await self._try(delivery, attempt)

    async def _try(self, delivery: Delivery, attempt: int) -> bool:
        """One POST; True when it ended the delivery."""
        began_s = self._clock.monotonic_s()
        status = await self._post(delivery)
        latency_s = self._clock.monotonic_s() - began_s
        final = self._manners.is_final(delivery, status, attempt)
        self._progress.attempts += 1
        self._progress.statuses[status] += 1
        if final:
            self._progress.finished += 1
            self._sent.append(Sent(delivery, status, attempt, latency_s))
        self._on_progress(self._progress)
        return final

    async def _post(self, delivery: Delivery) -> int | None:
        """The answer's status; None for a timeout or a broken connection."""
        headers = [pair for pair in delivery.headers if pair != CHUNKED]
        try:
            async with self._session.post(
                self._url, data=_outgoing(delivery), headers=headers, allow_redirects=False
            ) as answer:
                await answer.read()
                return answer.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None


def _outgoing(delivery: Delivery) -> bytes | io.BytesIO | AsyncIterator[bytes]:
    if CHUNKED in delivery.headers:
        return _chunks(delivery.body)
    # aiohttp writes a file in pieces, and warns of large bytes, which would hold up the loop.
    return io.BytesIO(delivery.body) if len(delivery.body) > _AT_ONCE_BYTES_MAX else delivery.body


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _CHUNK_BYTES):
        yield body[start : start + _CHUNK_BYTES]

"""Keeps the ledger: reads on while the process lives, answers from memory, tells the metrics."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

import structlog
from nats.aio.client import Client

from libs import metric_names
from libs.clock import Clock
from libs.errors import Kind, ServiceError
from libs.ledger import LANE, PARKED, LedgerReader, Reading
from libs.ledger.books import OPEN_MAX
from libs.telemetry import Metrics

_log = structlog.stdlib.get_logger()

T = TypeVar("T")

_EVERY_S: Final = 10.0
_AFTER_FULL_S: Final = 60.0
"""A ledger that was full is read from the beginning: not again and again."""

_FRESH_S: Final = 1.0
"""Whoever asks gets what is at most so old, however many ask."""


class LedgerKeeper:
    """A part of the process; `ask` it anything about the ledger.

    The first reading takes in all that the streams know, at about 60 µs of processor time a message
    (a million units: two minutes); until it is over `ask` is refused. Each later one costs what is
    new, and about 4 µs an open unit.
    """

    def __init__(
        self, nats: Client, clock: Clock, metrics: Metrics, *, open_max: int = OPEN_MAX
    ) -> None:
        self._reader = LedgerReader(nats, clock, open_max=open_max)
        self._clock = clock
        self._turn = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._caught_up = False
        self._last: Reading | None = None
        self._shown = _Shown(read_at_ns=clock.now_ns())
        self._show_in(metrics)

    async def run(self, ready: Callable[[], None]) -> None:
        """Reads now and then until `stop`. Others can use the process while it reads."""
        ready()
        while not self._stopping.is_set():
            wait_s = _EVERY_S
            try:
                async with self._turn:
                    await self._read()
            except ServiceError as error:
                _log.warning("ledger_not_read", reason=error.code)
                wait_s = _EVERY_S if error.code != "ledger_full" else _AFTER_FULL_S
            try:
                await asyncio.wait_for(self._stopping.wait(), wait_s)
            except TimeoutError:
                continue

    def stop(self) -> None:
        """Ends `run` once the reading under way is over."""
        self._stopping.set()

    async def ask(self, question: Callable[[Reading], T]) -> T:
        """What `question` makes of the ledger as it stands now.

        Raises:
            ServiceError: RETRYABLE: `ledger_not_read` during the first reading, or what keeps the
                streams from being read.
        """
        if not self._caught_up:
            why = "the streams are being read from their beginning: ask again in a minute"
            raise ServiceError(Kind.RETRYABLE, "ledger_not_read", why)
        async with self._turn:
            if self._last is None or self._age_s(self._last.read_at_ns) >= _FRESH_S:
                return question(await self._read())
            return question(self._last)

    async def _read(self) -> Reading:
        # The last reading looks at the books that are written now: it is of no use meanwhile, nor
        # after a reading that was broken off.
        self._last = None
        try:
            reading = self._last = await self._reader.read()
        except ServiceError as error:
            self._caught_up = self._caught_up and error.code != "ledger_full"
            raise
        self._caught_up = True
        self._shown = _Shown(
            read_at_ns=reading.read_at_ns,
            unaccounted=len(reading.placement.lost),
            places=reading.placement.places,
            oldest_ns=reading.placement.oldest_ns,
        )
        return reading

    def _age_s(self, instant_ns: int) -> float:
        return (self._clock.now_ns() - instant_ns) / 1e9

    def _show_in(self, metrics: Metrics) -> None:
        def in_flight(place: str) -> Callable[[], float]:
            return lambda: float(self._shown.places[place])

        def oldest_s() -> float:
            oldest_ns = self._shown.oldest_ns
            return 0.0 if oldest_ns is None else self._age_s(oldest_ns)

        metrics.gauge(metric_names.LEDGER_UNACCOUNTED, lambda: float(self._shown.unaccounted))
        for place in (LANE, PARKED):
            metrics.gauge(metric_names.LEDGER_IN_FLIGHT, in_flight(place), place=place)
        metrics.gauge(metric_names.LEDGER_OLDEST, oldest_s)
        metrics.gauge(metric_names.LEDGER_READ_AGE, lambda: self._age_s(self._shown.read_at_ns))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """What the metrics show between two readings."""

    read_at_ns: int
    unaccounted: int = 0
    places: Counter[str] = field(default_factory=Counter)
    oldest_ns: int | None = None

"""The one way in which a service takes work from the bus: keyed, bounded, outcome before ack."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from libs.bus.pull import ConsumerSettings, Puller, ensure_consumer
from libs.bus.verdict import DeadLetter, Done, Later, Park, verdict_of
from libs.clock import Clock
from libs.errors import Kind, ServiceError
from libs.ids import Random, system_random
from libs.retry import RetryPolicy

_log = structlog.stdlib.get_logger()

_PARK_S: Final = 15.0
"""Where a handler parks nothing itself, what waits for a person comes back after this."""

_SET_ASIDE_AT_ONCE: Final = 500
_REMEMBERED_MAX: Final = 20_000
_SETTLED_AT_A_STRETCH: Final = 100
"""About 5 ms: to acknowledge needs not wait for anything, and others would wait meanwhile."""


@dataclass(slots=True)
class Unit:
    """One message in hand, with what is known of its earlier tries."""

    subject: str
    sequence: int
    data: bytes
    attempts: int
    """Counted tries before this one. The handler may know better, where `tried_here` is false."""
    redelivered: bool
    tried_here: bool = False
    """Whether this process has tried it before."""


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A unit that goes to the dead letters, and why."""

    unit: Unit
    reason: str
    error: ServiceError


SetAside = Callable[[Sequence[Unit]], Awaitable[None]]
"""Stores units of several keys where they wait for their turn; returns when they are durable."""


class Handler(Protocol):
    """What a service does with units of one key, in order."""

    async def handle(self, units: Sequence[Unit]) -> Sequence[ServiceError | None]:
        """One result a unit: None where it ended and its outcome is recorded.

        Raising counts as that error for each of them.
        """

    async def bury(self, given_up: GivenUp) -> None:
        """Stores the dead letter and its outcome; returns when both are durable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerSpec:
    """A consumer and how it is handled."""

    settings: ConsumerSettings
    handler: Handler
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    batch_max: int = 1000
    key: Callable[[str], str]
    """Units of one key are handled in order, those of different keys at the same time."""
    allowance: Callable[[], int | None] = lambda: None
    """How many messages may be in hand at present; None: as many as there is room for."""
    set_aside: SetAside | None = None
    """Where units of a key go that has too many waiting: it must not fill the consumer, or every
    other key waits behind it."""
    waiting_max: int = 300
    """Units in hand, of all keys, from which those with more than their share are set aside."""


class Consumer:
    """Runs one `ConsumerSpec` until it is stopped; finishes what is in hand."""

    def __init__(
        self, nats: Client, spec: ConsumerSpec, clock: Clock, *, random: Random = system_random
    ) -> None:
        self._nats = nats
        self._spec = spec
        self._clock = clock
        self._random = random
        self._attempts: dict[int, int] = {}
        self._overflow: list[Msg] = []
        self._in_hand: dict[int, Msg] = {}
        self._waiting: dict[str, deque[Msg]] = {}
        self._workers: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    @property
    def in_hand(self) -> int:
        """Messages taken from the server and not yet settled."""
        return len(self._in_hand)

    async def run(self, ready: Callable[[], None]) -> None:
        """Works until `stop`."""
        await _until_it_works(
            lambda: ensure_consumer(self._nats, self._spec.settings), self._stopping
        )
        beats = asyncio.create_task(self._beat(), name="beat")
        try:
            async with Puller(
                self._nats,
                self._spec.settings,
                capacity=self._capacity(),
                allowance=self._spec.allowance,
            ) as puller:
                ready()
                await self._take_until_stopped(puller)
            if self._workers:
                await asyncio.wait(self._workers)
        finally:
            beats.cancel()
            for worker in self._workers:
                worker.cancel()

    def stop(self) -> None:
        """Takes nothing new; `run` returns when what is in hand is done."""
        self._stopping.set()

    def _capacity(self) -> int:
        return max(1, min(self._spec.settings.max_ack_pending, 2 * self._spec.batch_max))

    async def _take_until_stopped(self, puller: Puller) -> None:
        stopped = asyncio.create_task(self._stopping.wait(), name="stopped")
        try:
            while not self._stopping.is_set():
                taking = asyncio.create_task(puller.take(), name="take")
                await asyncio.wait({taking, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if not taking.done():
                    taking.cancel()
                    return
                self._accept(taking.result())
                while (message := puller.take_now()) is not None:
                    self._accept(message)
        finally:
            stopped.cancel()

    def _accept(self, message: Msg) -> None:
        sequence = message.metadata.sequence.stream
        if sequence in self._in_hand:
            # Redelivered while it is being worked on: the newer delivery is the one to settle.
            self._in_hand[sequence] = message
            return
        self._in_hand[sequence] = message
        key = self._spec.key(message.subject)
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = deque([message])
            self._start(self._work(key))
        elif not self._is_too_much(len(waiting)):
            waiting.append(message)
        else:
            self._overflow.append(message)
            if len(self._overflow) == 1:
                self._start(self._work_off_overflow())

    def _is_too_much(self, waiting: int) -> bool:
        """Whether a key with so many waiting must give room to those behind it.

        While there is room for all nobody is set aside; when there is not, whoever has more than
        an equal share is.
        """
        room = self._spec.waiting_max
        if self._spec.set_aside is None or len(self._in_hand) <= room:
            return False
        return waiting >= max(1, room // (2 * len(self._waiting)))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        worker = asyncio.create_task(work, name=f"work {self._spec.settings.durable}")
        self._workers.add(worker)
        worker.add_done_callback(self._workers.discard)

    async def _work_off_overflow(self) -> None:
        while self._overflow:
            batch = self._overflow[:_SET_ASIDE_AT_ONCE]
            units = [self._unit(message) for message in batch]
            results: Sequence[ServiceError | None] = [None] * len(units)
            try:
                if self._spec.set_aside is not None:
                    await self._spec.set_aside(units)
            except ServiceError as error:
                results = [error] * len(units)
            except Exception as error:  # noqa: BLE001  # they come again, and the lane goes on
                _log.exception("set_aside_failed", durable=self._spec.settings.durable)
                unforeseen = ServiceError(Kind.THROTTLED, "unforeseen", type(error).__name__)
                results = [unforeseen] * len(units)
            for unit, result in zip(units, results, strict=True):
                await self._settle(unit, result)
            # Only now: what comes meanwhile joins the queue instead of starting a second worker.
            del self._overflow[: len(batch)]

    async def _work(self, key: str) -> None:
        waiting = self._waiting[key]
        try:
            while waiting:
                # What gathered during the last request forms the next batch; nothing lingers.
                batch = [waiting.popleft() for _ in range(min(len(waiting), self._spec.batch_max))]
                await self._handle(batch)
        finally:
            del self._waiting[key]

    async def _handle(self, messages: Sequence[Msg]) -> None:
        units = [self._unit(message) for message in messages]
        results = await self._results(units)
        for number, (unit, result) in enumerate(zip(units, results, strict=True)):
            if number % _SETTLED_AT_A_STRETCH == _SETTLED_AT_A_STRETCH - 1:
                await asyncio.sleep(0)
            await self._settle(unit, result)

    async def _results(self, units: Sequence[Unit]) -> Sequence[ServiceError | None]:
        """One for each unit, whatever the handler does."""
        try:
            results = await self._spec.handler.handle(units)
        except ServiceError as error:
            return [error] * len(units)
        except Exception as error:  # noqa: BLE001  # a handler's bug costs a retry, not the lane
            _log.exception("handler_failed", durable=self._spec.settings.durable)
            return [ServiceError(Kind.RETRYABLE, "unforeseen", type(error).__name__)] * len(units)
        if len(results) != len(units):
            _log.error("results_miscounted", units=len(units), results=len(results))
            return [ServiceError(Kind.RETRYABLE, "unforeseen", "miscounted")] * len(units)
        return results

    def _unit(self, message: Msg) -> Unit:
        metadata = message.metadata
        sequence = metadata.sequence.stream
        return Unit(
            message.subject,
            sequence,
            message.data,
            self._attempts.get(sequence, 0),
            (metadata.num_delivered or 1) > 1,
            sequence in self._attempts,
        )

    async def _settle(self, unit: Unit, error: ServiceError | None) -> None:
        # It stays in hand until it is settled: burying it may take longer than `ack_wait`.
        message = self._in_hand[unit.sequence]
        attempts = unit.attempts + 1
        verdict = verdict_of(
            error,
            attempts=attempts,
            policy=self._spec.policy,
            random=self._random,
        )
        try:
            match verdict:
                case Done():
                    await self._finish(unit, message)
                case DeadLetter(reason) if error is not None:
                    await self._spec.handler.bury(GivenUp(unit, reason, error))
                    await self._finish(unit, message)
                case Later(delay_s, counted):
                    self._remember(unit.sequence, attempts if counted else unit.attempts)
                    await message.nak(delay=delay_s)
                case Park():
                    await message.nak(delay=_PARK_S)
        except (NatsError, OSError, ServiceError) as failure:
            # What cannot be carried out is left to `ack_wait`: the unit comes again.
            _log.warning("verdict_not_carried_out", subject=unit.subject, reason=str(failure))
        except Exception:  # noqa: BLE001  # the units behind this one must not stay in hand for ever
            _log.exception("bury_failed", subject=unit.subject)
        finally:
            del self._in_hand[unit.sequence]

    def _remember(self, sequence: int, attempts: int) -> None:
        # What another replica finished is never forgotten otherwise.
        if len(self._attempts) >= _REMEMBERED_MAX and sequence not in self._attempts:
            del self._attempts[next(iter(self._attempts))]
        self._attempts[sequence] = attempts

    async def _finish(self, unit: Unit, message: Msg) -> None:
        self._attempts.pop(unit.sequence, None)
        await message.ack()

    async def _beat(self) -> None:
        """Tells the server that what is in hand is being worked on."""
        while True:
            await asyncio.sleep(self._spec.settings.ack_wait_s / 2)
            for message in list(self._in_hand.values()):
                with suppress(NatsError, OSError):
                    await message.in_progress()


async def _until_it_works(act: Callable[[], Awaitable[None]], stopping: asyncio.Event) -> None:
    while not stopping.is_set():
        try:
            await act()
        except ServiceError as error:
            _log.info("waiting_for_nats", reason=error.code)
            await asyncio.sleep(0.5)
        else:
            return

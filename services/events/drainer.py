"""Drains what is parked once its connection may go on: in order, by one replica at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog
from nats.aio.client import Client

from libs.bus.burial import BurialWatch
from libs.bus.commit_log import CommitLog, Stored
from libs.bus.consumer import GivenUp, Unit
from libs.bus.lease import LEASE_S, Lease
from libs.bus.parking import ParkingLot, connection_of
from libs.bus.verdict import DeadLetter, Done, Later, verdict_of
from libs.clock import Clock
from libs.errors import ServiceError
from libs.gates import GateBook, connection_gate
from libs.ids import Random, system_random
from libs.resources import FACT_TTL_S
from libs.retry import RetryPolicy
from services.events.gatekeeper import SINK
from services.events.handlers import Handlers
from services.events.ports import Marks
from tidewire.delivery.v1 import gate_pb2

_log = structlog.stdlib.get_logger()

_LOOK_EVERY_S: Final = 0.5
_AT_ONCE: Final = 500
"""References of one queue in hand: as many as one many-subject read may ask for."""

_QUEUES_MAX: Final = 32
"""Queues that are drained at the same time; one of a destination that hangs holds up no other."""

_ROUNDS: Final = 4
"""Then it is another queue's turn."""

_PROBED_WITH: Final = 16
_AGE_EVERY_S: Final = 600.0
_NO_CONNECTION_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class _Reference:
    sequence: int
    unit: gate_pb2.ParkedUnit


@dataclass(frozen=True, slots=True, kw_only=True)
class Yard:
    """Where parked units are, and what opens and shuts their connections."""

    nats: Client
    lot: ParkingLot
    facts: CommitLog
    gates: GateBook
    marks: Marks
    lease: Lease
    burials: BurialWatch


class Drainer:
    """The part that works off the queues of paused connections."""

    def __init__(
        self,
        yard: Yard,
        handlers: Handlers,
        policy: RetryPolicy,
        clock: Clock,
        *,
        random: Random = system_random,
    ) -> None:
        self._yard = yard
        self._handlers = handlers
        self._policy = policy
        self._clock = clock
        self._random = random
        self._stopping = asyncio.Event()
        self._draining: dict[str, asyncio.Task[None]] = {}
        self._not_before_s: dict[str, float] = {}
        self._served_s: dict[str, float] = {}
        self._age_out_at_s: dict[str, float] = {}
        self._attempts: dict[int, int] = {}

    async def run(self, ready: Callable[[], None]) -> None:
        """Drains whenever this replica holds the lease, until `stop`."""
        ready()
        holding = asyncio.create_task(self._keep_lease(), name="drain lease")
        try:
            while not self._stopping.is_set():
                if self._yard.lease.is_held:
                    await self._begin()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), _LOOK_EVERY_S)
            if self._draining:
                await asyncio.wait(self._draining.values())
        finally:
            holding.cancel()
            for task in self._draining.values():
                task.cancel()
            await self._yard.lease.release(self._yard.nats)

    def stop(self) -> None:
        """Begins nothing more; what is in hand is finished."""
        self._stopping.set()

    async def _keep_lease(self) -> None:
        while True:
            await self._yard.lease.hold()
            await asyncio.sleep(LEASE_S / 3)

    async def _begin(self) -> None:
        await self._reopen_where_credentials_are_new()
        # Those whose turn was longest ago go first: 32 busy queues must not keep out the next one.
        queues = sorted(self._yard.lot.depths, key=lambda name: self._served_s.get(name, 0.0))
        self._forget_all_but(queues)
        for queue in queues:
            if len(self._draining) >= _QUEUES_MAX:
                return
            if queue not in self._draining:
                self._start(queue)

    def _forget_all_but(self, queues: Sequence[str]) -> None:
        """What is remembered of queues that are empty by now would grow for ever."""
        for memory in (self._served_s, self._not_before_s, self._age_out_at_s):
            for gone in memory.keys() - set(queues):
                del memory[gone]

    def _start(self, queue: str) -> None:
        if self._may_go(queue):
            work = self._drain(queue)
        elif self._clock.monotonic_s() >= self._age_out_at_s.get(queue, 0.0):
            work = self._age_out(queue)
        else:
            return
        task = asyncio.create_task(work, name=f"drain {queue}")
        self._draining[queue] = task
        task.add_done_callback(lambda _: self._draining.pop(queue, None))

    async def _reopen_where_credentials_are_new(self) -> None:
        prefix = connection_gate("")
        for gate in self._yard.gates.all():
            if gate.reason != gate_pb2.GATE_REASON_CREDENTIALS or not gate.name.startswith(prefix):
                continue
            with suppress(ServiceError):
                mark = await self._yard.marks.mark(gate.name.removeprefix(prefix))
                if mark and mark != gate.mark:
                    await self._yard.gates.reopen(gate.name)

    def _may_go(self, queue: str) -> bool:
        """Whether its units may be tried: nothing is shut, or the time for a probe has come.

        A shut sink and a run of dead letters are probed from here as well: all units that there
        are may be waiting in queues.
        """
        if self._clock.monotonic_s() < self._not_before_s.get(queue, 0.0):
            return False
        gates = self._yard.gates
        shut = [name for name in self._gates_of(queue) if gates.shut(name) is not None]
        if not all(gates.is_probe_due(name) for name in shut):
            return False
        return self._yard.burials.allowance(len(self._draining)) != 0

    @staticmethod
    def _gates_of(queue: str) -> tuple[str, str]:
        return SINK, connection_gate(connection_of(queue))

    async def _drain(self, queue: str) -> None:
        """Works off a queue for some rounds, or until something must be waited for."""
        self._served_s[queue] = self._clock.monotonic_s()
        try:
            for number in range(_ROUNDS):
                if not self._yard.lease.is_held or self._stopping.is_set():
                    return
                if number and not self._may_go(queue):
                    return
                references, probing = await self._next(queue)
                if not references:
                    await self._yard.lot.count()
                    return
                wait_s = await self._work_off(queue, references, probing=probing)
                if wait_s:
                    self._not_before_s[queue] = self._clock.monotonic_s() + wait_s
                    return
                if probing:
                    return
            self._not_before_s.pop(queue, None)
        except ServiceError as error:
            _log.info("draining_waits", queue=queue, reason=error.code)
            self._not_before_s[queue] = self._clock.monotonic_s() + _NO_CONNECTION_S
        except Exception:  # noqa: BLE001  # one queue's trouble is not the others'
            _log.exception("draining_failed", queue=queue)
            self._not_before_s[queue] = self._clock.monotonic_s() + _NO_CONNECTION_S

    async def _age_out(self, queue: str) -> None:
        """Gives up what waits with a shut connection and whose fact has expired meanwhile."""
        self._age_out_at_s[queue] = self._clock.monotonic_s() + _AGE_EVERY_S
        try:
            while self._yard.lease.is_held and not self._stopping.is_set():
                waiting = await self._yard.lot.waiting(queue, limit=_AT_ONCE)
                oldest_s = self._clock.now_ns() / 1e9 - FACT_TTL_S
                references = [_Reference(sequence, unit) for sequence, unit in waiting]
                old = [one for one in references if one.unit.parked_at.seconds < oldest_s]
                lost = await self._lose_expired(old, await self._facts_of(old))
                # Clocks of replicas differ: between old ones a younger one may stand, and stays.
                await self._take_out(queue, references, lost, in_order=True)
                if not lost or len(old) < len(waiting):
                    return
        except ServiceError as error:
            _log.info("draining_waits", queue=queue, reason=error.code)

    async def _next(self, queue: str) -> tuple[list[_Reference], bool]:
        """What to try next, and whether it is a probe of something that is shut."""
        gates = [self._yard.gates.shut(name) for name in self._gates_of(queue)]
        shut = [gate for gate in gates if gate is not None]
        probing = bool(shut) or self._yard.burials.stopped is not None
        waiting = await self._yard.lot.waiting(queue, limit=_PROBED_WITH if probing else _AT_ONCE)
        references = [_Reference(sequence, unit) for sequence, unit in waiting]
        if not probing or not references:
            return references, False
        # Not always the first: were it at fault itself, what is shut would stay so for ever.
        probes = sum(gate.probes for gate in shut)
        return [references[probes % len(references)]], True

    async def _facts_of(self, references: Sequence[_Reference]) -> dict[str, Stored]:
        """The facts by subject. What a follower does not have yet the leader is asked for."""
        wanted = sorted({one.unit.subject for one in references})
        found = await self._yard.facts.read(wanted)
        missing = [subject for subject in wanted if subject not in found]
        return found | (await self._yard.facts.read_fresh(missing) if missing else {})

    async def _lose_expired(
        self, references: Sequence[_Reference], found: Mapping[str, Stored]
    ) -> set[int]:
        lost = set()
        for one in references:
            if one.unit.subject not in found:
                await self._handlers.lose(one.unit)
                lost.add(one.sequence)
        return lost

    async def _work_off(
        self, queue: str, references: Sequence[_Reference], *, probing: bool
    ) -> float:
        """Tries what is at the head of a queue; seconds to wait before the next try, 0 for none."""
        found = await self._facts_of(references)
        by_sink: dict[str, list[_Reference]] = {}
        first: dict[tuple[str, str], int] = {}
        for one in references:
            # A unit is parked twice where the first time could not be acknowledged.
            first.setdefault((one.unit.sink, one.unit.unit), one.sequence)
        first_ones = set(first.values())
        firsts = [one for one in references if one.sequence in first_ones]
        done = await self._lose_expired(firsts, found)
        for one in firsts:
            if one.unit.subject in found:
                by_sink.setdefault(one.unit.sink, []).append(one)
        wait_s = 0.0
        for sink, group in by_sink.items():
            finished, waits_s = await self._try(sink, group, found, probing=probing)
            done |= finished
            wait_s = max(wait_s, waits_s)
        await self._take_out(queue, references, done, in_order=not probing)
        return wait_s

    async def _try(
        self,
        sink: str,
        references: Sequence[_Reference],
        found: Mapping[str, Stored],
        *,
        probing: bool,
    ) -> tuple[set[int], float]:
        units = [self._unit(one, found) for one in references]
        results = await self._handlers.drain(units, sink)
        done: set[int] = set()
        wait_s = 0.0
        for one, unit, error in zip(references, units, results, strict=True):
            # A probe costs no attempt: it is made because the upstream may still be down.
            attempts = 0 if probing else unit.attempts + 1
            verdict = verdict_of(error, attempts=attempts, policy=self._policy, random=self._random)
            match verdict:
                case Done():
                    done.add(one.sequence)
                case DeadLetter(reason) if error is not None:
                    await self._handlers.bury(GivenUp(unit, reason, error), only=sink)
                    done.add(one.sequence)
                case Later(delay_s, counted):
                    if counted:
                        self._attempts[one.sequence] = attempts
                    wait_s = max(wait_s, delay_s)
                case _:
                    missing = error is not None and error.code == "connection_missing"
                    # One whose gate is shut waits for its probe.
                    wait_s = max(wait_s, _NO_CONNECTION_S if missing else _LOOK_EVERY_S)
        return done, wait_s

    def _unit(self, reference: _Reference, found: Mapping[str, Stored]) -> Unit:
        stored = found[reference.unit.subject]
        attempts = self._attempts.get(reference.sequence)
        return Unit(
            stored.subject,
            stored.sequence,
            stored.data,
            attempts or 0,
            redelivered=True,
            tried_here=attempts is not None,
        )

    async def _take_out(
        self,
        queue: str,
        references: Sequence[_Reference],
        done: set[int],
        *,
        in_order: bool,
    ) -> None:
        through = 0
        for one in references if in_order else ():
            if one.sequence not in done:
                break
            through = one.sequence
        await self._yard.lot.remove(queue, sorted(done), through=through)
        for sequence in done:
            self._attempts.pop(sequence, None)

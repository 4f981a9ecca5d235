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
from libs.bus.parking import ParkingLot
from libs.bus.verdict import DeadLetter, Done, Later, verdict_of
from libs.clock import Clock
from libs.errors import ServiceError
from libs.gates import GateBook, connection_gate
from libs.ids import Random, system_random
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

_PROBED_WITH: Final = 16
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
        for connection_id in list(self._yard.lot.depths):
            if len(self._draining) >= _QUEUES_MAX:
                return
            if connection_id not in self._draining and self._may_go(connection_id):
                task = asyncio.create_task(
                    self._drain(connection_id), name=f"drain {connection_id}"
                )
                self._draining[connection_id] = task
                task.add_done_callback(
                    lambda _, name=connection_id: self._draining.pop(name, None)  # type: ignore[misc]
                )

    async def _reopen_where_credentials_are_new(self) -> None:
        prefix = connection_gate("")
        for gate in self._yard.gates.all():
            if gate.reason != gate_pb2.GATE_REASON_CREDENTIALS or not gate.name.startswith(prefix):
                continue
            with suppress(ServiceError):
                mark = await self._yard.marks.mark(gate.name.removeprefix(prefix))
                if mark and mark != gate.mark:
                    await self._yard.gates.reopen(gate.name)

    def _may_go(self, connection_id: str) -> bool:
        """Whether its units may be tried: it is open, or the time for a probe has come."""
        too_early = self._clock.monotonic_s() < self._not_before_s.get(connection_id, 0.0)
        if too_early or self._yard.burials.stopped is not None:
            return False
        name = connection_gate(connection_id)
        gates = self._yard.gates
        return gates.shut(SINK) is None and (gates.shut(name) is None or gates.is_probe_due(name))

    async def _drain(self, connection_id: str) -> None:
        """Works one queue off until it is empty, or until something must be waited for."""
        try:
            while self._yard.lease.is_held and not self._stopping.is_set():
                if not self._may_go(connection_id):
                    return
                references, probing = await self._next(connection_id)
                if not references:
                    await self._yard.lot.count()
                    return
                wait_s = await self._work_off(connection_id, references, probing=probing)
                if wait_s:
                    self._not_before_s[connection_id] = self._clock.monotonic_s() + wait_s
                    return
            self._not_before_s.pop(connection_id, None)
        except ServiceError as error:
            _log.info("draining_waits", connection=connection_id, reason=error.code)
            self._not_before_s[connection_id] = self._clock.monotonic_s() + _NO_CONNECTION_S
        except Exception:  # noqa: BLE001  # one queue's trouble is not the others'
            _log.exception("draining_failed", connection=connection_id)
            self._not_before_s[connection_id] = self._clock.monotonic_s() + _NO_CONNECTION_S

    async def _next(self, connection_id: str) -> tuple[list[_Reference], bool]:
        """What to try next, and whether it is a probe of a connection that is shut."""
        gate = self._yard.gates.shut(connection_gate(connection_id))
        limit = _AT_ONCE if gate is None else _PROBED_WITH
        waiting = await self._yard.lot.waiting(connection_id, limit=limit)
        references = [_Reference(sequence, unit) for sequence, unit in waiting]
        if gate is None or not references:
            return references, False
        # Not always the first: were it at fault itself, the connection would stay shut for ever.
        return [references[gate.probes % len(references)]], True

    async def _work_off(
        self, connection_id: str, references: Sequence[_Reference], *, probing: bool
    ) -> float:
        """Tries what is at the head of a queue; seconds to wait before the next try, 0 for none."""
        found = await self._yard.facts.read(sorted({one.unit.subject for one in references}))
        by_sink: dict[str, list[_Reference]] = {}
        first: dict[tuple[str, str], int] = {}
        done: set[int] = set()
        for one in references:
            # A unit is parked twice where the first time could not be acknowledged.
            is_first = first.setdefault((one.unit.sink, one.unit.unit), one.sequence)
            if is_first == one.sequence and one.unit.subject in found:
                by_sink.setdefault(one.unit.sink, []).append(one)
            elif is_first == one.sequence:
                await self._handlers.lose(one.unit)
                done.add(one.sequence)
        wait_s = 0.0
        for sink, group in by_sink.items():
            finished, waits_s = await self._try(sink, group, found, probing=probing)
            done |= finished
            wait_s = max(wait_s, waits_s)
        again = (one for one in references if first[one.unit.sink, one.unit.unit] in done)
        done |= {one.sequence for one in again}
        await self._take_out(connection_id, references, done, in_order=not probing)
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
        connection_id: str,
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
        await self._yard.lot.remove(connection_id, sorted(done), through=through)
        for sequence in done:
            self._attempts.pop(sequence, None)

"""Gates: whether work may flow to a sink or a connection, the same for all replicas.

A person shuts a gate (the kill switch), or a dead token, an outage or a run of dead letters does.
Where an upstream is to be asked again, the gate says when; whoever meets a yes opens it for all.
Kept in the bucket `circuits`, one `Gate` a key; what has no record is open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import structlog
from nats.aio.client import Client

from libs import metric_names
from libs.bus import subjects
from libs.bus.api import ApiError, refused
from libs.bus.commit_log import CommitLog, ConflictError, Entry
from libs.bus.scan import page
from libs.clock import Clock
from libs.errors import ServiceError
from libs.telemetry import Metrics
from tidewire.delivery.v1 import gate_pb2

_log = structlog.stdlib.get_logger()

_FOLLOW_EVERY_S: Final = 0.5
"""How soon another replica's word is heard."""

_PROBE_FIRST_S: Final = 1.0
_PROBE_MOST_S: Final = {
    gate_pb2.GATE_REASON_OUTAGE: 10.0,
    # A token that a person mends at TikTok needs no new one here: it is tried now and then.
    gate_pb2.GATE_REASON_CREDENTIALS: 20.0,
}
"""Only these are probed; the others wait for a person."""

_TRIES_MAX: Final = 5


def sink_gate(sink: str) -> str:
    """Name of the gate of a whole sink, such as `events`."""
    return f"sink.{sink}"


def connection_gate(connection_id: str) -> str:
    """Name of the gate of one connection."""
    return f"connection.{connection_id}"


def probe_wait_s(reason: gate_pb2.GateReason.ValueType, probes: int) -> float | None:
    """Seconds until the next probe after `probes` failed ones; None where only a person opens."""
    most_s = _PROBE_MOST_S.get(reason)
    return None if most_s is None else min(most_s, _PROBE_FIRST_S * 2.0**probes)


class Gates(Protocol):
    """What those who do the work ask of gates. Answers come from memory."""

    def shut(self, name: str) -> gate_pb2.Gate | None:
        """The gate where it is shut; None where it is open."""

    def is_probe_due(self, name: str) -> bool:
        """Whether the upstream behind a shut gate should be asked again now."""

    async def close(
        self,
        name: str,
        reason: gate_pb2.GateReason.ValueType,
        *,
        code: str = "",
        note: str = "",
        mark: str = "",
    ) -> gate_pb2.Gate:
        """Shuts a gate for all replicas; an operator's word stays above any other reason."""

    async def probe_failed(self, name: str) -> None:
        """The upstream was asked and does not work yet: the next probe is further off."""

    async def reopen(self, name: str, *, by_operator: bool = False) -> gate_pb2.Gate:
        """Opens it for all replicas. What a person shut only a person opens."""


@dataclass(frozen=True, slots=True)
class _Held:
    gate: gate_pb2.Gate
    sequence: int


class GateBook:
    """`Gates` on the bucket `circuits`; a part that follows what other replicas write.

    What cannot be written for want of NATS holds for this process until it can be read again.
    """

    def __init__(self, nats: Client, log: CommitLog, clock: Clock, metrics: Metrics) -> None:
        self._nats = nats
        self._log = log
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._last_sequence = 0
        self._stopping = asyncio.Event()
        self._watchers: list[Callable[[], None]] = []
        for kind in ("sink", "connection"):
            metrics.gauge(metric_names.GATES_SHUT, partial(self._count_shut, kind), kind=kind)

    async def run(self, ready: Callable[[], None]) -> None:
        """Follows the bucket until `stop`; ready once it has been read to its end."""
        while not self._stopping.is_set():
            try:
                await self.follow()
                ready()
            except ServiceError as error:
                _log.info("gates_not_read", reason=error.code)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _FOLLOW_EVERY_S)

    def stop(self) -> None:
        """Ends `run`."""
        self._stopping.set()

    async def follow(self) -> None:
        """Takes in all that was written since the last time.

        Raises:
            ServiceError: RETRYABLE, where NATS does not answer.
        """
        stream = subjects.bucket_stream(subjects.CIRCUITS)
        every = subjects.in_bucket(subjects.CIRCUITS, ">")
        while found := await page(self._nats, stream, every, after=self._last_sequence):
            for stored in found:
                self._take(gate_pb2.Gate.FromString(stored.data), stored.sequence)
                self._last_sequence = stored.sequence
            self._tell()

    def subscribe(self, changed: Callable[[], None]) -> None:
        """Calls `changed` after each change; it must not raise and must not wait."""
        self._watchers.append(changed)

    def shut(self, name: str) -> gate_pb2.Gate | None:
        held = self._held.get(name)
        return held.gate if held is not None and held.gate.shut else None

    def is_probe_due(self, name: str) -> bool:
        gate = self.shut(name)
        if gate is None or not gate.HasField("probe_at"):
            return False
        return self._clock.now_ns() >= gate.probe_at.ToNanoseconds()

    def all(self, *, include_open: bool = False) -> list[gate_pb2.Gate]:
        """The gates that were ever shut, by name."""
        gates = [held.gate for _, held in sorted(self._held.items())]
        return [gate for gate in gates if include_open or gate.shut]

    async def close(
        self,
        name: str,
        reason: gate_pb2.GateReason.ValueType,
        *,
        code: str = "",
        note: str = "",
        mark: str = "",
    ) -> gate_pb2.Gate:
        """Shuts a gate; a person's word must be stored.

        Raises:
            ServiceError: RETRYABLE, where what a person asked for could not be stored.
        """

        def decide(gate: gate_pb2.Gate) -> gate_pb2.Gate | None:
            same = gate.shut and gate.reason == reason and gate.mark == mark
            if same or (gate.shut and gate.reason == gate_pb2.GATE_REASON_OPERATOR):
                return None
            new = gate_pb2.Gate(
                name=name, shut=True, reason=reason, code=code, note=note, mark=mark
            )
            new.since.FromNanoseconds(self._clock.now_ns())
            self._set_probe(new)
            return new

        by_operator = reason == gate_pb2.GATE_REASON_OPERATOR
        return await self._change(name, decide, must_store=by_operator)

    async def probe_failed(self, name: str) -> None:
        def decide(gate: gate_pb2.Gate) -> gate_pb2.Gate | None:
            if not gate.shut or not gate.HasField("probe_at"):
                return None
            new = gate_pb2.Gate()
            new.CopyFrom(gate)
            new.probes += 1
            self._set_probe(new)
            return new

        await self._change(name, decide)

    async def reopen(self, name: str, *, by_operator: bool = False) -> gate_pb2.Gate:
        def decide(gate: gate_pb2.Gate) -> gate_pb2.Gate | None:
            automatic = gate.reason in _PROBE_MOST_S
            if not gate.shut or not (automatic or by_operator):
                return None
            return gate_pb2.Gate(name=name)

        return await self._change(name, decide, must_store=by_operator)

    def _count_shut(self, kind: str) -> float:
        return float(sum(gate.name.startswith(f"{kind}.") for gate in self.all()))

    def _set_probe(self, gate: gate_pb2.Gate) -> None:
        wait_s = probe_wait_s(gate.reason, gate.probes)
        if wait_s is not None:
            gate.probe_at.FromNanoseconds(self._clock.now_ns() + int(wait_s * 1e9))

    async def _change(
        self,
        name: str,
        decide: Callable[[gate_pb2.Gate], gate_pb2.Gate | None],
        *,
        must_store: bool = False,
    ) -> gate_pb2.Gate:
        """Writes what `decide` makes of the newest record, if anything.

        What need not be stored holds here alone where it cannot be.
        """
        for _ in range(_TRIES_MAX):
            held = self._held.get(name) or _Held(gate_pb2.Gate(name=name), 0)
            new = decide(held.gate)
            if new is None:
                return held.gate
            subject = _subject(name)
            entry = Entry(subject, new.SerializeToString(), expected=held.sequence)
            try:
                sequence = await self._committed(entry, name)
            except (ServiceError, ApiError) as error:
                if must_store:
                    raise refused(error) if isinstance(error, ApiError) else error from error
                # The others learn of it when they meet it themselves.
                _log.warning("gate_not_written", gate=name, reason=str(error))
                self._held[name] = _Held(new, held.sequence)
                self._tell()
                return new
            else:
                if sequence is None:
                    continue
                self._take(new, sequence)
                self._tell()
                _log_change(new)
                return new
        return (self._held.get(name) or _Held(gate_pb2.Gate(name=name), 0)).gate

    async def _committed(self, entry: Entry, name: str) -> int | None:
        """The sequence of what was written; None where somebody was quicker, whose word is read."""
        try:
            return await self._log.commit([entry])
        except ConflictError:
            await self._read_again(name, entry.subject)
            return None

    async def _read_again(self, name: str, subject: str) -> None:
        found = (await self._log.read_fresh([subject])).get(subject)
        if found is None:
            self._held.pop(name, None)
        else:
            self._take(gate_pb2.Gate.FromString(found.data), found.sequence)

    def _take(self, gate: gate_pb2.Gate, sequence: int) -> None:
        held = self._held.get(gate.name)
        # What this process could not write is overruled by what is stored: it is newer or shared.
        if held is None or sequence >= held.sequence:
            self._held[gate.name] = _Held(gate, sequence)

    def _tell(self) -> None:
        for watcher in self._watchers:
            watcher()


def _log_change(gate: gate_pb2.Gate) -> None:
    if gate.shut and gate.probes:
        _log.info("gate_probe_failed", gate=gate.name, probes=gate.probes)
    elif gate.shut:
        reason = gate_pb2.GateReason.Name(gate.reason)
        _log.warning("gate_shut", gate=gate.name, reason=reason, code=gate.code)
    else:
        _log.warning("gate_opened", gate=gate.name)


def _subject(name: str) -> str:
    kind, _, rest = name.partition(".")
    return subjects.in_bucket(subjects.CIRCUITS, f"{kind}.{subjects.token(rest)}")

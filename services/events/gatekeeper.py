"""What the ends of requests say about TikTok and its pixels, and what may be sent meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from libs.circuit import Circuit, Trip
from libs.clock import Clock
from libs.errors import Kind, ServiceError
from libs.gates import Gates, connection_gate, sink_gate
from libs.http import classify
from services.events.domain.answers import RefusedError, scope_of
from services.events.domain.dialect import HttpRequest
from services.events.ports import Marks, Pixel
from services.events.shares import Sent
from tidewire.delivery.v1 import gate_pb2

SINK: Final = sink_gate("events")
"""The gate of all that goes to TikTok's Events API."""

_WAIT_MOST_S: Final = 10.0
_PROBE_LASTS_S: Final = 15.0
"""One probe at a time: another one is made when its end is known, or when it must be over."""

_HELD_FIRST_S: Final = 1.0
_HELD_MOST_S: Final = 15.0
"""A throttled connection is tried again so soon and then ever later, where TikTok names no time."""

_MAYBE_OWN: Final = frozenset(
    {classify.TIMEOUT, classify.RESET, classify.TRUNCATED, "upstream_answer_unreadable"}
)
"""Failures that say nothing of how far they reach: only other connections can tell."""

_PARKED_FOR: Final = {
    gate_pb2.GATE_REASON_OPERATOR: "operator",
    gate_pb2.GATE_REASON_CREDENTIALS: "credentials",
    gate_pb2.GATE_REASON_OUTAGE: "outage",
}


@dataclass(frozen=True, slots=True)
class Passage:
    """Leave to make one request, and what was shut when it began: then it is a probe."""

    sink_was_shut: bool
    connection_was_shut: bool


@dataclass(frozen=True, slots=True)
class _Hold:
    """A connection that TikTok has throttled by itself."""

    wait_s: float
    until_s: float


class Gatekeeper:
    """One process's judgement of the upstream; what it finds shut holds for all replicas."""

    def __init__(self, gates: Gates, marks: Marks, clock: Clock) -> None:
        self._gates = gates
        self._marks = marks
        self._clock = clock
        self._circuit = Circuit()
        self._probing_until_s = 0.0
        self._silences = 0
        self._holds: dict[str, _Hold] = {}

    # -- before ----------------------------------------------------------------------------------

    def allowance(self) -> int | None:
        """How many messages a lane may take: any; while shut, one for a probe that is due."""
        if self._gates.shut(SINK) is None:
            return None
        return 1 if self._may_probe() else 0

    def refuses(self) -> ServiceError | None:
        """Why nothing may be sent to the sink now; None where it is open or a probe is due."""
        return None if self._may_probe() else self.shut_error()

    def shut_error(self) -> ServiceError | None:
        """The error of what meets the sink shut, with the wait; it costs no attempt."""
        gate = self._gates.shut(SINK)
        if gate is None:
            return None
        ahead_s = _WAIT_MOST_S
        if gate.HasField("probe_at"):
            wait_s = (gate.probe_at.ToNanoseconds() - self._clock.now_ns()) / 1e9
            ahead_s = min(max(wait_s, 1.0), _WAIT_MOST_S)
        return ServiceError(
            Kind.RETRYABLE, "gate_shut", f"{SINK} is shut: {gate.code}", retry_after_s=ahead_s
        )

    def parks(self, connection_id: str) -> str:
        """Why units of the connection must wait with it; empty where they need not."""
        gate = self._gates.shut(connection_gate(connection_id))
        return "" if gate is None else _PARKED_FOR.get(gate.reason, "shut")

    def held_error(self, pixel: Pixel) -> ServiceError | None:
        """The error of what must wait because its own connection was throttled; with the wait."""
        hold = self._holds.get(pixel.connection_id)
        left_s = 0.0 if hold is None else hold.until_s - self._clock.monotonic_s()
        if left_s <= 0:
            return None
        message = f"TikTok has throttled {pixel.connection_id}"
        return ServiceError(
            Kind.THROTTLED, "connection_throttled", message, retry_after_s=max(left_s, 0.1)
        )

    def begin(self, pixel: Pixel) -> Passage:
        """Leave for one request, taken as the last thing before it and given back with its end.

        While the sink is shut one caller is let through whenever a probe is due.

        Raises:
            ServiceError: RETRYABLE, `gate_shut`; it may have been shut since `refuses` was asked.
                THROTTLED, `connection_throttled`.
        """
        held = self.held_error(pixel)
        if held is not None:
            raise held
        error = self.shut_error()
        if error is not None:
            if not self._may_probe():
                raise error
            self._probing_until_s = self._clock.monotonic_s() + _PROBE_LASTS_S
        connection = connection_gate(pixel.connection_id)
        return Passage(error is not None, self._gates.shut(connection) is not None)

    def abandoned(self, passage: Passage) -> None:
        """The request was not made after all, or is over: another probe may be made."""
        if passage.sink_was_shut:
            self._probing_until_s = 0.0

    # -- after -----------------------------------------------------------------------------------

    async def ended(self, passage: Passage, pixel: Pixel, request: HttpRequest, sent: Sent) -> None:
        """Takes in how a request ended; shuts or opens what that shows."""
        self.abandoned(passage)
        if isinstance(sent, ServiceError) and scope_of(sent) is None:
            await self._never_asked(passage, pixel, sent)
        elif not isinstance(sent, ServiceError) or sent.kind is Kind.PERMANENT:
            await self._got_through(passage, pixel)
        elif sent.kind is Kind.AUTH:
            await self._refused_credentials(passage, pixel, sent)
        elif sent.kind is Kind.THROTTLED and not is_shared(sent):
            self._hold(pixel.connection_id, sent)
        elif sent.kind is Kind.RETRYABLE and sent.code != classify.BUDGET_SPENT:
            await self._failed(passage, pixel, request, sent)

    async def _got_through(self, passage: Passage, pixel: Pixel) -> None:
        self._circuit.succeeded(pixel.connection_id)
        self._holds.pop(pixel.connection_id, None)
        if passage.sink_was_shut:
            await self._gates.reopen(SINK)
        if passage.connection_was_shut:
            await self._gates.reopen(connection_gate(pixel.connection_id))

    def _hold(self, connection_id: str, error: ServiceError) -> None:
        """Keeps a throttled connection waiting, and it alone: the app's limit is not touched."""
        now_s = self._clock.monotonic_s()
        for name in [name for name, hold in self._holds.items() if now_s > hold.until_s + 60.0]:
            del self._holds[name]
        known = self._holds.get(connection_id)
        if known is not None and now_s < known.until_s:
            return
        wait_s = _HELD_FIRST_S if known is None else 2 * known.wait_s
        if error.retry_after_s is not None:
            wait_s = error.retry_after_s
        wait_s = min(max(wait_s, _HELD_FIRST_S), _HELD_MOST_S)
        self._holds[connection_id] = _Hold(wait_s, now_s + wait_s)

    async def _never_asked(self, passage: Passage, pixel: Pixel, error: ServiceError) -> None:
        """Trouble of our own, such as a token that cannot be had: it says nothing of TikTok."""
        if error.kind is Kind.AUTH:
            await self._shut_for_credentials(passage, pixel, error)
        elif error.kind is Kind.RETRYABLE:
            name = connection_gate(pixel.connection_id)
            if passage.connection_was_shut:
                await self._gates.probe_failed(name)
            elif self._circuit.failed_alone(pixel.connection_id, self._clock.monotonic_s()):
                await self._gates.close(name, gate_pb2.GATE_REASON_OUTAGE, code=error.code)

    async def _refused_credentials(
        self, passage: Passage, pixel: Pixel, error: ServiceError
    ) -> None:
        if is_shared(error):
            if passage.sink_was_shut:
                await self._gates.probe_failed(SINK)
                return
            # Our app is refused, whatever the token: to park one connection after the other would
            # only move all facts twice.
            await self._gates.close(SINK, gate_pb2.GATE_REASON_OUTAGE, code=error.code)
            return
        # TikTok works: it read the token. Only this connection waits for a person.
        self._circuit.succeeded(pixel.connection_id)
        if passage.sink_was_shut:
            await self._gates.reopen(SINK)
        await self._shut_for_credentials(passage, pixel, error)

    async def _shut_for_credentials(
        self, passage: Passage, pixel: Pixel, error: ServiceError
    ) -> None:
        name = connection_gate(pixel.connection_id)
        mark = await self._marks.mark(pixel.connection_id)
        shut = self._gates.shut(name)
        if shut is not None and shut.mark == mark:
            if passage.connection_was_shut:
                await self._gates.probe_failed(name)
            return
        reason = gate_pb2.GATE_REASON_CREDENTIALS
        await self._gates.close(name, reason, code=error.code, mark=mark)

    async def _failed(
        self, passage: Passage, pixel: Pixel, request: HttpRequest, error: ServiceError
    ) -> None:
        if passage.sink_was_shut:
            await self._gates.probe_failed(SINK)
            return
        name = connection_gate(pixel.connection_id)
        if passage.connection_was_shut:
            await self._gates.probe_failed(name)
            return
        now_s = self._clock.monotonic_s()
        content = request.conversions[0].event_id
        if not isinstance(error, RefusedError):
            # No event makes TikTok silent: each failure counts, though it be of one event alone.
            self._silences += 1
            content = f"{content} {self._silences}"
        trip = self._circuit.failed(
            pixel.connection_id, content, now_s, of_upstream=_is_of_upstream(error)
        )
        if trip is not None:
            what = SINK if trip is Trip.UPSTREAM else name
            await self._gates.close(what, gate_pb2.GATE_REASON_OUTAGE, code=error.code)

    def _may_probe(self) -> bool:
        return self._gates.is_probe_due(SINK) and self._clock.monotonic_s() >= self._probing_until_s


def is_shared(error: ServiceError) -> bool:
    """Whether all connections are told the same, so that none of them is at fault."""
    scope = scope_of(error)
    return scope is not None and scope.is_shared


def _is_of_upstream(error: ServiceError) -> bool:
    """Whether a failure cannot be one pixel's: nobody listens, or the host answers for itself.

    A time-out may be a pixel's own, and a failing code may be what one event of it causes.
    """
    if isinstance(error, RefusedError):
        return False
    return is_shared(error) and error.code not in _MAYBE_OWN

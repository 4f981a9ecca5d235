"""What may be sent to a catalog now, and what the ends of calls say about TikTok."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from libs.circuit import Circuit, Trip
from libs.clock import Clock
from libs.errors import Kind, ServiceError
from libs.gates import Gates, connection_gate, sink_gate
from libs.http import classify
from libs.tiktok import return_code
from services.catalog.domain.answers import RefusedError, scope_of
from services.catalog.domain.settings import CatalogSettings
from services.catalog.ports import Held, TikTokCatalog
from tidewire.delivery.v1 import gate_pb2

_log = structlog.stdlib.get_logger()

SINK: Final = sink_gate("catalog")
"""The gate of all that goes to TikTok's catalogs."""

_OUTAGE_WAIT_S: Final = 2.0
_PERSON_WAIT_S: Final = 5.0
_PROBES_AT_ONCE: Final = 8

_RELAPSE_FIRST_S: Final = 20.0
_RELAPSE_MOST_S: Final = 300.0
"""Between tries of a catalog whose token is read and whose writes are refused: only a write shows
whether a person has mended that, and a write is megabytes."""

_MAYBE_OWN: Final = frozenset(
    {classify.TIMEOUT, classify.RESET, classify.TRUNCATED, "upstream_answer_unreadable"}
)
"""Failures that say nothing of how far they reach: only other connections can tell."""

_TOKEN_DEAD: Final = frozenset({"upstream_40102", "upstream_40105", "access_token_missing"})
_RECONNECT: Final = "connect the TikTok account again"
_PERMIT: Final = (
    "give the person who connected the account the role Catalog Management for this catalog in"
    " TikTok's Business Center, or connect it again with all catalog permissions"
)


class Marks(Protocol):
    """Tells one set of credentials from another without showing them."""

    async def mark(self, connection_id: str) -> str:
        """A fingerprint of the connection's token; empty where it has none."""


@dataclass(slots=True)
class _Relapse:
    """A connection whose gate was shut again after it had been opened for a try."""

    wait_s: float
    until_s: float


class TikTokGatekeeper:
    """`Gatekeeper` on the gates of all replicas; a part, that asks TikTok while one is shut.

    Asking is a read of one catalog and never a submit, so that an outage costs no megabytes and
    none of the items waits for the answer.
    """

    def __init__(self, gates: Gates, marks: Marks, api: TikTokCatalog, clock: Clock) -> None:
        self._gates = gates
        self._marks = marks
        self._api = api
        self._clock = clock
        self._circuit = Circuit()
        self._failures = 0
        self._relapses: dict[str, _Relapse] = {}
        self._wishes: dict[str, CatalogSettings] = {}
        self._wished = {name: asyncio.Event() for name in ("sink", "connection")}
        self._stopping = asyncio.Event()

    # -- as a part -------------------------------------------------------------------------------

    async def run(self, ready: Callable[[], None]) -> None:
        """Asks TikTok where somebody waits for it, until `stop`."""
        ready()
        # Apart: a connection that answers slowly must not keep all others waiting for the sink.
        loops = [
            asyncio.create_task(self._loop("sink", self.ask_for_all), name="catalog-sink"),
            asyncio.create_task(self._loop("connection", self.ask_each), name="catalog-gates"),
        ]
        stopped = asyncio.create_task(self._stopping.wait())
        try:
            done, _ = await asyncio.wait((stopped, *loops), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (stopped, *loops):
                task.cancel()
            await asyncio.gather(stopped, *loops, return_exceptions=True)

    def stop(self) -> None:
        """Ends `run`."""
        self._stopping.set()

    async def _loop(self, kind: str, ask: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._wished[kind].wait()
            self._wished[kind].clear()
            await ask()

    # -- before ----------------------------------------------------------------------------------

    def may_send(self, catalog: CatalogSettings) -> Held | None:
        """Why nothing may be sent to the catalog now; None where it may.

        Costs nothing and promises nothing: it may be asked without sending anything.
        """
        gate = self._gates.shut(SINK)
        if gate is not None:
            return self._held(SINK, "sink", gate, catalog)
        name = connection_gate(catalog.connection_id)
        gate = self._gates.shut(name)
        return None if gate is None else self._held(name, "connection", gate, catalog)

    def _held(self, name: str, kind: str, gate: gate_pb2.Gate, catalog: CatalogSettings) -> Held:
        if gate.reason == gate_pb2.GATE_REASON_CREDENTIALS:
            # Whether there is a new token is looked at each time, not only when a probe is due.
            self._wish(name, kind, catalog)
            return Held("credentials", _advice(gate.code), _PERSON_WAIT_S)
        if gate.reason == gate_pb2.GATE_REASON_OUTAGE:
            if self._gates.is_probe_due(name):
                self._wish(name, kind, catalog)
            note = f"TikTok does not work ({gate.code}); it is asked again at least every 10 s"
            return Held("outage", note, _OUTAGE_WAIT_S)
        return Held("operator", gate.note, _PERSON_WAIT_S)

    def _wish(self, name: str, kind: str, catalog: CatalogSettings) -> None:
        self._wishes[name] = catalog
        self._wished[kind].set()

    # -- asking ----------------------------------------------------------------------------------

    async def ask_for_all(self) -> None:
        """Asks TikTok once, if the sink is shut and somebody waits for it."""
        catalog = self._wishes.pop(SINK, None)
        if catalog is None or not self._gates.is_probe_due(SINK):
            return
        error = await self._read(catalog)
        scope = None if error is None else scope_of(error)
        is_alive = error is None or (
            error.kind in (Kind.AUTH, Kind.PERMANENT) and scope is not None and not scope.is_shared
        )
        if is_alive:
            self._circuit.reset()
            await self._gates.reopen(SINK)
        else:
            await self._gates.probe_failed(SINK)

    async def ask_each(self) -> None:
        """Asks TikTok once for each connection that somebody waits for."""
        names = [name for name in self._wishes if name != SINK]
        for start in range(0, len(names), _PROBES_AT_ONCE):
            some = names[start : start + _PROBES_AT_ONCE]
            await asyncio.gather(*(self._ask_one(name) for name in some))

    async def _ask_one(self, name: str) -> None:
        catalog = self._wishes.pop(name)
        gate = self._gates.shut(name)
        if gate is None:
            return
        if gate.reason == gate_pb2.GATE_REASON_CREDENTIALS:
            if await self._marks.mark(catalog.connection_id) != gate.mark:
                self._relapses.pop(catalog.connection_id, None)
                await self._gates.reopen(name)
                return
            if gate.code == "access_token_missing":
                return
        if not self._gates.is_probe_due(name):
            return
        error = await self._read(catalog)
        if error is None and self._is_worth_a_write(gate, catalog):
            await self._gates.reopen(name)
        else:
            await self._gates.probe_failed(name)

    def _is_worth_a_write(self, gate: gate_pb2.Gate, catalog: CatalogSettings) -> bool:
        """Whether a read that works is enough to send again.

        It is no proof where TikTok read the token and refused what was asked with it.
        """
        if gate.reason != gate_pb2.GATE_REASON_CREDENTIALS or gate.code in _TOKEN_DEAD:
            return True
        relapse = self._relapses.get(catalog.connection_id)
        return relapse is None or self._clock.monotonic_s() >= relapse.until_s

    async def _read(self, catalog: CatalogSettings) -> ServiceError | None:
        try:
            await self._api.facts(catalog)
        except ServiceError as error:
            return error
        return None

    # -- after -----------------------------------------------------------------------------------

    async def ended(self, catalog: CatalogSettings, error: ServiceError | None) -> None:
        """Takes in how a call ended; shuts or opens what that shows.

        None is a write that worked; of reads only failures are to be told.
        """
        connection_id = catalog.connection_id
        if error is None:
            self._circuit.succeeded(connection_id)
            self._relapses.pop(connection_id, None)
            if self._gates.shut(connection_gate(connection_id)) is not None:
                await self._gates.reopen(connection_gate(connection_id))
            return
        match error.kind:
            case Kind.AUTH:
                await self._refused_credentials(connection_id, error)
            case Kind.RETRYABLE:
                await self._failed(connection_id, error)
            case Kind.PERMANENT | Kind.THROTTLED:
                if isinstance(error, RefusedError):
                    self._circuit.succeeded(connection_id)

    async def _refused_credentials(self, connection_id: str, error: ServiceError) -> None:
        scope = scope_of(error)
        if scope is not None and scope.is_shared:
            # Our app is refused, whatever the token.
            await self._gates.close(SINK, gate_pb2.GATE_REASON_OUTAGE, code=error.code)
            return
        if scope is not None:
            # TikTok works: it read the token. Only this connection waits for a person.
            self._circuit.succeeded(connection_id)
        if error.code not in _TOKEN_DEAD:
            self._relapsed(connection_id)
        name = connection_gate(connection_id)
        mark = await self._marks.mark(connection_id)
        reason = gate_pb2.GATE_REASON_CREDENTIALS
        await self._gates.close(name, reason, code=error.code, mark=mark)

    def _relapsed(self, connection_id: str) -> None:
        known = self._relapses.get(connection_id)
        wait_s = _RELAPSE_FIRST_S if known is None else min(_RELAPSE_MOST_S, 2 * known.wait_s)
        until_s = self._clock.monotonic_s() + wait_s
        self._relapses[connection_id] = _Relapse(wait_s, until_s)

    async def _failed(self, connection_id: str, error: ServiceError) -> None:
        scope = scope_of(error)
        if scope is None or not scope.is_shared or error.code == classify.BUDGET_SPENT:
            # Of this submit alone: who sends it waits by itself.
            return
        self._failures += 1
        of_upstream = not isinstance(error, RefusedError) and error.code not in _MAYBE_OWN
        trip = self._circuit.failed(
            connection_id,
            # A catalog has one request in flight: no single item fails time and again.
            f"{self._failures}",
            self._clock.monotonic_s(),
            of_upstream=of_upstream,
        )
        if trip is not None:
            what = SINK if trip is Trip.UPSTREAM else connection_gate(connection_id)
            await self._gates.close(what, gate_pb2.GATE_REASON_OUTAGE, code=error.code)


def _advice(code: str) -> str:
    """What a person is told who has to mend credentials."""
    if code in _TOKEN_DEAD:
        return f"{_meaning(code)}: {_RECONNECT}"
    return f"{_meaning(code)}: {_PERMIT}"


def _meaning(code: str) -> str:
    status = code.removeprefix("upstream_status_")
    if status != code:
        return f"TikTok answers with HTTP {status}"
    number = code.removeprefix("upstream_")
    if number.isdecimal():
        return return_code(int(number)).meaning
    return "there is no access token"

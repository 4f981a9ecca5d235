"""Trouble at TikTok, played while the storm goes on: what it does, shown live, and judged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import msgspec
from nats.aio.client import Client

from cli.demo.verdict import Check
from libs.bus import subjects
from libs.bus.jetstream_log import JetStreamLog
from libs.bus.parking import ParkingLot
from libs.clock import Clock
from libs.errors import ServiceError, permanent
from libs.gates import GateBook, connection_gate, sink_gate
from libs.ids import RandomIds
from libs.telemetry import Telemetry
from tidewire.delivery.v1 import gate_pb2

_SINK: Final = sink_gate("events")
_LOOK_EVERY_S: Final = 0.1
_DOWN_S: Final = 5.0
_MET_WITHIN_S: Final = 20.0
"""A trouble lasts until a gate was seen shut, but no longer: a busy machine may need a while to
send anything that meets it."""

_RECOVERED_WITHIN_S: Final = 30.0
"""Invariant 8: full speed within so long after the end of an outage, with no restart."""

_TOKEN_DEAD: Final = 40105

PLAYED: Final = frozenset({"http_503", str(_TOKEN_DEAD)})
"""What the simulator's ledger calls the answers that are played here."""

Say = Callable[[str], None]


@dataclass(slots=True)
class Seen:
    """What was seen of one trouble, in seconds from its beginning; None for what never came."""

    what: str
    lasted_s: float = 0.0
    shut_after_s: float | None = None
    open_after_end_s: float | None = None
    probes: int = 0
    parked_most: int = 0

    def told(self) -> str:
        """In a line."""
        shut = (
            "never shut" if self.shut_after_s is None else f"shut after {self.shut_after_s:.1f} s"
        )
        back = (
            "not open again"
            if self.open_after_end_s is None
            else f"open {self.open_after_end_s:.1f} s after its end"
        )
        parked = f", {self.parked_most:,} parked" if self.parked_most else ""
        return f"{self.what} for {self.lasted_s:.0f} s: {shut}, {back}{parked}"

    def faults(self) -> list[str]:
        """What did not go as it must."""
        wrong = []
        if self.shut_after_s is None:
            wrong.append(f"{self.what}: no gate was shut")
        elif self.open_after_end_s is None:
            wrong.append(f"{self.what}: not open {_RECOVERED_WITHIN_S:.0f} s after its end")
        return wrong


class Trouble:
    """First all of TikTok is down, then the token of one pixel is dead; both end by themselves."""

    def __init__(
        self,
        sandbox_url: str,
        nats: Client,
        session: aiohttp.ClientSession,
        clock: Clock,
        *,
        pixel: str,
        connection_id: str,
    ) -> None:
        metrics = Telemetry.null().metrics
        ids = RandomIds(clock)
        circuits = JetStreamLog(nats, subjects.bucket_stream(subjects.CIRCUITS), ids)
        self._gates = GateBook(nats, circuits, clock, metrics)
        self._lot = ParkingLot(nats, JetStreamLog(nats, subjects.PARKED, ids), "events", metrics)
        self._faults_url = f"{sandbox_url}/_sandbox/faults"
        self._session = session
        self._clock = clock
        self._pixel = pixel
        self._connection_id = connection_id
        self.token_dies = asyncio.Event()
        """Set when the second trouble has begun: what comes from then on is sure to meet it."""

    async def play(self, say: Say) -> list[Seen]:
        """Plays both and says how it goes; returns when both are over, or past their time."""
        down = {"effect": {"kind": "http_status", "status": 503}}
        dead = {
            "match": {"pixel": self._pixel},
            "effect": {"kind": "code", "code": _TOKEN_DEAD},
        }
        name = connection_gate(self._connection_id)
        await self._post([down])
        first = await self._one(Seen("TikTok down"), _SINK, say)
        await self._post([dead])
        self.token_dies.set()
        second = await self._one(Seen("a dead token"), name, say)
        say("works")
        return [first, second]

    async def _one(self, seen: Seen, name: str, say: Say) -> Seen:
        began_s = self._clock.monotonic_s()
        while (since_s := self._clock.monotonic_s() - began_s) < _DOWN_S or (
            seen.shut_after_s is None and since_s < _MET_WITHIN_S
        ):
            await self._look(seen, name, since_s, say)
        await self._end()
        ended_s = self._clock.monotonic_s()
        seen.lasted_s = ended_s - began_s
        while (since_s := self._clock.monotonic_s() - ended_s) < _RECOVERED_WITHIN_S:
            if await self._look(seen, name, since_s + seen.lasted_s, say):
                seen.open_after_end_s = since_s
                return seen
        return seen

    async def _look(self, seen: Seen, name: str, since_s: float, say: Say) -> bool:
        """One look at the gate; whether it was shut and is open again, with nothing behind it."""
        try:
            await self._gates.follow()
            await self._lot.count()
        except ServiceError:
            return False
        gate = self._gates.shut(name)
        parked = self._lot.depths.get(self._connection_id, 0) if name != _SINK else 0
        seen.parked_most = max(seen.parked_most, parked)
        if gate is not None:
            seen.shut_after_s = since_s if seen.shut_after_s is None else seen.shut_after_s
            seen.probes = max(seen.probes, gate.probes)
        say(_said(seen.what, gate, parked))
        await self._clock.sleep(_LOOK_EVERY_S)
        return seen.shut_after_s is not None and gate is None and not parked

    async def _post(self, script: list[dict[str, Any]]) -> None:
        async with self._session.post(self._faults_url, data=msgspec.json.encode(script)) as answer:
            if answer.status != 200:
                raise permanent("no_fault", f"the sandbox refused a fault: {await answer.text()}")

    async def _end(self) -> None:
        async with self._session.delete(self._faults_url):
            return


def judge_trouble(seen: list[Seen]) -> Check:
    """Each trouble was met, cost delay, and was over in time without anybody's help."""
    wrong = tuple(fault for one in seen for fault in one.faults())
    return Check("trouble at TikTok cost delay only", "; ".join(one.told() for one in seen), wrong)


def _said(what: str, gate: gate_pb2.Gate | None, parked: int) -> str:
    if gate is None:
        return f"{what}: gate open" + (f", {parked:,} parked are being sent" if parked else "")
    probes = f", {gate.probes} probes failed" if gate.probes else ""
    return f"{what}: gate shut ({gate.code}){probes}" + (f", {parked:,} parked" if parked else "")

"""How far the suite is: read from its metrics, its streams, the simulators and the processes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import msgspec
from nats.aio.client import Client

from cli.stack import Stack
from libs import metric_names
from libs.bus import subjects
from libs.bus.api import js_api
from libs.clock import Clock
from libs.errors import ServiceError, permanent
from libs.ledger.parked import REFERENCES as PARKED_UNITS
from sandbox.shopify.sender import Progress

_LOOK_EVERY_S: Final = 0.4
_STALLED_AFTER_S: Final = 60.0
"""How long the wait goes on while nothing moves: `ack_wait` is 15 s, so a retry is included."""

_QUIET_WITHIN_S: Final = 600.0


@dataclass(slots=True)
class Pulse:
    """How far everything is."""

    total: int
    """Deliveries to send."""

    finished: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    decided: int = 0
    """Deliveries that the normalizer has decided, repetitions included."""

    at_tiktok: int = 0
    """Events that TikTok has accepted."""

    tiktok: str = "works"
    """What is the matter with TikTok, and what is shut because of it."""

    catalogs: str = "not connected"
    """How far they are."""

    pending: dict[str, int] = field(default_factory=dict)
    """Messages that a durable has still to see or to acknowledge; no entry for none."""

    @property
    def stored(self) -> int:
        """Deliveries answered 200."""
        return self.answers["200"]

    @property
    def lag(self) -> int:
        """Messages on their way inside the suite."""
        return sum(self.pending.values())


@dataclass(slots=True)
class Memory:
    """Resident memory of each process, in bytes, by process and moment of the storm."""

    moments: dict[str, dict[str, int]] = field(default_factory=dict)
    peak: dict[str, int] = field(default_factory=dict)

    def note(self, rss: Mapping[str, int], moment: str = "") -> None:
        """Takes down one sample; of a `moment` the first sample stays."""
        for name, size in rss.items():
            self.peak[name] = max(size, self.peak.get(name, 0))
        if moment:
            self.moments.setdefault(moment, dict(rss))

    def as_dict(self) -> dict[str, dict[str, float]]:
        """MiB by process: at the start, in the middle and at the end of the storm, and the peak."""
        return {
            name: {
                **{moment: _mib(rss.get(name, 0)) for moment, rss in self.moments.items()},
                "peak_mib": _mib(peak),
            }
            for name, peak in sorted(self.peak.items())
        }


class Watch:
    """Looks at everything now and then, and tells `show` of it."""

    def __init__(
        self,
        stack: Stack,
        nats: Client,
        session: aiohttp.ClientSession,
        show: Callable[[Pulse], None],
        *,
        total: int,
        clock: Clock,
    ) -> None:
        self.pulse = Pulse(total)
        self.memory = Memory()
        self._stack = stack
        self._nats = nats
        self._session = session
        self._clock = clock
        self._show = show

    def note_sending(self, progress: Progress) -> None:
        """Takes in how far the sender is."""
        self.pulse.finished = progress.finished
        self.pulse.answers = Counter(
            {str(status): count for status, count in progress.statuses.items()}
        )
        if progress.finished * 2 >= self.pulse.total and "middle_mib" not in self.memory.moments:
            self.memory.note(self._stack.rss_bytes(), "middle_mib")

    def note_tiktok(self, said: str) -> None:
        """Takes in what is the matter with TikTok."""
        self.pulse.tiktok = said

    def note_catalogs(self, said: str) -> None:
        """Takes in how far the catalogs are, and shows it."""
        self.pulse.catalogs = said
        self._show(self.pulse)

    async def run(self) -> None:
        """Looks until it is cancelled.

        Raises:
            ServiceError: PERMANENT, `process_ended`.
        """
        while True:
            await self.look()
            await self._clock.sleep(_LOOK_EVERY_S)

    async def look(self) -> None:
        """One look at everything.

        Raises:
            ServiceError: PERMANENT, `process_ended`, with the end of the log of what has ended.
        """
        for name in self._stack.ended():
            raise permanent("process_ended", f"{name} has ended:\n{self._stack.log_tail(name)}")
        self.memory.note(self._stack.rss_bytes())
        pulse = self.pulse
        decided, accepted, pulse.pending = await asyncio.gather(
            self._decided(), self._accepted(), pending(self._nats)
        )
        # A look that an overloaded machine cuts short tells nothing; the next one will.
        pulse.decided = pulse.decided if decided is None else decided
        pulse.at_tiktok = pulse.at_tiktok if accepted is None else accepted
        self._show(pulse)

    async def until_quiet(self) -> str:
        """Returns when nothing is pending: "" then, else what was waited for in vain."""
        began_s = moved_s = self._clock.monotonic_s()
        before: object = None
        while True:
            await self.look()
            if not self.pulse.pending:
                return ""
            now_s = self._clock.monotonic_s()
            state = (dict(self.pulse.pending), self.pulse.decided, self.pulse.at_tiktok)
            moved_s = moved_s if state == before else now_s
            before = state
            if now_s - moved_s > _STALLED_AFTER_S or now_s - began_s > _QUIET_WITHIN_S:
                return ", ".join(f"{name} has {n} pending" for name, n in sorted(state[0].items()))
            await self._clock.sleep(_LOOK_EVERY_S)

    async def tiktok_ledger(self) -> dict[str, Any]:
        """The simulator's ledger, in full.

        Raises:
            ServiceError: PERMANENT, `no_judge`, where the simulator does not answer.
        """
        found = await self._fetched(f"{self._stack.sandbox_url}/_sandbox/ledger?full=1", 60)
        if found is None:
            raise permanent("no_judge", "the sandbox does not show its ledger: see its log")
        ledger: dict[str, Any] = msgspec.json.decode(found)
        return ledger

    async def _decided(self) -> int | None:
        port = self._stack.ports.metrics["ingest-normalizer"]
        page = await self._fetched(f"http://127.0.0.1:{port}/metrics")
        return None if page is None else _sum_of(page.decode(), metric_names.NORMALIZER_DELIVERIES)

    async def _accepted(self) -> int | None:
        page = await self._fetched(f"{self._stack.sandbox_url}/_sandbox/ledger")
        return None if page is None else int(msgspec.json.decode(page)["events_accepted"])

    async def _fetched(self, url: str, within_s: float = 3) -> bytes | None:
        timeout = aiohttp.ClientTimeout(total=within_s)
        try:
            async with self._session.get(url, timeout=timeout) as answer:
                return await answer.read() if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError):
            return None


async def pending(nats: Client) -> dict[str, int]:
    """What each durable has still to see or to acknowledge, and what is parked; no zeroes.

    WEBHOOKS is asked first: what its reader has acknowledged is by then in COMMERCE, so nothing
    slips through between the two; nor between COMMERCE and PARKED.
    """
    found: dict[str, int] = {}
    for stream in (subjects.WEBHOOKS, subjects.COMMERCE):
        try:
            listed = await js_api(nats, f"CONSUMER.LIST.{stream}")
        except ServiceError:
            found[f"{stream} (no answer)"] = 1
            continue
        for consumer in listed["consumers"] or ():
            count = int(consumer["num_pending"]) + int(consumer["num_ack_pending"])
            if count:
                found[str(consumer["name"])] = count
    try:
        request = {"subjects_filter": PARKED_UNITS}
        info = await js_api(nats, f"STREAM.INFO.{subjects.PARKED}", request)
    except ServiceError:
        found[f"{subjects.PARKED} (no answer)"] = 1
    else:
        found.update(info["state"].get("subjects") or {})
    return found


def _sum_of(page: str, metric: str) -> int:
    return sum(
        int(float(line.rpartition(" ")[2]))
        for line in page.splitlines()
        if line.startswith((f"{metric}{{", f"{metric} "))
    )


def _mib(size_bytes: int) -> float:
    return round(size_bytes / 2**20, 1)

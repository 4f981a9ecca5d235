"""One process's way to slots: reserves for those who wait, and gives out when the time comes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import msgspec

from libs.bus.commit_log import ConflictError
from libs.clock import Clock
from libs.errors import ServiceError
from libs.ids import Random
from libs.limits.errors import UNREACHABLE_AGAIN_S, busy, unreachable
from libs.limits.gcra import Limit, LimitState
from libs.limits.line import Line
from libs.limits.plan import Demand, Plan, plan
from libs.limits.port import Priority
from libs.limits.records import Known, Records
from libs.limits.server_time import ServerTime
from libs.telemetry import Counter

UNREACHABLE_AFTER_S: Final = 0.03
"""An operation that takes longer leaves its callers without an answer for too long: they are told
so within 50 ms of their call."""

_GRACE_S: Final = 0.005
"""For an answer that is here already: where this process itself was held up, its timers come before
what is to be read."""

_TRIES: Final = 8
_LIMITS_MAX: Final = 256
"""Limits of one reservation; a batch holds 500 entries."""

_GATHER_MAX_NS: Final = 200_000_000
"""While slots are in hand the demand behind them gathers for so long at most."""

_GATHER_LEAD_NS: Final = 2_000_000
_LEAD_MAX_S: Final = 0.4
_JITTER_NS: Final = 100_000_000
_BACKOFF_S: Final = 0.002

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Office:
    """What the desks of one process share."""

    records: Records
    time: ServerTime
    clock: Clock
    random: Random
    late: Counter
    paused: Mapping[str, int]
    """Until when limits are paused, as far as this process was told, by name."""
    spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class Desk:
    """Slots for the lines whose first limit is the same.

    One reservation is under way at a time, for all who wait by then. While slots are in hand the
    next one waits until they are nearly used up: the busier it is, the more callers share a write,
    and nothing is lost by it, for what is reserved later lies behind what is reserved already.
    """

    def __init__(self, name: str, office: Office) -> None:
        self._name = name
        self._office = office
        self._lines: dict[Line, None] = {}
        self._generation = 0
        self._reserver: asyncio.Task[None] | None = None
        self._nap: asyncio.Task[None] | None = None
        self._not_before_ns = 0
        self._blocked: Mapping[tuple[Line, Priority], int] = {}
        self._contended = False
        self._down_until_s = -math.inf

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits and nothing is in hand."""
        return self._reserver is None and not self._lines

    @property
    def is_down(self) -> bool:
        """Whether the shared state did not answer just now."""
        return self._down_until_s > self._office.clock.monotonic_s()

    def wants(self, line: Line, priority: Priority) -> None:
        """There is one more in `line`, or a slot less."""
        self._lines[line] = None
        if self._reserver is None:
            self._reserver = self._office.spawn(self._reserve_all())
        elif self._blocked and (line, priority) not in self._blocked:
            self._look_again()

    def holds(self, names: Sequence[str]) -> bool:
        """Whether a line of this desk is under one of these limits."""
        return any(limit.name in names for line in self._lines for limit in line.limits)

    def forget_slots(self) -> None:
        """Drops what is in hand: those who wait for it need new slots."""
        self._generation += 1
        for line in self._lines:
            line.in_hand = 0
        if self._reserver is None and self._unmet():
            self._reserver = self._office.spawn(self._reserve_all())
        self._look_again()

    def _look_again(self) -> None:
        self._not_before_ns = 0
        self._blocked = {}
        if self._nap is not None:
            self._nap.cancel()

    def _unmet(self) -> bool:
        for line in [line for line in self._lines if line.is_idle]:
            del self._lines[line]
        return any(line.unmet for line in self._lines)

    async def _reserve_all(self) -> None:
        try:
            while self._unmet():
                wait_ns = self._not_before_ns - self._office.time.now_ns()
                if wait_ns > 0:
                    self._nap = asyncio.ensure_future(self._office.clock.sleep(wait_ns / 1e9))
                    # Cancelling the nap ends it early; the wait itself then goes on.
                    await asyncio.wait({self._nap})
                    self._nap = None
                else:
                    await self._reserve()
        finally:
            if self._nap is not None:
                self._nap.cancel()
            self._reserver = None

    async def _reserve(self) -> None:
        """One reservation; on a conflict it is planned again, a few times."""
        for attempt in range(_TRIES):
            demands = self._demands()
            limits = {limit.name: limit for one in demands for limit in one.limits}
            if not demands:
                return
            try:
                known = await self._known(demands, list(limits.values()))
                if known is not None:
                    await self._written(demands, known)
            except ConflictError:
                self._contended = True
                await self._office.clock.sleep(self._office.random() * _BACKOFF_S * 2**attempt)
                continue
            except ServiceError:
                self._is_unreachable(self._office.clock.monotonic_s() + UNREACHABLE_AGAIN_S)
            return
        self._not_before_ns = self._office.time.now_ns() + self._jitter_ns()

    def _demands(self) -> list[Demand[Line]]:
        """What is wanted, of so many lines as fit into one write, those next in turn first."""
        found: list[Demand[Line]] = []
        count = 0
        for line in list(self._lines):
            if not line.unmet:
                continue
            count += len(line.limits)
            if count > _LIMITS_MAX:
                break
            found += line.demands()
            # Behind the others, for the next time.
            del self._lines[line]
            self._lines[line] = None
        return found

    async def _known(
        self, demands: Sequence[Demand[Line]], limits: Sequence[Limit]
    ) -> dict[str, Known] | None:
        """The records to build on; None where they have no room, which costs no operation.

        Clocks only go forward, so no room by an old record is no room by the newest.
        """
        known = self._office.records.known(limits)
        if known is not None:
            one_each = [replace(demand, count=1) for demand in demands]
            made = plan(one_each, self._states(known), self._earliest_ns())
            if not made.slots:
                self._is_blocked(made)
                return None
            if not self._contended:
                return known
        reading = self._office.records.read(limits, self._office.time.now_ns())
        found = await self._in_time(reading)
        if known is not None:
            self._contended = any(
                found[name].sequence != one.sequence for name, one in known.items()
            )
        return found

    async def _written(self, demands: Sequence[Demand[Line]], known: Mapping[str, Known]) -> None:
        made = plan(demands, self._states(known), self._earliest_ns())
        new = {name: one.state for name, one in known.items() if one.is_new}
        states = new | made.states
        if states:
            await self._in_time(self._office.records.write(states, known))
        if made.slots:
            self._blocked = {}
            self._hand_out(made)
        else:
            self._is_blocked(made)

    def _states(self, known: Mapping[str, Known]) -> dict[str, LimitState]:
        paused = self._office.paused
        return {
            name: msgspec.structs.replace(
                one.state, paused_until_ns=max(paused[name], one.state.paused_until_ns)
            )
            if name in paused
            else one.state
            for name, one in known.items()
        }

    def _earliest_ns(self) -> int:
        """When what is reserved now can be used: once it is written.

        Where writes are so slow that callers are sent away meanwhile, it is kept for their return.
        """
        write_s = self._office.records.write_s
        lead_s = min(write_s * 1.5, _LEAD_MAX_S)
        if write_s > UNREACHABLE_AFTER_S / 2:
            lead_s += UNREACHABLE_AGAIN_S
        return self._office.time.now_ns() + int(lead_s * 1e9)

    def _hand_out(self, made: Plan[Line]) -> None:
        made.slots.sort(key=lambda slot: slot[0])
        for _, line in made.slots:
            line.in_hand += 1
        last_ns = made.slots[-1][0]
        lead_ns = int(3e9 * self._office.records.write_s) + _GATHER_LEAD_NS
        now_ns = self._office.time.now_ns()
        self._not_before_ns = max(
            min(last_ns - lead_ns, now_ns + _GATHER_MAX_NS), made.retry_ns or 0
        )
        self._office.spawn(self._give_out(made.slots, self._generation))

    async def _give_out(self, slots: Sequence[tuple[int, Line]], generation: int) -> None:
        time, clock = self._office.time, self._office.clock
        for slot_ns, line in slots:
            early_ns = slot_ns - time.now_ns()
            while early_ns > 0 and generation == self._generation:
                await clock.sleep(early_ns / 1e9)
                early_ns = slot_ns - time.now_ns()
            if generation != self._generation:
                return
            line.in_hand -= 1
            # Whoever has it looks whether it is late: it is a moment until that caller goes on.
            line.give(slot_ns)

    def _is_blocked(self, made: Plan[Line]) -> None:
        """Notes when to come back, and fails those who do not want to wait so long."""
        now_ns, now_s = self._office.time.now_ns(), self._office.clock.monotonic_s()
        self._blocked = made.blocked
        retry_ns = made.retry_ns or now_ns
        # All that are blocked know the same instant: those who share it spread out behind it.
        self._not_before_ns = retry_ns + (self._jitter_ns() if self._contended else 0)
        for (line, priority), slot_ns in made.blocked.items():
            wait_s = (slot_ns - now_ns) / 1e9
            line.fail_later_than(now_s + wait_s, priority, busy(self._name, wait_s))

    def _jitter_ns(self) -> int:
        return int(self._office.random() * _JITTER_NS)

    async def _in_time(self, operation: Coroutine[Any, Any, T]) -> T:
        """The result of `operation`; meanwhile, callers without a slot do not wait for ever."""
        task = asyncio.ensure_future(operation)
        try:
            for patience_s in (UNREACHABLE_AFTER_S, _GRACE_S):
                await asyncio.wait({task}, timeout=patience_s)
            if not task.done():
                self._is_unreachable(math.inf)
            result = await task
            self._down_until_s = -math.inf
        except ConflictError:
            # That is an answer too.
            self._down_until_s = -math.inf
            raise
        finally:
            task.cancel()
            if self._down_until_s == math.inf:
                # Whatever ended it: nobody would ask again while this says that it is under way.
                self._down_until_s = self._office.clock.monotonic_s() + UNREACHABLE_AGAIN_S
        return result

    def _is_unreachable(self, until_s: float) -> None:
        self._down_until_s = until_s
        for line in list(self._lines):
            line.fail_unmet(unreachable(self._name))

"""What may be done with dead letters: each decided once, then done as often as it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from libs.bus.commit_log import CommitLog, ConflictError
from libs.clock import Clock
from libs.telemetry import SpanRef, Tracer
from services.delivery.ports import Letter, Letters
from services.delivery.replays import (
    MAY_COUNT_TWICE,
    DeliveryReplay,
    FactReplay,
    Refused,
    replay_of,
)
from tidewire.delivery.v1 import dead_letter_service_pb2 as pb
from tidewire.ingest.v1 import delivery_pb2

_AT_ONCE: Final = 8
"""Letters that are dealt with at the same time: three writes each, beside the live ones."""

StoreSegment = Callable[[delivery_pb2.DeliverySegment], Awaitable[None]]
"""Stores a segment in WEBHOOKS, once for each id; returns when it is durable."""


class Act(Protocol):
    """One thing that can be done with letters."""

    @property
    def name(self) -> str:
        """What a plan is made for."""

    def foreseen(self, letter: Letter) -> pb.DeadLetterAction:
        """What doing it would come to."""

    async def do(self, letter: Letter) -> pb.DeadLetterAction:
        """Does it; what was done before stays done.

        Raises:
            ServiceError: RETRYABLE; doing it again completes it.
        """


async def done(act: Act, letters: Sequence[Letter], *, dry_run: bool) -> list[pb.DeadLetterAction]:
    """What became of each letter, in order."""
    if dry_run:
        return [act.foreseen(letter) for letter in letters]
    turn = asyncio.Semaphore(_AT_ONCE)

    async def one(letter: Letter) -> pb.DeadLetterAction:
        async with turn:
            return await act.do(letter)

    # All of them come to their end before an error of one is told.
    ended = await asyncio.gather(*map(one, letters), return_exceptions=True)
    for end in ended:
        if isinstance(end, BaseException):
            raise end
    return [end for end in ended if isinstance(end, pb.DeadLetterAction)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaying:
    """Puts letters on their way again.

    The decision is stored first, then the replay, then that it is done. Whoever is killed between
    leaves a letter that is still open, and what the next one stores for it has the same name. A
    replay and a drop of one letter exclude each other by the decision.
    """

    letters: Letters
    commerce: CommitLog
    store_segment: StoreSegment
    tracer: Tracer
    clock: Clock
    by: str

    @property
    def name(self) -> str:
        return "replay"

    def foreseen(self, letter: Letter) -> pb.DeadLetterAction:
        known = _settled(letter)
        if known is not None:
            return known
        replay = replay_of(letter.letter)
        if isinstance(replay, Refused):
            return _action(letter, "not_replayable", reason=replay.reason)
        twice = letter.letter.code == "maybe_sent"
        return _action(
            letter,
            "would_replay",
            replayed_as=replay.replayed_as,
            reason=MAY_COUNT_TWICE if twice else "",
        )

    async def do(self, letter: Letter) -> pb.DeadLetterAction:
        known = _settled(letter)
        if known is not None:
            return known
        replay = replay_of(letter.letter)
        if isinstance(replay, Refused):
            return _action(letter, "not_replayable", reason=replay.reason)
        fate = _fate(letter, pb.DEAD_LETTER_STATE_REPLAYED, self.by, self.clock)
        fate.replayed_as = replay.replayed_as
        decided = await self.letters.decide(letter, fate)
        letter.fate = decided.fate
        if not decided.fate.carried_out:
            await self._carry_out(letter, replay)
            await self.letters.carried_out(letter, decided)
        if not decided.ours:
            return _as_decided(letter, decided.fate)
        return _action(letter, "replayed", replayed_as=replay.replayed_as)

    async def _carry_out(self, letter: Letter, replay: FactReplay | DeliveryReplay) -> None:
        """Stores the replay in a trace of its own, whose first span points at the original."""
        root, started_ns = self.tracer.start_trace(), self.clock.now_ns()
        if isinstance(replay, DeliveryReplay):
            await self.store_segment(replay.segment(root, started_ns))
        else:
            # A conflict is the same replay: it is there, with the trace of who was first.
            with suppress(ConflictError):
                await self.commerce.commit(replay.entries(root, started_ns))
        original = SpanRef.parse(letter.letter.traceparent)
        self.tracer.emit(
            "dead letter replayed",
            root,
            parent=None,
            start_ns=started_ns,
            end_ns=self.clock.now_ns(),
            attributes={"shop": letter.letter.shop, "reason": letter.letter.code},
            links=[original] if original else [],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropping:
    """Marks letters as not needed; they stay in the stream until they expire."""

    letters: Letters
    clock: Clock
    by: str
    reason: str

    @property
    def name(self) -> str:
        return "drop"

    def foreseen(self, letter: Letter) -> pb.DeadLetterAction:
        return _as_decided(letter, letter.fate) if letter.fate else _action(letter, "would_drop")

    async def do(self, letter: Letter) -> pb.DeadLetterAction:
        fate = _fate(letter, pb.DEAD_LETTER_STATE_DROPPED, self.by, self.clock)
        fate.reason = self.reason
        fate.carried_out = True
        decided = await self.letters.decide(letter, fate)
        return _action(letter, "dropped") if decided.ours else _as_decided(letter, decided.fate)


def _fate(
    letter: Letter, state: pb.DeadLetterState.ValueType, by: str, clock: Clock
) -> pb.DeadLetterFate:
    fate = pb.DeadLetterFate(
        dead_letter_id=letter.letter.dead_letter_id, state=state, decided_by=by
    )
    fate.decided_at.FromNanoseconds(clock.now_ns())
    return fate


def _settled(letter: Letter) -> pb.DeadLetterAction | None:
    """What to say of a letter with which nothing is left to do."""
    return _as_decided(letter, letter.fate) if letter.fate and letter.settled else None


def _as_decided(letter: Letter, fate: pb.DeadLetterFate) -> pb.DeadLetterAction:
    dropped = fate.state == pb.DEAD_LETTER_STATE_DROPPED
    result = "already_dropped" if dropped else "already_replayed"
    return _action(letter, result, replayed_as=fate.replayed_as, reason=fate.reason)


def _action(
    letter: Letter, result: str, *, replayed_as: str = "", reason: str = ""
) -> pb.DeadLetterAction:
    return pb.DeadLetterAction(
        dead_letter_id=letter.letter.dead_letter_id,
        result=result,
        replayed_as=replayed_as,
        reason=reason,
    )

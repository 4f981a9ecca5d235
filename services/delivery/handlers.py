"""What may be done with dead letters: each decided once, then done as often as it takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from libs.bus.commit_log import BATCH_BYTES_MAX, ENTRIES_MAX, CommitLog, ConflictError, Entry
from libs.clock import Clock
from libs.telemetry import SpanRef, Tracer
from services.delivery.ports import Letter, Letters
from services.delivery.replays import (
    MAY_COUNT_TWICE,
    DeliveryReplay,
    FactReplay,
    Refused,
    grouped,
    packed,
    replay_of,
)
from tidewire.delivery.v1 import dead_letter_service_pb2 as pb
from tidewire.delivery.v1 import outcome_pb2
from tidewire.ingest.v1 import delivery_pb2

_WOULD_REPLAY: Final = "would_replay"
_BATCH_FACTS: Final = ENTRIES_MAX // 2
"""A fact and its marker each."""
_BATCH_BYTES: Final = BATCH_BYTES_MAX // 2
"""Room for subjects and headers, and for live batches beside it."""

StoreSegment = Callable[[delivery_pb2.DeliverySegment], Awaitable[None]]
"""Stores a segment in WEBHOOKS, once for each id; returns when it is durable."""


class Act(Protocol):
    """One thing that can be done with letters."""

    @property
    def name(self) -> str:
        """What a plan is made for."""

    def foreseen(self, letter: Letter) -> pb.DeadLetterAction:
        """What doing it would come to."""

    async def do(self, letters: Sequence[Letter]) -> list[pb.DeadLetterAction]:
        """Does it to each, in order; what was done before stays done.

        Raises:
            ServiceError: RETRYABLE; doing it again completes it.
        """


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
            _WOULD_REPLAY,
            replayed_as=replay.replayed_as,
            reason=MAY_COUNT_TWICE if twice else "",
        )

    async def do(self, letters: Sequence[Letter]) -> list[pb.DeadLetterAction]:
        foreseen = [self.foreseen(letter) for letter in letters]
        wanted = [
            letter
            for letter, action in zip(letters, foreseen, strict=True)
            if action.result == _WOULD_REPLAY
        ]
        ours = iter(await self.letters.decide(wanted, [self._fate(one) for one in wanted]))
        # Those of others too, where they are decided and not done: whoever decided may be gone.
        await self._carry_out([one for one in wanted if one.fate and not one.fate.carried_out])
        for place, letter in enumerate(letters):
            if foreseen[place].result != _WOULD_REPLAY:
                continue
            if next(ours):
                foreseen[place].result = "replayed"
            elif letter.fate is not None:
                foreseen[place] = _as_decided(letter, letter.fate)
        return foreseen

    def _fate(self, letter: Letter) -> pb.DeadLetterFate:
        fate = _fate(letter, pb.DEAD_LETTER_STATE_REPLAYED, self.by, self.clock)
        fate.replayed_as = self.foreseen(letter).replayed_as
        return fate

    async def _carry_out(self, letters: Sequence[Letter]) -> None:
        """Stores the replays, each in a trace of its own whose first span points at the original.

        A letter that was stored twice is replayed once.
        """
        by_id = {letter.letter.dead_letter_id: letter for letter in letters}
        started_ns = self.clock.now_ns()
        roots = {letter_id: self.tracer.start_trace() for letter_id in by_id}
        facts: list[list[Entry]] = []
        deliveries: list[delivery_pb2.Delivery] = []
        for letter_id, letter in by_id.items():
            match replay_of(letter.letter):
                case FactReplay() as replay:
                    facts.append(replay.entries(roots[letter_id], started_ns))
                case DeliveryReplay() as replay:
                    deliveries.append(replay.delivery(roots[letter_id], started_ns))
        for group in grouped(facts, _size, bytes_max=_BATCH_BYTES, items_max=_BATCH_FACTS):
            await self._commit(group)
        for segment in packed(deliveries, started_ns):
            await self.store_segment(segment)
        await self.letters.carried_out(letters)
        for letter_id, root in roots.items():
            self._trace(by_id[letter_id].letter, root, started_ns)

    async def _commit(self, facts: Sequence[Sequence[Entry]]) -> None:
        """Each fact with its marker, once; a conflict is the same replay, which is there then."""
        try:
            await self.commerce.commit([entry for entries in facts for entry in entries])
        except ConflictError:
            for entries in facts:
                with suppress(ConflictError):
                    await self.commerce.commit(entries)

    def _trace(self, letter: outcome_pb2.DeadLetter, root: SpanRef, started_ns: int) -> None:
        original = SpanRef.parse(letter.traceparent)
        self.tracer.emit(
            "dead letter replayed",
            root,
            parent=None,
            start_ns=started_ns,
            end_ns=self.clock.now_ns(),
            attributes={"shop": letter.shop, "reason": letter.code},
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

    async def do(self, letters: Sequence[Letter]) -> list[pb.DeadLetterAction]:
        ours = await self.letters.decide(letters, [self._fate(one) for one in letters])
        return [
            _action(letter, "dropped")
            if mine or letter.fate is None
            else _as_decided(letter, letter.fate)
            for letter, mine in zip(letters, ours, strict=True)
        ]

    def _fate(self, letter: Letter) -> pb.DeadLetterFate:
        fate = _fate(letter, pb.DEAD_LETTER_STATE_DROPPED, self.by, self.clock)
        fate.reason = self.reason
        fate.carried_out = True
        return fate


def _size(entries: Sequence[Entry]) -> int:
    return sum(len(entry.data) for entry in entries)


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

"""What the delivery service needs of others, and the shapes in which it gets it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tidewire.delivery.v1 import dead_letter_service_pb2 as pb
from tidewire.delivery.v1 import outcome_pb2


@dataclass(slots=True)
class Letter:
    """A dead letter at its place in the stream."""

    letter: outcome_pb2.DeadLetter
    sequence: int
    fate: pb.DeadLetterFate | None = None

    @property
    def settled(self) -> bool:
        """Whether somebody has dealt with it to the end."""
        return self.fate is not None and self.fate.carried_out


@dataclass(frozen=True, slots=True)
class LetterPage:
    """Letters in order, and the sequence behind which the next ones stand; None at the end."""

    letters: Sequence[Letter]
    next_after: int | None


class Letters(Protocol):
    """Dead letters and what becomes of them. Every method raises RETRYABLE without NATS."""

    async def last_sequence(self) -> int:
        """Where the stream ends now."""

    async def page(
        self, wanted: pb.DeadLetterFilter, *, after: int, until: int, limit: int
    ) -> LetterPage:
        """At most `limit` letters that fit, behind sequence `after` and not behind `until`."""

    async def by_id(self, ids: Iterable[str]) -> dict[str, Letter]:
        """Those of these letters that there still are."""

    async def decide(
        self, letters: Sequence[Letter], fates: Sequence[pb.DeadLetterFate]
    ) -> list[bool]:
        """Records each fate whose letter has none; says for each whether this call decided.

        Each letter's `fate` is afterwards what was decided, by whomever.
        """

    async def carried_out(self, letters: Sequence[Letter]) -> None:
        """Records that what was decided of each is done as well."""

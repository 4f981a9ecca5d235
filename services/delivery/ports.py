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
    fate_sequence: int = 0

    @property
    def settled(self) -> bool:
        """Whether somebody has dealt with it to the end."""
        return self.fate is not None and self.fate.carried_out


@dataclass(frozen=True, slots=True)
class LetterPage:
    """Letters in order, and the sequence behind which the next ones stand; None at the end."""

    letters: Sequence[Letter]
    next_after: int | None


@dataclass(frozen=True, slots=True)
class Decided:
    """What was decided about a letter, and whether by this call."""

    fate: pb.DeadLetterFate
    sequence: int
    ours: bool


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

    async def decide(self, letter: Letter, fate: pb.DeadLetterFate) -> Decided:
        """Records `fate` if nothing was decided before; else gives what was."""

    async def carried_out(self, letter: Letter, decided: Decided) -> None:
        """Records that what was decided is done as well."""


class Permissions(Protocol):
    """What the caller of the rpc under way may do."""

    def may_reveal(self) -> bool:
        """Whether it may see personal data in clear."""


@dataclass(frozen=True, slots=True)
class SamePermissions:
    """The same for every caller: while callers are not told apart."""

    reveal: bool = False

    def may_reveal(self) -> bool:
        """As the process was set up."""
        return self.reveal

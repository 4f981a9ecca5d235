"""What must hold of a round in which the holder of a refresh was struck. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final

from tests.faults.token_house import Handed

REPORTED_WITHIN_S: Final = 5.0
"""From the kill until the bus has told that a grant was lost."""

SERVED_WITHIN_S: Final = 8.0
"""From the strike until every living replica hands out a good token: the lease of a dead holder
(2 s), a second of doubt, the call; and two cores on which five processes and a judge run."""


class Strike(StrEnum):
    """What is done to the holder."""

    KILL = "kill"
    PAUSE = "pause"
    """SIGSTOP until another has taken over, and longer than its lease."""

    NAP = "nap"
    """SIGSTOP, shorter than its lease: nobody may take over."""


_EXPECTED: Final = {"strict": "lost", "grace": "kept"}


@dataclass(frozen=True, slots=True)
class Plan:
    """A round, as it is drawn."""

    number: int
    strike: Strike
    rotation: str
    asked: bool
    """Whether callers wait, or the background alone must find out."""

    staged: bool
    """Whether the strike waits until the provider has rotated; else it comes at any moment."""

    delay_s: float
    seconds: float
    """How long a nap is, or how long a pause goes on after another took over."""

    def named(self) -> str:
        how = "asked" if self.asked else "unasked"
        when = "after the rotation" if self.staged else "at any moment"
        return f"{self.number}: {self.strike} in {self.rotation}, {how}, {when} +{self.delay_s:.2f}"


def planned(count: int, seed: int, first: int = 1) -> list[Plan]:
    """So many rounds, the same for the same seed: every kind in turn, times by chance."""
    rng = Random(seed)
    plans = []
    for number in range(first, first + count):
        strike = (Strike.KILL, Strike.PAUSE, Strike.KILL, Strike.PAUSE, Strike.NAP)[number % 5]
        staged = strike is Strike.NAP or rng.random() < 0.7
        plans.append(
            Plan(
                number,
                strike,
                rotation="strict" if (number // 5) % 2 else "grace",
                asked=rng.random() < 0.6,
                staged=staged,
                delay_s=rng.uniform(0.0, 0.4 if staged else 0.6),
                seconds=rng.uniform(0.2, 0.9),
            )
        )
    return plans


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What came of a round. Times are seconds after the strike; None: never."""

    plan: Plan
    refreshes: int
    """Pairs that the provider has given for the old one."""

    answer_lost: bool
    """The provider had rotated before the strike, and nothing was stored after it."""

    lost: bool
    """The provider's word: only a dead refresh token was left."""

    reported_s: float | None = None
    condemned: bool = False
    """Whether every replica present says that a person is needed, and its metric counts it."""

    served_s: float | None = None
    """Until every replica present, a paused one too, handed out a token that was then used; after
    a loss, once the store was connected again."""

    dead_calls: int = 0
    handed: Sequence[Handed] = ()


def complaints(seen: Seen) -> Iterator[str]:
    """What did not hold."""
    yield from _of_refreshes(seen)
    yield from _of_loss(seen)
    if seen.served_s is None:
        yield "not every replica hands out a good token"
    elif not seen.lost and seen.served_s > SERVED_WITHIN_S + _held_up_s(seen.plan):
        yield f"a good token only after {seen.served_s:.1f} s"
    if seen.dead_calls:
        yield f"{seen.dead_calls} calls with a dead token"
    yield from doubles(seen.handed)


def _of_refreshes(seen: Seen) -> Iterator[str]:
    most = 1 if seen.plan.strike is Strike.NAP else 2
    if seen.refreshes > most:
        yield f"{seen.refreshes} refreshes"
    if seen.answer_lost and not seen.lost and seen.refreshes < most:
        yield "a token came from nowhere: the first answer was lost, and there was no second"


def _of_loss(seen: Seen) -> Iterator[str]:
    plan = seen.plan
    if seen.lost and plan.rotation == "grace":
        yield "the grant is lost although its old refresh token lived"
    if seen.lost and plan.strike is Strike.NAP:
        yield "robbed within its lease"
    if seen.answer_lost and seen.lost != (plan.rotation == "strict"):
        yield f"without the first answer the grant must be {_EXPECTED[plan.rotation]}"
    if seen.lost and not seen.answer_lost and plan.staged:
        yield "lost although the first answer was stored"
    if seen.lost != (seen.reported_s is not None) or seen.lost != seen.condemned:
        word = "lost" if seen.lost else "not lost"
        yield f"{word}, told on the bus: {seen.reported_s}, shown to people: {seen.condemned}"
    if seen.reported_s is not None and seen.reported_s > REPORTED_WITHIN_S:
        yield f"its loss was told after {seen.reported_s:.1f} s"


def _held_up_s(plan: Plan) -> float:
    """By so much a paused replica cannot answer earlier."""
    return 0.0 if plan.strike is Strike.KILL else plan.seconds


def doubles(handed: Iterable[Handed]) -> Iterator[str]:
    """Revisions under which more than one token was handed out: one came from a loser's answer."""
    tokens: dict[tuple[str, int], set[str]] = defaultdict(set)
    revisions: dict[str, set[int]] = defaultdict(set)
    for one in handed:
        tokens[one.connection_id, one.revision].add(one.token)
        revisions[one.token].add(one.revision)
    for (connection_id, revision), found in sorted(tokens.items()):
        if len(found) > 1:
            yield f"{len(found)} different tokens of {connection_id} at revision {revision}"
    for found_at in revisions.values():
        if len(found_at) > 1:
            yield f"one token at revisions {sorted(found_at)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one kind of trouble did, over all its rounds."""

    name: str
    what: str
    rounds: int
    refreshes_most: int
    """In one round."""

    lost: int
    """Grants; with strict rotation some must be."""

    reported_s: float | None
    """The longest from a strike to the word that its grant is lost."""

    served_s: float
    """The longest from a strike, or from an outage's end, to good tokens from every replica."""

    dead_calls: int
    complaints: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.complaints and not self.dead_calls

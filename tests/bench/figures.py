"""Numbers from repeated measurements, and how they are judged and written. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from enum import StrEnum

import msgspec


class Spread(msgspec.Struct, frozen=True):
    """A figure measured in several rounds: its median, and the lowest and highest of them."""

    median: float
    low: float
    high: float
    rounds: int


class Bound(StrEnum):
    AT_LEAST = "≥"
    AT_MOST = "≤"


class Goal(msgspec.Struct, frozen=True):
    """A figure that was promised, and what was measured. The median decides."""

    name: str
    bound: Bound
    limit: float
    measured: Spread
    unit: str = ""

    @property
    def met(self) -> bool:
        if self.bound is Bound.AT_LEAST:
            return self.measured.median >= self.limit
        return self.measured.median <= self.limit


def spread(values: Sequence[float]) -> Spread:
    """The spread of one value a round.

    Raises:
        ValueError: there is no round.
    """
    if not values:
        raise ValueError("nothing was measured")
    return Spread(statistics.median(values), min(values), max(values), len(values))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """`ours` over `theirs`, round by round: what slows a round down slows both.

    Raises:
        ValueError: the rounds do not pair up, or there is none.
    """
    return spread([one / other for one, other in zip(ours, theirs, strict=True)])


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0.5 is the median) of `values` do not exceed; 0.0 if there is none.

    It is always one that was measured, never one between two.
    """
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)] if ordered else 0.0


def number(value: float) -> str:
    """`value` with as many digits as it is worth: 4,702; 13.1; 1.08; 0.042."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 1 or not value else f"{value:.3f}"


def spread_text(found: Spread, unit: str = "") -> str:
    """`4,702 (4,550 to 4,810) req/s`; one round has no range."""
    behind = f" {unit}" if unit else ""
    if found.rounds == 1:
        return f"{number(found.median)}{behind}"
    return f"{number(found.median)} ({number(found.low)} to {number(found.high)}){behind}"


def goal_text(goal: Goal) -> str:
    """One line that says what was promised, what came out, and whether that is enough."""
    verdict = "met" if goal.met else "MISSED"
    promised = f"{goal.bound.value} {number(goal.limit)}{f' {goal.unit}' if goal.unit else ''}"
    return f"{verdict}: {goal.name}: {spread_text(goal.measured, goal.unit)}, goal {promised}"

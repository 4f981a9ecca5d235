"""What a run was asked for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]


def environment() -> dict[str, str]:
    """What every process of the bench is told: where the project's modules are."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "gen")])}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`seconds` is the length of one burst; each contender has one a round."""

    seconds: float
    rounds: int
    quick: bool
    directory: Path
    now: datetime
    fastapi_python: str | None = None
    amqp_url: str | None = None

    def as_dict(self) -> dict[str, str]:
        """For the head of the report."""
        kind = "quick: a smoke run, NOT a measurement" if self.quick else "full"
        return {"run": f"{kind}, {self.rounds} rounds of {self.seconds:g} s bursts"}

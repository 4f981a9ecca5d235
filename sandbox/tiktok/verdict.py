"""The words that validators, faults and ledger share: an event, a refusal, a judgement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

MATCH_KEYS = ("email", "phone", "external_id", "ttclid", "ttp", "ip")
"""What TikTok can find a person by; bit n of `Event.match` says that key n was sent."""


class Problem(NamedTuple):
    """What is wrong with a value, and the code that TikTok would answer."""

    code: int
    text: str


class Event(NamedTuple):
    """What is kept of an event: enough to judge by, and nothing personal."""

    name: str
    event_id: str
    event_time_s: int
    value: float | None
    currency: str | None
    match: int


class Refused(Exception):  # noqa: N818 - a verdict of the simulator, not an error in it
    """A request that is refused whole. `path` names the field at fault, `""` for the body."""

    def __init__(self, problem: Problem, path: str, value: object = None) -> None:
        super().__init__(f"{problem.code} {path}: {problem.text}")
        self.code = problem.code
        self.text = problem.text
        self.path = path
        self.value = value


@dataclass(slots=True)
class Claim:
    """What a request says when every rule is kept."""

    source_id: str
    is_test: bool
    events: list[Event]
    notes: list[str]
    """What is tolerated but worth a look, as `path: reason`."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the service thinks of a request before any fault meddles with its answer."""

    code: int
    message: str
    claim: Claim | None
    source_id: str = ""
    event_ids: tuple[str, ...] = ()
    """As read, refused or not; `""` where there is none. They number the events received."""

    index_path: str = ""
    """How messages name an event of this endpoint, `data.{index}.`; `""` where there is one."""

    path: str = ""
    """The field at fault."""

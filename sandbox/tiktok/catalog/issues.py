"""What can be wrong with an item, and how a feed's log groups it."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final, NamedTuple

SHOWN_PER_ISSUE: Final = 5
FIRST_INDEX: Final = 2
"""The log counts as a file with a header would: the first product of a request is line 2."""


class Level(IntEnum):
    """How much a fault spoils; the highest of an item's decides."""

    NOTE = 0
    """Tolerated, and counted where a test can see it."""

    WARNING = 1
    ERROR = 2
    SHAPE = 3
    """Missing, of the wrong type or not of the enum: TikTok refuses the whole request for it."""


class Fault(NamedTuple):
    """One thing that is wrong with one item. Equal faults are one issue of the log."""

    level: Level
    field: str
    text: str
    fix: str = ""


class Found(NamedTuple):
    """A fault and the value that has it."""

    fault: Fault
    value: object = None


class Sample(NamedTuple):
    """How the log shows an item that has an issue."""

    title: str = ""
    description: str = ""
    url: str = ""


class Group:
    """All items of a submit that have one issue."""

    __slots__ = ("fault", "rows", "samples")

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.rows: list[tuple[int, str, str]] = []
        """Index from 0, SKU, value."""

        self.samples: list[Sample] = []
        """Of the first few rows."""


class Issues:
    """The issues of one submit, in the order in which they were met."""

    def __init__(self) -> None:
        self._groups: dict[Fault, Group] = {}

    def add(self, index: int, sku: str, found: Found, sample: Sample) -> None:
        """Puts down that the item `sku`, the `index`th of the request from 0, has a fault."""
        fault = found.fault
        group = self._groups.get(fault)
        if group is None:
            group = self._groups[fault] = Group(fault)
        if len(group.samples) < SHOWN_PER_ISSUE:
            group.samples.append(sample)
        group.rows.append((index, sku, _text_of(found.value)))

    def wants_sample(self, fault: Fault) -> bool:
        """Whether the next item with this fault is one of those that the log shows."""
        group = self._groups.get(fault)
        return group is None or len(group.samples) < SHOWN_PER_ISSUE

    def of(self, *levels: Level) -> list[Group]:
        """The issues of these levels."""
        return [group for fault, group in self._groups.items() if fault.level in levels]

    def items(self, *levels: Level) -> int:
        """How many items have an issue of these levels."""
        return len({row[0] for group in self.of(*levels) for row in group.rows})


ERRORS: Final = (Level.ERROR, Level.SHAPE)
TOO_SOON: Final = Fault(
    Level.ERROR,
    "",
    "The number of api submit exceeds the limit (once a minute)",
    "Please submit again after a minute",
)


def _text_of(value: Any) -> str:
    return "" if value is None else str(value)[:200]

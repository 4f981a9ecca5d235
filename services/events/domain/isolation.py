"""One bad event never fails its neighbours: what to send after a batch was refused. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def parts_after_refusal(batch: Sequence[T], at: int | None) -> list[Sequence[T]]:
    """The smaller batches to send in place of one that was refused for good.

    Where TikTok names the position, that event goes alone, and first, so that what is broken off
    has come to something; then the others together. Else the batch is halved, so that one bad
    event among n is found in O(log n) requests. A batch of one cannot be divided: it is the bad
    one.
    """
    if len(batch) < 2:
        return []
    if at is not None and 0 <= at < len(batch):
        others = [*batch[:at], *batch[at + 1 :]]
        return [batch[at : at + 1], others]
    middle = len(batch) // 2
    return [batch[:middle], batch[middle:]]

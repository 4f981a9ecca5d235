"""The search for the items at fault in a request that TikTok has refused whole. Decides only."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from services.catalog.comparing import Outgoing
from services.catalog.domain.fates import Settled
from services.catalog.domain.isolation import parts_after_refusal
from services.catalog.domain.waiting import Act

ALIKE_MAX: Final = 8
"""So many items, refused alone and in the same words while nothing is taken, are not the fault:
5,000 would cost 9,999 requests, ten hours at 1,000 an hour."""

_STRIDE: Final = 997

Part = tuple[Act, list[Outgoing]]


class Search:
    """What is left to be tried of requests that were refused, smaller each time.

    Items that are refused alone while nothing else was taken are kept back, for the fault may be
    the catalog's; the last that is tried of them is one from elsewhere, of another product.
    """

    def __init__(self, rounds: int = 0) -> None:
        """`rounds`: how often the fault was found to be shared. Another item is tried each time."""
        self._rounds = rounds
        self._parts: deque[Part] = deque()
        self._follows_words = False
        """Whether the next part is one that TikTok's words led to."""
        self._may_be_shared = False
        self._words = ""
        self._kept_back: list[Settled] = []

    @property
    def is_on(self) -> bool:
        """Whether anything is left to be tried."""
        return bool(self._parts)

    @property
    def is_shared(self) -> bool:
        """Whether every item would be refused: to look further would find nothing."""
        products = {end.sent.product_id for end in self._kept_back}
        return self._may_be_shared and len(self._kept_back) >= ALIKE_MAX and len(products) > 1

    def looks_through(self, act: Act) -> bool:
        """Whether what is left holds requests of a kind."""
        return any(one == act for one, _ in self._parts)

    @property
    def held(self) -> set[tuple[str, int]]:
        """Ids and digests of what is left, or kept back: not to be sent beside the search."""
        found = {(one.sent.sku_id, one.sent.digest) for _, part in self._parts for one in part}
        return found | {(end.sent.sku_id, end.sent.digest) for end in self._kept_back}

    def next(self) -> Part:
        """What to try next. Something is left."""
        is_due = self._may_be_shared and len(self._kept_back) == ALIKE_MAX - 1
        return (self._probe() if is_due else None) or self._parts.popleft()

    def _probe(self) -> Part | None:
        """One item of those that are least known: of the most that are left together."""
        parts = [part for act, part in self._parts if act is Act.UPLOAD]
        most = max(parts, key=len, default=[])
        if len(most) < 2:
            return None
        return Act.UPLOAD, [most.pop(-1 - self._rounds * _STRIDE % len(most))]

    def divide(self, act: Act, items: Sequence[Outgoing], words: str, *, has_taken: bool) -> None:
        """Several items were refused together. `has_taken`: the catalog has what is like them."""
        if not self._parts and not self._kept_back:
            self._may_be_shared = not has_taken
            self._follows_words = False
        names = [one.sent.sku_id for one in items]
        # Words that led nowhere once are not followed again: nobody documents how it counts.
        parts = parts_after_refusal(items, names, "" if self._follows_words else words)
        self._follows_words = bool(words)
        self._parts.extendleft((act, list(part)) for part in reversed(parts))

    def found(self, end: Settled, words: str) -> None:
        """An upload was refused alone."""
        words = words.replace(end.sent.sku_id, "")
        if self._kept_back and words != self._words:
            self._may_be_shared = False
        self._words = words
        self._kept_back.append(end)
        if len(self._kept_back) >= ALIKE_MAX and not self.is_shared:
            # All of one product, and there is no other.
            self._may_be_shared = False

    def taken(self) -> None:
        """An upload was taken: who is refused is so for itself."""
        self._may_be_shared = False

    def ends(self) -> Sequence[Settled]:
        """What was refused and can be said to be; `told` once that is recorded."""
        if self.is_shared or (self._may_be_shared and self._parts):
            return ()
        return tuple(self._kept_back)

    def told(self) -> None:
        """All of `ends` is recorded."""
        self._kept_back.clear()

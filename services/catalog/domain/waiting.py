"""What waits to be sent to one catalog, and what is sent next. Lives in memory only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from services.catalog.domain.states import ItemState
from services.catalog.domain.sync import TAKEN, SyncProduct


class Act(StrEnum):
    """Kinds of submit."""

    UPLOAD = "upload"
    DELETE = "delete"


@dataclass(slots=True)
class _Waits:
    """How a product waits."""

    since_s: float
    uploads: int
    deletes: int
    urgent: bool


@dataclass(slots=True)
class _Totals:
    uploads: int = 0
    deletes: int = 0
    states: Counter[int] = field(default_factory=Counter)


class Waiting:
    """Products of one catalog whose items TikTok does not have as it should.

    Ordinary changes gather for `settle_s` seconds before they are sent, so that fifty updates of a
    product are one upload; a change of availability is sent at once.
    """

    def __init__(self, settle_s: float) -> None:
        self._settle_s = settle_s
        self._products: dict[str, _Waits] = {}
        self._urgent: dict[str, None] = {}
        self._owners: dict[str, str] = {}
        self._known: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {}
        self._totals = _Totals()
        self._last = Act.DELETE
        self._unseen: dict[str, None] = {}
        self._under_review: set[str] = set()

    @property
    def uploads(self) -> int:
        """Items to be uploaded."""
        return self._totals.uploads

    @property
    def deletes(self) -> int:
        """Items to be taken out."""
        return self._totals.deletes

    @property
    def states(self) -> Mapping[int, int]:
        """Items by state."""
        return self._totals.states

    @property
    def products(self) -> int:
        """Products that have or had items."""
        return len(self._known)

    def product_ids(self) -> Iterable[str]:
        """Products that have or had items."""
        return self._known.keys()

    def owner_of(self, sku_id: str) -> str | None:
        """The product that an id belongs to."""
        return self._owners.get(sku_id)

    def items_of(self, product_id: str) -> int:
        """How many items a product has or had."""
        return len(self._known[product_id][0]) if product_id in self._known else 0

    def knows(self, product_id: str) -> bool:
        return product_id in self._known

    @property
    def unseen(self) -> list[str]:
        """Products with items whose review has not ended, or is to be looked at again."""
        return list(self._unseen)

    def look_at_all(self) -> None:
        """Has TikTok asked again about everything that it has taken."""
        self._unseen.update(dict.fromkeys(self._known))

    def looked_at(self, product_id: str) -> None:
        """A product was looked at: no more where the reviews of all its items have ended."""
        if product_id not in self._under_review:
            self._unseen.pop(product_id, None)

    @property
    def oldest_s(self) -> float | None:
        """Since when the product waits that has waited longest; None while none does."""
        return next((one.since_s for one in self._products.values()), None)

    def note(self, record: SyncProduct, now_s: float, *, renewed: bool = False) -> None:
        """Takes in a product's record after it was written or read.

        `renewed`: what was waited for has come, and what waits now is newer.
        """
        product_id = record.product_id
        self._forget(product_id)
        ids = tuple(one.sku_id for one in record.items)
        states = tuple(one.state for one in record.items)
        if ids:
            self._known[product_id] = (ids, states)
        for sku_id, state in zip(ids, states, strict=True):
            self._owners[sku_id] = product_id
            self._totals.states[state] += 1
        if any(one.is_under_review for one in record.items):
            self._under_review.add(product_id)
            self._unseen.setdefault(product_id)
        uploads = sum(one.waits_for_upload for one in record.items)
        deletes = sum(one.waits_for_delete for one in record.items)
        urgent = any(one.is_urgent for one in record.items)
        if renewed:
            self._leave(product_id)
        self._wait(product_id, uploads, deletes, now_s, urgent=urgent)

    def _wait(
        self,
        product_id: str,
        uploads: int,
        deletes: int,
        now_s: float,
        *,
        urgent: bool,
    ) -> None:
        was = self._products.get(product_id)
        if not uploads and not deletes:
            self._leave(product_id)
            return
        if was is not None:
            self._totals.uploads -= was.uploads
            self._totals.deletes -= was.deletes
        since_s = was.since_s if was else now_s
        self._products[product_id] = _Waits(since_s, uploads, deletes, urgent)
        self._totals.uploads += uploads
        self._totals.deletes += deletes
        if urgent:
            self._urgent.setdefault(product_id)
        else:
            self._urgent.pop(product_id, None)

    def _leave(self, product_id: str) -> None:
        was = self._products.pop(product_id, None)
        if was is not None:
            self._totals.uploads -= was.uploads
            self._totals.deletes -= was.deletes
        self._urgent.pop(product_id, None)

    def _forget(self, product_id: str) -> None:
        ids, states = self._known.pop(product_id, ((), ()))
        self._under_review.discard(product_id)
        for sku_id in ids:
            if self._owners.get(sku_id) == product_id:
                del self._owners[sku_id]
        for state in states:
            self._totals.states[state] -= 1

    def ready_in_s(self, now_s: float, enough: int) -> float | None:
        """Seconds until something should be sent; None while nothing waits."""
        if not self._products:
            return None
        if self._urgent or self.uploads >= enough or self.deletes >= enough:
            return 0.0
        oldest_s = next(iter(self._products.values())).since_s
        return max(0.0, oldest_s + self._settle_s - now_s)

    def next_act(self) -> Act | None:
        """What to send next: urgent uploads first, yet never two in a row while deletes wait."""
        if self.deletes and (not self.uploads or self._last is Act.UPLOAD):
            return Act.DELETE
        if self.uploads:
            return Act.UPLOAD
        return Act.DELETE if self.deletes else None

    def chosen(self, act: Act) -> None:
        """Remembers what was sent last."""
        self._last = act

    def products_for(self, act: Act, items_max: int) -> list[str]:
        """Products with at least `items_max` items to send, or all there are; urgent ones first."""
        found: list[str] = []
        items = 0
        for product_id in self._in_turn(act):
            waits = self._products[product_id]
            count = waits.uploads if act is Act.UPLOAD else waits.deletes
            if not count:
                continue
            found.append(product_id)
            items += count
            if items >= items_max:
                break
        return found

    def urgent_for(self, items_max: int) -> list[str]:
        """Products that wait urgently, with at least `items_max` items, or all there are."""
        found: list[str] = []
        items = 0
        for product_id in self._urgent:
            found.append(product_id)
            items += self._products[product_id].uploads
            if items >= items_max:
                break
        return found

    def _in_turn(self, act: Act) -> Iterable[str]:
        if act is Act.UPLOAD:
            yield from self._urgent
            yield from (one for one in self._products if one not in self._urgent)
        else:
            yield from self._products

    @property
    def has_taken(self) -> bool:
        """Whether the catalog has anything as it should be."""
        return any(self._totals.states[state] > 0 for state in TAKEN)

    def delay_of(self, product_id: str, now_s: float) -> tuple[float, bool] | None:
        """Since when a product waits, in seconds before now, and whether it is urgent."""
        waits = self._products.get(product_id)
        return None if waits is None else (now_s - waits.since_s, waits.urgent)

    def pending(self) -> int:
        """Items that wait or are on their way."""
        return self._totals.uploads + self._totals.deletes

    def count(self, state: ItemState) -> int:
        return self._totals.states[state]

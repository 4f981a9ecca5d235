"""What must hold of a catalog once a fault is over: of TikTok's items, submits, and our records.

Pure. Whether TikTok has what the shop sells is the simulators' own comparison
(sandbox/catalog_judge.py); here it is asked whether we say the truth about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.catalog.domain.states import ItemState
from services.catalog.domain.sync import NOT_TO_BE_HAD, SyncItem, SyncProduct
from services.catalog.mapper import digest_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One fault, as the page of the docs tells it."""

    name: str
    what: str
    expected: str
    equal_s: float | None
    """From the fault's end until every catalog was equal; None: never."""

    within_s: float
    submits: int
    """That TikTok had from the fault's beginning to the rest after it."""

    seconds: float
    complaints: tuple[str, ...] = ()
    tails: str = ""

    @property
    def passed(self) -> bool:
        in_time = self.equal_s is not None and self.equal_s <= self.within_s
        return in_time and not self.complaints


def wrong_submits(lines: Iterable[Mapping[str, Any]], *, crowded: bool) -> Iterator[str]:
    """Submits that overlap, or come sooner than TikTok allows.

    `crowded` says that somebody else writes too: then neither is ours alone.
    """
    if crowded:
        return
    for line in lines:
        if line["overlapping"]:
            yield f"a {line['kind']} of {line['count']} items overlapped another: {line['outcome']}"
        if line["outcome"] == "too_soon":
            yield f"a {line['kind']} of {line['count']} items came too soon"


def wrong_records(items: Mapping[str, bytes], products: Sequence[SyncProduct]) -> Iterator[str]:
    """Where our records do not say what TikTok has, of items that it would all take."""
    known: dict[str, SyncItem] = {}
    for product in products:
        if product.reread:
            yield f"product {product.product_id} is still to be read again"
        for one in product.items:
            if one.sku_id in known:
                yield f"{one.sku_id} is recorded of two products"
            known[one.sku_id] = one
    for sku_id, one in known.items():
        yield from _wrong_record(one, items.get(sku_id))
    for sku_id in items.keys() - known.keys():
        yield f"{sku_id} is in the catalog and not in the records"


def _wrong_record(one: SyncItem, raw: bytes | None) -> Iterator[str]:
    state = ItemState(one.state)
    if one.accepted == 0:
        if raw is not None or one.maybe or one.wanted:
            yield f"{one.sku_id} is recorded as {state.name} and not as taken"
        return
    if raw is None:
        yield f"{one.sku_id} is recorded as taken and not in the catalog"
    elif digest_of(raw) != one.accepted:
        yield f"{one.sku_id} is recorded as taken in another version than TikTok has"
    if one.maybe or one.wanted != one.accepted:
        yield f"{one.sku_id} is recorded as {state.name}, still to be sent"
    if state is not (ItemState.ACCEPTED if one.availability in NOT_TO_BE_HAD else ItemState.LIVE):
        yield f"{one.sku_id} is recorded as {state.name} and TikTok approved it"
    if one.is_under_review:
        yield f"{one.sku_id} is still to be reviewed, as far as the records go"

"""What items are called in a catalog: `sku_id`, the same as events call their contents."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from services.catalog.domain.items import Note
from services.catalog.domain.model import Product, Variant
from services.catalog.domain.settings import CatalogSettings
from services.catalog.domain.texts import without_refused

ID_CHARS_MAX: Final = 100
_SKU: Final = "variants.sku"
_LINE_BREAKS: Final = re.compile("[\t-\r\x1c-\x1f\x85\u2028\u2029]")
"""Control characters that are white space, tabs among them."""


def assign_ids(
    product: Product,
    catalog: CatalogSettings,
    previous: Mapping[str, str],
    owner_of: Callable[[str], str | None],
) -> tuple[Mapping[str, str], tuple[Note, ...]]:
    """The id of each variant, by variant id, and what there is to say about them.

    `previous` are the ids that the product's items had; `owner_of` tells which product has an id so
    far, None where none has. An id stays as long as its SKU does. No two variants get one id.
    """
    if catalog.item_id != "sku":
        return {one.variant_id: one.variant_id for one in product.variants}, ()
    giving = _Giving(product.product_id, owner_of)
    wanted = {one.variant_id: own_sku(one) for one in product.variants}
    for variant_id, (sku, _) in wanted.items():
        before = previous.get(variant_id)
        if before is not None and before in _forms(sku, variant_id):
            giving.take(variant_id, before)
    for variant_id, (sku, note) in wanted.items():
        if note is not None:
            giving.notes.append(note)
        giving.give(variant_id, sku)
    return {variant_id: giving.given[variant_id] for variant_id in wanted}, tuple(giving.notes)


class _Giving:
    """Ids as they are given, one variant at a time."""

    def __init__(self, product_id: str, owner_of: Callable[[str], str | None]) -> None:
        self._product_id = product_id
        self._owner_of = owner_of
        self._taken: set[str] = set()
        self.given: dict[str, str] = {}
        self.notes: list[Note] = []

    def take(self, variant_id: str, sku_id: str) -> None:
        """Gives the variant just this id, where it can be had."""
        if self._is_free(sku_id):
            self._taken.add(sku_id)
            self.given[variant_id] = sku_id

    def give(self, variant_id: str, sku: str) -> None:
        """Gives the variant an id, unless it has one."""
        if variant_id not in self.given:
            free = next(one for one in _candidates(sku, variant_id) if self._is_free(one))
            self._taken.add(free)
            self.given[variant_id] = free
        sku_id = self.given[variant_id]
        if sku and sku_id != sku:
            self.notes.append(
                Note(
                    variant_id,
                    "sku_repeated",
                    _SKU,
                    f"Another variant has or had the SKU {sku!r} too, so this item is called"
                    f" {sku_id!r} for as long as its SKU is the same. Give it a SKU of its own:"
                    " events name it by its SKU.",
                )
            )

    def _is_free(self, sku_id: str) -> bool:
        return sku_id not in self._taken and self._owner_of(sku_id) in (None, self._product_id)


def own_sku(variant: Variant) -> tuple[str, Note | None]:
    """The variant's SKU as an id, empty where it has none that can be one, and what to say."""
    variant_id = variant.variant_id
    stripped = variant.sku.strip()
    sku = stripped
    if not (stripped.isascii() and stripped.isprintable()):
        sku = _LINE_BREAKS.sub(" ", without_refused(stripped)).strip()
    if not stripped:
        return "", Note(
            variant_id, "sku_missing", _SKU, "It has no SKU, so its item is called by its number."
        )
    if not sku or len(sku) > ID_CHARS_MAX:
        return "", Note(
            variant_id,
            "sku_unusable",
            _SKU,
            f"TikTok takes ids of 1 to {ID_CHARS_MAX} characters without emoji, so this item is"
            " called by its number. Change the SKU: events name the item by it.",
        )
    if sku != stripped:
        return sku, Note(
            variant_id,
            "sku_cleaned",
            _SKU,
            f"TikTok takes no emoji or control characters in an id, so this item is called {sku!r}."
            " Change the SKU: events name the item by it.",
        )
    return sku, None


def _candidates(sku: str, variant_id: str) -> Iterator[str]:
    """Ids for a variant, the best first; they never end."""
    yield from _forms(sku, variant_id)
    yield variant_id
    # A SKU may read like the number of another variant, even with a number behind it.
    count = 2
    while True:
        yield f"{variant_id}-{count}"
        count += 1


def _forms(sku: str, variant_id: str) -> tuple[str, ...]:
    """What a variant with this SKU is called, alone or where the SKU is repeated."""
    if not sku:
        return (variant_id,)
    tail = f"-{variant_id}"
    return sku, sku[: ID_CHARS_MAX - len(tail)] + tail

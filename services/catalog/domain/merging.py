"""What Shopify tells of a product, put together: older never overwrites newer. Pure.

A product, its stock at each location and its inventory items are told apart, each with its own
time. What one does not tell stays as another has told it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from services.catalog.domain.model import Level, Product, Variant

GONE: Final = "deleted"
"""Status of a product that the shop no longer has; its record stays for a while, for its time."""

CLOCKS_DIFFER_NS: Final = 60 * 1_000_000_000
"""By how much Shopify's clock and ours may differ, and how late what it answers with may be."""


def read_back(stored: Product | None, read: Product, asked_ns: int) -> Product:
    """`stored` with what was read whole from Shopify, which may be older than what webhooks told.

    What webhooks never tell (texts, prices of markets, metafields) is taken as it was read, unless
    a newer version was read before: single products are read while an export is made. What was
    thought to be gone and is there when Shopify is asked later, at `asked_ns`, is not gone.
    """
    read = msgspec.structs.replace(read, read_ns=read.updated_ns)
    if stored is None:
        return read
    if stored.status == GONE:
        return read if is_outlived(stored, asked_ns) else stored
    if read.read_ns < stored.read_ns:
        return _with_levels_of(stored, read)
    known = {one.variant_id: one for one in stored.variants}
    if stored.updated_ns <= read.updated_ns:
        variants = tuple(_newest_levels(one, known.get(one.variant_id)) for one in read.variants)
        return msgspec.structs.replace(read, variants=variants)
    fresh = {one.variant_id: one for one in read.variants}
    return msgspec.structs.replace(
        stored,
        texts=read.texts,
        metafields=read.metafields,
        category=read.category or stored.category,
        read_ns=read.read_ns,
        variants=tuple(
            _with_extras(one, fresh[one.variant_id]) if one.variant_id in fresh else one
            for one in stored.variants
        ),
    )


def is_behind(stored: Product | None, read: Product | None, asked_ns: int) -> bool:
    """Whether what Shopify answered is older than what it has told already.

    A product that it does not have may be one that it has just made.
    """
    if stored is None:
        return False
    if stored.status == GONE:
        return read is not None and not is_outlived(stored, asked_ns)
    if read is None:
        return stored.updated_ns + CLOCKS_DIFFER_NS > asked_ns
    return stored.updated_ns > read.updated_ns


def _with_levels_of(stored: Product, read: Product) -> Product:
    """`stored` with the stock that an older read knows of and it does not."""
    levels = {one.variant_id: one for one in read.variants}
    variants = tuple(_newest_levels(one, levels.get(one.variant_id)) for one in stored.variants)
    return msgspec.structs.replace(stored, variants=variants)


def _with_extras(told: Variant, read: Variant) -> Variant:
    """A variant as a newer webhook told it, with what only a read tells."""
    return msgspec.structs.replace(
        _newest_levels(told, read),
        prices=read.prices,
        option_texts=read.option_texts,
        metafields=read.metafields,
        weight=read.weight or told.weight,
        weight_unit=read.weight_unit or told.weight_unit,
        tracked=read.tracked if told.tracked is None else told.tracked,
        image_url=told.image_url or read.image_url,
    )


def _newest_levels(variant: Variant, other: Variant | None) -> Variant:
    """`variant` with the newest that either of the two knows of each location."""
    if other is None or other.levels == variant.levels:
        return variant
    levels = {level.location_id: level for level in variant.levels}
    for level in other.levels:
        mine = levels.get(level.location_id)
        if mine is None or mine.updated_ns < level.updated_ns:
            levels[level.location_id] = level
    return msgspec.structs.replace(variant, levels=_sorted(levels))


def with_level(product: Product, inventory_item_id: str, level: Level) -> Product:
    """`product` with the stock of one of its inventory items at one location."""
    return _with_variants(product, inventory_item_id, lambda one: _at(one, level))


def _at(variant: Variant, level: Level) -> Variant:
    levels = {one.location_id: one for one in variant.levels}
    known = levels.get(level.location_id)
    if known is not None and known.updated_ns > level.updated_ns > 0:
        return variant
    if not level.updated_ns and known is not None:
        # A disconnect tells no time: it holds until the location is told of again.
        level = msgspec.structs.replace(level, updated_ns=known.updated_ns)
    levels[level.location_id] = level
    return msgspec.structs.replace(variant, levels=_sorted(levels))


def with_tracking(product: Product, inventory_item_id: str, *, tracked: bool) -> Product:
    """`product` where one of its inventory items is counted, or is not."""
    return _with_variants(
        product,
        inventory_item_id,
        lambda one: (
            one if one.tracked == tracked else msgspec.structs.replace(one, tracked=tracked)
        ),
    )


def _with_variants(
    product: Product, inventory_item_id: str, change: Callable[[Variant], Variant]
) -> Product:
    variants = tuple(
        change(one) if one.inventory_item_id == inventory_item_id else one
        for one in product.variants
    )
    changed = any(a is not b for a, b in zip(variants, product.variants, strict=True))
    return msgspec.structs.replace(product, variants=variants) if changed else product


def _sorted(levels: Mapping[str, Level]) -> tuple[Level, ...]:
    return tuple(levels[key] for key in sorted(levels))


def gone(stored: Product | None, product_id: str, deleted_ns: int) -> Product:
    """The record of a product that the shop no longer has."""
    updated_ns = max(deleted_ns, stored.updated_ns if stored else 0)
    return Product(product_id=product_id, status=GONE, published=False, updated_ns=updated_ns)


def is_outlived(tombstone: Product, told_ns: int) -> bool:
    """Whether what was told of a product at `told_ns` is surely newer than its being gone."""
    return told_ns > tombstone.updated_ns + CLOCKS_DIFFER_NS


def needs_reading(
    stored: Product | None,
    told: Product,
    *,
    truncated: bool,
    translated: bool,
    market_prices: bool,
) -> bool:
    """Whether a webhook left something out that is needed, so that the product is to be read.

    `translated` and `market_prices` say what the shop's catalogs use of what webhooks never tell.
    """
    if stored is None or truncated:
        return True
    if (stored.status, stored.published) != (told.status, told.published):
        # Nobody followed its stock while it was not for sale.
        return True
    known = {one.variant_id: one for one in stored.variants}
    if any(one.variant_id not in known for one in told.variants):
        return True
    if translated and (stored.title, stored.body_html) != (told.title, told.body_html):
        return True
    return market_prices and any(
        (one.price, one.compare_at)
        != (known[one.variant_id].price, known[one.variant_id].compare_at)
        for one in told.variants
    )

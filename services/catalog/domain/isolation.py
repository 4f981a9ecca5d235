"""What to send after TikTok has refused a whole request for what one item of it holds. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, TypeVar

T = TypeVar("T")

NAMED_MAX: Final = 8
"""Items that a message names and that go alone; more go together."""

_SURE_LENGTH: Final = 6
"""Characters from which a name in a message can hardly be another word or a number of it."""

# `products.17.title`, `products[17]`, `sku_ids.3`.
_PLACE: Final = re.compile(r"\b(?:products?|items?|sku_ids?)[.\[](\d{1,5})\b", re.IGNORECASE)
_BEFORE_A_NAME: Final = r"sku(?:[_ ]?ids?)?\W{1,4}"


def parts_after_refusal(
    items: Sequence[T], sku_ids: Sequence[str], message: str = ""
) -> list[Sequence[T]]:
    """The smaller requests to make in place of one that was refused for good.

    `sku_ids` are those of `items`, in their order. What the message names, by position from 0 or
    by id, goes alone and the others together; else the items are halved, so that one bad item
    among n is found in O(log n) requests. One item cannot be divided: it is the bad one.

    Nobody documents how TikTok counts positions. Leave the message out where the others were
    refused again after it was followed: then it does not lead to the item.
    """
    if len(items) < 2:
        return []
    named = _named(sku_ids, message) if message else []
    if named and len(named) < len(items):
        chosen = set(named)
        others = [item for at, item in enumerate(items) if at not in chosen]
        suspects = [items[at] for at in named]
        if len(suspects) > NAMED_MAX:
            return [others, suspects]
        return [others, *([one] for one in suspects)]
    middle = len(items) // 2
    return [items[:middle], items[middle:]]


def _named(sku_ids: Sequence[str], message: str) -> list[int]:
    places = {int(found) for found in _PLACE.findall(message)}
    by_place = sorted(place for place in places if place < len(sku_ids))
    if by_place:
        return by_place
    return [at for at, sku_id in enumerate(sku_ids) if _is_named(sku_id, message)]


def _is_named(sku_id: str, message: str) -> bool:
    if not sku_id or sku_id not in message:
        return False
    whole = rf"(?<![\w-]){re.escape(sku_id)}(?![\w-])"
    if len(sku_id) >= _SURE_LENGTH and not sku_id.isalpha():
        return re.search(whole, message) is not None
    # "5000" may be a limit and "title" a field: such a name counts only where it is called one.
    introduced = rf"{_BEFORE_A_NAME}{re.escape(sku_id)}(?![\w-])"
    return re.search(introduced, message, re.IGNORECASE) is not None

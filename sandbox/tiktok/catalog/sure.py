"""A quick look that tells most good items from all others; the others go through the rules.

It is built from the checks themselves and may only err by sending a good item to the rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec

from sandbox.tiktok.catalog.issues import Fault
from sandbox.tiktok.catalog.texts import Check

# Where emoji and C1 controls lie in UTF-8: most begin with a byte of their own; in two blocks that
# also have dashes, quotes, currency signs, arrows and accents the second byte tells.
_NEVER: Final = (b"\xf0", b"\xf3", b"\xef\xb8", b"\x7f", b"\xf1", b"\xf2", b"\xf4")
_PLAIN_AFTER_E2: Final = frozenset(range(0x80, 0x8C)) - {0x83}
_PLAIN_AFTER_C2: Final = frozenset(range(0xA0, 0xC0))


class Group(NamedTuple):
    """The checks of one object in the product, by key."""

    checks: Mapping[str, Check]
    required: Mapping[str, Fault]
    prefix: str


class Sure:
    """The quick look at the items of one dialect, whose groups of checks are given."""

    __slots__ = ("_decode", "_has_groups", "_id_of", "_link_lists", "_links", "_texts")

    def __init__(self, groups: Mapping[str, Group], id_key: str) -> None:
        looks = [
            (group.prefix + key, check.look)
            for group in groups.values()
            for key, check in group.checks.items()
        ]
        self._decode = msgspec.json.Decoder(_type_of(groups)).decode
        self._has_groups = len(groups) > 1
        self._id_of = attrgetter(id_key)
        self._texts = attrgetter(*(path for path, look in looks if look == "text"))
        self._links = attrgetter(*(path for path, look in looks if look == "url"))
        self._link_lists = [attrgetter(path) for path, look in looks if look == "urls"]

    def look(self, raw: bytes) -> tuple[str, bool] | None:
        """The SKU of an item that is good, and whether it has a category; None if that is not sure.

        A category alone may be missing, which is a warning and common.
        """
        try:
            item: Any = self._decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if not _is_plain(raw, item.description) or not self._keeps_texts(item):
            return None
        sku: str = self._id_of(item)
        if not self._has_groups:
            return sku, True
        prices = item.price_info
        if prices.sale_price is not None and prices.sale_price > prices.price:
            return None
        return sku, bool(item.google_product_category or item.product_detail.product_category)

    def _keeps_texts(self, item: Any) -> bool:
        for text in self._texts(item):
            if text is not None and (not text or text.isspace()):
                return False
        links = [link for link in self._links(item) if link is not None]
        for more in self._link_lists:
            links += more(item) or ()
        return _are_links(links)


def _is_plain(raw: bytes, description: str | None) -> bool:
    """Whether no text can hold an emoji or a control character, line breaks in prose aside."""
    if b"\\" in raw:
        # Every escape is a quote or a line break, and every line break is the description's.
        breaks = raw.count(b"\\n")
        if raw.count(b"\\") != breaks + raw.count(b'\\"'):
            return False
        if breaks and (description is None or description.count("\n") != breaks):
            return False
    return b"\x7f" not in raw if raw.isascii() else _is_plain_beyond_ascii(raw)


def _is_plain_beyond_ascii(raw: bytes) -> bool:
    """By searches for single bytes: a regular expression takes ten times as long."""
    for mark in _NEVER:
        if mark in raw:
            return False
    return _is_plain_after(raw, b"\xe2", _PLAIN_AFTER_E2) and _is_plain_after(
        raw, b"\xc2", _PLAIN_AFTER_C2
    )


def _is_plain_after(raw: bytes, first: bytes, plain: frozenset[int]) -> bool:
    if first not in raw:
        return True
    _, *parts = raw.split(first)
    return plain.issuperset([part[0] for part in parts])


def _are_links(found: list[str]) -> bool:
    """Whether these are https addresses without anything odd. Once for all: it is a hot path."""
    together = " ".join(["", *found])
    if not (together.isascii() and together.isprintable()):
        return False
    if not together.count(" ") == together.count(" https://") == len(found):
        return False
    if "@" in together or "," in together or "https:///" in together:
        return False
    return "https://?" not in together and "https://#" not in together


def _type_of(groups: Mapping[str, Group]) -> type[msgspec.Struct]:
    """A type that only objects decode as which keep the rules of `groups`."""
    top = groups[""]
    fields = _fields_of(top)
    for name, group in groups.items():
        if not name:
            continue
        part = msgspec.defstruct(name, _fields_of(group), **_OPTIONS)
        if group.required:
            fields.insert(0, (name, part))
        else:
            fields.append((name, part | None, None))
    return msgspec.defstruct("Item", fields, **_OPTIONS)


_OPTIONS: Final[dict[str, Any]] = {"forbid_unknown_fields": True, "kw_only": True, "gc": False}


def _fields_of(group: Group) -> list[Any]:
    return [
        (key, check.sure)
        if key in group.required
        else (key, None if check.sure is None else check.sure | None, None)
        for key, check in group.checks.items()
    ]

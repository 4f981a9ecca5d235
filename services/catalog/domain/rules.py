"""Fields of items that a merchant's rules fill, from metafields, options, tags and the like."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import msgspec

from services.catalog.domain.faults import Fault
from services.catalog.domain.model import Product, Variant
from services.catalog.domain.settings import FieldRule
from services.catalog.domain.texts import cut, one_line

CATEGORY_LEVELS_MAX: Final = 3
CHARS_MAX: Final = {
    "color": 100,
    "pattern": 100,
    "material": 200,
    "brand": 150,
    **{f"custom_label_{number}": 100 for number in range(5)},
}
"""What TikTok states; nothing is stated for the others, which are cut like `material`."""

_CHARS_MAX: Final = 200
_OF_VARIANTS: Final = frozenset(("metafield", "option", "barcode"))
_REFERENCE: Final = "gid://"
_OPTION_NAMES: Final = {
    "color": frozenset(("color", "colour")),
    "size": frozenset(("size",)),
    "material": frozenset(("material",)),
}
_GENDERS: Final = {
    "MALE": "male man men mens men's boy boys m",
    "FEMALE": "female woman women womens women's ladies girl girls f",
    "UNISEX": "unisex neutral both all",
}
_AGE_GROUPS: Final = {
    "NEW_BORN": "new_born newborn newborns",
    "INFANT": "infant infants baby babies",
    "TODDLER": "toddler toddlers",
    "KIDS": "kids kid child children",
    "ADULT": "adult adults",
}
_BREAK: Final = re.compile(r"[\s_-]+")


@dataclass(frozen=True, slots=True)
class Sourced:
    """A value, the merchant's field that it comes from, and what stands there."""

    value: str = ""
    source: str = ""
    told: str = ""
    note: Fault | None = None


NOTHING: Final = Sourced()


class Rules:
    """The rules of one catalog, applied to one product."""

    def __init__(self, rules: tuple[FieldRule, ...], product: Product) -> None:
        self._compiled = _compiled(rules)
        self._product = product
        self._options = {
            one_line(name).casefold(): place for place, name in enumerate(product.option_names)
        }
        self._shared: dict[str, Sourced] = {}
        self._places = {
            target: place
            for target, names in _OPTION_NAMES.items()
            for name, place in self._options.items()
            if name in names
        }

    @property
    def targets(self) -> frozenset[str]:
        """The fields that there are rules for, and those that options are known for."""
        return frozenset(self._compiled) | frozenset(self._places)

    def value(self, target: str, variant: Variant, options: Sequence[str]) -> Sourced:
        """What the rules for `target`, in their order, give; the first that gives something.

        Without any, colour, size and material are the options of that name. `options` are the
        variant's option values in the catalog's language.
        """
        rules = self._compiled.get(target)
        if rules is None:
            return self._of_options(target, options)
        if not rules.vary:
            found = self._shared.get(target)
            if found is None:
                found = self._shared[target] = self._first(rules, target, variant, options)
        else:
            found = self._first(rules, target, variant, options)
        if found.value or found.note:
            return found
        return self._of_options(target, options)

    def _of_options(self, target: str, options: Sequence[str]) -> Sourced:
        place = self._places.get(target)
        if place is None or place >= len(options):
            return NOTHING
        return _of_option(target, place, options[place])

    def _first(
        self, rules: _Compiled, target: str, variant: Variant, options: Sequence[str]
    ) -> Sourced:
        note = None
        for kind, argument in rules.sources:
            told = self._told(kind, argument, variant, options)
            if not told.strip():
                continue
            source = f"{kind}:{argument}" if argument else kind
            value, wrong = _fitted(target, source, told)
            if value:
                return Sourced(value, source, told, wrong)
            note = note or wrong
        return Sourced(note=note) if note else NOTHING

    def _told(self, kind: str, argument: str, variant: Variant, options: Sequence[str]) -> str:
        product = self._product
        match kind:
            case "metafield":
                return variant.metafields.get(argument) or product.metafields.get(argument, "")
            case "option":
                place = self._options.get(one_line(argument).casefold(), len(options))
                return options[place] if place < len(options) else ""
            case "tag":
                return _after_prefix(product.tags, argument)
            case "text":
                return argument
            case "barcode":
                return variant.barcode
            case _:
                plain = {
                    "vendor": product.vendor,
                    "product_type": product.product_type,
                    "category": product.category,
                }
                return plain.get(kind, "")


@dataclass(frozen=True, slots=True)
class _Compiled:
    """The sources of one field, in order."""

    sources: tuple[tuple[str, str], ...]
    vary: bool
    """Whether one of them differs between the variants of a product."""


@lru_cache(maxsize=4096)
def _of_option(target: str, place: int, told: str) -> Sourced:
    return Sourced(cut(one_line(told), _limit(target)), f"options[{place}]", told)


@lru_cache(maxsize=256)
def _compiled(rules: tuple[FieldRule, ...]) -> Mapping[str, _Compiled]:
    sources: dict[str, list[tuple[str, str]]] = {}
    for rule in rules:
        kind, _, argument = rule.source.partition(":")
        sources.setdefault(rule.target, []).append((kind, argument))
    return {
        target: _Compiled(tuple(found), any(kind in _OF_VARIANTS for kind, _ in found))
        for target, found in sources.items()
    }


def three_levels(category: str) -> str:
    """The first three levels of `A > B > C > D`: TikTok reads no more."""
    if not category:
        return ""
    levels = [one_line(level) for level in category.split(">")]
    return " > ".join([level for level in levels if level][:CATEGORY_LEVELS_MAX])


def _fitted(target: str, source: str, told: str) -> tuple[str, Fault | None]:
    """`told` as TikTok takes it for `target`, empty where it cannot be, and what to say of it."""
    words = _unpacked(told)
    if _REFERENCE in words:
        message = f"{target} was left out: the metafield refers to another record and has no words."
        return "", Fault("metafield_is_reference", source, message)
    if target in {"gender", "age_group"}:
        known = _GENDERS if target == "gender" else _AGE_GROUPS
        plain = words.strip().casefold()
        broken = _BREAK.sub("_", plain)
        for value, names in known.items():
            if plain in names.split() or broken in names.split() or broken == value.lower():
                return value, None
        message = f"{target} was left out: {words[:100]!r} is none of {', '.join(known)}."
        return "", Fault(f"{target}_unknown", source, message)
    if target in {"google_product_category", "product_category"}:
        return three_levels(words), None
    clean = one_line(words)
    fitted = cut(clean, _limit(target))
    if len(fitted) < len(clean):
        message = f"{target} was cut to TikTok's {_limit(target)} characters."
        return fitted, Fault(f"{target}_cut", source, message)
    return fitted, None


def _unpacked(told: str) -> str:
    """The words of a metafield; a list's with commas between."""
    if not told.startswith("["):
        return told
    try:
        found = msgspec.json.decode(told, type=list[str])
    except (msgspec.DecodeError, UnicodeError):
        return told
    return ", ".join(found)


def _after_prefix(tags: Sequence[str], prefix: str) -> str:
    wanted = prefix.casefold()
    return next(
        (tag[len(prefix) :].strip() for tag in tags if tag.casefold().startswith(wanted)), ""
    )


def _limit(target: str) -> int:
    return CHARS_MAX.get(target, _CHARS_MAX)

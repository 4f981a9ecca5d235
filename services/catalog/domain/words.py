"""A product's title and description in its catalog's language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import unescape
from typing import Final

from services.catalog.domain.faults import Fault
from services.catalog.domain.html_text import readable
from services.catalog.domain.model import Product, Variant
from services.catalog.domain.settings import CatalogSettings, ShopContext
from services.catalog.domain.texts import cut, has_refused, one_line

TITLE_CHARS_MAX: Final = 500
DESCRIPTION_CHARS_MAX: Final = 10_000
OWN: Final = ""
"""Stands for the merchant's own words among languages."""

_BETWEEN: Final = " - "
_DEFAULT_OPTION: Final = "Default Title"


@dataclass(frozen=True, slots=True)
class Words:
    """What is said of a product; the title is without the options of its variants."""

    title: str
    """Empty where there is none that TikTok would take."""
    title_language: str
    description: str
    """Empty where there is none: then the title stands in."""
    description_language: str
    languages: tuple[str, ...]
    notes: tuple[Fault, ...]


def languages_of(product: Product, shop: ShopContext, catalog: CatalogSettings) -> tuple[str, ...]:
    """The languages that words are looked for in, in order; the merchant's own come last.

    The catalog's, then its fallbacks, each only where the product is translated, `pt` standing in
    for `pt-BR`. The shop's language among them ends the list: its words are the merchant's own.
    """
    found: list[str] = []
    for language in (catalog.language, *catalog.fallback_languages):
        if not language:
            continue
        if shop.language and _is_same(language, shop.language):
            break
        base = language.partition("-")[0]
        found += [one for one in (language, base) if one in product.texts and one not in found]
    return (*found, OWN)


def words_of(product: Product, shop: ShopContext, catalog: CatalogSettings) -> Words:
    """Title and description, each in the first language that has it."""
    languages = languages_of(product, shop, catalog)
    notes: list[Fault] = []
    title, title_language = _title(product, languages, notes)
    description, description_language = _description(product, languages, notes)
    wanted = catalog.language
    own = shop.language
    if title_language == OWN and own and wanted and not _is_same(wanted, own):
        message = f"It is not translated to {wanted}, so the merchant's own words ({own}) are sent."
        notes.append(Fault("not_translated", "title", message))
    if title and not description:
        message = "It has no description that could be shown, so the title stands in for it."
        notes.append(Fault("description_missing", "body_html", message))
    return Words(title, title_language, description, description_language, languages, tuple(notes))


def title_with_options(title: str, options: Sequence[str]) -> tuple[str, bool]:
    """`title` with what sets the variant apart, in TikTok's 500 characters; and whether cut.

    The options are kept whole as long as they leave the title half the room.
    """
    if not options:
        short = cut(title, TITLE_CHARS_MAX)
        return short, len(short) < len(title)
    tail = " / ".join(options)
    whole = title + _BETWEEN + tail
    if len(whole) <= TITLE_CHARS_MAX:
        return whole, False
    tail = cut(tail, TITLE_CHARS_MAX // 2)
    return cut(title, TITLE_CHARS_MAX - len(_BETWEEN) - len(tail)) + _BETWEEN + tail, True


def options_of(variant: Variant, languages: Sequence[str]) -> tuple[str, ...]:
    """The variant's option values in the first language that has them, as they were told."""
    if variant.option_texts:
        for language in languages:
            found = variant.option_texts.get(language)
            if found and any(found):
                own = variant.option_values
                if len(found) == len(own):
                    return tuple(there or here for there, here in zip(found, own, strict=True))
                return found
            if language == OWN:
                break
    return variant.option_values


def shown_options(variant: Variant, options: Sequence[str]) -> list[str]:
    """Those that belong in a title: not the one that Shopify gives where there is no choice."""
    own = variant.option_values or (variant.title,)
    if own == (_DEFAULT_OPTION,):
        return []
    chosen = options if variant.option_values else own
    return [shown for one in chosen if (shown := _shown(one))]


@lru_cache(maxsize=4096)
def _shown(option: str) -> str:
    return one_line(option)


def _title(product: Product, languages: Sequence[str], notes: list[Fault]) -> tuple[str, str]:
    for language in languages:
        told = product.title if language == OWN else product.texts[language].title
        if not told:
            continue
        # Some authors write HTML where none is read.
        told = unescape(told) if "&" in told else told
        title = one_line(told)
        if has_refused(told):
            message = "TikTok takes no emoji or control characters in titles: they were left out."
            notes.append(Fault("title_cleaned", "title", message))
        if title:
            return title, language
    return "", OWN


def _description(product: Product, languages: Sequence[str], notes: list[Fault]) -> tuple[str, str]:
    for language in languages:
        told = product.body_html if language == OWN else product.texts[language].body_html
        if not told:
            continue
        description, was_cut = readable(told, DESCRIPTION_CHARS_MAX)
        if was_cut:
            message = f"The description was cut to TikTok's {DESCRIPTION_CHARS_MAX} characters."
            notes.append(Fault("description_cut", "body_html", message))
        if description:
            return description, language
    return "", OWN


def _is_same(wanted: str, own: str) -> bool:
    """Whether words in `own` are words in `wanted`: the same, or one of them names no country."""
    one, two = wanted.casefold(), own.casefold()
    if one == two:
        return True
    return one.partition("-")[0] == two.partition("-")[0] and ("-" not in one or "-" not in two)

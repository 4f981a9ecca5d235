"""Telephone numbers as E.164, from whatever a person typed into a form."""

from __future__ import annotations

import re
from functools import lru_cache

import phonenumbers

RAW_LENGTH_MAX = 64
"""Longer texts are no telephone number, and are not worth a place in the cache."""

_EXTENSION = re.compile(r"(?:ext|x)\.?\s*\d+$", re.IGNORECASE)


def e164(raw: str, country: str) -> str | None:
    """`raw` as E.164 with its plus, or None where it cannot be read as a number.

    `country` (ISO 3166-1 alpha-2, or empty) reads numbers without an international prefix; those
    must be valid there. One that carries its own prefix need only be possible, because numbering
    plans open ranges faster than any table of them is updated. Letters are not dialled: a vanity
    number is given back as None.
    """
    text = raw.strip()
    if not text or len(text) > RAW_LENGTH_MAX:
        return None
    return _e164(text, country.upper())


@lru_cache(maxsize=32_768)
def _e164(text: str, country: str) -> str | None:
    """As `e164`; cached, because a read costs about 80 us and one order repeats its number."""
    if any(letter.isalpha() for letter in _EXTENSION.sub("", text)):
        return None
    try:
        number = phonenumbers.parse(text, country or None)
    except phonenumbers.NumberParseException:
        return None
    international = text.startswith("+") and phonenumbers.is_possible_number(number)
    if not international and not phonenumbers.is_valid_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)

"""Phone numbers as shoppers type them, brought to E.164 with its plus sign.

The general parser of `phonenumbers` costs 60 to 100 us a number, more than everything else that
an event needs. So the common shapes (digits and separators) are read here with that library's
own tables, and only what they do not explain goes through its parser. A test holds both to the
same answers over the example numbers of every region.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

import phonenumbers
from phonenumbers.phonemetadata import PhoneMetadata

# E.164 allows 15 digits with the country code. The shortest in service, of small islands, have 7.
_DIGITS_MIN, _DIGITS_MAX = 7, 15
# Without a plus and without a country nothing shorter can be told from a national number.
_UNMARKED_DIGITS_MIN = 11
RAW_LENGTH_MAX = 64
"""Longer texts are no telephone number, and are not worth a place in the cache."""
# 280 regions exist, so that nothing is ever evicted.
_PLANS_KEPT = 512

_SEPARATORS = str.maketrans("", "", " \t\u00a0\u2007\u202f-\u2010\u2011\u2012\u2013.()/")


class _Plan(NamedTuple):
    """How a country numbers its phones."""

    country_code: str
    national: re.Pattern[str]
    trunk_prefix: re.Pattern[str] | None
    rewrites: bool
    """The trunk prefix is replaced, not only dropped: left to the general parser."""


def e164(raw: str, region: str | None) -> str | None:
    """`raw` as `+` and digits, or None where it cannot be read as a phone number.

    `region` is the ISO 3166 country of the address beside it, for numbers without country code.
    A number that states its country code (`+` or `00`) is taken at its word when it has the shape
    of E.164; a national one must fit its country's numbering plan.
    """
    text = raw.strip()
    if not text or len(text) > RAW_LENGTH_MAX:
        return None
    return _e164(text, region.upper() if region else None)


@lru_cache(maxsize=32_768)
def _e164(text: str, region: str | None) -> str | None:
    """As `e164`; one order repeats its number, and its events read it again."""
    compact = text.translate(_SEPARATORS)
    marked = compact.startswith(("+", "00"))
    digits = compact.removeprefix("+") if compact.startswith("+") else compact
    digits = digits[2:] if marked and compact[0] == "0" else digits
    plain = digits.isascii() and digits.isdigit()
    if marked and plain:
        return _international(digits) or _parsed(text, region)
    national = _national(digits, region) if plain else None
    return national or _parsed(text, region) or (_unmarked(digits) if plain else None)


def _international(digits: str) -> str | None:
    if not _DIGITS_MIN <= len(digits) <= _DIGITS_MAX:
        return None
    plan = _plan_of_number(digits)
    if plan is None:
        return None
    number = _without_trunk_prefix(digits[len(plan.country_code) :], plan)
    return None if number is None else f"+{plan.country_code}{number}"


def _national(digits: str, region: str | None) -> str | None:
    plan = _plan_of_region(region) if region else None
    if plan is None:
        return None
    number = _without_trunk_prefix(digits, plan)
    if number is not None and plan.national.fullmatch(number):
        return f"+{plan.country_code}{number}"
    return _own_country_unmarked(digits, plan)


def _own_country_unmarked(digits: str, plan: _Plan) -> str | None:
    if not digits.startswith(plan.country_code):
        return None
    number = _without_trunk_prefix(digits[len(plan.country_code) :], plan)
    fits = number is not None and plan.national.fullmatch(number)
    return f"+{plan.country_code}{number}" if fits else None


def _unmarked(digits: str) -> str | None:
    """Digits too long for the country at hand: an international number that lost its plus."""
    if len(digits) < _UNMARKED_DIGITS_MIN or digits[0] == "0":
        return None
    return _international(digits)


def _without_trunk_prefix(number: str, plan: _Plan) -> str | None:
    """`number` less its country's trunk prefix; None where only the general parser can tell."""
    found = plan.trunk_prefix.match(number) if plan.trunk_prefix else None
    if found is None or found.end() == 0:
        return number
    if plan.rewrites:
        return None
    rest = number[found.end() :]
    if plan.national.fullmatch(number) and not plan.national.fullmatch(rest):
        return number
    return rest


def _parsed(text: str, region: str | None) -> str | None:
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _plan_of_number(digits: str) -> _Plan | None:
    for length in (1, 2, 3):
        plan = _plan_of_country_code(digits[:length])
        if plan is not None:
            return plan
    return None


@lru_cache(maxsize=1_200)
def _plan_of_country_code(code: str) -> _Plan | None:
    if code.startswith("0"):
        return None
    region = phonenumbers.region_code_for_country_code(int(code))
    if region == "ZZ":
        return None
    return _plan(PhoneMetadata.metadata_for_region_or_calling_code(int(code), region))


@lru_cache(maxsize=_PLANS_KEPT)
def _plan_of_region(region: str) -> _Plan | None:
    return _plan(PhoneMetadata.metadata_for_region(region, None))


def _plan(metadata: PhoneMetadata | None) -> _Plan | None:
    if metadata is None:
        return None
    prefix = metadata.national_prefix_for_parsing
    general = metadata.general_desc
    return _Plan(
        country_code=str(metadata.country_code),
        national=re.compile((general and general.national_number_pattern) or r"\d+"),
        trunk_prefix=re.compile(prefix) if prefix else None,
        rewrites=bool(metadata.national_prefix_transform_rule),
    )

"""What each kind of field may hold: small checks, and tables of them applied to an object.

A check gives the Problem with a value, or None. Sources: TikTok's endpoint reference
1771101303285761 for types, its parameter page 1771101151059969 for names and addresses.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

from sandbox.tiktok.verdict import Problem, Refused

Check: TypeAlias = Callable[[object], Problem | None]
Table: TypeAlias = Mapping[str, Check]

NOT_STRING = Problem(40002, "not a valid string")
NOT_LIST = Problem(40002, "not a valid list")
NOT_OBJECT = Problem(40002, "not a valid object")
NOT_BOOLEAN = Problem(40002, "not a valid boolean")
NOT_NUMBER = Problem(40002, "not a valid number")
NOT_INTEGER = Problem(40002, "not a valid integer")
NOT_COUNT = Problem(40002, "must be at least 1")
NOT_URL = Problem(40002, "not a full http(s) url")
NOT_ADDRESS = Problem(40002, "not an ip address")
NOT_PUBLIC = Problem(40002, "not a public ip address")
NOT_CURRENCY = Problem(40002, "not a supported currency")
NOT_CLEAR = Problem(40002, "must not be hashed")
NOT_HASHED = Problem(40062, "PII is not hashed (64 lower-case hex digits of SHA-256)")
EMPTY_HASH = Problem(40002, "is the hash of an empty value")
EMPTY = Problem(40002, "must not be empty")
MISSING = Problem(40002, "is required")
NOT_SHARE = Problem(40002, "must lie between 0 and 1")

HASH_OF_NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

_CURRENCY_CODES = (
    "AED ARS AUD BDT BHD BIF BOB BRL CAD CHF CLP CNY COP CRC CZK DKK DZD EGP EUR GBP GTQ HKD HNL "
    "HUF IDR ILS INR ISK JPY KES KHR KRW KWD KZT MAD MOP MXN MYR NGN NIO NOK NZD OMR PEN PHP PKR "
    "PLN PYG QAR RON RUB SAR SEK SGD THB TRY TWD UAH USD VES VND ZAR"
)
CURRENCIES = frozenset(_CURRENCY_CODES.split())
"""The 62 that TikTok supports."""

_is_hash = re.compile(r"[0-9a-f]{64}").fullmatch
_is_any_hash = re.compile(r"[0-9a-fA-F]{64}").fullmatch
_is_url = re.compile(r"https?://[^\s/?#]+\S*").fullmatch
# Documentation ranges are left out: TikTok's own samples use them.
_NO_VISITORS_V4 = (
    "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.168.0.0/16 "
    "224.0.0.0/3"
)
_NO_VISITORS_V6 = "::/128 ::1/128 fc00::/7 fe80::/10 ff00::/8"
_NO_VISITORS = [
    ipaddress.ip_network(network) for network in f"{_NO_VISITORS_V4} {_NO_VISITORS_V6}".split()
]


def text(value: object) -> Problem | None:
    return None if type(value) is str else NOT_STRING


def boolean(value: object) -> Problem | None:
    return None if type(value) is bool else NOT_BOOLEAN


def an_object(value: object) -> Problem | None:
    return None if type(value) is dict else NOT_OBJECT


def amount(value: object) -> Problem | None:
    """A number, not text that looks like one, not negative, not NaN; 0 is a legal amount."""
    if type(value) is not int and type(value) is not float:
        return NOT_NUMBER
    return None if 0 <= value < float("inf") else NOT_NUMBER


def share(value: object) -> Problem | None:
    """A number from 0 to 1."""
    problem = amount(value)
    if problem is None and isinstance(value, int | float) and value > 1:
        return NOT_SHARE
    return problem


def whole(value: object) -> Problem | None:
    """An integer, 0 or more; 2.0 is a float to TikTok's validator."""
    return None if type(value) is int and value >= 0 else NOT_INTEGER


def count(value: object) -> Problem | None:
    if type(value) is not int:
        return NOT_INTEGER
    return None if value >= 1 else NOT_COUNT


def currency(value: object) -> Problem | None:
    return None if type(value) is str and value in CURRENCIES else NOT_CURRENCY


def url(value: object) -> Problem | None:
    if type(value) is not str:
        return NOT_STRING
    return None if _is_url(value) else NOT_URL


def clear(value: object) -> Problem | None:
    """Text that is sent as it is: city, state and country are useless as hashes."""
    if type(value) is not str:
        return NOT_STRING
    return NOT_CLEAR if _is_any_hash(value) else None


def texts(value: object) -> Problem | None:
    """A list of strings."""
    if type(value) is not list:
        return NOT_LIST
    return None if all(type(one) is str and one for one in value) else NOT_STRING


def hashed(value: object) -> Problem | None:
    """One SHA-256 in lower-case hex that is not the hash of nothing.

    A hash of a hash looks like any other and passes: only the vectors of a sender's tests see it.
    """
    if type(value) is not str:
        return NOT_STRING
    if not _is_hash(value):
        return NOT_HASHED
    return EMPTY_HASH if value == HASH_OF_NOTHING else None


def hashed_even_empty(value: object) -> Problem | None:
    """As `hashed`, with the hash of nothing let through."""
    return None if value == HASH_OF_NOTHING else hashed(value)


def many(check: Check) -> Check:
    """A list of one value or more, each of which passes `check`."""

    def check_each(value: object) -> Problem | None:
        if type(value) is not list:
            return NOT_LIST
        for one in value:
            if problem := check(one):
                return problem
        return None

    return check_each


def one_or_many(check: Check) -> Check:
    """A value that passes `check`, or a list of such."""
    check_each = many(check)

    def check_either(value: object) -> Problem | None:
        return check_each(value) if type(value) is list else check(value)

    return check_either


def one_of(*allowed: str) -> Check:
    """One of the given words."""
    problem = Problem(40002, f"must be one of {', '.join(allowed)}")

    def check(value: object) -> Problem | None:
        return None if type(value) is str and value in allowed else problem

    return check


def never(reason: str) -> Check:
    """A field that must not be there at all."""
    problem = Problem(40002, reason)
    return lambda _value: problem


def any_address(value: object) -> Problem | None:
    return _address(value)[0] if type(value) is str else NOT_STRING


def public_address(value: object) -> Problem | None:
    """An address that a shop's visitor can have."""
    if type(value) is not str:
        return NOT_STRING
    problem, is_public = _address(value)
    return problem or (None if is_public else NOT_PUBLIC)


@functools.lru_cache(maxsize=65_536)
def _address(value: str) -> tuple[Problem | None, bool]:
    try:
        found = ipaddress.ip_address(value)
    except ValueError:
        return NOT_ADDRESS, False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    return None, not any(found in network for network in _NO_VISITORS)


def is_empty(value: object) -> bool:
    """Whether a field says nothing; 0 and false say something."""
    return value is None or value in ("", [], {})


def join(at: str, key: str) -> str:
    return f"{at}.{key}" if at else key


def check_fields(
    found: Mapping[str, object], table: Table, at: str, *, refuse_empty: bool, notes: list[str]
) -> None:
    """Applies `table` to the fields of `found`; an unknown field is noted, not refused.

    Raises:
        Refused: by the first field, in the order sent, that breaks its rule.
    """
    for key, value in found.items():
        if not value and is_empty(value):
            if refuse_empty:
                raise Refused(EMPTY, join(at, key))
            continue
        if key not in table:
            notes.append(f"{join(at, key)}: unknown field")
        elif problem := table[key](value):
            raise Refused(problem, join(at, key), value)


def require(found: Mapping[str, object], keys: tuple[str, ...], at: str) -> None:
    """Refuses an object that lacks one of `keys`, or has it empty."""
    for key in keys:
        value = found.get(key)
        if not value and is_empty(value):
            raise Refused(MISSING, join(at, key))

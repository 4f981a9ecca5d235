"""Exact money: integers in a currency's minor unit, and the exponent that says what that is."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import lru_cache

from babel.numbers import get_currency_precision

from libs.errors import permanent

MINOR_MAX = 2**63 - 1
"""The largest amount that a wire message holds, in minor units."""

# CLDR, which babel reads, gives the digits that people write; ISO 4217 gives those that ledgers
# keep. TikTok and Shopify both follow ISO.
_ISO_DIFFERS = {
    "AFN": 2,
    "ALL": 2,
    "IQD": 3,
    "IRR": 2,
    "KPW": 2,
    "LAK": 2,
    "LBP": 2,
    "MGA": 2,
    "MMK": 2,
    "RSD": 2,
    "SLL": 2,
    "SOS": 2,
    "SYP": 2,
    "YER": 2,
}
_AMOUNT = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d{1,3})?", re.ASCII)
_AMOUNT_LENGTH_MAX = 64
_EXACT = Context(prec=200)


def is_currency(code: str) -> bool:
    """True for three upper-case ASCII letters, which is all that can be known of a new currency."""
    return len(code) == 3 and code.isascii() and code.isalpha() and code.isupper()


@lru_cache(maxsize=512)
def exponent(currency: str) -> int:
    """Decimal places of `currency` by ISO 4217; 2 for a code that nobody has listed yet.

    Raises:
        ServiceError: PERMANENT, `currency_unreadable`, if it is not three upper-case letters.
    """
    if not is_currency(currency):
        raise permanent("currency_unreadable", "give an ISO 4217 code such as USD")
    differs = _ISO_DIFFERS.get(currency)
    return get_currency_precision(currency) if differs is None else differs


def minor_of(amount: str | int | Decimal, currency: str) -> tuple[int, bool]:
    """`amount` in the minor unit of `currency`, and whether it had to be rounded (half-even).

    Raises:
        ServiceError: PERMANENT; `money_unreadable` if it is not a number of at most 64
            characters that fits 64 bits, `currency_unreadable` as `exponent` does.
    """
    places = exponent(currency)
    if amount.__class__ is str and len(amount) < 18 and amount.isascii():
        whole, _, fraction = amount.partition(".")
        if whole.isdigit() and len(fraction) <= places and (not fraction or fraction.isdigit()):
            return int(whole + fraction.ljust(places, "0")), False
    return _scaled(_decimal(amount), places)


def minor(amount: str | int | Decimal, currency: str) -> int:
    """`amount` in the minor unit of `currency`: `minor("1.5", "USD")` is 150. Errors as above."""
    return minor_of(amount, currency)[0]


def decimal_of(amount_minor: int, currency: str) -> Decimal:
    """The amount in the currency's major unit, with all its places: 150 USD cents are `1.50`."""
    return _EXACT.scaleb(Decimal(amount_minor), -exponent(currency))


def _decimal(amount: str | int | Decimal) -> Decimal:
    """The number that `amount` states; a float is refused because it has already lost digits."""
    if isinstance(amount, str):
        text = amount.strip()
        if len(text) > _AMOUNT_LENGTH_MAX or not _AMOUNT.fullmatch(text):
            raise permanent("money_unreadable", "give a plain decimal number")
        return Decimal(text)
    if isinstance(amount, Decimal) and amount.is_finite():
        return amount
    if isinstance(amount, int) and not isinstance(amount, bool) and abs(amount) <= MINOR_MAX:
        return Decimal(amount)
    raise permanent("money_unreadable", "give a string, an integer or a finite decimal")


def _scaled(number: Decimal, places: int) -> tuple[int, bool]:
    """`number` times ten to the `places`, rounded half-even, and whether that changed it."""
    # Bounded before it is expanded: 1e999999 is eight characters here and a megabyte as an integer.
    if number.adjusted() > 19 or len(number.as_tuple().digits) > 100:
        raise permanent("money_unreadable", "the number is beyond any amount of money")
    scaled = _EXACT.scaleb(number, places)
    whole = scaled.to_integral_value(ROUND_HALF_EVEN, _EXACT)
    if abs(whole) > MINOR_MAX:
        raise permanent("money_unreadable", "the number is beyond any amount of money")
    return int(whole), whole != scaled

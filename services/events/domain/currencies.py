"""Currencies that TikTok's events accept, and amounts of money as exact JSON numbers."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

# ISO 4217, grouped by digits after the point; a test compares with those of libs.money.
_CODES_BY_DIGITS = {
    0: "BIF CLP ISK JPY KRW PYG VND",
    2: "AED ARS AUD BDT BOB BRL CAD CHF CNY COP CRC CZK DKK DZD EGP EUR GBP GTQ HKD HNL HUF IDR"
    " ILS INR KES KHR KZT MAD MOP MXN MYR NGN NIO NOK NZD PEN PHP PKR PLN QAR RON RUB SAR SEK SGD"
    " THB TRY TWD UAH USD VES ZAR",
    3: "BHD KWD OMR",
}

MINOR_DIGITS: dict[str, int] = {
    code: digits for digits, codes in _CODES_BY_DIGITS.items() for code in codes.split()
}
"""Digits after the point of each of the 62 currencies that TikTok accepts, by ISO 4217."""

SUPPORTED_CURRENCIES = frozenset(MINOR_DIGITS)


def amount(minor: int, currency: str) -> Decimal:
    """`minor` units as a decimal with exactly the currency's digits: 12000 USD is 120.00.

    Raises:
        KeyError: `currency` is not one of `SUPPORTED_CURRENCIES`.
    """
    return Decimal(minor).scaleb(-MINOR_DIGITS[currency])


def unit_minor(total_minor: int, quantity: int) -> int:
    """The price of one of `quantity`, to the nearest minor unit, a half away from zero."""
    whole, rest = divmod(total_minor, quantity)
    if rest == 0:
        return whole
    return int((Decimal(total_minor) / quantity).to_integral_value(ROUND_HALF_UP))

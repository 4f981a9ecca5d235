from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import ServiceError
from libs.money import decimal_of, exponent, minor, minor_of

ISO_0 = [
    "BIF",
    "CLP",
    "DJF",
    "GNF",
    "ISK",
    "JPY",
    "KMF",
    "KRW",
    "PYG",
    "RWF",
    "UGX",
    "UYI",
    "VND",
    "VUV",
    "XAF",
    "XOF",
    "XPF",
]
ISO_2 = [
    "USD",
    "EUR",
    "GBP",
    "AFN",
    "ALL",
    "IRR",
    "KPW",
    "LAK",
    "LBP",
    "MGA",
    "MMK",
    "RSD",
    "SLL",
    "SOS",
    "SYP",
    "YER",
    "HUF",
    "TWD",
    "COP",
    "IDR",
]
ISO_3 = ["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"]


@pytest.mark.parametrize(
    ("currency", "places"),
    [(c, 0) for c in ISO_0] + [(c, 2) for c in ISO_2] + [(c, 3) for c in ISO_3] + [("CLF", 4)],
)
def test_exponents_are_those_of_iso_4217(currency: str, places: int) -> None:
    assert exponent(currency) == places


@pytest.mark.parametrize(
    ("amount", "currency", "expected"),
    [
        ("199.00", "USD", 19900),
        ("199", "USD", 19900),
        ("0.5", "USD", 50),
        ("-30.00", "USD", -3000),
        (" 1.25 ", "USD", 125),
        ("20", "VND", 20),
        ("20.00", "VND", 20),
        ("1.234", "KWD", 1234),
        ("1e3", "JPY", 1000),
        (199, "USD", 19900),
        (Decimal("19.9"), "USD", 1990),
        ("90071992547409.93", "USD", 9007199254740993),
    ],
)
def test_amounts_become_exact_minor_units(
    amount: str | int | Decimal, currency: str, expected: int
) -> None:
    assert minor_of(amount, currency) == (expected, False)


@pytest.mark.parametrize(
    ("amount", "expected"), [("0.125", 12), ("0.135", 14), ("-0.125", -12), ("1.999", 200)]
)
def test_places_beyond_the_currencys_own_are_rounded_half_even_and_told(
    amount: str, expected: int
) -> None:
    assert minor_of(amount, "USD") == (expected, True)


@pytest.mark.parametrize(
    "amount",
    ["", ".", "1,50", "1_000", "NaN", "Infinity", "-", "1.2.3", "٣", "12 USD", "9" * 30, "1e99"],
)
def test_what_is_no_amount_is_refused(amount: str) -> None:
    with pytest.raises(ServiceError, match="money_unreadable"):
        minor(amount, "USD")


@pytest.mark.parametrize(
    "amount", [1.5, True, None, [], Decimal("NaN"), Decimal("1e999999"), 10**40]
)
def test_what_has_lost_digits_or_is_no_number_is_refused(amount: Any) -> None:
    with pytest.raises(ServiceError, match="money_unreadable"):
        minor(amount, "USD")


@pytest.mark.parametrize("currency", ["", "usd", "US", "USDT", "U$D", "ÜSD"])
def test_what_is_no_currency_is_refused(currency: str) -> None:
    with pytest.raises(ServiceError, match="currency_unreadable"):
        minor("1.00", currency)


@given(st.integers(-(2**63) + 1, 2**63 - 1), st.sampled_from(["USD", "JPY", "KWD", "CLF"]))
def test_a_minor_amount_survives_being_written_as_a_decimal(
    amount_minor: int, currency: str
) -> None:
    written = decimal_of(amount_minor, currency)

    assert minor(written, currency) == amount_minor
    assert minor(f"{written:f}", currency) == amount_minor


def test_a_decimal_shows_all_places_of_its_currency() -> None:
    assert str(decimal_of(150, "USD")) == "1.50"
    assert str(decimal_of(150, "JPY")) == "150"

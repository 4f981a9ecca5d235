from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from libs.money import exponent
from services.events.domain.currencies import (
    MINOR_DIGITS,
    SUPPORTED_CURRENCIES,
    amount,
    unit_minor,
)


def test_a_minor_unit_is_here_what_it_is_to_those_who_wrote_the_amount() -> None:
    assert {code: exponent(code) for code in MINOR_DIGITS} == MINOR_DIGITS


def test_tiktok_accepts_sixty_two_currencies() -> None:
    assert len(SUPPORTED_CURRENCIES) == 62
    assert SUPPORTED_CURRENCIES.isdisjoint({"UYU", "BGN", "LKR", "GEL", "GHS"})


@given(st.integers(0, 10**15), st.sampled_from(sorted(SUPPORTED_CURRENCIES)))
def test_an_amount_has_exactly_its_currencys_digits(minor: int, currency: str) -> None:
    found = amount(minor, currency)

    assert found.as_tuple().exponent == -MINOR_DIGITS[currency]
    assert found * 10 ** MINOR_DIGITS[currency] == Decimal(minor)


@given(st.integers(0, 10**12), st.integers(1, 10**6))
def test_a_unit_price_is_at_most_half_a_minor_unit_off(total_minor: int, quantity: int) -> None:
    off = Fraction(total_minor, quantity) - unit_minor(total_minor, quantity)

    assert -Fraction(1, 2) <= off <= Fraction(1, 2)


def test_half_a_minor_unit_is_rounded_up() -> None:
    assert unit_minor(5, 2) == 3

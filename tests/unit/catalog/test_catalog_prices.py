"""Prices and sale prices, in the currency of the catalog."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import ServiceError
from libs.money import exponent
from services.catalog.domain.model import MarketPrice, Money
from services.catalog.domain.rates import RateTable, rates_of_ecb, rates_of_text
from services.catalog.domain.settings import Rounding
from tests.unit.catalog.goods import TODAY, codes, item, mapped, product, refused, variant

RATES = rates_of_text("2026-11-26;USD=1.08,GBP=0.86,JPY=163.2,BHD=0.407,VND=27400", 7)

ECB = b"""<?xml version="1.0" encoding="UTF-8"?>
<gesmes:Envelope xmlns:gesmes="http://www.gesmes.org/xml/2002-08-01"
 xmlns="http://www.ecb.int/vocabulary/2002-08-01/eurofxref">
<gesmes:subject>Reference rates</gesmes:subject>
<gesmes:Sender><gesmes:name>European Central Bank</gesmes:name></gesmes:Sender>
<Cube>
 <Cube time='2026-11-26'><Cube currency='USD' rate='1.08'/><Cube currency='GBP' rate='0.86'/></Cube>
 <Cube time='2026-11-25'><Cube currency='USD' rate='1.01'/></Cube>
</Cube></gesmes:Envelope>"""


def test_a_higher_compare_at_price_is_the_price_and_the_price_is_on_sale() -> None:
    found = item(product(variant(price=Money(8000, "USD"), compare_at=Money(12000, "USD"))))

    assert (found.price, found.sale_price) == (Decimal("120.00"), Decimal("80.00"))


@pytest.mark.parametrize("former", [8000, 7999, -1])
def test_a_compare_at_price_that_is_not_higher_is_left_out_and_noted(former: int) -> None:
    given = product(variant(price=Money(8000, "USD"), compare_at=Money(former, "USD")))

    found = mapped(given)

    assert (found.items[0].price, found.items[0].sale_price) == (Decimal("80.00"), None)
    assert codes(found) == ["compare_at_ignored"]


def test_a_compare_at_price_in_another_currency_cannot_be_compared() -> None:
    found = mapped(product(variant(compare_at=Money(999_999, "EUR"))))

    assert found.items[0].sale_price is None
    assert codes(found) == ["compare_at_ignored"]


def test_a_compare_at_price_of_zero_means_that_there_is_none() -> None:
    assert codes(mapped(product(variant(compare_at=Money(0, "USD"))))) == []


@pytest.mark.parametrize(
    ("price", "code"),
    [
        (None, "price_missing"),
        (Money(0, "USD"), "price_zero"),
        (Money(-500, "USD"), "price_negative"),
        (Money(500, "US"), "currency_unknown"),
        (Money(500, "XTS"), "price_not_convertible"),
    ],
)
def test_a_price_that_tiktok_would_not_take_is_refused_by_the_merchants_name(
    price: Money | None, code: str
) -> None:
    found = refused(product(variant(price=price)), rates=RATES)

    assert (found.code, found.field) == (code, "variants.price")


def test_a_market_price_in_the_catalogs_currency_comes_before_the_shops() -> None:
    prices = {"DE": MarketPrice(Money(9900, "EUR"), Money(11000, "EUR"))}

    found = item(product(variant(prices=prices)), country="DE", currency="EUR", rates=RATES)

    assert (found.price, found.sale_price) == (Decimal("110.00"), Decimal("99.00"))


def test_a_market_price_in_another_currency_gives_way_to_the_shops() -> None:
    prices = {"DE": MarketPrice(Money(9900, "EUR"))}

    assert item(product(variant(prices=prices)), country="DE").price == Decimal("120.00")


@pytest.mark.parametrize(
    ("shop", "catalog", "expected"),
    [
        (Money(10800, "USD"), "EUR", "100.00"),
        (Money(10800, "USD"), "GBP", "86.00"),
        (Money(10800, "USD"), "JPY", "16320"),
        (Money(10800, "USD"), "BHD", "40.700"),
        (Money(16320, "JPY"), "USD", "108.00"),
        (Money(40700, "BHD"), "JPY", "16320"),
    ],
)
def test_a_price_is_converted_across_the_euro_into_the_minor_unit_of_its_currency(
    shop: Money, catalog: str, expected: str
) -> None:
    found = item(product(variant(price=shop)), currency=catalog, rates=RATES)

    assert (str(found.price), found.currency) == (expected, catalog)


@pytest.mark.parametrize(
    ("rounding", "step", "expected"),
    [
        (Rounding.NEAREST, 1, "111.11"),
        (Rounding.UP, 1, "111.12"),
        (Rounding.DOWN, 1, "111.11"),
        (Rounding.NEAREST, 5, "111.10"),
        (Rounding.UP, 100, "112.00"),
        (Rounding.DOWN, 100, "111.00"),
    ],
)
def test_a_converted_price_is_rounded_to_the_settings_step(
    rounding: Rounding, step: int, expected: str
) -> None:
    given = product(variant(price=Money(12000, "USD")))

    found = item(given, currency="EUR", rates=RATES, rounding=rounding, round_to_minor=step)

    assert str(found.price) == expected


def test_a_price_in_the_shops_own_currency_is_never_rounded() -> None:
    assert str(item(product(), rounding=Rounding.UP, round_to_minor=700).price) == "120.00"


def test_what_costs_something_is_never_converted_to_nothing() -> None:
    found = item(
        product(variant(price=Money(1, "VND"))), currency="EUR", rates=RATES, round_to_minor=5
    )

    assert str(found.price) == "0.05"


def test_a_sale_that_rounding_takes_away_is_no_sale() -> None:
    given = product(variant(price=Money(10000, "USD"), compare_at=Money(10001, "USD")))

    found = item(given, currency="EUR", rates=RATES, round_to_minor=100)

    assert found.sale_price is None


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"rates": None}, "no rates"),
        ({"rates": RATES, "convert_prices": False}, "settings"),
        ({"rates": RATES, "today": date(2026, 12, 4)}, "2026-11-26"),
        ({"rates": RATES, "currency": "SEK"}, "do not list"),
    ],
)
def test_a_price_that_cannot_be_converted_is_refused_with_the_reason(
    settings: dict[str, object], why: str
) -> None:
    found = refused(product(), **{"currency": "EUR", **settings})

    assert found.code == "price_not_convertible"
    assert why in found.message


def test_rates_are_good_until_their_last_day() -> None:
    assert item(product(), currency="EUR", rates=RATES, today=date(2026, 12, 3)).currency == "EUR"


def test_an_amount_beyond_all_money_is_refused_after_conversion() -> None:
    given = product(variant(price=Money(2**62, "USD")))

    assert refused(given, currency="VND", rates=RATES).code == "price_not_convertible"


def test_a_catalog_in_no_currency_refuses_everything() -> None:
    found = refused(product(), currency="dollars")

    assert (found.code, found.field) == ("currency_unknown", "currency")


@given(
    st.integers(min_value=1, max_value=2**53),
    st.sampled_from(["USD", "GBP", "JPY", "BHD", "VND", "EUR"]),
    st.sampled_from(["USD", "GBP", "JPY", "BHD", "EUR"]),
    st.sampled_from(list(Rounding)),
    st.integers(min_value=1, max_value=1000),
)
def test_a_converted_price_is_above_zero_and_within_one_step_of_the_exact_one(
    minor: int, source: str, target: str, rounding: Rounding, step: int
) -> None:
    given = product(variant(price=Money(minor, source)))
    settings: dict[str, Any] = {"currency": target, "rounding": rounding, "round_to_minor": step}

    found = mapped(given, rates=RATES, **settings)

    if source == target or not found.items:
        return
    (one,) = found.items
    unit = Decimal(step).scaleb(-exponent(target))
    rate = RATES.rate(source, target)
    assert rate is not None
    exact = Decimal(minor).scaleb(-exponent(source)) * rate
    assert one.price > 0
    assert one.price % unit == 0
    assert abs(one.price - exact) <= unit


def test_the_banks_file_is_read_with_its_newest_day() -> None:
    table = rates_of_ecb(ECB, 5)

    assert table == RateTable(
        on=date(2026, 11, 26),
        per_euro={"USD": Decimal("1.08"), "GBP": Decimal("0.86")},
        max_age_days=5,
    )
    assert table.rate("EUR", "USD") == Decimal("1.08")
    assert table.rate("GBP", "GBP") == 1
    assert table.rate("USD", "CHF") is None


@pytest.mark.parametrize(
    "xml",
    [
        b"",
        b"not xml",
        b"<Envelope/>",
        ECB.replace(b"<gesmes:Envelope", b"<!DOCTYPE x [<!ENTITY a 'b'>]><gesmes:Envelope"),
        ECB.replace(b' encoding="UTF-8"', b"").decode().encode("utf-16"),
        ECB.replace(b"2026-11-26", b"yesterday"),
        ECB.replace(b"1.08", b"-1"),
        ECB.replace(b"'USD' rate='1.08'", b"'US' rate='1.08'"),
        ECB.replace(b"1.08", b"N/A"),
    ],
)
def test_a_file_that_is_no_table_of_rates_is_refused(xml: bytes) -> None:
    with pytest.raises(ServiceError) as caught:
        rates_of_ecb(xml, 7)

    assert caught.value.code == "rates_unreadable"


@pytest.mark.parametrize(
    "text", ["", "2026-11-27", "USD=1.08", "2026-11-27;USD", "2026-11-27;USD=0", "x;USD=1"]
)
def test_a_setting_that_is_no_table_of_rates_is_refused(text: str) -> None:
    with pytest.raises(ServiceError) as caught:
        rates_of_text(text, 7)

    assert caught.value.code == "rates_unreadable"


def test_rates_of_the_day_are_not_too_old() -> None:
    assert not rates_of_text("2026-11-27;USD=1", 0).is_too_old(TODAY)
    assert rates_of_text("2026-11-26;USD=1", 0).is_too_old(TODAY)

"""What an item costs in its catalog's currency."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal
from typing import Final

from libs.money import MINOR_MAX, decimal_of, exponent, is_currency
from services.catalog.domain.faults import Fault
from services.catalog.domain.model import Money, Variant
from services.catalog.domain.rates import RateTable
from services.catalog.domain.settings import CatalogSettings, Rounding

_PRICE: Final = "variants.price"
_COMPARE_AT: Final = "variants.compare_at_price"
_EXACT: Final = Context(prec=60)
_ROUNDINGS: Final = {
    Rounding.NEAREST: ROUND_HALF_UP,
    Rounding.UP: ROUND_CEILING,
    Rounding.DOWN: ROUND_FLOOR,
}


@dataclass(frozen=True, slots=True)
class Priced:
    """Regular price and, while it is lower, the sale's; with where they come from."""

    price: Decimal
    sale_price: Decimal | None
    source: str
    """The merchant's field of what buyers pay: `variants.price`, or that of a market."""
    told: str
    """What stands there."""
    rate: Decimal | None = None
    """By which it was converted."""
    note: Fault | None = None


@dataclass(frozen=True, slots=True)
class _Told:
    """A price with the former one, in one currency, as Shopify tells them."""

    price: Money
    compare_at: Money | None
    field: str


class Pricing:
    """Prices of one catalog's items on one day."""

    def __init__(
        self, catalog: CatalogSettings, shop_currency: str, rates: RateTable | None, today: date
    ) -> None:
        self._catalog = catalog
        self.currency = catalog.currency or shop_currency
        self._rates = rates
        self._today = today
        self._known: dict[object, Priced | Fault] = {}

    def of(self, variant: Variant) -> Priced | Fault:
        """Price and sale price of `variant`, or why it has none that TikTok would take."""
        key = (
            variant.price,
            variant.compare_at,
            variant.prices.get(self._catalog.country) if variant.prices else None,
        )
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._find(variant)
        return found

    def _find(self, variant: Variant) -> Priced | Fault:
        if not is_currency(self.currency):
            return Fault(
                "currency_unknown",
                "currency",
                f"{self.currency!r} is no currency of ISO 4217: set the catalog's `currency`.",
            )
        told = self._told(variant)
        if isinstance(told, Fault):
            return told
        wrong = _wrong_amount(told)
        if wrong is not None:
            return wrong
        if told.price.currency == self.currency:
            return self._priced(told, told.price.minor, _minor(told.compare_at, told.price), None)
        rate = self._rate(told.price.currency)
        if isinstance(rate, Fault):
            return rate
        price = self._converted(told.price, rate)
        former = _minor(told.compare_at, told.price)
        if former is not None:
            former = self._converted(Money(former, told.price.currency), rate)
        if max(price, former or 0) > MINOR_MAX:
            return _not_convertible(told.price.currency, self.currency, "the amount is too large")
        return self._priced(told, price, former, rate)

    def _told(self, variant: Variant) -> _Told | Fault:
        """What buyers of the catalog's country pay, else what the shop asks."""
        market = variant.prices.get(self._catalog.country) if variant.prices else None
        if market is not None and market.price.currency == self.currency:
            field = f"contextualPricing({self._catalog.country}).price"
            return _Told(market.price, market.compare_at, field)
        if variant.price is None:
            return Fault(
                "price_missing",
                _PRICE,
                "It has no price that can be read: give it one in Shopify.",
            )
        return _Told(variant.price, variant.compare_at, _PRICE)

    def _rate(self, source: str) -> Decimal | Fault:
        currency, rates = self.currency, self._rates
        if not is_currency(source):
            message = f"Its price is in {source!r}, which is no currency of ISO 4217."
            return Fault("currency_unknown", _PRICE, message)
        if not self._catalog.convert_prices:
            return _not_convertible(
                source, currency, "the catalog's settings allow prices of its market only"
            )
        if rates is None:
            return _not_convertible(source, currency, "no rates of exchange are configured")
        if rates.is_too_old(self._today):
            return _not_convertible(
                source, currency, f"the rates are of {rates.on}, which is too long ago"
            )
        rate = rates.rate(source, currency)
        if rate is None:
            return _not_convertible(source, currency, f"the rates of {rates.on} do not list it")
        return rate

    def _converted(self, money: Money, rate: Decimal) -> int:
        """`money` in minor units of the catalog's currency, rounded to the settings' step."""
        step = max(self._catalog.round_to_minor, 1)
        places = exponent(self.currency) - exponent(money.currency)
        exact = _EXACT.scaleb(_EXACT.multiply(Decimal(money.minor), rate), places)
        steps = _EXACT.divide(exact, Decimal(step)).to_integral_value(
            _ROUNDINGS[self._catalog.rounding], _EXACT
        )
        # What costs something never becomes free.
        return max(int(steps), 1) * step

    def _priced(self, told: _Told, price: int, former: int | None, rate: Decimal | None) -> Priced:
        """Amounts in minor units of the catalog's currency, as price and sale price."""
        currency = self.currency
        words = _words(told.price)
        if former is None or former <= price:
            # 0 is how some say that there is no former price.
            is_odd = told.compare_at is not None and told.compare_at.minor != 0
            note = _compare_at_ignored(told) if is_odd else None
            return Priced(decimal_of(price, currency), None, told.field, words, rate, note)
        return Priced(
            decimal_of(former, currency),
            decimal_of(price, currency),
            told.field,
            f"{words}, compare at {_words(told.compare_at)}" if told.compare_at else words,
            rate,
        )


def _wrong_amount(told: _Told) -> Fault | None:
    if told.price.minor < 0:
        return Fault(
            "price_negative",
            _PRICE,
            f"Its price is {_words(told.price)}: a price must be above 0.",
        )
    if told.price.minor == 0:
        return Fault(
            "price_zero",
            _PRICE,
            "Its price is 0, which cannot be advertised: give it a price in Shopify.",
        )
    return None


def _minor(compare_at: Money | None, price: Money) -> int | None:
    """The former price where there is one above 0 in the currency of `price`."""
    if compare_at is None or compare_at.minor <= 0 or compare_at.currency != price.currency:
        return None
    return compare_at.minor


def _compare_at_ignored(told: _Told) -> Fault:
    former = _words(told.compare_at) if told.compare_at else ""
    return Fault(
        "compare_at_ignored",
        _COMPARE_AT,
        f"The former price {former} is not above the price {_words(told.price)}, so the item is"
        " not shown as on sale.",
    )


def _not_convertible(source: str, target: str, why: str) -> Fault:
    return Fault(
        "price_not_convertible",
        _PRICE,
        f"Its price in {source} cannot be told in {target}: {why}. Give the country a market with"
        f" prices in {target}, or configure rates.",
    )


def _words(money: Money) -> str:
    if not is_currency(money.currency):
        return f"{money.minor} {money.currency}"
    return f"{decimal_of(money.minor, money.currency)} {money.currency}"

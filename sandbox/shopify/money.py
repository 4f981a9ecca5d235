"""Amounts as Shopify writes them: strings, with the decimals that the currency has."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

# ISO 4217; every other currency used here has two.
_DECIMALS = {"JPY": 0, "KRW": 0, "VND": 0, "BHD": 3, "KWD": 3}


def amount(minor: int, currency: str) -> str:
    """`minor` units of `currency` as a decimal string: 1999 USD is "19.99", 1999 JPY is "1999"."""
    return str(Decimal(minor).scaleb(-_DECIMALS.get(currency, 2)))


@dataclass(frozen=True)
class Terms:
    """The two currencies of one sale; `rate` is what one unit of the shop's costs the shopper."""

    shop_currency: str
    presentment_currency: str
    rate: Decimal = Decimal(1)

    def shop(self, minor: int) -> str:
        """The amount in the shop's currency."""
        return amount(minor, self.shop_currency)

    def presentment(self, minor: int) -> str:
        """The amount that the shopper sees, converted and rounded."""
        if self.shop_currency == self.presentment_currency:
            return self.shop(minor)
        decimals = _DECIMALS.get(self.presentment_currency, 2)
        exact = Decimal(self.shop(minor)) * self.rate
        return str(exact.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP))

    def both(self, minor: int) -> dict[str, object]:
        """A `…_set` object: shop money and presentment money."""
        return {
            "shop_money": {"amount": self.shop(minor), "currency_code": self.shop_currency},
            "presentment_money": {
                "amount": self.presentment(minor),
                "currency_code": self.presentment_currency,
            },
        }

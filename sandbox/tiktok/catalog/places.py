"""Countries and currencies of catalogs, by the examples on TikTok's pages."""

from __future__ import annotations

from typing import Final

_REGIONS: Final = """
US GB FR IT DE ES ID VN TH MY PH AU JP RU BR SA AE TR CA MX SG KR NZ PL TW NO DK FI AT NL CH PT
SE EG ZA PK UA CL AR PE CO RO KZ BY GR IL BH IQ KW MA OM QA IE BE CZ UY EC HU
"""
_CURRENCIES: Final = """
AED ALL AOA ARS AUD BAM BDT BGN BHD BND BOB BRL BWP BYN CAD CHF CLP CNY COP CRC CZK DKK DZD EGP
EUR GBP GHS GTQ GYD HKD HNL HRK HUF IDR ILS INR IQD IRR ISK JOD JPY KES KHR KRW KWD KZT LAK LBP
LKR LYD MAD MDL MKD MMK MNT MOP MUR MVR MWK MXN MYR NGN NIO NOK NPR NZD OMNI OMR PEN PHP PKR PLN
PYG QAR RON RSD RUB SAR SDG SEK SGD SLL SRD SSP SYP THB TND TRY TWD TZS UAH UGX USD UYU UZS VEF
VND XAF YER ZAR ZMW
"""
_PAIRS: Final = """
PL:PLN FR:EUR MA:MAD HU:HUF AU:AUD GB:GBP UZ:UZS AE:AED TR:TRY AT:EUR CZ:CZK CL:CLP ES:EUR
CH:CHF NO:NOK ID:IDR TW:TWD BE:EUR IT:EUR PE:PEN EG:EGP LU:EUR JP:JPY KR:KRW TH:THB KW:KWD
SA:SAR CA:CAD IN:INR DE:EUR NZ:NZD NL:EUR CO:COP AR:ARS US:USD UA:UAH LB:LBP PK:PKR MX:MXN
DK:DKK/EUR PH:PHP SE:SEK JO:JOD RO:RON/LEU/EUR EC:USD FI:EUR BR:BRL KZ:KZT OM:OMR SG:SGD/BND
IE:EUR ZA:ZAR IQ:IQD BY:BYN MY:MYR QA:QAR BH:BHD GR:EUR PT:EUR KH:KHR IL:ILS RU:RUB VN:VND
"""

REGIONS: Final = tuple(_REGIONS.split())
"""What `/catalog/available_country/get/` lists."""

CURRENCIES: Final = tuple(_CURRENCIES.split())
"""What `/catalog/create/` takes; OMNI is undocumented."""

CURRENCIES_OF: Final[dict[str, list[str]]] = {
    place: currencies.split("/")
    for place, _, currencies in (p.partition(":") for p in _PAIRS.split())
}
"""What `/catalog/location_currency/get/` lists; DK, RO and SG have more than one."""


def belong_together(region: str, currency: str) -> bool:
    """Whether a catalog of `region` may hold `currency`; a place not listed may hold any."""
    return currency in CURRENCIES_OF.get(region, [currency])

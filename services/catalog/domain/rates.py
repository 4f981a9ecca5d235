"""Rates of exchange of one day, and where they are read from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Context, Decimal
from typing import Final
from xml.etree import ElementTree as ET

from libs.errors import ServiceError, permanent
from libs.money import is_currency

EURO: Final = "EUR"
_CUBE: Final = "{http://www.ecb.int/vocabulary/2002-08-01/eurofxref}Cube"
_XML_BYTES_MAX: Final = 16 * 1024 * 1024
_RATE: Final = re.compile(r"\d{1,12}(\.\d{1,12})?", re.ASCII)
_EXACT: Final = Context(prec=40)


@dataclass(frozen=True, slots=True, kw_only=True)
class RateTable:
    """Units of each currency for one euro, as they were on one day."""

    on: date
    per_euro: Mapping[str, Decimal]
    max_age_days: float = 7.0

    def is_too_old(self, today: date) -> bool:
        """Whether more than `max_age_days` have passed since the day of the rates."""
        return (today - self.on).days > self.max_age_days

    def rate(self, source: str, target: str) -> Decimal | None:
        """Units of `target` for one of `source`, across the euro; None where one is not listed."""
        if source == target:
            return Decimal(1)
        ours, theirs = self._of(target), self._of(source)
        if ours is None or theirs is None:
            return None
        return _EXACT.divide(ours, theirs)

    def _of(self, currency: str) -> Decimal | None:
        return Decimal(1) if currency == EURO else self.per_euro.get(currency)


def rates_of_text(text: str, max_age_days: float) -> RateTable:
    """Rates against the euro such as `2026-11-27;USD=1.08,GBP=0.83`.

    Raises:
        ServiceError: PERMANENT, `rates_unreadable`, naming the part that cannot be read.
    """
    day, semicolon, said = (part.strip() for part in text.partition(";"))
    if not semicolon or not said:
        raise _unreadable("give the day and the rates, such as `2026-11-27;USD=1.08,GBP=0.83`")
    found: dict[str, Decimal] = {}
    for part in filter(None, (one.strip() for one in said.split(","))):
        currency, _, rate = (one.strip() for one in part.partition("="))
        found[currency] = _rate(currency, rate)
    return RateTable(on=_day(day), per_euro=found, max_age_days=max_age_days)


def rates_of_ecb(xml: bytes, max_age_days: float) -> RateTable:
    """The newest day of a file that the European Central Bank publishes (`eurofxref-daily.xml`).

    Its files of the last 90 days and of all days have the same form and are read too.

    Raises:
        ServiceError: PERMANENT, `rates_unreadable`.
    """
    # An entity could unfold to gigabytes; the bank's files declare none, and they are no UTF-16, in
    # which a declaration would not be seen here.
    if len(xml) > _XML_BYTES_MAX or b"<!DOCTYPE" in xml or b"\0" in xml:
        raise _unreadable("this is no file of rates: it is too large, or declares entities")
    try:
        root = ET.fromstring(xml)  # noqa: S314  # without a DOCTYPE there is no entity
    except (ET.ParseError, ValueError, LookupError) as error:
        raise _unreadable("this is not XML") from error
    days = [cube for cube in root.iter(_CUBE) if cube.get("time")]
    if not days:
        raise _unreadable("no `Cube` with a `time`: expected the bank's eurofxref-daily.xml")
    newest = max(days, key=lambda cube: _day(cube.get("time", "")))
    found = {
        cube.get("currency", ""): _rate(cube.get("currency", ""), cube.get("rate", ""))
        for cube in newest.iter(_CUBE)
        if cube.get("currency")
    }
    if not found:
        raise _unreadable("the newest day holds no rates")
    return RateTable(on=_day(newest.get("time", "")), per_euro=found, max_age_days=max_age_days)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise _unreadable(f"{text[:32]!r} is no day such as 2026-11-27") from error


def _rate(currency: str, text: str) -> Decimal:
    if not is_currency(currency):
        raise _unreadable(f"{currency[:16]!r} is no currency such as USD")
    if not _RATE.fullmatch(text) or not Decimal(text):
        raise _unreadable(f"{text[:32]!r} for {currency} is no rate such as 1.08")
    return Decimal(text)


def _unreadable(message: str) -> ServiceError:
    return permanent("rates_unreadable", message, path="rates")

"""Barcodes as GTINs."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_LENGTHS: Final = frozenset((8, 12, 13, 14))
_FILLERS: Final = re.compile(r"[\s'\u2019-]")


@lru_cache(maxsize=4096)
def gtin_of(barcode: str) -> str | None:
    """The GTIN that `barcode` is: 8, 12, 13 or 14 digits with a right check digit; else None.

    Spaces, dashes and the apostrophe that spreadsheets put in front are left out. Twelve zeros
    have a right check digit too, and are no article.
    """
    digits = _FILLERS.sub("", barcode)
    if len(digits) not in _LENGTHS or not digits.isascii() or not digits.isdigit():
        return None
    if not digits.strip("0"):
        return None
    # GS1: the digits before the check digit weigh 3 and 1 in turn, from the right.
    weighed = sum(
        int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(digits[-2::-1])
    )
    return digits if (10 - weighed % 10) % 10 == int(digits[-1]) else None

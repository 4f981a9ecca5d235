"""The bytes of a delivery as a JSON object, without losing a digit or the process."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any, NoReturn

import msgspec

from libs.errors import permanent

_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Any, float_hook=Decimal)
_INTEGER_DIGITS_MAX = 40
_LONE_OR_PAIRED = re.compile(
    rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)


def parse_body(body: bytes) -> dict[str, Any]:
    """The JSON object that `body` holds; numbers with a point or exponent become Decimal.

    Integers of any length stay exact, of a repeated key the last counts, and half a surrogate pair
    becomes U+FFFD: a cut emoji in a note is no reason to lose an order.

    Raises:
        ServiceError: PERMANENT, path `$`: `not_json`, `not_utf8`, `too_deep`, `not_an_object`.
    """
    try:
        parsed = _parsed(body)
    except RecursionError as error:
        raise permanent("too_deep", "nested deeper than any Shopify body", path="$") from error
    except UnicodeDecodeError as error:
        raise permanent("not_utf8", f"byte {error.start} is not UTF-8", path="$") from error
    if not isinstance(parsed, dict):
        raise permanent("not_an_object", f"a {type(parsed).__name__} instead", path="$")
    return parsed


def _parsed(body: bytes) -> object:
    try:
        return _DECODER.decode(body)
    except msgspec.DecodeError:
        return _parsed_slowly(body)


def _parsed_slowly(body: bytes) -> object:
    """As the fast decoder; also what it refuses and a careful reader can make sense of."""
    text = _LONE_OR_PAIRED.sub(_kept_or_replaced, body).decode("utf-8-sig")
    try:
        return json.loads(
            text, parse_float=Decimal, parse_int=_integer, parse_constant=_refused_constant
        )
    except ValueError as error:
        raise permanent("not_json", "the body is not valid JSON", path="$") from error


def _kept_or_replaced(match: re.Match[bytes]) -> bytes:
    """The escape as it stands, or U+FFFD for a surrogate that stands alone."""
    found = match.group()
    return rb"\ufffd" if len(found) == 6 else found


def _integer(digits: str) -> int | Decimal:
    """An int, or a Decimal where Python would refuse to read so many digits."""
    return int(digits) if len(digits) <= _INTEGER_DIGITS_MAX else Decimal(digits)


def _refused_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")

"""A JSON object that is read field by field; what cannot be read is flagged and left out."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from libs.errors import ServiceError, permanent
from services.ingest.normalize.instants import instant
from services.ingest.normalize.model import Fields, ShopContext

FLAGS_MAX = 100
"""More oddities than this tell nobody more, and a hostile body could make millions."""

Names = tuple[tuple[str, str], ...]
"""Fields of a message, each with the key of the body that tells it."""

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_ID_MAX = 10**20
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


class Scope:
    """What the readers of one delivery share: the shop, and the oddities met so far."""

    __slots__ = ("flags", "shop")

    def __init__(self, shop: ShopContext) -> None:
        self.shop = shop
        self.flags: list[Fields] = []


class Node:
    """One object of a body and where it stands in it.

    Every reader gives a value of its own type, or None where the field is absent, null or odd. An
    odd one is flagged with its JSON path. Paths are put together only then: most are never needed.
    """

    __slots__ = ("parent", "raw", "scope", "step")

    def __init__(self, raw: dict[str, Any], scope: Scope, parent: Node | None, step: str) -> None:
        self.raw = raw
        self.scope = scope
        self.parent = parent
        self.step = step

    @property
    def path(self) -> str:
        """JSON path of this object, such as `$.line_items[0]`."""
        return self.parent.path + self.step if self.parent else self.step

    def flag(self, key: str, reason: str) -> None:
        """Notes that field `key` of this object is odd."""
        if len(self.scope.flags) < FLAGS_MAX:
            self.scope.flags.append({"path": f"{self.path}.{key}", "reason": reason})

    def text(self, key: str) -> str | None:
        """A string as it is; a number as its digits."""
        value = self.raw.get(key)
        if value is None or value.__class__ is str:
            return value
        return self._odd_text(key, value)

    def fill(self, told: Fields, names: Names) -> None:
        """Adds to `told` each text of `names` (field, key) that is there and not empty.

        What calling `text` for each would do, at half the cost: two thirds of an order are texts.
        """
        get = self.raw.get
        for field, key in names:
            value = get(key)
            if value.__class__ is str:
                if value:
                    told[field] = value
            elif value is not None:
                told[field] = self._odd_text(key, value)

    def _odd_text(self, key: str, value: Any) -> str | None:
        number = isinstance(value, (int, Decimal)) and not isinstance(value, bool)
        if number and -_ID_MAX < value < _ID_MAX:
            return str(value)
        self.flag(key, "text_unreadable")
        return None

    def integer(self, key: str) -> int | None:
        """A whole number of 64 bits, also when it comes as text."""
        value = self.raw.get(key)
        if value is None or (value.__class__ is int and _INT64_MIN <= value <= _INT64_MAX):
            return value
        return self._odd_integer(key, value)

    def _odd_integer(self, key: str, value: object) -> int | None:
        if isinstance(value, str) and len(value) < 20:
            try:
                return int(value)
            except ValueError:
                pass
        if isinstance(value, Decimal) and -_INT64_MAX < value < _INT64_MAX and value == int(value):
            return int(value)
        self.flag(key, "number_unreadable")
        return None

    def count(self, key: str) -> int | None:
        """A whole number that cannot be negative."""
        value = self.integer(key)
        if value is not None and value < 0:
            self.flag(key, "number_negative")
            return None
        return value

    def boolean(self, key: str) -> bool | None:
        """True or false, also when it comes as text or as 0 and 1."""
        value = self.raw.get(key)
        if value is None or value.__class__ is bool:
            return value
        read = _BOOLEANS.get(str(value).lower()) if isinstance(value, (str, int)) else None
        if read is None:
            self.flag(key, "boolean_unreadable")
        return read

    def identifier(self, key: str) -> str | None:
        """The id as text: digits of an integer or of a string, or the tail of a global id."""
        value = self.raw.get(key)
        if value.__class__ is int and 0 < value < _ID_MAX:
            return str(value)
        if value is None or value == 0:
            return None
        return self._odd_identifier(key, value)

    def _odd_identifier(self, key: str, value: object) -> str | None:
        if isinstance(value, Decimal):
            return self._from_float(key, value)
        digits = tail(value) if isinstance(value, str) else ""
        if not digits:
            self.flag(key, "id_unreadable")
        return digits or None

    def _from_float(self, key: str, value: Decimal) -> str | None:
        """An id that came as a float: exact from the global id beside it, else its whole digits."""
        gid = self.raw.get("admin_graphql_api_id")
        exact = tail(gid) if key == "id" and isinstance(gid, str) else ""
        if not exact and 0 < value < _ID_MAX and value == int(value):
            exact = str(int(value))
        self.flag(key, "id_was_float" if exact else "id_unreadable")
        return exact or None

    def required_id(self, key: str) -> str:
        """As `identifier`.

        Raises:
            ServiceError: PERMANENT, `wrong_shape` with the path, if there is none to read.
        """
        found = self.identifier(key)
        if found is None:
            raise self.wrong_shape(key, "an id is needed here")
        return found

    def wrong_shape(self, key: str, message: str) -> ServiceError:
        """The error that this body does not fit its topic, told by field `key`."""
        return permanent("wrong_shape", message, path=f"{self.path}.{key}")

    def instant(self, key: str) -> Fields | None:
        """The fields of a Timestamp."""
        value = self.raw.get(key)
        if value is None:
            return None
        try:
            read, zoned = instant(value)
        except (ValueError, TypeError, AttributeError, OverflowError):
            self.flag(key, "time_unreadable")
            return None
        if not zoned:
            self.flag(key, "time_without_zone")
        return read

    def child(self, key: str) -> Node | None:
        """The object under `key`. Null is absent; a list, a text or a number is odd."""
        value = self.raw.get(key)
        if value.__class__ is dict:
            return Node(value, self.scope, self, f".{key}")
        if value is not None:
            self.flag(key, "not_an_object")
        return None

    def children(self, key: str) -> Iterator[Node]:
        """The objects of the list under `key`, each odd element left out and flagged."""
        value = self.raw.get(key, ())
        if not isinstance(value, (list, tuple)):
            self.flag(key, "not_a_list")
            return
        for place, element in enumerate(value):
            if element.__class__ is dict:
                yield Node(element, self.scope, self, f".{key}[{place}]")
            else:
                self.flag(f"{key}[{place}]", "not_an_object")

    def texts(self, key: str) -> list[str]:
        """The strings of a list, or of one text that parts them by commas."""
        value = self.raw.get(key)
        if not value and value.__class__ in {type(None), str, list}:
            return []
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list):
            self.flag(key, "not_a_list")
            return []
        if not all(part.__class__ is str for part in parts):
            self.flag(key, "text_unreadable")
        return [part.strip() for part in parts if part.__class__ is str and part.strip()]


def tail(identifier: str) -> str:
    """The digits of an id, or at the end of a global id; empty where there are none."""
    digits = identifier.rpartition("/")[2].partition("?")[0]
    plausible = digits.isascii() and digits.isdigit() and len(digits) <= 20
    return (digits.lstrip("0") or "") if plausible else ""


def same(*keys: str) -> Names:
    """Fields that are named in the message as in the body."""
    return tuple((key, key) for key in keys)

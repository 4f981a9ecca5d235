"""Checks of one value: text, url, enum, number."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias

from msgspec import Meta

from sandbox.tiktok.catalog.issues import Fault, Found, Level

Look: TypeAlias = Literal["", "text", "url", "urls"]


class Check(NamedTuple):
    """How one value is checked."""

    find: Callable[[object], Found | None]
    """What is wrong with a value, None when nothing is."""

    sure: Any
    """A type for `sure.py`: what decodes as it keeps the rule, but for its characters. It may be
    narrower than the rule; None stands for a rule that no type can tell."""

    look: Look = ""
    """What has to be looked at besides: text that may be blank, one address, or a list of them."""


MISSING: Final = "Missing data for required field"
_URL = re.compile(r"https?://[^\s/?#@]+(?:[/?#]\S*)?\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CONTROL_IN_PROSE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_SPAN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d[+-]\d\d:\d\d/\d{4}-\d\d-\d\dT\d\d:\d\d[+-]\d\d:\d\d")
_AMOUNT = r"^[0-9]+(?:\.[0-9]+)?\Z"

# What is drawn as a picture by itself (Emoji_Presentation), what a selector makes one (FE0F) and
# keycaps. Signs such as ™ or ★ that are drawn as text are none.
EMOJI: Final = re.compile(
    "["
    "\u231a\u231b\u23e9-\u23ec\u23f0\u23f3\u25fd\u25fe\u2614\u2615\u2648-\u2653\u267f\u2693\u26a1"
    "\u26aa\u26ab\u26bd\u26be\u26c4\u26c5\u26ce\u26d4\u26ea\u26f2\u26f3\u26f5\u26fa\u26fd\u2705"
    "\u270a\u270b\u2728\u274c\u274e\u2753-\u2755\u2757\u2795-\u2797\u27b0\u27bf\u2b1b\u2b1c\u2b50"
    "\u2b55\u20e3\ufe0f\U0001f000-\U0001faff\U000e0020-\U000e007f"
    "]"
)


def text(
    field: str,
    longest: int | None = None,
    *,
    required: bool = False,
    prose: bool = False,
    emoji: bool = False,
) -> Check:
    """Text of at most `longest` characters. `prose` may have line breaks; `emoji` allows them."""
    no_text = Found(Fault(Level.SHAPE, field, "Not a valid string"))
    empty = Found(missing(field)) if required else None
    too_long = Fault(Level.ERROR, field, f"Longer than {longest} characters", "Shorten the text")
    control = Fault(Level.ERROR, field, "Contains control characters", "Remove them")
    pictures = Fault(Level.ERROR, field, "Contains emoji", "Remove the emoji")
    limit = longest if longest is not None else 1 << 30
    controls = (_CONTROL_IN_PROSE if prose else _CONTROL).search

    def check(value: object) -> Found | None:
        if type(value) is not str:
            return no_text
        if not value.strip():
            return empty
        if len(value) > limit:
            return Found(too_long, value)
        if not value.isprintable() and controls(value):
            return Found(control)
        if not emoji and not value.isascii() and EMOJI.search(value):
            return Found(pictures)
        return None

    sure: Any = Annotated[str, Meta(max_length=longest)]
    return Check(check, sure, "text" if required else "")


def missing(field: str) -> Fault:
    """The fault of a required field that is not there."""
    return Fault(Level.SHAPE, field, MISSING)


def enum(field: str, values: Sequence[str], level: Level = Level.SHAPE) -> Check:
    """One of `values`, written exactly so."""
    allowed = frozenset(values)
    no_text = Found(Fault(Level.SHAPE, field, "Not a valid string"))
    words = f"Invalid value: {field.rpartition('.')[2]}"
    bad = Fault(level, field, words, "Use one of " + ", ".join(values))

    def check(value: object) -> Found | None:
        if type(value) is not str:
            return no_text
        return None if value in allowed else Found(bad, value)

    return Check(check, Literal[tuple(values)])


def url(field: str, *, required: bool = False) -> Check:
    """An http or https address."""
    no_text = Found(Fault(Level.SHAPE, field, "Not a valid string"))
    empty = Found(missing(field)) if required else None
    bad = Fault(Level.ERROR, field, "Invalid link", "Begin it with http:// or https://")

    def check(value: object) -> Found | None:
        if type(value) is not str:
            return no_text
        if not value:
            return empty
        return None if _URL.fullmatch(value) else Found(bad, value)

    return Check(check, str, "url")


def urls(field: str, most: int) -> Check:
    """A list of up to `most` addresses; a comma in one has to be written %2C."""
    no_list = Found(Fault(Level.SHAPE, field, "Not a valid list"))
    one = url(field)
    too_many = Fault(Level.ERROR, field, f"More than {most} links", "Send fewer")
    comma = Fault(Level.ERROR, field, "A comma in a link", "Write it as %2C")

    def check(value: object) -> Found | None:
        if type(value) is not list:
            return no_list
        if len(value) > most:
            return Found(too_many, len(value))
        for each in value:
            found = one.find(each)
            if found is not None:
                return found
            if "," in each:
                return Found(comma, each)
        return None

    return Check(check, Annotated[list[str], Meta(max_length=most)], "urls")


def number(field: str) -> Check:
    """A JSON number of at least 0; text that looks like one is none."""
    no_number = Fault(Level.SHAPE, field, "Not a valid number")
    negative = Fault(Level.ERROR, field, "Negative price", "Send a price of at least 0")

    def check(value: object) -> Found | None:
        kind = type(value)
        if kind is not float and kind is not int:
            return Found(no_number, value)
        if not math.isfinite(value):  # type: ignore[arg-type]  # narrowed by its type above
            return Found(no_number, value)
        return Found(negative, value) if value < 0 else None  # type: ignore[operator]

    return Check(check, Annotated[float, Meta(ge=0)])


def amount(field: str) -> Check:
    """An amount as text, `120.00`, as the guide writes prices."""
    bad = Fault(Level.SHAPE, field, "Not a price such as 120.00")

    def check(value: object) -> Found | None:
        if type(value) is str and re.match(_AMOUNT, value):
            return None
        return Found(bad, value)

    return Check(check, Annotated[str, Meta(pattern=_AMOUNT)])


def span(field: str) -> Check:
    """Two times with a slash between, the first before the second."""
    no_text = Found(Fault(Level.SHAPE, field, "Not a valid string"))
    bad = Fault(Level.ERROR, field, "Invalid period", "Write YYYY-MM-DDThh:mm+00:00/YYYY-…")
    turned = Fault(Level.ERROR, field, "The period ends before it starts", "Exchange the two")

    def check(value: object) -> Found | None:
        if type(value) is not str:
            return no_text
        if not _SPAN.fullmatch(value):
            return Found(bad, value)
        try:
            start, end = (datetime.fromisoformat(each) for each in value.split("/"))
        except ValueError:
            return Found(bad, value)
        return None if start < end else Found(turned, value)

    return Check(check, None)


def currency(field: str, code: str, level: Level) -> Check:
    """The catalog's currency and no other."""
    no_text = Found(Fault(Level.SHAPE, field, "Not a valid string"))
    other = Fault(level, field, "The currency is not the catalog's", f"Send {code}")

    def check(value: object) -> Found | None:
        if type(value) is not str:
            return no_text
        return None if value == code else Found(other, value)

    return Check(check, Literal[code])

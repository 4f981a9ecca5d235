"""A merchant's HTML as text that reads like the page: what browsers show, in lines.

Read as browsers read broken HTML (WHATWG, 13.2.5): a comment, a quote or a script that is never
closed takes the rest with it, and a `<` that begins nothing is itself. One pass, and time that
grows with the length only: the patterns never look at a character twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from html import unescape
from typing import Final

from services.catalog.domain.texts import cut, one_line

_MARKUP: Final = re.compile(
    r"""
      <(/?[a-zA-Z][^\s/>]*+)
      (?:[^>=]++ | =\s*+(?:"[^"]*+(?:"|\Z) | '[^']*+(?:'|\Z))?+)*+ (?:>|\Z)
    | <!--(?:>|->|.*?(?:--!?>|\Z))             # comment
    | <(?:[!?]|/(?![a-zA-Z]))[^>]*+(?:>|\Z)    # doctype, CDATA, and other things that show nothing
    """,
    re.VERBOSE | re.DOTALL,
)


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


_LINES: Final = _names(
    "address article aside blockquote body br caption center dd details dialog div dl dt fieldset"
    " figcaption figure footer form h1 h2 h3 h4 h5 h6 header hgroup hr legend li main menu nav ol"
    " p pre section summary table tbody tfoot thead tr ul"
)
_CELLS: Final = frozenset(("td", "th"))
_RAW: Final = _names("iframe noembed noframes noscript script style textarea title xmp")
"""Their content is no markup, and ends at their own closing tag only."""
_NESTED: Final = _names("audio canvas datalist head map math object select svg template video")
_FOREIGN: Final = frozenset(("math", "svg"))
_HIDDEN: Final = _RAW | _NESTED
# White space that no text holds any more when it is put in, for html.unescape leaves it out too.
_BULLET: Final = "\x1d"
_SHOWN_AS: Final = {
    **{f"{slash}{name}": "\n" for name in _LINES for slash in ("", "/")},
    **{f"{slash}{name}": " " for name in _CELLS for slash in ("", "/")},
    "li": f"\n{_BULLET}",
}
_KEPT: Final = 256


@lru_cache(maxsize=_KEPT)
def readable(source: str, limit: int) -> tuple[str, bool]:
    """`source` as text of at most `limit` characters, and whether it was cut.

    Blocks and items of lists are lines, the latter with a dash; entities are what they stand for;
    scripts, styles, templates and what only browsers without a feature show are left out, and so
    are the characters that TikTok refuses. The newest answers are kept: a product is asked for by
    each of its catalogs, and again when its stock changes.
    """
    flat = " ".join(source.split())
    parts: list[str | None] = list(_MARKUP.split(flat))
    names = set(parts[1::2])
    if any(name is not None and name.lower() in _HIDDEN for name in names):
        parts = list(_MARKUP.split(_without_hidden(flat)))
        names = set(parts[1::2])
    shown_as = {name: _shown_as(name) for name in names}
    parts[1::2] = [shown_as[name] for name in parts[1::2]]
    shown = "".join(filter(None, parts))
    whole = "\n".join(_lines(unescape(shown) if "&" in shown else shown))
    short = cut(whole, limit)
    return short, len(short) < len(whole)


def _shown_as(name: str | None) -> str:
    """What stands in a page for the tag of an element; None is markup that is no tag."""
    return _SHOWN_AS.get(name) or _SHOWN_AS.get(name.lower(), "") if name else ""


def _lines(text: str) -> Iterator[str]:
    """The lines that show something; a bullet waits for the first of its item."""
    bullet = ""
    for line in text.split("\n"):
        if line.startswith(_BULLET):
            bullet = "- "
        # Most breaks stand beside another one: nothing is between them.
        words = one_line(line.lstrip(_BULLET)) if line and not line.isspace() else ""
        if words:
            yield bullet + words
            bullet = ""


def _without_hidden(flat: str) -> str:
    """`flat` without the elements that show nothing, whatever is in them."""
    kept: list[str] = []
    position = start = 0
    while (found := _MARKUP.search(flat, position)) is not None:
        position = found.end()
        name = (found[1] or "").lower()
        if name in _RAW or (name in _NESTED and not _is_empty(name, found[0])):
            kept.append(flat[start : found.start()])
            position = start = _end_of(flat, name, position)
    kept.append(flat[start:])
    return "".join(kept)


def _is_empty(name: str, tag: str) -> bool:
    return name in _FOREIGN and tag.endswith("/>")


def _end_of(flat: str, name: str, position: int) -> int:
    """Where the element `name` ends whose opening tag ends at `position`."""
    depth = 1
    for found in _tags_of(name).finditer(flat, position):
        if found[1]:
            depth -= 1
        elif name in _NESTED:
            depth += 1
        if depth == 0:
            end = _MARKUP.match(flat, found.start())
            return end.end() if end else len(flat)
    return len(flat)


@lru_cache(maxsize=64)
def _tags_of(name: str) -> re.Pattern[str]:
    return re.compile(rf"<(/?){name}(?=[\s/>])", re.IGNORECASE)

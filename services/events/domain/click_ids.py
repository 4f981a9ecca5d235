"""The click and browser ids of TikTok, found where a shop's theme or pixel left them.

`ttclid` names the ad click that brought the shopper, `ttp` is the value of the `_ttp` cookie.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

# No source documents a maximum, and one shop lost every ad session by cutting at 256 characters.
# Beyond this a value is no click id: it is dropped whole, for a part of one matches nothing.
CLICK_ID_CHARACTERS_MAX = 1_000
_URL_CHARACTERS_MAX = 8_192
_QUERY_FIELDS_MAX = 200

_CLICK_NAMES = frozenset({"ttclid", "tt_click_id", "ttclick_id", "tiktok_click_id"})
_BROWSER_NAMES = frozenset({"ttp", "tiktok_ttp", "tt_ttp"})


@dataclass(frozen=True, slots=True)
class ClickIds:
    ttclid: str | None = field(default=None, repr=False)
    ttp: str | None = field(default=None, repr=False)


def click_ids(
    note_attributes: Mapping[str, object] | None = None,
    cart_attributes: Mapping[str, object] | None = None,
    landing_site: str | None = None,
    referring_site: str | None = None,
) -> ClickIds:
    """The first usable value of each, searched in the order of the parameters.

    Names count in any case, with or without leading underscores (`_ttclid`), a dash for an
    underscore. A value that is empty, has spaces or is over 1,000 characters counts as absent, so
    that a good one further on is still found.
    """
    sources = [
        *(attributes for attributes in (note_attributes, cart_attributes) if attributes),
        *(query for url in (landing_site, referring_site) if url and (query := _query(url))),
    ]
    return ClickIds(_first(sources, _CLICK_NAMES), _first(sources, _BROWSER_NAMES))


def _first(sources: Sequence[Mapping[str, object]], names: frozenset[str]) -> str | None:
    return next((value for source in sources for value in _values(source, names)), None)


def _values(source: Mapping[str, object], names: frozenset[str]) -> Iterator[str]:
    for name, value in source.items():
        if isinstance(value, str) and name.strip().lower().replace("-", "_").lstrip("_") in names:
            usable = usable_click_id(value)
            if usable:
                yield usable


def usable_click_id(raw: str | None) -> str | None:
    """`raw` trimmed, or None where it cannot be a click id."""
    text = (raw or "").strip()
    if not text or len(text) > CLICK_ID_CHARACTERS_MAX:
        return None
    return text if text.isascii() and text.isprintable() and " " not in text else None


def _query(url: str) -> Mapping[str, str]:
    # Only behind the question mark: every `http` has two of them in front of it.
    asked = url.partition("?")[2].lower()
    if len(url) > _URL_CHARACTERS_MAX or ("tt" not in asked and "tiktok" not in asked):
        return {}
    try:
        query = urlsplit(url).query
        # Reversed, so that of a repeated name the first value wins.
        return dict(reversed(parse_qsl(query, max_num_fields=_QUERY_FIELDS_MAX)))
    except ValueError:
        return {}

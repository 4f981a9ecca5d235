"""What a dialect is: a pure function from conversions to requests, and its cap per request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from services.events.domain.model import NO_MATCH_KEYS, Conversion, MatchKeys, Page, Source
from services.events.domain.settings import DialectName, EventSettings

CONTENT_TYPE = "product"

# Amounts are decimals with their currency's digits and leave as JSON numbers, digit by digit:
# on the way through a float 0.1 would stay 0.1, but 1234567890123.45 would not stay itself.
ENCODER = msgspec.json.Encoder(decimal_format="number")


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A POST of JSON to `path` of TikTok's API, and the conversions in it, in order.

    The position of a conversion is the index that TikTok's message names when it refuses one.
    """

    path: str
    body: bytes = field(repr=False)
    conversions: tuple[Conversion, ...] = field(repr=False)


class Dialect(Protocol):
    """One wire shape of the Events API."""

    @property
    def name(self) -> DialectName: ...

    @property
    def cap(self) -> int:
        """The most conversions in one request; above it TikTok refuses all of them."""
        ...

    def encode(
        self, conversions: Sequence[Conversion], settings: EventSettings
    ) -> list[HttpRequest]:
        """The requests that carry `conversions`, each exactly once."""
        ...


def batches(conversions: Sequence[Conversion], cap: int) -> Iterator[tuple[Conversion, ...]]:
    """`conversions` in order, at most `cap` together, never two envelopes in one batch.

    Source and test code stand in the envelope: with one test event beside it, a real one would
    be shown in Test Events and not counted.
    """
    groups: dict[tuple[Source, str | None], list[Conversion]] = {}
    for conversion in conversions:
        groups.setdefault((conversion.source, conversion.test_event_code), []).append(conversion)
    for group in groups.values():
        for start in range(0, len(group), cap):
            yield tuple(group[start : start + cap])


def personal_parts(
    conversion: Conversion, *, can_limit: bool
) -> tuple[MatchKeys, Page | None, bool]:
    """(match keys, page, `limited_data_use`) as they may be sent.

    Where data use is limited but the request cannot say so, nothing personal goes out: then there
    is nothing left to limit.
    """
    if not conversion.limited_data_use:
        return conversion.match, conversion.page, False
    if can_limit:
        return conversion.match, conversion.page, True
    return NO_MATCH_KEYS, conversion.page.bare() if conversion.page else None, False

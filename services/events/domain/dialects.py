"""The dialects by name."""

from __future__ import annotations

from services.events.domain.dialect import Dialect
from services.events.domain.dialect_event_track import EventTrack
from services.events.domain.dialect_pixel_track import PixelTrack
from services.events.domain.settings import DialectName

_DIALECTS: dict[DialectName, Dialect] = {
    DialectName.EVENT_TRACK: EventTrack(),
    DialectName.PIXEL_TRACK: PixelTrack(),
}


def dialect_of(name: DialectName) -> Dialect:
    return _DIALECTS[name]

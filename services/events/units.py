"""What a unit is, for whom it is meant, and with which others it is sent. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.protobuf.message import DecodeError

from libs.bus import subjects
from libs.bus.consumer import Unit
from libs.bus.dead_letters import unit_letter_id
from libs.errors import ServiceError, permanent
from libs.limits import Priority
from services.events.ports import Known, Pair, Pixel
from tidewire.commerce.v1 import fact_pb2, record_pb2

_APART_FROM: Final = 3
"""Tries from which what fails is sent in ever smaller requests: a failure that is one event's own
is then found in O(log n) tries, and its neighbours get through, those of its own unit too."""

_PARTS_MAX: Final = 32


def record_of(unit: Unit) -> record_pb2.FactRecord:
    """The record; where it cannot be read, what its subject says of it."""
    try:
        return record_pb2.FactRecord.FromString(unit.data)
    except DecodeError:
        _, _, kind, _, shop, fact_id = map(subjects.text_of, unit.subject.split(".", 5))
        return record_pb2.FactRecord(kind=kind, shop=shop, fact_id=fact_id)


def unreadable() -> ServiceError:
    return permanent("fact_unreadable", "its bytes are no fact: was it written by another version?")


def meant_for(fact: fact_pb2.Fact, known: Mapping[str, Pixel]) -> list[str]:
    """The pixels that a fact is for, where its record does not say."""
    code = fact.events_tracked.pixel_code
    return [sink for sink, pixel in known.items() if code in ("", pixel.settings.pixel_code)]


def connection_id_of(shop: str, sink: str, known: Mapping[str, Pixel]) -> str:
    """The connection behind a sink; for one that is not usable now, what it is called then."""
    pixel = known.get(sink)
    return pixel.connection_id if pixel is not None else f"{shop}.{sink}"


def original_of(record: record_pb2.FactRecord) -> Pair | None:
    """The (sink, unit) that a replay was given up as before."""
    if not record.replay_of:
        return None
    for sink in record.sinks:
        prefix = unit_letter_id(sink, record.shop, "")
        if record.replay_of.startswith(prefix):
            return sink, record.replay_of.removeprefix(prefix)
    return None


def has_ended(known: Known | None) -> bool:
    return known is not None and known.ended


def priority_of(unit: Unit) -> Priority:
    return Priority.REPLAY if subjects.is_replay(unit.subject) else Priority.LIVE


def part_of(place: int, count: int, attempts: int) -> int:
    """With which of the smaller requests an event goes, after its unit has failed some times."""
    if attempts < _APART_FROM:
        return -1
    parts = min(_PARTS_MAX, 1 << min(attempts - _APART_FROM + 1, 8), count)
    return place * parts // count

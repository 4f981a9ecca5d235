"""What the catalog service says, as data and in words."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any, Final

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from tidewire.catalog.v1 import catalog_service_pb2 as pb

_MINUTE_S: Final = 60
_HOUR_S: Final = 3_600
_MINUTES_FROM_S: Final = 120
_HOURS_FROM_S: Final = 2 * _HOUR_S
_SHOWN_CHARS_MAX: Final = 160

STATES: Final = tuple(
    number for number in pb.ItemState.values() if number != pb.ITEM_STATE_UNSPECIFIED
)
TURNED_DOWN: Final = (pb.ITEM_STATE_REFUSED, pb.ITEM_STATE_REJECTED)
"""Items that are not as they should be until somebody changes them."""


def plain(message: Message) -> dict[str, Any]:
    """A message as JSON's own kinds: enums by short name, times as text, what is absent as null."""
    return {field.name: _field(message, field) for field in message.DESCRIPTOR.fields}


def _field(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        # The one map there is counts items by state.
        return {state_word(state): value[state] for state in sorted(value)}
    if field.is_repeated:
        return [_value(field, one) for one in value]
    if field.message_type is not None and not message.HasField(field.name):
        return None
    return _value(field, value)


def _value(field: Any, value: Any) -> Any:
    if isinstance(value, Timestamp):
        return value.ToJsonString()
    if isinstance(value, Message):
        return plain(value)
    if field.enum_type is not None:
        return _short(field.enum_type.values_by_number, value)
    return value


def _short(known: Any, number: int) -> str:
    """`ITEM_STATE_IN_REVIEW` as `in_review`; what a newer service says, as its number."""
    found = known.get(number)
    return found.name.split("_", 2)[2].lower() if found is not None else str(number)


def state_word(state: int) -> str:
    """As `live` or `in_review`."""
    return _short(pb.ItemState.DESCRIPTOR.values_by_number, state)


def phase_word(phase: int) -> str:
    """As `comparing` or `done`."""
    return _short(pb.SyncPhase.DESCRIPTOR.values_by_number, phase)


def kind_word(kind: int) -> str:
    """As `full`, `remap` or `resend`."""
    return _short(pb.SyncKind.DESCRIPTOR.values_by_number, kind)


def source_word(source: int) -> str:
    """As `mapping`, `tiktok` or `review`."""
    return _short(pb.IssueSource.DESCRIPTOR.values_by_number, source)


def instant(moment: Timestamp) -> str:
    """To the second, UTC."""
    return str(moment.ToJsonString())[:19].replace("T", " ") + "Z"


def span(seconds: float) -> str:
    """`42 s`, `3 min`, `5 h`: rounded up, so that it never promises too much."""
    if seconds < _MINUTES_FROM_S:
        return f"{math.ceil(max(seconds, 0)):,} s"
    if seconds < _HOURS_FROM_S:
        return f"{math.ceil(seconds / _MINUTE_S):,} min"
    return f"{math.ceil(seconds / _HOUR_S):,} h"


def counts(catalog: pb.CatalogStatus) -> str:
    """`live 7 · refused 2`: the states that there are items in."""
    found = [
        f"{state_word(state).replace('_', ' ')} {catalog.items[state]:,}"
        for state in STATES
        if catalog.items.get(state)
    ]
    return " · ".join(found) or "no items"


def place(catalog: pb.CatalogStatus) -> str:
    """`US USD en`: what a catalog is for."""
    return " ".join(filter(None, (catalog.country, catalog.currency, catalog.language)))


def going(catalog: pb.CatalogStatus, now_ns: int) -> str:
    """What waits and what it waits for; empty where nothing does."""
    if not catalog.waiting:
        return ""
    found = [f"{catalog.waiting:,} waiting"]
    if catalog.in_flight:
        found.append(f"{catalog.in_flight:,} of them at TikTok")
    if catalog.HasField("next_submit_at") and not catalog.held_by:
        left_s = (catalog.next_submit_at.ToNanoseconds() - now_ns) / 1e9
        found.append(f"next submit in {span(left_s)}" if left_s > 0 else "next submit now")
    return ", ".join(found)


def turned_down(catalogs: Iterable[pb.CatalogStatus]) -> int:
    """How many items are refused or rejected."""
    return sum(one.items.get(state, 0) for one in catalogs for state in TURNED_DOWN)


def line(text: str) -> str:
    """What somebody else wrote, as one line that does nothing to a terminal."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in _flat(text))


def shortened(text: str) -> str:
    """As `line`; a text that is too long for a table is cut, with how long it is."""
    found = line(text)
    if len(found) <= _SHOWN_CHARS_MAX:
        return found
    return f"{found[:_SHOWN_CHARS_MAX]}… ({len(text):,} characters)"


def _flat(text: str) -> str:
    return " ".join(text.split())


def explained(answer: pb.ExplainItemResponse) -> dict[str, Any]:
    """An item's story as data; what is sent is an object rather than a text of one."""
    found = plain(answer)
    for one in found["explanations"]:
        sent = one.pop("item_json")
        one["item"] = json.loads(sent) if sent else None
    return found

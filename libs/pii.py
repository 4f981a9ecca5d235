"""Personal data found by the schema: every field marked with `(tidewire.common.v1.pii)`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from tidewire.common.v1.pii_pb2 import PII_UNSPECIFIED, Pii, pii

MASK: Final = "***"


def has_pii(descriptor: Descriptor) -> bool:
    """Whether messages of this type reach any marked field, however deep."""
    return descriptor in _reaching(descriptor)


def redact(message: Message) -> None:
    """Clears every marked field, however deep, and every field that this schema does not know.

    An unknown field comes from a newer schema and may be marked there.
    """
    message.DiscardUnknownFields()
    _each_marked(message, lambda owner, field: owner.ClearField(field.name))


def masked(message: Message) -> dict[str, Any]:
    """The message as JSON values, names as in canonical JSON; what is marked reads `***email`."""
    shown: dict[str, Any] = MessageToDict(message)
    _mask(message, shown)
    return shown


def pii_values(message: Message) -> set[bytes]:
    """Every marked value, as bytes, so that tests can search for them; empty ones are left out."""
    found: set[bytes] = set()
    _each_marked(message, lambda owner, field: found.update(_leaves(_held(owner, field))))
    found.discard(b"")
    return found


@cache
def _kind(field: FieldDescriptor) -> Pii.ValueType:
    return field.GetOptions().Extensions[pii]


@cache
def _reaching(descriptor: Descriptor) -> frozenset[Descriptor]:
    """Of the types within `descriptor`, itself included, those that reach a marked field."""
    types = _types_within(descriptor)
    found = {one for one in types if any(map(_kind, one.fields))}
    # Types may contain each other, so it grows until it stands still.
    while grown := {
        one
        for one in types - found
        if any(field.message_type in found for field in one.fields if field.message_type)
    }:
        found |= grown
    return frozenset(found)


def _types_within(descriptor: Descriptor) -> set[Descriptor]:
    found: set[Descriptor] = set()
    open_ones = [descriptor]
    while open_ones:
        one = open_ones.pop()
        if one not in found:
            found.add(one)
            open_ones += [field.message_type for field in one.fields if field.message_type]
    return found


def _each_marked(message: Message, handle: Callable[[Message, FieldDescriptor], object]) -> None:
    """Calls `handle` with each marked field that is set, and the message that holds it."""
    for field, value in message.ListFields():
        if _kind(field) != PII_UNSPECIFIED:
            handle(message, field)
        elif field.message_type and has_pii(field.message_type):
            for inner in _messages(field, value):
                _each_marked(inner, handle)


def _messages(field: FieldDescriptor, value: Any) -> Iterable[Message]:
    """The messages that a field of a message type holds: one, a list, or a map's values."""
    if _is_map(field):
        # A map of scalars cannot be here: marks stand on the map itself, not on its entries.
        found: Iterable[Message] = value.values()
        return found
    return value if field.is_repeated else (value,)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _mask(message: Message, shown: dict[str, Any]) -> None:
    for field, value in message.ListFields():
        name = field.json_name
        if kind := _kind(field):
            text = MASK + Pii.Name(kind).removeprefix("PII_").lower()
            # A list keeps its length; a map keeps nothing, as its keys may be personal as well.
            many = field.is_repeated and not _is_map(field)
            shown[name] = [text] * len(value) if many else text
        elif not field.message_type or not has_pii(field.message_type):
            continue
        elif _is_map(field):
            for key, inner in value.items():
                _mask(inner, shown[name][_json_key(key)])
        elif field.is_repeated:
            for inner, inner_shown in zip(value, shown[name], strict=True):
                _mask(inner, inner_shown)
        else:
            _mask(value, shown[name])


def _json_key(key: object) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _held(owner: Message, field: FieldDescriptor) -> Iterator[Any]:
    """What a field holds, one by one: of a map its keys and its values."""
    value = getattr(owner, field.name)
    if _is_map(field):
        yield from value.keys()
        yield from value.values()
    elif field.is_repeated:
        yield from value
    else:
        yield value


def _leaves(values: Iterable[Any]) -> Iterator[bytes]:
    for value in values:
        if isinstance(value, Message):
            for field, _ in value.ListFields():
                yield from _leaves(_held(value, field))
        else:
            yield value if isinstance(value, bytes) else str(value).encode()

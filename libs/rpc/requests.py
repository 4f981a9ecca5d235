"""Which connections and shops a request names, read from its message by its schema."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

_CONNECTIONS: Final = frozenset({"connection_id", "connection_ids"})
_SHOPS: Final = frozenset({"shop", "shops"})
# `selection.filter.shop` is three deep; messages that hold themselves end somewhere.
_DEPTH_MAX: Final = 4

_Path = tuple[str, ...]


class Named(NamedTuple):
    """What a request is about."""

    connection_ids: Sequence[str]
    shops: Sequence[str]


class _Paths(NamedTuple):
    connections: Sequence[_Path]
    shops: Sequence[_Path]


def named_in(request: object) -> Named:
    """The connections and shops that a request names, those inside its messages too.

    They are in fields called `connection_id`, `connection_ids`, `shop` and `shops`. Empty ones
    name nothing. A message without such fields, or of no schema, names nothing.
    """
    if not isinstance(request, Message):
        return Named((), ())
    paths = _paths(request.DESCRIPTOR)
    return Named(_texts(request, paths.connections), _texts(request, paths.shops))


def _texts(message: Message, paths: Sequence[_Path]) -> list[str]:
    return [text for path in paths for text in _at(message, path) if text]


def _at(value: Any, path: _Path) -> Iterator[str]:
    if not path:
        if isinstance(value, str):
            yield value
        else:
            yield from value
        return
    inner = getattr(value, path[0])
    if len(path) > 1 and not isinstance(inner, Message):  # a repeated message
        for one in inner:
            yield from _at(one, path[1:])
    else:
        yield from _at(inner, path[1:])


@cache
def _paths(descriptor: Descriptor) -> _Paths:
    return _Paths(
        tuple(_found(descriptor, _CONNECTIONS.__contains__, _DEPTH_MAX)),
        tuple(_found(descriptor, _SHOPS.__contains__, _DEPTH_MAX)),
    )


def _found(descriptor: Descriptor, wanted: Callable[[str], bool], depth: int) -> Iterator[_Path]:
    for field in descriptor.fields:
        if field.type == FieldDescriptor.TYPE_STRING and wanted(field.name):
            yield (field.name,)
        inner = field.message_type
        if inner is not None and depth > 1 and not inner.GetOptions().map_entry:
            for path in _found(inner, wanted, depth - 1):
                yield (field.name, *path)

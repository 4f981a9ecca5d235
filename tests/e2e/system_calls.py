"""What a process asks of its kernel, read from `strace -f -yy`: writes, syncs and answers."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

_CALL: Final = re.compile(r"^(\d+) +\S+ (\w+)\((\d+)<(.*?)>(.*)$")
_RESUMED: Final = re.compile(r"^(\d+) +\S+ <\.\.\. (\w+) resumed>(.*)$")
_TEXT: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ACK: Final = re.compile(rb'"stream":"(\w+)",\s*"seq":(\d+)')
_STREAM: Final = re.compile(r"/streams/(\w+)/msgs/\d+\.blk$")

# A record of a block: its length (4 bytes), then the message's sequence (8), little-endian.
_SEQUENCE: Final = slice(4, 12)


@dataclass(frozen=True, slots=True)
class Call:
    """One system call, between the lines of the trace where it began and where it returned."""

    name: str
    target: str
    """The file or the connection behind its descriptor."""

    text: bytes
    """The first bytes that it writes."""

    began: int
    ended: int


def calls_of(lines: Iterable[str]) -> list[Call]:
    """Every call that has returned without an error, in the order in which they began."""
    return sorted(_calls(lines), key=lambda call: call.began)


def _calls(lines: Iterable[str]) -> Iterator[Call]:
    open_calls: dict[tuple[str, str], Call] = {}
    for place, line in enumerate(lines):
        if begun := _CALL.match(line):
            thread, name, _, target, rest = begun.groups()
            call = Call(name, target, _text(rest), place, place)
            if rest.endswith("<unfinished ...>"):
                open_calls[thread, name] = call
            elif not _failed(rest):
                yield call
        elif resumed := _RESUMED.match(line):
            thread, name, rest = resumed.groups()
            waiting = open_calls.pop((thread, name), None)
            if waiting and not _failed(rest):
                yield Call(name, waiting.target, waiting.text, waiting.began, place)


def _text(rest: str) -> bytes:
    found = _TEXT.search(rest)
    if found is None:
        return b""
    text: bytes = ast.literal_eval(f'b"{found[1]}"')
    return text


def _failed(rest: str) -> bool:
    return " = -1 " in rest


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A message that the server said it had stored, and whether a sync lay between."""

    sequence: int
    synced: bool


def acknowledged(calls: Sequence[Call], stream: str) -> list[Acknowledged]:
    """Each message of `stream` that was acknowledged within the trace.

    Synced is one whose block was written, and then synced from beginning to end, before the first
    byte of its acknowledgement was handed to the client's connection.
    """
    writes = {
        int.from_bytes(call.text[_SEQUENCE], "little"): call
        for call in calls
        if call.name in {"write", "pwrite64"} and _stream_of(call) == stream
    }
    syncs = [call for call in calls if call.name in {"fsync", "fdatasync"}]
    found = []
    for call in calls:
        if not call.target.startswith("TCP:"):
            continue
        for name, sequence in _ACK.findall(call.text):
            if name.decode() == stream:
                write = writes.get(int(sequence))
                synced = write is not None and _synced_between(syncs, write, call)
                found.append(Acknowledged(int(sequence), synced))
    return found


def _synced_between(syncs: Iterable[Call], write: Call, answer: Call) -> bool:
    return any(
        sync.target == write.target and write.ended < sync.began and sync.ended < answer.began
        for sync in syncs
    )


def _stream_of(call: Call) -> str:
    found = _STREAM.search(call.target)
    return found[1] if found else ""

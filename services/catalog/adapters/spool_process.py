"""A spool in a process of its own: what reads an export would hold up everything else here.

A hundred thousand variants are twenty seconds of Python, which in a thread of this process would
come off those of mapping and sending. The process is given lines and asked for products over its
standard input and output; it ends when the input does, so it outlives nobody.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import struct
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from signal import SIG_IGN, SIGINT, signal
from typing import IO, Final

import msgspec

from libs.errors import Kind, ServiceError
from services.catalog.adapters.bulk_spool import Spool
from services.catalog.domain.model import Product

_FRAME: Final = struct.Struct(">cI")
"""What is asked, or how it went; then how many bytes follow."""

_OPEN, _RESTART, _ADD, _SEAL, _NEXT = b"o", b"r", b"a", b"s", b"n"
_DONE, _REFUSED, _UNFORESEEN = b"d", b"r", b"u"
_ENCODER: Final = msgspec.msgpack.Encoder()
_PORTIONS: Final = msgspec.msgpack.Decoder(tuple[list[Product], dict[str, int]])
_ODDITIES: Final = msgspec.msgpack.Decoder(dict[str, int])


class _Opening(msgspec.Struct, array_like=True):
    folder: str
    currency: str
    after: int


_OPENINGS: Final = msgspec.msgpack.Decoder(_Opening)


class SpoolProcess:
    """As `Spool`, awaited. One question at a time; whoever opens it ends it.

    Every question raises ServiceError, RETRYABLE, `spool_failed`, where the disk refuses or the
    process has ended.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls) -> SpoolProcess:
        """A process with nothing in it."""
        try:
            return cls(
                await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", __name__),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.DEVNULL,
                    # Enough to find its code, and no secret.
                    env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                )
            )
        except OSError as error:
            raise _failed(str(error)) from error

    async def open(self, folder: Path, currency: str, after: int) -> None:
        """Makes the spool; `currency` is that of plain prices."""
        opening = _Opening(folder=str(folder), currency=currency, after=after)
        await self._ask(_OPEN, _ENCODER.encode(opening))

    async def restart(self) -> None:
        """Forgets all lines."""
        await self._ask(_RESTART)

    async def add(self, content: bytes) -> None:
        """Takes the next bytes of the file."""
        await self._ask(_ADD, content)

    async def seal(self) -> Mapping[str, int]:
        """Takes the last line; what was left out so far, by reason."""
        return _ODDITIES.decode(await self._ask(_SEAL))

    async def portion(self) -> tuple[Sequence[Product], Mapping[str, int]]:
        """The next products, none where there are no more; and what was left out so far."""
        return _PORTIONS.decode(await self._ask(_NEXT))

    async def end(self) -> None:
        """Gives the disk and the memory back; may be called again."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def _ask(self, what: bytes, content: bytes = b"") -> bytes:
        to, back = self._process.stdin, self._process.stdout
        assert to is not None
        assert back is not None
        try:
            to.write(_FRAME.pack(what, len(content)))
            to.write(content)
            await to.drain()
            how, length = _FRAME.unpack(await back.readexactly(_FRAME.size))
            answer = await back.readexactly(length)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise _failed("the process that reads the export has ended") from error
        if how == _REFUSED:
            raise _failed(answer.decode())
        if how == _UNFORESEEN:
            raise RuntimeError(f"in the process that reads the export: {answer.decode()}")
        return answer


def _failed(message: str) -> ServiceError:
    return ServiceError(Kind.RETRYABLE, "spool_failed", message)


class _Desk:
    """Answers in the process."""

    def __init__(self) -> None:
        self._spool: Spool | None = None
        self._currency = ""
        self._portions: Iterator[list[Product]] | None = None

    def answer(self, what: bytes, content: bytes) -> bytes:
        """What is answered to a question."""
        if what == _OPEN:
            opening = _OPENINGS.decode(content)
            self._currency = opening.currency
            self._spool = Spool(Path(opening.folder), after=opening.after)
            return b""
        spool = self._spool
        assert spool is not None
        if what == _ADD:
            spool.add(content)
        elif what == _RESTART:
            spool.restart()
        elif what == _SEAL:
            spool.seal()
            return _ENCODER.encode(+spool.oddities)
        else:
            self._portions = self._portions or spool.portions(self._currency)
            products = next(self._portions, ())
            return _ENCODER.encode((products, +spool.oddities))
        return b""


def serve(questions: IO[bytes], answers: IO[bytes]) -> None:
    """Answers until there are no more questions."""
    desk = _Desk()
    while len(head := questions.read(_FRAME.size)) == _FRAME.size:
        what, length = _FRAME.unpack(head)
        content = questions.read(length)
        try:
            how, answer = _DONE, desk.answer(what, content)
        except (sqlite3.Error, OSError) as error:
            how, answer = _REFUSED, str(error).encode()
        except Exception as error:  # noqa: BLE001  # told to whoever asked, who knows what to do
            # Where it was and nothing of what it was about: that is a merchant's.
            place = traceback.extract_tb(error.__traceback__)[-1]
            how = _UNFORESEEN
            answer = f"{type(error).__name__} in {place.name}, line {place.lineno}".encode()
        answers.write(_FRAME.pack(how, len(answer)))
        answers.write(answer)
        answers.flush()


if __name__ == "__main__":
    # Of a terminal's interrupt the process that asks hears too, and it ends this one.
    signal(SIGINT, SIG_IGN)
    serve(sys.stdin.buffer, sys.stdout.buffer)

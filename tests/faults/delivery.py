"""Faults of the service that others ask for turns, letters and books: with somebody who asks."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import grpc

from libs.errors import Kind, ServiceError
from libs.rpc.client import call, channel
from libs.rpc.errors import error_of
from libs.settings import Address
from tests.faults.limiter import busiest
from tests.faults.processes import Inflict
from tests.faults.scene import Scene
from tests.faults.trial import Fault
from tidewire.delivery.v1 import (
    dead_letter_service_pb2,
    dead_letter_service_pb2_grpc,
    ledger_service_pb2,
    ledger_service_pb2_grpc,
)
from tidewire.limiter.v1 import limiter_service_pb2, limiter_service_pb2_grpc

_NAME: Final = "delivery"
_LIMIT: Final = "partner.orders"
_PER_S: Final = 20
_TOLD: Final = {"TIDEWIRE_LIMITS": f"{_LIMIT}={_PER_S}/s"}
_WAY_S: Final = 0.1
"""By which the way of an answer may differ from another's: a second is judged by so much less."""

_ASKED_EVERY_S: Final = 0.02
"""More often than there are turns: the limit is what holds the caller up."""

_READ_EVERY_S: Final = 0.3
_CALL_S: Final = 2.0
_AGAIN_S: Final = 0.1
_TURNS: Final = 30
"""Before and after: more than a second's."""

_SERVED_WITHIN_S: Final = 30.0


class Asker:
    """Another team's service and a person: each asks all the time, and again when it is refused.

    `turns_s` is when turns came, `read_s` when books and letters were last read in full, both in
    Unix seconds; `wrong` is what was answered that no caller can make anything of.
    """

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.turns_s: list[float] = []
        self.read_s = 0.0
        self.wrong: Counter[str] = Counter()

    async def turns(self) -> None:
        """Holds a stream and asks on it for more turns than there are; opens it again."""
        while True:
            async with self._open("ingest") as opened:
                stub = limiter_service_pb2_grpc.LimiterServiceStub(opened)
                with suppress(ServiceError):
                    await self._stream(stub)
            await asyncio.sleep(_AGAIN_S)

    async def reads(self) -> None:
        """Reads the books and the dead letters."""
        while True:
            async with self._open() as opened:
                ledger = ledger_service_pb2_grpc.LedgerServiceStub(opened)
                letters = dead_letter_service_pb2_grpc.DeadLetterServiceStub(opened)
                with suppress(ServiceError):
                    while True:
                        await self._read(ledger, letters)
                        self.read_s = time.time()
                        await asyncio.sleep(_READ_EVERY_S)
            await asyncio.sleep(_AGAIN_S)

    async def _read(self, ledger: Any, letters: Any) -> None:
        get = ledger_service_pb2.LedgerServiceGetRequest()
        books = await self._told(call(ledger.Get, get, timeout_s=_CALL_S))
        if not books.HasField("read_at"):
            self.wrong["books that nobody has read"] += 1
        found = dead_letter_service_pb2.DeadLetterServiceListRequest()
        await self._told(call(letters.List, found, timeout_s=_CALL_S))

    async def _stream(self, stub: Any) -> None:
        stream = stub.AcquireStream()

        async def ask() -> None:
            while True:
                acquire = limiter_service_pb2.AcquireRequest(limits=[_LIMIT])
                acquire.max_wait.FromSeconds(1)
                await stream.write(limiter_service_pb2.AcquireStreamRequest(acquire=acquire))
                await asyncio.sleep(_ASKED_EVERY_S)

        asking = asyncio.create_task(ask())
        try:
            async for answer in stream:
                if answer.acquired.granted:
                    self.turns_s.append(time.time())
        except grpc.aio.AioRpcError as error:
            trailers = error.trailing_metadata() or grpc.aio.Metadata()
            raise self._noted(
                error_of(error.code(), error.details() or "", tuple(trailers))
            ) from error
        finally:
            stream.cancel()
            asking.cancel()
            # It may have met the end of the stream before the reader did.
            await asyncio.gather(asking, return_exceptions=True)

    async def _told(self, answer: Awaitable[Any]) -> Any:
        try:
            return await answer
        except ServiceError as error:
            raise self._noted(error) from error

    def _noted(self, error: ServiceError) -> ServiceError:
        if error.kind not in {Kind.RETRYABLE, Kind.THROTTLED}:
            self.wrong[f"{error.kind.value} {error.code}"] += 1
        return error

    @asynccontextmanager
    async def _open(self, caller: str = "") -> AsyncIterator[grpc.aio.Channel]:
        stack = self._scene.stack
        identity = stack.certificates.identity(caller) if caller else stack.operator
        opened = channel(Address("127.0.0.1", stack.ports.grpc[_NAME]), identity)
        try:
            yield opened
        finally:
            await opened.close()


def asked(strike: Callable[[Scene], Awaitable[None]]) -> Inflict:
    """Struck while somebody asks it all the time; judged by what came of that."""

    async def inflict(scene: Scene) -> None:
        await scene.kill(_NAME, signal.SIGTERM)
        await scene.start(_NAME, **_TOLD)
        await scene.stack.wait_ready(_NAME)
        asker = Asker(scene)
        async with asyncio.TaskGroup() as group:
            asking = [group.create_task(asker.turns()), group.create_task(asker.reads())]
            await _comes(lambda: len(asker.turns_s) >= _TURNS and asker.read_s > 0)
            before = len(asker.turns_s)
            await strike(scene)
            scene.over()
            ended_s = time.time()
            await _comes(lambda: _since(asker, ended_s) >= _TURNS and asker.read_s > ended_s)
            for task in asking:
                task.cancel()
        scene.complaints += _wrong(asker, before, ended_s)
        if scene.stack.processes[_NAME].returncode is not None:
            scene.complaints.append(f"{_NAME} has ended")

    return inflict


def _wrong(asker: Asker, before: int, ended_s: float) -> list[str]:
    complaints = [f"a caller was told: {what}" for what in sorted(asker.wrong)]
    if before < _TURNS:
        complaints.append(f"only {before} turns came before: nothing was tried")
    if (most := busiest(asker.turns_s, 1.0 - _WAY_S)) > _PER_S:
        complaints.append(f"{most} turns were given within a second, where {_PER_S} may be")
    if (since := _since(asker, ended_s)) < _TURNS:
        complaints.append(f"only {since} turns came within {_SERVED_WITHIN_S:.0f} s afterwards")
    if asker.read_s <= ended_s:
        complaints.append(f"books were not to be had within {_SERVED_WITHIN_S:.0f} s")
    return complaints


def _since(asker: Asker, from_s: float) -> int:
    return sum(turn_s > from_s for turn_s in asker.turns_s)


async def _comes(fits: Callable[[], bool]) -> None:
    """Returns once it fits, or when that takes too long: whoever judges sees which."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_SERVED_WITHIN_S):
            while not fits():  # noqa: ASYNC110  # it is the other tasks that move it
                await asyncio.sleep(_AGAIN_S)


def _ended(how: signal.Signals) -> Inflict:
    async def strike(scene: Scene) -> None:
        await scene.kill(_NAME, how)
        await scene.start(_NAME, **_TOLD)

    return asked(strike)


def _stopped(seconds: float) -> Inflict:
    async def strike(scene: Scene) -> None:
        scene.stop(_NAME)
        await asyncio.sleep(seconds)
        scene.go_on(_NAME)

    return asked(strike)


_ASKED: Final = "turns by a held stream within their limit, books and letters within 30 s again"

DELIVERY: Final = (
    Fault(
        name="delivery.kill",
        what="`kill -9` of delivery while others ask it for turns, books and letters; a restart",
        expected=_ASKED,
        inflict=_ended(signal.SIGKILL),
        spread_s=8.0,
    ),
    Fault(
        name="delivery.drain",
        what="SIGTERM of delivery while others ask it for turns, books and letters; a restart",
        expected=_ASKED,
        inflict=_ended(signal.SIGTERM),
        spread_s=8.0,
    ),
    *(
        Fault(
            name=f"delivery.stop-{seconds:.0f}s",
            what=f"SIGSTOP of delivery for {seconds:.0f} s while others ask it, then SIGCONT",
            expected=f"{_ASKED}; it goes on without a restart",
            inflict=_stopped(seconds),
            spread_s=8.0,
        )
        for seconds in (3.0, 20.0)
    ),
)

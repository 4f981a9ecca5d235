from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple, cast

import grpc
from google.protobuf.wrappers_pb2 import StringValue

from libs.clock import FakeClock
from libs.rpc.callers import Caller
from libs.rpc.errors import RefusedError
from libs.rpc.guard import Admission, Metadata
from libs.rpc.interceptor import ServiceInterceptor
from libs.rpc.policy import Policy, Scope

_RULES = Policy({}, {}, ())


class SlowContext:
    """A call whose writes take until `written` is set; refuses a status while one is under way."""

    def __init__(self) -> None:
        self.writing = asyncio.Event()
        self.written = asyncio.Event()
        self.journal: list[str] = []

    async def write(self, message: StringValue) -> None:
        self.journal.append("write")
        self.writing.set()
        await self.written.wait()
        self.journal.append("written")

    async def abort(self, code: grpc.StatusCode, *_: object) -> None:
        self.journal.append(code.name)
        raise grpc.aio.AbortError

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()


class Open:
    """A door that lets everybody in."""

    async def knock(self, method: str, metadata: Metadata) -> None:
        pass

    async def admit(self, method: str, context: object, *, filters: bool) -> Admission:
        caller = Caller("somebody", "spiffe://tidewire/somebody", method, _RULES)
        return Admission(caller, Scope(everything=True), filters=filters)

    def note(self, method: str, error: RefusedError) -> None:
        raise AssertionError(method)


class Details(NamedTuple):
    method: str = "/tidewire.test.Echo/Endless"
    invocation_metadata: Metadata = ()


async def endless(request: StringValue, context: object) -> AsyncIterator[StringValue]:
    yield request
    await asyncio.Event().wait()


async def test_a_stop_sends_no_status_while_a_write_is_under_way() -> None:
    stopping, context = asyncio.Event(), SlowContext()
    handler: Any = grpc.unary_stream_rpc_method_handler(cast("Any", endless))

    async def known(_: grpc.HandlerCallDetails) -> Any:
        return handler

    wrapped: Any = await ServiceInterceptor(Open(), FakeClock(), None, stopping).intercept_service(
        known, cast("grpc.HandlerCallDetails", Details())
    )
    serving = asyncio.create_task(wrapped.unary_stream(StringValue(value="x"), context))
    await context.writing.wait()
    stopping.set()
    for _ in range(20):
        await asyncio.sleep(0)
    context.written.set()
    await asyncio.wait((serving,))

    assert context.journal == ["write", "written", "UNAVAILABLE"]
    assert isinstance(serving.exception(), grpc.aio.AbortError)

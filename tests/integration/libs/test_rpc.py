"""The gRPC server and client of the suite against each other, on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeAlias

import grpc
import pytest
import pytest_asyncio
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import error_details_pb2  # type: ignore[import-untyped]  # stubs without py.typed
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from structlog.testing import capture_logs

from libs.clock import FakeClock, SystemClock
from libs.errors import Kind, ServiceError, permanent
from libs.lifecycle import Readiness
from libs.rpc.client import call, stream
from libs.rpc.server import (
    MESSAGE_BYTES_MAX,
    REQUEST_BYTES_MAX,
    RpcServer,
    RpcService,
    incoming_traceparent,
)
from libs.settings import Address
from tests.fakes import callers

ECHO = "tidewire.test.Echo"
LOOPBACK = Address("127.0.0.1", 0)

# One loop for all: grpc.aio has one queue of events for the process, and what is late for a loop
# that is closed takes events of the next loop down with it.
pytestmark = pytest.mark.asyncio(loop_scope="module")

Context: TypeAlias = "grpc.aio.ServicerContext[StringValue, StringValue]"
ERRORS = {
    "throttled": ServiceError(Kind.THROTTLED, "slow_down", "wait a little", retry_after_s=2.5),
    "revoked": ServiceError(Kind.AUTH, "token_revoked", "reinstall the app"),
    "path": permanent("order_unusable", "no such currency", path="order.currency"),
}


class Echo:
    """Says what it hears; fails as it is told to."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.leave = asyncio.Event()

    async def one(self, request: StringValue, context: Context) -> StringValue:
        if request.value in ERRORS:
            raise ERRORS[request.value]
        if request.value == "bug":
            raise KeyError("hunter2@example.com")
        if request.value == "abort":
            await context.abort(grpc.StatusCode.DATA_LOSS, "by hand")
        if request.value == "trace":
            return StringValue(value=incoming_traceparent.get() or "none")
        if request.value == "wait":
            self.entered.set()
            await self.leave.wait()
        return StringValue(value=request.value)

    async def many(self, request: StringValue, context: Context) -> AsyncIterator[StringValue]:
        yield StringValue(value="first")
        if request.value in ERRORS:
            raise ERRORS[request.value]
        yield StringValue(value="second")

    async def endless(self, request: StringValue, context: Context) -> AsyncIterator[StringValue]:
        yield request
        await asyncio.Event().wait()

    async def written(self, request: StringValue, context: Context) -> None:
        await context.write(StringValue(value="by hand"))

    async def joined(self, requests: AsyncIterator[StringValue], context: Context) -> StringValue:
        return StringValue(value=",".join([each.value async for each in requests]))

    async def each(
        self, requests: AsyncIterator[StringValue], context: Context
    ) -> AsyncIterator[StringValue]:
        async for request in requests:
            yield request

    def service(self) -> RpcService:
        codec = {
            "request_deserializer": StringValue.FromString,
            "response_serializer": StringValue.SerializeToString,
        }
        handlers: dict[str, Any] = {
            "One": grpc.unary_unary_rpc_method_handler(self.one, **codec),  # type: ignore[arg-type]  # stubs know no aio
            "Many": grpc.unary_stream_rpc_method_handler(self.many, **codec),  # type: ignore[arg-type]
            "Endless": grpc.unary_stream_rpc_method_handler(self.endless, **codec),  # type: ignore[arg-type]
            "Written": grpc.unary_stream_rpc_method_handler(self.written, **codec),  # type: ignore[arg-type]
            "Joined": grpc.stream_unary_rpc_method_handler(self.joined, **codec),  # type: ignore[arg-type]
            "Each": grpc.stream_stream_rpc_method_handler(self.each, **codec),  # type: ignore[arg-type]
        }
        handler = grpc.method_handlers_generic_handler(ECHO, handlers)
        return RpcService(ECHO, lambda server: server.add_generic_rpc_handlers((handler,)))


class House:
    """A server that runs, a channel to it, and what it told its observer."""

    def __init__(self, *services: RpcService, request_bytes_max: int = REQUEST_BYTES_MAX) -> None:
        self.echo = Echo()
        self.readiness = Readiness()
        self.seen: list[tuple[str, str | None, str | None]] = []
        self._told = asyncio.Semaphore(0)
        self.server = RpcServer(
            address=LOOPBACK,
            services=[self.echo.service(), *services],
            guard=callers.guard(),
            readiness=self.readiness,
            clock=FakeClock(),
            observe=self._observe,
            request_bytes_max=request_bytes_max,
        )

    def _observe(
        self, method: str, _s: int, _e: int, traceparent: str | None, error: ServiceError | None
    ) -> None:
        self.seen.append((method, traceparent, error.code if error else None))
        self._told.release()

    async def heard_of(self, rpcs: int) -> None:
        """Returns once so many rpcs are observed: a caller may have its answer a moment sooner."""
        async with asyncio.timeout(5):
            for _ in range(rpcs):
                await self._told.acquire()

    def method(self, name: str, shape: str = "unary_unary") -> Any:
        return getattr(self.channel, shape)(
            f"/{ECHO}/{name}", StringValue.SerializeToString, StringValue.FromString
        )

    @asynccontextmanager
    async def open(self) -> AsyncIterator[House]:
        ready = asyncio.Event()
        self.readiness.expect(["grpc"])
        self.running = asyncio.create_task(self.server.run(ready.set))
        await asyncio.wait(
            {self.running, asyncio.create_task(ready.wait())}, return_when=asyncio.FIRST_COMPLETED
        )
        async with callers.channel_to(self.server.port) as self.channel:
            yield self
            self.server.stop()
            await self.running


@pytest_asyncio.fixture(loop_scope="module")
async def house() -> AsyncIterator[House]:
    async with House().open() as opened:
        yield opened


def said(value: str) -> StringValue:
    return StringValue(value=value)


async def failure(calling: Awaitable[object]) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        await calling
    return caught.value


async def test_an_answer_comes_back(house: House) -> None:
    found: StringValue = await call(house.method("One"), said("hello"), timeout_s=5)
    await house.heard_of(1)

    assert found.value == "hello"
    assert house.seen == [(f"/{ECHO}/One", None, None)]


@pytest.mark.parametrize("name", sorted(ERRORS))
async def test_the_client_raises_the_servers_error_again(house: House, name: str) -> None:
    error = await failure(call(house.method("One"), said(name), timeout_s=5))
    await house.heard_of(1)

    sent = ERRORS[name]
    assert (error.kind, error.code, error.message) == (sent.kind, sent.code, sent.message)
    assert (error.retry_after_s, error.path) == (sent.retry_after_s, sent.path)
    assert house.seen[0][2] == sent.code


async def test_a_strangers_client_reads_rich_details(house: House) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await house.method("One")(said("path"))

    status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]  # the stub knows the sync one
    assert status is not None
    bad = error_details_pb2.BadRequest()
    assert status.details[1].Unpack(bad)
    assert bad.field_violations[0].field == "order.currency"


async def test_what_nobody_foresaw_leaks_nothing_and_is_logged(house: House) -> None:
    with capture_logs() as lines:
        error = await failure(call(house.method("One"), said("bug"), timeout_s=5))
        await house.heard_of(1)

    assert (error.kind, error.code) == (Kind.RETRYABLE, "internal")
    assert "hunter2" not in f"{error} {error.__cause__!r}"
    assert isinstance(error.__cause__, grpc.aio.AioRpcError)
    assert error.__cause__.code() is grpc.StatusCode.INTERNAL
    assert [line["event"] for line in lines] == ["rpc_failed_unforeseen", "rpc_served"]
    assert lines[0]["exc_info"]


async def test_an_abort_by_hand_stays_as_it_is(house: House) -> None:
    error = await failure(call(house.method("One"), said("abort"), timeout_s=5))
    await house.heard_of(1)

    assert (error.code, error.message) == ("rpc_data_loss", "by hand")
    assert house.seen[0][2] == "rpc_aborted"


async def test_a_stream_ends_with_its_error_after_what_it_gave(house: House) -> None:
    answers = stream(house.method("Many", "unary_stream"), said("revoked"), timeout_s=5)

    first = await anext(answers)
    error = await failure(anext(answers))

    assert first.value == "first"
    assert error.code == "token_revoked"


@pytest.mark.parametrize(
    ("name", "heard"), [("Many", ["first", "second"]), ("Written", ["by hand"])]
)
async def test_both_styles_of_streaming_handlers_are_served(
    house: House, name: str, heard: list[str]
) -> None:
    answers = stream(house.method(name, "unary_stream"), said(""), timeout_s=5)

    assert [found.value async for found in answers] == heard


async def test_streamed_requests_are_served(house: House) -> None:
    joined = await house.method("Joined", "stream_unary")(iter([said("a"), said("b")]))
    each = house.method("Each", "stream_stream")(iter([said("a"), said("b")]))

    assert joined.value == "a,b"
    assert [found.value async for found in each] == ["a", "b"]


async def test_the_callers_trace_context_is_seen_and_observed(house: House) -> None:
    traced = partial(call, house.method("One"), said("trace"), timeout_s=5)

    found = [(await traced(traceparent="00-aa-bb-01")).value, (await traced()).value]
    await house.heard_of(2)

    assert found == ["00-aa-bb-01", "none"]
    assert [each[1] for each in house.seen] == ["00-aa-bb-01", None]


async def test_a_deadline_is_kept_and_the_cancelled_rpc_observed(house: House) -> None:
    error = await failure(call(house.method("One"), said("wait"), timeout_s=0.1))

    assert (error.kind, error.code) == (Kind.RETRYABLE, "rpc_deadline_exceeded")
    await house.heard_of(1)
    assert house.seen[0][2] == "rpc_cancelled"


@pytest.mark.parametrize("bytes_max", [REQUEST_BYTES_MAX, MESSAGE_BYTES_MAX])
async def test_requests_up_to_the_servers_limit_pass_and_longer_ones_do_not(bytes_max: int) -> None:
    longest = "a" * (bytes_max - 16)

    async with House(request_bytes_max=bytes_max).open() as house:
        found = await call(house.method("One"), said(longest), timeout_s=20)
        error = await failure(call(house.method("One"), said(longest + "a" * 32), timeout_s=20))

    assert len(found.value) == len(longest)
    assert error.code == "rpc_resource_exhausted"


async def test_nobody_there_is_retryable() -> None:
    async with House().open() as house:
        port = house.server.port

    async with callers.channel_to(port) as closed:
        method: Any = closed.unary_unary(
            f"/{ECHO}/One", StringValue.SerializeToString, StringValue.FromString
        )
        error = await failure(call(method, said("x"), timeout_s=5))

    assert (error.kind, error.code) == (Kind.RETRYABLE, "rpc_unavailable")


async def told_status(house: House, service: str, status: int) -> int:
    """The status that a watcher is told, once it is `status`; TimeoutError where it never is."""
    stub: Any = health_pb2_grpc.HealthStub(house.channel)
    watching = stub.Watch(health_pb2.HealthCheckRequest(service=service))
    async with asyncio.timeout(5):
        while (await watching.read()).status != status:
            pass
    watching.cancel()
    await watching.code()
    return status


@pytest.mark.parametrize("service", ["", ECHO])
async def test_health_follows_readiness(house: House, service: str) -> None:
    serving, not_serving = (
        health_pb2.HealthCheckResponse.SERVING,
        health_pb2.HealthCheckResponse.NOT_SERVING,
    )

    assert await told_status(house, service, not_serving) == not_serving
    house.readiness.ready("grpc")
    assert await told_status(house, service, serving) == serving
    house.readiness.unready("bus")
    assert await told_status(house, service, not_serving) == not_serving


async def test_a_service_nobody_serves_is_unknown_to_health(house: House) -> None:
    stub: Any = health_pb2_grpc.HealthStub(house.channel)
    asked = health_pb2.HealthCheckRequest(service="nobody")
    watching = stub.Watch(asked)

    error = await failure(call(stub.Check, asked, timeout_s=5))
    told = await watching.read()
    watching.cancel()
    await watching.code()

    assert error.code == "rpc_not_found"
    assert told.status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


async def test_health_checks_are_neither_observed_nor_logged(house: House) -> None:
    stub: Any = health_pb2_grpc.HealthStub(house.channel)

    with capture_logs() as lines:
        await stub.Check(health_pb2.HealthCheckRequest())

    assert (house.seen, lines) == ([], [])


async def test_reflection_lists_the_services(house: House) -> None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(house.channel)  # type: ignore[arg-type]  # takes both
    asked = reflection_pb2.ServerReflectionRequest(list_services="")

    answers = [answer async for answer in stub.ServerReflectionInfo(iter([asked]))]

    assert ECHO in {each.name for each in answers[0].list_services_response.service}


async def test_a_stop_lets_the_rpc_under_way_finish(house: House) -> None:
    waiting = asyncio.create_task(call(house.method("One"), said("wait"), timeout_s=20))
    await house.echo.entered.wait()

    house.server.stop()
    await asyncio.sleep(0)
    house.echo.leave.set()

    assert (await waiting).value == "wait"
    await house.running


async def test_a_stream_ends_after_its_time_so_that_its_caller_proves_itself_anew(
    house: House,
) -> None:
    brief = RpcServer(
        address=LOOPBACK,
        services=[house.echo.service()],
        guard=callers.guard(),
        readiness=Readiness(),
        clock=SystemClock(),
        stream_lasts_s=0.05,
    )
    up = asyncio.Event()
    running = asyncio.create_task(brief.run(up.set))
    await up.wait()
    async with callers.channel_to(brief.port) as channel:
        method = channel.unary_stream(
            f"/{ECHO}/Endless",
            request_serializer=StringValue.SerializeToString,
            response_deserializer=StringValue.FromString,
        )
        watching = stream(method, said("x"), timeout_s=None)
        await anext(watching)
        error = await failure(anext(watching))
    brief.stop()
    await running

    assert (error.kind, error.code) == (Kind.RETRYABLE, "stream_renewed")


async def test_a_stop_ends_streams_that_would_hold_it_up(house: House) -> None:
    watching = stream(house.method("Endless", "unary_stream"), said("x"), timeout_s=None)
    await anext(watching)

    house.server.stop()
    error = await failure(anext(watching))

    assert (error.kind, error.code) == (Kind.RETRYABLE, "server_stopping")
    await asyncio.wait_for(house.running, 5)


async def test_a_stop_tells_who_watches_health_and_then_ends_the_watch(house: House) -> None:
    stub: Any = health_pb2_grpc.HealthStub(house.channel)
    house.readiness.ready("grpc")
    watching = stub.Watch(health_pb2.HealthCheckRequest(service=ECHO))
    while (await watching.read()).status != health_pb2.HealthCheckResponse.SERVING:
        pass

    house.server.stop()
    last = await watching.read()

    assert last.status == health_pb2.HealthCheckResponse.NOT_SERVING
    await asyncio.wait_for(house.running, 5)


async def test_a_cut_off_ends_the_rpc_under_way() -> None:
    house = House()
    async with house.open():
        waiting = asyncio.create_task(call(house.method("One"), said("wait"), timeout_s=20))
        await house.echo.entered.wait()
        house.server.stop()
        house.running.cancel()
        error = await failure(waiting)
        with pytest.raises(asyncio.CancelledError):
            await house.running
        house.running = asyncio.create_task(asyncio.sleep(0))

    assert error.kind is Kind.RETRYABLE


async def test_a_port_that_is_taken_is_said_to_be(house: House) -> None:
    second = RpcServer(
        address=Address("127.0.0.1", house.server.port),
        services=[],
        guard=callers.guard(),
        readiness=Readiness(),
        clock=FakeClock(),
    )

    error = await failure(second.run(lambda: None))

    assert (error.kind, error.code) == (Kind.PERMANENT, "grpc_address_taken")


async def test_a_request_that_breaks_its_schema_is_refused_field_by_field() -> None:
    schema = pytest.importorskip("tidewire.ingest.v1.ingest_service_pb2")
    stubs = pytest.importorskip("tidewire.ingest.v1.ingest_service_pb2_grpc")
    name = schema.DESCRIPTOR.services_by_name["IngestService"].full_name
    add: Callable[..., None] = stubs.add_IngestServiceServicer_to_server
    service = RpcService(name, partial(add, stubs.IngestServiceServicer()))

    async with House(service).open() as house:
        stub = stubs.IngestServiceStub(house.channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetDelivery(schema.GetDeliveryRequest())
        error = await failure(call(stub.GetDelivery, schema.GetDeliveryRequest(), timeout_s=5))

    status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]  # the stub knows the sync one
    assert status is not None
    bad = error_details_pb2.BadRequest()
    assert status.details[1].Unpack(bad)
    assert {each.field for each in bad.field_violations} >= {"shop", "delivery_id"}
    assert (error.code, error.path) == ("request_invalid", bad.field_violations[0].field)

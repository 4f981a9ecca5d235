"""What is open to whoever gets through TLS takes few places of a server, and gives them back."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from libs.rpc.interceptor import WATCHES_MAX
from tests.fakes import callers
from tests.integration.libs.called import TOKENS, Called, called

pytestmark = pytest.mark.asyncio(loop_scope="module")

Status = health_pb2.HealthCheckResponse


def watch(channel: grpc.aio.Channel, service: str = TOKENS) -> Any:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    return stub.Watch(health_pb2.HealthCheckRequest(service=service))


def reflection(channel: grpc.aio.Channel) -> Any:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]  # takes both
    return stub.ServerReflectionInfo()


async def ask(reflecting: Any) -> None:
    await reflecting.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    await reflecting.read()


async def ended(streaming: Any) -> grpc.StatusCode:
    """With what status it ends, once all that it says has been read."""
    try:
        while await streaming.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError:
        pass
    status: grpc.StatusCode = await streaming.code()
    return status


async def test_a_watch_ends_well_after_its_time_and_can_be_begun_again() -> None:
    async with (
        called(callers.guard(), watch_lasts_s=0.05) as served,
        served.as_("operator") as channel,
    ):
        for _ in range(2):
            watching = watch(channel)
            assert (await watching.read()).status == Status.NOT_SERVING
            assert await ended(watching) is grpc.StatusCode.OK
        assert await ended(reflection(channel)) is grpc.StatusCode.OK


async def test_watches_beyond_their_share_are_refused_and_calls_go_on() -> None:
    async with called(callers.guard()) as served, served.as_("operator") as channel:
        services = [TOKENS, "nobody"] * (WATCHES_MAX // 2)
        watching = [watch(channel, service) for service in services[:-1]]
        for one in watching:
            await one.read()
        reflecting = reflection(channel)
        await ask(reflecting)

        refused = [await ended(watch(channel)), await ended(reflection(channel))]
        named = await served.token(channel)
        checked = await health_of(served, channel)
        await reflecting.done_writing()
        await ended(reflecting)
        again = await watch(channel).read()

        assert refused == [grpc.StatusCode.RESOURCE_EXHAUSTED] * 2
        assert (named, checked) == ("operator", Status.NOT_SERVING)
        assert again.status == Status.NOT_SERVING


async def health_of(served: Called, channel: grpc.aio.Channel) -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=TOKENS))
    assert isinstance(answer, Status)
    return answer.status

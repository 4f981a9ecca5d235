"""LimiterService over real gRPC and NATS."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
import pytest

from libs.clock import SystemClock
from libs.errors import Kind, ServiceError
from libs.lifecycle import Readiness
from libs.rpc.client import call
from libs.rpc.server import RpcServer, RpcService
from libs.settings import Address
from services.delivery.limiter import OUTSTANDING_MAX, LimiterServer
from tests.contract.limiter_bed import NatsBed, names, nats_bed
from tests.fakes import callers
from tests.fakes.nats_server import NatsServer
from tidewire.limiter.v1 import limiter_service_pb2 as pb
from tidewire.limiter.v1.limiter_service_pb2_grpc import (
    LimiterServiceStub,
    add_LimiterServiceServicer_to_server,
)

WITHIN_S = 30.0


@dataclass
class Service:
    bed: NatsBed
    stub: Any
    port: int


@pytest.fixture
async def service(nats_server: NatsServer) -> AsyncIterator[Service]:
    async with nats_bed(nats_server, 1) as bed:
        servicer = LimiterServer(bed.replicas[0])
        add_to = partial(add_LimiterServiceServicer_to_server, servicer)
        server = RpcServer(
            address=Address("127.0.0.1", 0),
            services=[RpcService("tidewire.limiter.v1.LimiterService", add_to)],
            guard=callers.guard(),
            readiness=Readiness(),
            clock=SystemClock(),
        )
        is_ready = asyncio.Event()
        running = asyncio.create_task(server.run(is_ready.set))
        await asyncio.wait_for(is_ready.wait(), WITHIN_S)
        async with callers.channel_to(server.port) as opened:
            yield Service(bed, LimiterServiceStub(opened), server.port)
        server.stop()
        await asyncio.wait_for(running, WITHIN_S)


def _asked(limit: str, max_wait_s: float = 5.0, request_id: str = "") -> pb.AcquireRequest:
    request = pb.AcquireRequest(limits=[limit], request_id=request_id)
    request.max_wait.FromMilliseconds(int(max_wait_s * 1e3))
    return request


async def _acquired(service: Service, request: pb.AcquireRequest) -> pb.AcquireResponse:
    """The answer; a busy machine may be too slow for the first try."""
    while True:
        try:
            answer = await call(service.stub.Acquire, request, timeout_s=WITHIN_S)
        except ServiceError as error:
            if error.code != "limits_unreachable":
                raise
            await asyncio.sleep(error.retry_after_s or 0.0)
        else:
            assert isinstance(answer, pb.AcquireResponse)
            return answer


async def test_a_turn_is_granted_and_then_described(service: Service) -> None:
    [limit] = names("fifty")
    await service.bed.used_long_ago(limit)

    answer = await _acquired(service, _asked(limit, request_id="mine"))
    described = await call(
        service.stub.Describe, pb.DescribeRequest(prefix=limit), timeout_s=WITHIN_S
    )

    assert (answer.request_id, answer.granted) == ("mine", True)
    [status] = described.limits
    assert status.name == f"{limit}/second"
    assert (status.limit, status.window.seconds, status.pace) == (50.0, 1, 1.0)
    assert status.granted >= 1
    assert not status.HasField("last_throttle")


async def test_a_report_pauses_the_limit_and_says_how_long_to_stay_away(service: Service) -> None:
    [limit] = names("fifty")
    await service.bed.used_long_ago(limit)
    report = pb.ReportRequest(limits=[limit], code="40100")
    report.retry_after.FromSeconds(20)

    await call(service.stub.Report, report, timeout_s=WITHIN_S)
    with pytest.raises(ServiceError) as refused:
        await _acquired(service, _asked(limit))
    described = await call(
        service.stub.Describe, pb.DescribeRequest(prefix=limit), timeout_s=WITHIN_S
    )

    assert (refused.value.kind, refused.value.code) == (Kind.THROTTLED, "limit_busy")
    assert refused.value.retry_after_s is not None
    assert 10 < refused.value.retry_after_s <= 20
    assert described.limits[0].last_throttle_code == "40100"
    assert abs(described.limits[0].last_throttle.ToNanoseconds() / 1e9 - time.time()) < 15


@pytest.mark.parametrize(
    ("told", "throttles"),
    [
        ({"shopify_call_limit": "76/80"}, False),
        ({"bucket": pb.BucketState(capacity=80, available=4, restore_per_s=4)}, False),
        ({"shopify_call_limit": "76/80", "code": "429"}, True),
    ],
    ids=["the header", "in numbers", "with a throttle"],
)
async def test_a_bucket_that_a_caller_reports_holds_and_is_no_throttle_by_itself(
    service: Service, told: dict[str, Any], *, throttles: bool
) -> None:
    [limit] = names("rest")
    await service.bed.used_long_ago(limit)

    await call(service.stub.Report, pb.ReportRequest(limits=[limit], **told), timeout_s=WITHIN_S)
    described = await call(
        service.stub.Describe, pb.DescribeRequest(prefix=limit), timeout_s=WITHIN_S
    )

    [status] = described.limits
    assert (status.limit, status.window.seconds) == (80.0, 20)
    assert status.used == pytest.approx(0.95, abs=0.1)
    assert status.HasField("last_throttle") == throttles


@pytest.mark.parametrize(
    ("limits", "told", "path"),
    [
        (["a", "b"], {"shopify_call_limit": "1/40"}, "limits"),
        (["a"], {"shopify_call_limit": "a lot"}, "shopify_call_limit"),
        (["a"], {"bucket": pb.BucketState(capacity=40, available=-1, restore_per_s=2)}, "bucket"),
    ],
)
async def test_a_bucket_that_makes_no_sense_is_the_callers_mistake(
    service: Service, limits: list[str], told: dict[str, Any], path: str
) -> None:
    with pytest.raises(ServiceError) as refused:
        await call(service.stub.Report, pb.ReportRequest(limits=limits, **told), timeout_s=WITHIN_S)

    assert refused.value.kind is Kind.PERMANENT
    assert (refused.value.path or "").startswith(path)


async def test_a_name_that_is_not_declared_is_the_callers_mistake(service: Service) -> None:
    with pytest.raises(ServiceError) as refused:
        await _acquired(service, _asked("nobody.declared"))

    assert (refused.value.kind, refused.value.code) == (Kind.PERMANENT, "limit_undeclared")


async def test_a_call_waits_no_longer_than_its_deadline(service: Service) -> None:
    [limit] = names("ten")
    await service.bed.used_long_ago(limit)
    crowd = [
        asyncio.ensure_future(_acquired(service, _asked(limit, max_wait_s=10.0))) for _ in range(30)
    ]
    await asyncio.sleep(0.3)

    # Had the limiter waited for the ten seconds it was allowed, the deadline would have ended it.
    with pytest.raises(ServiceError) as refused:
        await call(service.stub.Acquire, _asked(limit, max_wait_s=10.0), timeout_s=0.5)
    for one in crowd:
        one.cancel()

    assert refused.value.code == "limit_busy"


async def test_a_stream_answers_every_request_and_tells_them_apart(service: Service) -> None:
    wide, ten = names("wide", "ten")
    await service.bed.used_long_ago(wide, ten)
    report = pb.ReportRequest(limits=[ten], code="429")
    report.retry_after.FromSeconds(30)
    await call(service.stub.Report, report, timeout_s=WITHIN_S)
    count = OUTSTANDING_MAX + 100
    stream = service.stub.AcquireStream(timeout=WITHIN_S)

    async def ask() -> None:
        for number in range(count):
            request = _asked(wide, max_wait_s=15.0, request_id=str(number))
            await stream.write(pb.AcquireStreamRequest(acquire=request))
        refused = _asked(ten, request_id="refused")
        await stream.write(pb.AcquireStreamRequest(acquire=refused))
        await stream.done_writing()

    asking = asyncio.create_task(ask())
    answers = {one.acquired.request_id: one.acquired async for one in stream}
    await asking

    assert answers.keys() == {*map(str, range(count)), "refused"}
    assert not answers["refused"].granted
    assert answers["refused"].limit == ten
    assert answers["refused"].retry_after.seconds > 10
    assert sum(one.granted for one in answers.values()) > count / 2


async def test_a_stream_ends_with_the_reason_for_what_can_never_have_a_turn(
    service: Service,
) -> None:
    stream = service.stub.AcquireStream(timeout=WITHIN_S)

    await stream.write(pb.AcquireStreamRequest(acquire=_asked("nobody.declared")))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stream.read()

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_stream_reads_no_more_than_it_may_have_outstanding(service: Service) -> None:
    [limit] = names("ten")
    await service.bed.used_long_ago(limit)
    stream = service.stub.AcquireStream(timeout=WITHIN_S)

    async def ask() -> None:
        for _ in range(2 * OUTSTANDING_MAX):
            request = _asked(limit, max_wait_s=15.0)
            await stream.write(pb.AcquireStreamRequest(acquire=request))

    asking = asyncio.create_task(ask())
    await asyncio.sleep(1.0)
    [seen] = await service.bed.replicas[0].describe(limit)
    asking.cancel()
    stream.cancel()

    assert 0 < seen.waiters <= OUTSTANDING_MAX


async def _tidewire_limits(*arguments: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "cli",
        "limits",
        *arguments,
        env={**os.environ, **callers.environment("operator")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), WITHIN_S)
    return process.returncode, out.decode(), err.decode()


async def test_the_command_shows_the_limits_as_a_table_and_as_json(service: Service) -> None:
    [limit] = names("fifty")
    await service.bed.used_long_ago(limit)
    await _acquired(service, _asked(limit))
    address = f"127.0.0.1:{service.port}"

    table = await _tidewire_limits("--once", "--address", address, "--prefix", limit)
    as_json = await _tidewire_limits("--once", "--json", "--address", address, "--prefix", limit)

    assert table[0] == as_json[0] == 0
    assert "Limits" in table[1]
    [found] = json.loads(as_json[1])
    assert found["name"] == f"{limit}/second"
    assert int(found["granted"]) >= 1


async def test_the_command_says_where_it_found_nobody() -> None:
    code, _, err = await _tidewire_limits("--once", "--address", "127.0.0.1:1")

    assert code == 2
    assert "no limiter at 127.0.0.1:1" in err

"""One process of the bench of tokens: a bare echo to compare with, or a caller of either server.

`python -m tests.bench.token_calls JOB`, where JOB is `Job` as JSON. The echo says `ready` and works
until SIGTERM; a caller's only line on standard output is `Calls` as JSON.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import grpc
import msgspec
import uvloop

from libs.auth.tokens import TokenCache
from libs.clock import SystemClock
from libs.rpc.certificates import Certificates
from libs.rpc.client import channel
from libs.settings import Address
from tests.bench.figures import percentile
from tests.bench.machine import cpu_s
from tidewire.auth.v1 import token_service_pb2, token_service_pb2_grpc

SERVER: Final = "auth"
CALLER: Final = "events"
CONNECTION: Final = "bench.events.pixel"
_WARM_S: Final = 0.3
_DEADLINE_S: Final = 10.0


class Job(msgspec.Struct, frozen=True):
    """`what`: `echo` serves; `flood`, `paced` and `cached` call for `seconds`.

    A flood keeps `in_flight` calls under way; paced calls begin `per_s` times a second, whether or
    not the last is answered; cached ones ask the client library, which has the token.
    """

    what: str
    address: str
    certificates: str
    answer: bytes = b""
    seconds: float = 1.0
    in_flight: int = 32
    per_s: float = 50.0
    server_pid: int = 0


class Calls(msgspec.Struct, frozen=True):
    """What came of calls. Processor times are of one call; `failed` are no calls."""

    per_s: float
    count: int
    failed: int
    p50_ms: float
    p99_ms: float
    server_us: float
    caller_us: float
    caller_cores: float


class Echo(token_service_pb2_grpc.TokenServiceServicer):
    """The same answer to everybody, looked at by nobody."""

    def __init__(self, answer: bytes) -> None:
        self._answer = token_service_pb2.GetTokenResponse.FromString(answer)

    async def GetToken(  # noqa: N802  the schema's name
        self, request: token_service_pb2.GetTokenRequest, context: object
    ) -> token_service_pb2.GetTokenResponse:
        return self._answer


async def echo(job: Job) -> None:
    """Serves until SIGTERM."""
    made = Certificates(Path(job.certificates))
    pair = (made.key_file(SERVER).read_bytes(), made.cert_file(SERVER).read_bytes())
    server = grpc.aio.server()
    servicer = Echo(job.answer)  # type: ignore[abstract]  # the other methods stay unimplemented
    token_service_pb2_grpc.add_TokenServiceServicer_to_server(servicer, server)
    credentials = grpc.ssl_server_credentials([pair], made.ca_file.read_bytes(), True)  # noqa: FBT003
    server.add_secure_port(job.address, credentials)
    await server.start()
    _say("ready")
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    await ending.wait()
    await server.stop(grace=None)


async def calls(job: Job) -> Calls:
    """Calls, after a moment of calls that do not count."""
    made = Certificates(Path(job.certificates))
    credentials = grpc.ssl_channel_credentials(
        made.ca_file.read_bytes(),
        made.key_file(CALLER).read_bytes(),
        made.cert_file(CALLER).read_bytes(),
    )
    async with grpc.aio.secure_channel(job.address, credentials) as opened:
        method = token_service_pb2_grpc.TokenServiceStub(opened).GetToken
        await _flood(method, _WARM_S, job.in_flight)
        meter = _Meter(job.server_pid)
        if job.what == "paced":
            times_s, failed = await _paced(method, job)
        else:
            times_s, failed = await _flood(method, job.seconds, job.in_flight)
        return meter.calls(times_s, failed)


async def cached(job: Job) -> Calls:
    """Reads of one token from the client library's memory."""
    made = Certificates(Path(job.certificates))
    host, _, port = job.address.rpartition(":")
    opened = channel(Address(host, int(port)), made.identity(CALLER))
    try:
        cache = TokenCache(opened, SystemClock())
        await cache.access_token(CONNECTION)
        meter = _Meter(job.server_pid)
        times_s: list[float] = []
        ends_s = time.perf_counter() + job.seconds
        while (began_s := time.perf_counter()) < ends_s:
            for _ in range(_TOGETHER):
                await cache.access_token(CONNECTION)
            times_s.append((time.perf_counter() - began_s) / _TOGETHER)
    finally:
        await opened.close()
    return meter.calls(times_s, 0, each=_TOGETHER)


_TOGETHER: Final = 1_000
"""Reads between two looks at the clock: one is too short to be timed alone."""


async def _flood(method: Any, seconds: float, in_flight: int) -> tuple[list[float], int]:
    request = token_service_pb2.GetTokenRequest(connection_id=CONNECTION)
    times_s: list[float] = []
    failed = 0
    ends_s = time.perf_counter() + seconds

    async def work() -> None:
        nonlocal failed
        while (began_s := time.perf_counter()) < ends_s:
            try:
                await method(request, timeout=_DEADLINE_S)
            except grpc.aio.AioRpcError:
                failed += 1
            else:
                times_s.append(time.perf_counter() - began_s)

    await asyncio.gather(*(work() for _ in range(in_flight)))
    return times_s, failed


async def _paced(method: Any, job: Job) -> tuple[list[float], int]:
    request = token_service_pb2.GetTokenRequest(connection_id=CONNECTION)
    times_s: list[float] = []
    failed = 0

    async def one(due_s: float) -> None:
        nonlocal failed
        try:
            await method(request, timeout=_DEADLINE_S)
        except grpc.aio.AioRpcError:
            failed += 1
        else:
            # From when it was due: what holds up the caller holds up a call.
            times_s.append(time.perf_counter() - due_s)

    tasks = []
    for due_s in _dues(time.perf_counter(), job):
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
        tasks.append(asyncio.create_task(one(due_s)))
    await asyncio.gather(*tasks)
    return times_s, failed


def _dues(began_s: float, job: Job) -> Iterator[float]:
    for number in range(int(job.seconds * job.per_s)):
        yield began_s + number / job.per_s


class _Meter:
    """Clock and processor time since it was made."""

    def __init__(self, server_pid: int) -> None:
        self._server_pid = server_pid
        self._server_s = cpu_s([server_pid])
        self._caller_s = cpu_s([os.getpid()])
        self._began_s = time.perf_counter()

    def calls(self, times_s: list[float], failed: int, each: int = 1) -> Calls:
        elapsed_s = time.perf_counter() - self._began_s
        server_s = cpu_s([self._server_pid]) - self._server_s
        caller_s = cpu_s([os.getpid()]) - self._caller_s
        count = len(times_s) * each
        return Calls(
            per_s=count / elapsed_s,
            count=count,
            failed=failed,
            p50_ms=percentile(times_s, 0.5) * 1e3,
            p99_ms=percentile(times_s, 0.99) * 1e3,
            server_us=server_s / max(count, 1) * 1e6,
            caller_us=caller_s / max(count, 1) * 1e6,
            caller_cores=caller_s / elapsed_s,
        )


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    """Does the job in the first argument."""
    job = msgspec.json.decode(sys.argv[1], type=Job)
    if job.what == "echo":
        uvloop.run(echo(job))
        return
    work = cached(job) if job.what == "cached" else calls(job)
    _say(msgspec.json.encode(uvloop.run(work)).decode())


if __name__ == "__main__":
    main()

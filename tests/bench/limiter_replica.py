"""One process of the limiter's bench: a replica that asks for turns, or the receiver of its calls.

`python -m tests.bench.limiter_replica JOB`, where JOB is `Job` as JSON. Its last line on standard
output is `Done` as JSON. It works until SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from libs.clock import SystemClock
from libs.errors import ServiceError
from libs.foundation import connected
from libs.ids import RandomIds, system_random
from libs.limits import DeclaredLimits, LimiterPart
from libs.telemetry import Metrics

_SO_TIMESTAMPNS: Final = 35
_PATIENCE_S: Final = 30.0
_AGAIN_MAX_S: Final = 0.1
_BUFFER_BYTES: Final = 4 * 1024 * 1024


class Job(msgspec.Struct, frozen=True):
    """`nats_url` is empty for the receiver, which writes its arrivals into `arrivals`."""

    port: int = 0
    arrivals: str = ""
    nats_url: str = ""
    limit: str = ""
    declared: str = ""
    workers: int = 1
    skew_s: float = 0.0


class Done(msgspec.Struct, frozen=True):
    """What a replica counted."""

    granted: int
    operations: int
    late: int
    throttled: int


class SkewedClock(SystemClock):
    """A clock that is wrong by `skew_s`, in all that it says."""

    def __init__(self, skew_s: float) -> None:
        super().__init__()
        self._skew_s = skew_s

    def now_ns(self) -> int:
        return super().now_ns() + int(self._skew_s * 1e9)

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self._skew_s


async def replica(job: Job) -> Done:
    """Workers that each wait for a turn and send a datagram, again and again."""
    client = await connected(job.nats_url)
    clock = SkewedClock(job.skew_s)
    metrics = Metrics()
    part = LimiterPart(
        client,
        declared=DeclaredLimits(job.declared),
        clock=clock,
        ids=RandomIds(clock),
        random=system_random,
        metrics=metrics,
    )
    is_ready = asyncio.Event()
    running = asyncio.create_task(part.run(is_ready.set))
    await is_ready.wait()
    wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    wire.connect(("127.0.0.1", job.port))
    throttled = 0
    granted = 0

    async def work() -> None:
        nonlocal throttled, granted
        while True:
            try:
                await part.limiter.turn([job.limit], max_wait_s=_PATIENCE_S)
            except ServiceError as error:
                throttled += 1
                await asyncio.sleep(min(error.retry_after_s or 0.0, _AGAIN_MAX_S))
                continue
            wire.send(b"x")
            granted += 1

    _say("ready")
    workers = [asyncio.create_task(work()) for _ in range(job.workers)]
    await _until_sigterm()
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    late = metrics.counter("tidewire_limiter_late_slots_total").value
    done = Done(granted, part.limiter.records.operations, late, throttled)
    part.stop()
    await running
    await client.close()
    return done


def receive(job: Job) -> None:
    """Notes when each datagram arrived: by the kernel, which is there even if this process waits
    for a processor.
    """
    wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
    with suppress(OSError):
        wire.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    wire.bind(("127.0.0.1", 0))
    wire.settimeout(0.1)
    ending = []
    signal.signal(signal.SIGTERM, lambda *_: ending.append(True))
    _say(str(wire.getsockname()[1]))
    arrivals = []
    while not ending:
        try:
            _, extra, _, _ = wire.recvmsg(16, 128)
        except TimeoutError:
            continue
        arrivals.append(_arrival_ns(extra))
    Path(job.arrivals).write_bytes(struct.pack(f"<{len(arrivals)}q", *arrivals))


def _arrival_ns(extra: list[tuple[int, int, bytes]]) -> int:
    for level, kind, content in extra:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
            seconds, nanoseconds = struct.unpack_from("<qq", content)
            return int(seconds * 1_000_000_000 + nanoseconds)
    return time.time_ns()


async def _until_sigterm() -> None:
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    await ending.wait()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    job = msgspec.json.decode(sys.argv[1], type=Job)
    if not job.nats_url:
        receive(job)
        return
    _say(msgspec.json.encode(uvloop.run(replica(job))).decode())


if __name__ == "__main__":
    main()

"""The load generator as a process: a job on stdin, what came of it on stdout."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable

import msgspec
import uvloop

from libs.clock import SystemClock
from sandbox.shopify.blaster import BlastReport, blast
from tests.bench.load import Burst, Job, deliveries_of
from tests.bench.machine import CpuMeter
from tests.bench.options import ROOT, environment


class _StartingClock(SystemClock):
    """Tells when it is first looked at: the blast prepares its requests before that."""

    def __init__(self, begun: Callable[[], None]) -> None:
        self._begun = begun

    def monotonic_s(self) -> float:
        # From now on the system's own function, so that no request pays for this.
        self.monotonic_s = time.monotonic  # type: ignore[method-assign]
        self._begun()
        return time.monotonic()


async def run_job(job: Job) -> Burst:
    """Has a generator process of its own carry out `job`.

    Raises:
        RuntimeError: it ended with an error; its words are in the text.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.bench.generator",
        env=environment(),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, said = await process.communicate(msgspec.json.encode(job))
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise RuntimeError(f"the load generator failed:\n{said.decode(errors='replace')}")
    return msgspec.json.decode(out, type=Burst)


async def _blasted(job: Job) -> Burst:
    meters: list[CpuMeter] = []
    groups = {**job.watched, "generator": [os.getpid()]}
    clock = _StartingClock(lambda: meters.append(CpuMeter(groups)))
    report = await blast(job.url, deliveries_of(job), job.connections, clock)
    return _burst_of(report, meters[0].cores())


def _burst_of(report: BlastReport, cores: dict[str, float]) -> Burst:
    answered = len(report.latencies_s)
    return Burst(
        seconds=report.seconds,
        answered=answered,
        refused=answered - report.statuses[200],
        broken=report.broken,
        p50_ms=report.latency_s(0.5) * 1000,
        p99_ms=report.latency_s(0.99) * 1000,
        cores=cores,
    )


if __name__ == "__main__":
    found = uvloop.run(_blasted(msgspec.json.decode(sys.stdin.buffer.read(), type=Job)))
    sys.stdout.buffer.write(msgspec.json.encode(found))

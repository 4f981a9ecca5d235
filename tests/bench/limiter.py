"""Eight processes under one limit, judged by what arrives at the receiver."""

from __future__ import annotations

import asyncio
import signal
import struct
import sys
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from libs.bus import streams
from libs.clock import SystemClock
from libs.errors import ServiceError
from libs.foundation import connected
from libs.ids import RandomIds, system_random
from libs.limits import DeclaredLimits, LimiterPart
from libs.telemetry import Metrics
from tests.bench.figures import Bound, Goal, percentile, spread
from tests.bench.limiter_replica import Done, Job
from tests.bench.options import Options, environment
from tests.bench.report import Section, Table
from tests.fakes.nats_server import NatsServer

Say = Callable[[str], None]

PROCESSES: Final = 8
_WORKERS: Final = {10: 2, 50: 4, 1000: 40}
_PLAIN_S: Final = 60.0
_FAULT_S: Final = 30.0
_QUICK_S: Final = 10.0
_WARM_UP_S: Final = 2.0
_PAUSE_S: Final = 5.0
_STOPPED_S: Final = 3.0
_SKEW_S: Final = 2.0
_WITHIN_S: Final = 90.0
_NEVER_S: Final = 999.0
_SECOND_NS: Final = 1_000_000_000
_CALLS_WHEN_GONE: Final = 50

_USE_GOAL: Final = 0.96
_ABOVE_GOAL: Final = {10: 0.0, 50: 0.0, 1000: 0.01}
_OPERATIONS_GOAL: Final = 0.25
_ANSWER_GOAL_MS: Final = 50.0
_RECOVERY_GOAL_S: Final = 30.0
_MEANING: Final = (
    "Windows are all seconds that begin with an arrival, outages included. Use leaves out the"
    " outage of NATS and the recovery from it, which has a column of its own."
)


class Outage(msgspec.Struct, frozen=True):
    """When something was gone, by the wall clock."""

    from_ns: int
    until_ns: int


class Found(msgspec.Struct, frozen=True):
    """One run. `use` leaves out an outage of the shared state, and the recovery from it."""

    seconds: float
    arrivals: int
    use: float
    above: int
    above_share: float
    most: int
    operations_each: float
    late: int
    throttled: int
    recovery_s: float


Disturb = Callable[["Field"], Awaitable[Outage | None]]


class Field:
    """What is running."""

    def __init__(self, nats: NatsServer, replicas: Sequence[asyncio.subprocess.Process]) -> None:
        self.nats = nats
        self.replicas = replicas


async def limiter(options: Options, say: Say) -> list[Section]:
    """Plain at each rate, then with something amiss."""
    found: dict[tuple[str, int], Found] = {}
    rates = (50, 1000) if options.quick else (10, 50, 1000)
    with NatsServer(directory=options.directory / "limiter") as server:
        client = await connected(server.url)
        await streams.apply(client, scale_mib=16)
        await client.close()
        for name, (disturb, skews) in SCENARIOS.items():
            if options.quick and name in QUICK_WITHOUT:
                continue
            for rate in rates if disturb is None and not any(skews) else rates[-2:]:
                seconds = _PLAIN_S if disturb is None else _FAULT_S
                seconds = _QUICK_S if options.quick else seconds
                one = await run(server, options.directory, rate, seconds, disturb, skews)
                found[name, rate] = one
                say(_told(name, rate, one))
        answers = {
            "paused": await _answers_ms(server, server.pause, server.resume),
            "killed": await _answers_ms(server, server.kill, server.start),
        }
    return [_section(found, answers)]


async def run(
    server: NatsServer,
    directory: Path,
    rate: int,
    seconds: float,
    disturb: Disturb | None = None,
    skews: Sequence[float] = (0.0,),
    processes: int = PROCESSES,
) -> Found:
    """One run of `seconds` with all processes, measured at the receiver after a warm-up."""
    arrivals_file = directory / "arrivals"
    limit = f"bench.{time.time_ns()}"
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(_process(Job(arrivals=str(arrivals_file))))
        port = int(await _line(receiver))
        jobs = [
            Job(
                port=port,
                nats_url=server.url,
                limit=limit,
                declared=f"bench.*={rate}/s",
                workers=_WORKERS[rate],
                skew_s=skews[number % len(skews)],
            )
            for number in range(processes)
        ]
        replicas = [await stack.enter_async_context(_process(job)) for job in jobs]
        for one in replicas:
            await _line(one)
        await asyncio.sleep(_WARM_UP_S)
        began_ns = time.time_ns()
        outage = None
        if disturb is None:
            await asyncio.sleep(seconds)
        else:
            await asyncio.sleep(seconds / 4)
            outage = await disturb(Field(server, replicas))
            await asyncio.sleep(max(seconds - (time.time_ns() - began_ns) / 1e9, 0))
        ended_ns = time.time_ns()
        done = [await _ended(one) for one in replicas]
        receiver.terminate()
        await asyncio.wait_for(receiver.wait(), _WITHIN_S)
    content = arrivals_file.read_bytes()
    arrivals = sorted(struct.unpack(f"<{len(content) // 8}q", content))
    return judged(arrivals, done, rate, began_ns, ended_ns, outage)


def judged(
    arrivals: Sequence[int],
    done: Sequence[Done],
    rate: int,
    began_ns: int,
    ended_ns: int,
    outage: Outage | None,
) -> Found:
    """What a run amounts to. Windows are judged from the first arrival to the last, outages too."""
    windows = windows_of(arrivals)
    above = sum(count > rate for count in windows)
    recovery_ns = _recovery_ns(arrivals, windows, rate, outage)
    measured = [one for one in arrivals if began_ns <= one < ended_ns]
    seconds = (ended_ns - began_ns) / 1e9
    if outage is not None:
        full_ns = outage.until_ns + recovery_ns
        measured = [one for one in measured if not outage.from_ns <= one < full_ns]
        seconds -= (min(full_ns, ended_ns) - outage.from_ns) / 1e9
    granted = sum(one.granted for one in done)
    return Found(
        seconds=(ended_ns - began_ns) / 1e9,
        arrivals=len(arrivals),
        use=len(measured) / (rate * seconds) if seconds > 0 else 0.0,
        above=above,
        above_share=above / max(len(windows), 1),
        most=max(windows, default=0),
        operations_each=sum(one.operations for one in done) / max(granted, 1),
        late=sum(one.late for one in done),
        throttled=sum(one.throttled for one in done),
        recovery_s=recovery_ns / 1e9,
    )


def windows_of(arrivals: Sequence[int]) -> list[int]:
    """How many arrivals each second holds that begins with one: no window holds more than these."""
    return [bisect_left(arrivals, one + _SECOND_NS) - place for place, one in enumerate(arrivals)]


def _recovery_ns(
    arrivals: Sequence[int], windows: Sequence[int], rate: int, outage: Outage | None
) -> int:
    """From the end of an outage to the first second that is used as it should be."""
    if outage is None:
        return 0
    for one, count in zip(arrivals, windows, strict=True):
        if one >= outage.until_ns and count >= int(rate * _USE_GOAL):
            return one - outage.until_ns
    return int(_NEVER_S * 1e9)


async def paused_nats(field: Field) -> Outage:
    from_ns = time.time_ns()
    field.nats.pause()
    await asyncio.sleep(_PAUSE_S)
    field.nats.resume()
    return Outage(from_ns, time.time_ns())


async def restarted_nats(field: Field) -> Outage:
    from_ns = time.time_ns()
    field.nats.kill()
    await asyncio.to_thread(field.nats.start)
    return Outage(from_ns, time.time_ns())


async def stopped_replica(field: Field) -> None:
    field.replicas[0].send_signal(signal.SIGSTOP)
    await asyncio.sleep(_STOPPED_S)
    field.replicas[0].send_signal(signal.SIGCONT)


SCENARIOS: Final[dict[str, tuple[Disturb | None, Sequence[float]]]] = {
    "plain": (None, (0.0,)),
    f"NATS paused for {_PAUSE_S:g} s": (paused_nats, (0.0,)),
    "NATS killed and started": (restarted_nats, (0.0,)),
    f"a replica stopped for {_STOPPED_S:g} s": (stopped_replica, (0.0,)),
    f"clocks {_SKEW_S:g} s apart": (None, (0.0, _SKEW_S)),
}
QUICK_WITHOUT: Final = {f"NATS paused for {_PAUSE_S:g} s"}


async def _answers_ms(
    server: NatsServer, end: Callable[[], None], begin: Callable[[], object]
) -> list[float]:
    """How long callers wait for their answer while the shared state is gone."""
    clock = SystemClock()
    client = await connected(server.url)
    part = LimiterPart(
        client,
        declared=DeclaredLimits("bench.*=1000/s"),
        clock=clock,
        ids=RandomIds(clock),
        random=system_random,
        metrics=Metrics(),
    )
    is_ready = asyncio.Event()
    running = asyncio.create_task(part.run(is_ready.set))
    await asyncio.wait_for(is_ready.wait(), _WITHIN_S)
    name = f"bench.{time.time_ns()}"
    await part.limiter.turn([name], max_wait_s=5)
    end()
    times_ms = []
    try:
        for _ in range(_CALLS_WHEN_GONE):
            began_s = time.perf_counter()
            try:
                await part.limiter.turn([name])
            except ServiceError:
                times_ms.append((time.perf_counter() - began_s) * 1e3)
            await asyncio.sleep(0.02)
    finally:
        await asyncio.to_thread(begin)
        # nats-py cannot close a connection that is about to come back.
        while not client.is_connected:  # noqa: ASYNC110  it has no event for that
            await asyncio.sleep(0.05)
        part.stop()
        await running
        await client.close()
    return times_ms


@asynccontextmanager
async def _process(job: Job) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.bench.limiter_replica",
        msgspec.json.encode(job).decode(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment(),
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), _WITHIN_S)
    if not line:
        raise RuntimeError("a process of the bench ended at its start")
    return line.decode().strip()


async def _ended(process: asyncio.subprocess.Process) -> Done:
    process.terminate()
    # nats-py tells of its troubles on standard output, before the line that counts.
    assert process.stdout is not None
    said = await asyncio.wait_for(process.stdout.read(), _WITHIN_S)
    return msgspec.json.decode(said.strip().rpartition(b"\n")[2], type=Done)


def _told(name: str, rate: int, one: Found) -> str:
    return (
        f"{name}, {rate}/s: {one.use:.1%} used, {one.above} of {one.arrivals} windows above"
        f" (most {one.most}), {one.operations_each:.2f} operations a request,"
        f" {one.late} late slots, full again after {one.recovery_s:.1f} s"
    )


def _section(found: dict[tuple[str, int], Found], answers: dict[str, list[float]]) -> Section:
    goals = [goal for (name, rate), one in found.items() for goal in _goals(name, rate, one)]
    goals += [
        Goal(
            f"longest answer while NATS is {how}",
            Bound.AT_MOST,
            _ANSWER_GOAL_MS,
            spread([percentile(times, 1.0)]),
            "ms",
        )
        for how, times in answers.items()
    ]
    columns = (
        "scenario",
        "limit/s",
        "used",
        "windows above",
        "most in a second",
        "operations a request",
        "late slots",
        "throttled",
        "full again, s",
    )
    rows = tuple(_row(name, rate, one) for (name, rate), one in found.items())
    return Section(
        name="limiter",
        title="Limiter: eight processes, one limit",
        goals=tuple(goals),
        tables=(Table("At the receiver", columns, rows),),
        notes=(_MEANING,),
        raw={
            f"{name}, {rate}/s": [
                {key: float(value) for key, value in msgspec.structs.asdict(one).items()}
            ]
            for (name, rate), one in found.items()
        },
    )


def _goals(name: str, rate: int, one: Found) -> list[Goal]:
    what = f"{name}, {rate}/s"
    goals = [
        Goal(f"{what}: part used", Bound.AT_LEAST, _USE_GOAL, spread([one.use])),
        Goal(
            f"{what}: share of windows above",
            Bound.AT_MOST,
            _ABOVE_GOAL[rate],
            spread([one.above_share]),
        ),
    ]
    if rate == 1000:
        each = spread([one.operations_each])
        goals.append(Goal(f"{what}: operations a request", Bound.AT_MOST, _OPERATIONS_GOAL, each))
    if one.recovery_s:
        after = spread([one.recovery_s])
        goals.append(Goal(f"{what}: full again", Bound.AT_MOST, _RECOVERY_GOAL_S, after, "s"))
    return goals


def _row(name: str, rate: int, one: Found) -> tuple[str, ...]:
    return (
        name,
        str(rate),
        f"{one.use:.1%}",
        f"{one.above} ({one.above_share:.2%})",
        str(one.most),
        f"{one.operations_each:.2f}",
        str(one.late),
        str(one.throttled),
        f"{one.recovery_s:.1f}" if one.recovery_s else "",
    )

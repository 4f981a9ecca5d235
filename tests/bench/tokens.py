"""What a token costs: GetToken beside a bare echo over the same mTLS, and the client's memory."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Final

import msgspec

from libs.bus import subjects
from libs.bus.jetstream_log import JetStreamLog
from libs.clock import SystemClock
from libs.errors import ServiceError
from libs.foundation import connected
from libs.ids import RandomIds
from libs.keys import KekRing, KvKeySource, LocalKek, load_kek
from libs.rpc.client import call, channel
from libs.settings import Address, Secret
from libs.vault import Vault
from services.auth.adapters.grants import GrantStore
from services.auth.domain.grants import Family, Grant
from tests.bench.bed import Bed, Child, free_ports
from tests.bench.figures import Bound, Goal, ratios, spread, spread_text
from tests.bench.options import ROOT, Options, environment
from tests.bench.report import Section, Table
from tests.bench.token_calls import CALLER, CONNECTION, Calls, Job
from tidewire.auth.v1 import record_pb2, token_service_pb2, token_service_pb2_grpc

Say = Callable[[str], None]

IN_FLIGHT: Final = 32
PER_S: Final = 50.0
OURS: Final = "GetToken"
BARE: Final = "bare echo"
_GOAL_RATIO: Final = 0.6
_GOAL_P99_MS: Final = 5.0
_GOAL_READ_US: Final = 5.0
_PACED_S: Final = 10.0
_PACED_S_QUICK: Final = 1.0
_WITHIN_S: Final = 20.0
_TOKEN: Final = "-".join(["bench", "token"] * 5)
_LIFE: Final = timedelta(hours=24)


@dataclass(slots=True)
class _Rig:
    """Both servers, with the job that is the same for them but for what is done."""

    jobs: Mapping[str, Job]

    async def run(self, name: str, what: str, seconds: float) -> Calls:
        job = msgspec.structs.replace(
            self.jobs[name], what=what, seconds=seconds, in_flight=IN_FLIGHT, per_s=PER_S
        )
        return await _called(job)


async def tokens(options: Options, say: Say) -> list[Section]:
    """Both servers up; in each round a flood and calls at leisure of both, and cached reads."""
    floods: dict[str, list[Calls]] = {OURS: [], BARE: []}
    paced: dict[str, list[Calls]] = {OURS: [], BARE: []}
    cached: list[Calls] = []
    paced_s = _PACED_S_QUICK if options.quick else _PACED_S
    async with AsyncExitStack() as stack:
        rig = await _rig(stack, options)
        for number in range(1, options.rounds + 1):
            for name, found in floods.items():
                found.append(await rig.run(name, "flood", options.seconds))
            ours, bare = floods[OURS][-1].per_s, floods[BARE][-1].per_s
            say(f"round {number}: {ours:,.0f} tokens/s, {bare:,.0f} echoes/s: {ours / bare:.2f}")
            for name, found in paced.items():
                found.append(await rig.run(name, "paced", paced_s))
            cached.append(await rig.run(OURS, "cached", options.seconds / 4))
            slow, read = paced[OURS][-1].p99_ms, cached[-1].p50_ms * 1e3
            say(f"round {number}: p99 {slow:.1f} ms, a cached read {read:.1f} us")
    return [_section(floods, paced, cached)]


async def _rig(stack: AsyncExitStack, options: Options) -> _Rig:
    bed = stack.enter_context(
        Bed(options.directory / "tokens", options.now, connections="connections: []\n")
    )
    auth = await bed.serve_auth()
    stack.push_async_callback(auth.stop)
    await _grant(bed)
    ours = Job(
        what="flood",
        address=auth.url,
        certificates=str(bed.certificates.directory),
        answer=await _first_answer(bed, auth),
        server_pid=auth.pid,
    )
    bare, pid = await _echo(stack, bed, ours)
    return _Rig({OURS: ours, BARE: msgspec.structs.replace(ours, address=bare, server_pid=pid)})


async def _grant(bed: Bed) -> None:
    """A grant, as a connected pixel has one; the service learns of it from the bucket."""
    client = await connected(bed.nats.url)
    clock = SystemClock()
    try:
        ring = KekRing(LocalKek(load_kek(bed.kek_file)))
        vault = Vault(await KvKeySource.open(client.jetstream(), ring))
        log = JetStreamLog(client, subjects.bucket_stream(subjects.TOKENS), RandomIds(clock))
        store = GrantStore(log, vault)
        record = record_pb2.StoredGrant(
            connection_id=CONNECTION, family=Family.TIKTOK_BUSINESS.value, token_revision=1
        )
        record.granted_at.FromNanoseconds(clock.now_ns())
        expires_at = record.granted_at.ToDatetime(tzinfo=UTC) + _LIFE
        grant = Grant(
            access_token=Secret(_TOKEN), expires_at=expires_at, refresh_token=Secret("bench")
        )
        await store.seal(CONNECTION, grant, record)
        await store.write(CONNECTION, record, expected=0)
    finally:
        await client.close()


async def _first_answer(bed: Bed, auth: Child) -> bytes:
    """What every further call is answered, once the service has learned of the grant."""
    host, _, port = auth.url.rpartition(":")
    opened = channel(Address(host, int(port)), bed.certificates.identity(CALLER))
    stub = token_service_pb2_grpc.TokenServiceStub(opened)
    request = token_service_pb2.GetTokenRequest(connection_id=CONNECTION)
    try:
        async with asyncio.timeout(_WITHIN_S):
            while True:
                try:
                    answer = await call(stub.GetToken, request, timeout_s=_WITHIN_S)
                except ServiceError:
                    await asyncio.sleep(0.1)
                else:
                    return answer.SerializeToString()
    finally:
        await opened.close()


async def _echo(stack: AsyncExitStack, bed: Bed, job: Job) -> tuple[str, int]:
    (port,) = free_ports(1)
    echo = msgspec.structs.replace(job, what="echo", address=f"127.0.0.1:{port}")
    process = await _started(echo)
    stack.push_async_callback(_ended, process)
    assert process.stdout is not None
    if await process.stdout.readline() != b"ready\n":
        raise RuntimeError("the bare echo did not come up")
    return echo.address, process.pid


async def _called(job: Job) -> Calls:
    process = await _started(job)
    try:
        out, _ = await process.communicate()
    except BaseException:
        await _ended(process)
        raise
    if process.returncode:
        raise RuntimeError("a caller of the bench ended with an error; it stands above")
    return msgspec.json.decode(out, type=Calls)


async def _started(job: Job) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.bench.token_calls",
        msgspec.json.encode(job).decode(),
        env=environment(),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )


async def _ended(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    await process.wait()


def _section(
    floods: Mapping[str, Sequence[Calls]],
    paced: Mapping[str, Sequence[Calls]],
    cached: Sequence[Calls],
) -> Section:
    ours, bare = floods[OURS], floods[BARE]
    processor = ratios([one.server_us for one in bare], [one.server_us for one in ours])
    kept = ratios([one.per_s for one in ours], [one.per_s for one in bare])
    failed = sum(one.failed for found in (*floods.values(), *paced.values()) for one in found)
    reads_us = spread([one.p50_ms * 1e3 for one in cached])
    return Section(
        name="tokens",
        title="Tokens: GetToken over mTLS",
        goals=(
            Goal("GetToken over a bare echo, calls/s", Bound.AT_LEAST, _GOAL_RATIO, kept),
            Goal(
                f"p99 at {PER_S:g} calls/s",
                Bound.AT_MOST,
                _GOAL_P99_MS,
                spread([one.p99_ms for one in paced[OURS]]),
                "ms",
            ),
            Goal("a read of the client's cache", Bound.AT_MOST, _GOAL_READ_US, reads_us, "us"),
            Goal("calls that failed", Bound.AT_MOST, 0, spread([float(failed)])),
        ),
        tables=(_flood_table(floods), _paced_table(paced)),
        notes=(
            f"Processor time of the servers, an echo's over GetToken's: {spread_text(processor)}.",
            "The caller's ceiling: with a core of its own, and a server that costs nothing.",
            "GetToken is `tidewire serve auth` as shipped: guard, metrics, audit in NATS.",
        ),
        raw={
            **{f"{name}, flood": _flat(found) for name, found in floods.items()},
            **{f"{name}, paced": _flat(found) for name, found in paced.items()},
            "cached": _flat(cached),
        },
    )


def _flood_table(floods: Mapping[str, Sequence[Calls]]) -> Table:
    rows = tuple(
        (
            name,
            spread_text(spread([one.per_s for one in found])),
            spread_text(spread([one.p50_ms for one in found])),
            spread_text(spread([one.p99_ms for one in found])),
            spread_text(spread([one.server_us for one in found])),
            spread_text(spread([one.caller_us for one in found])),
            spread_text(spread([1e6 / one.caller_us for one in found])),
        )
        for name, found in floods.items()
    )
    columns = ("", "calls/s", "p50 ms", "p99 ms", "server us", "caller us", "caller's ceiling")
    return Table(f"{IN_FLIGHT} in flight; processor time of one call", columns, rows)


def _paced_table(paced: Mapping[str, Sequence[Calls]]) -> Table:
    rows = tuple(
        (
            name,
            f"{sum(one.count for one in found):,}",
            spread_text(spread([one.p50_ms for one in found])),
            spread_text(spread([one.p99_ms for one in found])),
        )
        for name, found in paced.items()
    )
    return Table(f"{PER_S:g} calls a second, from when each was due", _PACED_COLUMNS, rows)


_PACED_COLUMNS: Final = ("", "calls", "p50 ms", "p99 ms")


def _flat(found: Sequence[Calls]) -> list[dict[str, float]]:
    return [msgspec.structs.asdict(one) for one in found]

"""Webhooks taken a second, and how soon: ours beside the bare handlers, in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

import msgspec

from tests.bench.contenders import (
    BARE_ALWAYS,
    BARE_DEFAULT,
    NULL,
    OURS_ALWAYS,
    OURS_DEFAULT,
    RABBIT,
    Contender,
    named,
    single_node,
    three_nodes,
)
from tests.bench.figures import Bound, Goal, number, ratios, spread, spread_text
from tests.bench.generator import run_job
from tests.bench.load import Burst, Job
from tests.bench.machine import rss_mib
from tests.bench.options import Options
from tests.bench.report import Section, Table

Say = Callable[[str], None]

_SIZES: Final = (4096, 8192)
_LONE: Final = 0
"""In place of a body size: one connection, 4 KB, a request when the last is answered."""

_FIRST_BURST: Final = 400
_BURST_MAX: Final = 60_000
_LONE_REQUESTS: Final = 500
_LONE_REQUESTS_QUICK: Final = 60

_PAIRS: Final = (
    (OURS_ALWAYS, BARE_DEFAULT),
    (OURS_ALWAYS, BARE_ALWAYS),
    (OURS_DEFAULT, BARE_DEFAULT),
    (OURS_ALWAYS, RABBIT),
)
_COLUMNS: Final = ("handler", "req/s", "p50 ms", "p99 ms", "not 200", "server", "nats", "generator")


@dataclass(slots=True)
class _Bursts:
    """Every burst of a run, by contender and body size, in the order of the rounds."""

    found: dict[tuple[str, int], list[Burst]] = field(default_factory=dict)

    def add(self, name: str, size: int, burst: Burst) -> None:
        self.found.setdefault((name, size), []).append(burst)

    def rates(self, name: str, size: int) -> list[float]:
        return [burst.per_s for burst in self.found[name, size]]

    def p50s_ms(self, name: str, size: int) -> list[float]:
        return [burst.p50_ms for burst in self.found[name, size]]

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(name for name, _ in self.found))

    def raw(self) -> dict[str, list[dict[str, float]]]:
        return {
            f"{name}, {_load_name(size)}": [flat_of(burst) for burst in bursts]
            for (name, size), bursts in self.found.items()
        }


async def ingest(options: Options, say: Say) -> list[Section]:
    """One node in both fsync modes, then three nodes."""
    async with AsyncExitStack() as stack:
        contenders, notes = await single_node(stack, options)
        before = _memory(named(contenders, OURS_ALWAYS))
        bursts = await _measured(contenders, options, say)
        memory = {"before": before, "after": _memory(named(contenders, OURS_ALWAYS))}
    async with AsyncExitStack() as stack:
        replicated = await _measured(await three_nodes(stack, options), options, say)
    one = Section(
        name="ingest",
        title="Ingest: one node",
        goals=_goals(bursts),
        tables=(_comparison(bursts, _PAIRS), *_tables(bursts), _memory_table(memory)),
        notes=(*notes, *_ceiling_notes(bursts)),
        raw=bursts.raw(),
    )
    three = Section(
        name="ingest_r3",
        title="Ingest: three nodes on this machine, three replicas, always",
        tables=(_comparison(replicated, [(OURS_ALWAYS, BARE_ALWAYS)]), *_tables(replicated)),
        notes=("Three nodes share the cores and the disk of one machine: only ratios travel.",),
        raw=replicated.raw(),
    )
    return [one, three]


async def _measured(contenders: Sequence[Contender], options: Options, say: Say) -> _Bursts:
    bursts = _Bursts()
    counts = await _calibrated(contenders, options)
    for round_number in range(1, options.rounds + 1):
        for contender in contenders:
            for size in _sizes(options):
                job = _job(contender, options, size, counts[contender.name, size], round_number)
                burst = await run_job(job)
                bursts.add(contender.name, size, burst)
                counts[contender.name, size] = count_for(burst.per_s, options.seconds)
                await contender.empty()
            if contender.name != NULL:
                bursts.add(contender.name, _LONE, await _lone(contender, options, round_number))
            rate = bursts.rates(contender.name, _SIZES[0])[-1]
            say(f"round {round_number}: {contender.name}: {number(rate)} req/s at 4 KB")
    return bursts


async def _calibrated(
    contenders: Sequence[Contender], options: Options
) -> dict[tuple[str, int], int]:
    """How many requests a first burst of the wished length takes; warms everything up too."""
    counts = {}
    for contender in contenders:
        for size in _sizes(options):
            burst = await run_job(_job(contender, options, size, _FIRST_BURST, 0))
            counts[contender.name, size] = count_for(burst.per_s, options.seconds)
        await contender.empty()
    return counts


async def _lone(contender: Contender, options: Options, round_number: int) -> Burst:
    count = _LONE_REQUESTS_QUICK if options.quick else _LONE_REQUESTS
    job = _job(contender, options, _SIZES[0], count, round_number)
    burst = await run_job(msgspec.structs.replace(job, connections=1))
    await contender.empty()
    return burst


def _job(contender: Contender, options: Options, size: int, count: int, number_: int) -> Job:
    return Job(
        url=contender.child.url,
        mix="same",
        count=count,
        now_s=options.now.timestamp(),
        body_bytes=size,
        round_number=number_,
        watched=contender.processes,
    )


def _sizes(options: Options) -> tuple[int, ...]:
    return _SIZES[:1] if options.quick else _SIZES


def _measured_loads(bursts: _Bursts) -> list[int]:
    measured = {size for _, size in bursts.found}
    return [size for size in (*_SIZES, _LONE) if size in measured]


def count_for(per_s: float, seconds: float) -> int:
    """How many requests at that rate take so long, within reason."""
    return min(max(int(per_s * seconds), _FIRST_BURST), _BURST_MAX)


def _goals(bursts: _Bursts) -> tuple[Goal, ...]:
    size = _SIZES[0]
    ours = bursts.rates(OURS_ALWAYS, size)
    lone = {name: bursts.p50s_ms(name, _LONE) for name in bursts.names if name != NULL}
    return (
        Goal(
            "ours at `always` over bare at default fsync, req/s, 4 KB",
            Bound.AT_LEAST,
            1.05,
            ratios(ours, bursts.rates(BARE_DEFAULT, size)),
        ),
        Goal(
            "ours at `always` over bare at `always`, req/s, 4 KB",
            Bound.AT_LEAST,
            3.0,
            ratios(ours, bursts.rates(BARE_ALWAYS, size)),
        ),
        Goal(
            "a lone request's p50, ours over bare, both at `always`",
            Bound.AT_MOST,
            1.2,
            ratios(lone[OURS_ALWAYS], lone[BARE_ALWAYS]),
        ),
        Goal(
            "a lone request's p50, ours over bare, both at default fsync",
            Bound.AT_MOST,
            1.2,
            ratios(lone[OURS_DEFAULT], lone[BARE_DEFAULT]),
        ),
    )


def _comparison(bursts: _Bursts, pairs: Sequence[tuple[str, str]]) -> Table:
    """The first of each pair over the second, round by round."""
    rows = tuple(
        (
            f"{one} / {other}; {_load_name(size)}",
            spread_text(ratios(bursts.rates(one, size), bursts.rates(other, size))),
            spread_text(ratios(bursts.p50s_ms(one, size), bursts.p50s_ms(other, size))),
        )
        for one, other in pairs
        if other in bursts.names
        for size in _measured_loads(bursts)
    )
    return Table("Ratios", ("ours / other", "req/s", "p50"), rows)


def _tables(bursts: _Bursts) -> tuple[Table, ...]:
    return tuple(_table(bursts, size) for size in _measured_loads(bursts))


def _table(bursts: _Bursts, size: int) -> Table:
    rows = tuple(
        _row(name, bursts.found[name, size])
        for name in bursts.names
        if (name, size) in bursts.found
    )
    return Table(f"{_load_name(size)}; processes in cores used", _COLUMNS, rows)


def _row(name: str, bursts: Sequence[Burst]) -> tuple[str, ...]:
    unanswered = sum(burst.refused + burst.broken for burst in bursts)
    return (
        name,
        spread_text(spread([burst.per_s for burst in bursts])),
        spread_text(spread([burst.p50_ms for burst in bursts])),
        spread_text(spread([burst.p99_ms for burst in bursts])),
        f"{unanswered:,}",
        *(_cores(bursts, process) for process in ("server", "nats", "generator")),
    )


def _cores(bursts: Sequence[Burst], process: str) -> str:
    shares = [burst.cores[process] for burst in bursts if process in burst.cores]
    return f"{spread(shares).median:.2f}" if shares else "-"


def _ceiling_notes(bursts: _Bursts) -> tuple[str, ...]:
    """How near the fastest that matters comes to what the generator can send at all."""
    size = _SIZES[0]
    reached = ratios(bursts.rates(OURS_ALWAYS, size), bursts.rates(NULL, size)).median
    ceiling = f"At 4 KB ours reached {reached:.0%} of what the generator gets out of a null server."
    return (
        ceiling,
        "Near 100 % the generator would be what is measured.",
        "Server, NATS and generator share the cores: a faster handler leaves the others less.",
    )


def _memory(ours: Contender) -> dict[str, float]:
    return {name: rss_mib(pids) for name, pids in ours.processes.items()}


def _memory_table(memory: Mapping[str, Mapping[str, float]]) -> Table:
    rows = tuple(
        (name, f"{memory['before'][name]:.0f}", f"{memory['after'][name]:.0f}")
        for name in memory["before"]
    )
    return Table(f"Resident memory in MiB, {OURS_ALWAYS}", ("process", "before", "after"), rows)


def _load_name(size: int) -> str:
    if size == _LONE:
        return "a lone request (1 connection, 4 KB)"
    return f"64 connections, {size // 1024} KB bodies"


def flat_of(burst: Burst) -> dict[str, float]:
    """A burst for the JSON."""
    flat = msgspec.structs.asdict(burst)
    cores: dict[str, float] = flat.pop("cores")
    return {**flat, "per_s": burst.per_s, **{f"{name}_cores": v for name, v in cores.items()}}

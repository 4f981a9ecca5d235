"""Whether webhooks cost more where secrets and keys come from the token service, not from files."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final

from tests.bench.bed import Bed
from tests.bench.figures import Bound, Goal, ratios, spread, spread_text
from tests.bench.generator import run_job
from tests.bench.ingest import count_for, flat_of
from tests.bench.load import Burst, Job
from tests.bench.options import Options
from tests.bench.report import Section, Table

Say = Callable[[str], None]

FILES: Final = "secrets from the file, keys by the KEK"
SERVICE: Final = "both from the token service"
_BODY_BYTES: Final = 4096
_FIRST_BURST: Final = 400
_GOAL: Final = 0.95
_STREAM: Final = "WEBHOOKS"


async def sources(options: Options, say: Say) -> list[Section]:
    """Two webhook endpoints on one NATS, in turn; the token service runs beside both."""
    found: dict[str, list[Burst]] = {FILES: [], SERVICE: []}
    async with AsyncExitStack() as stack:
        bed = stack.enter_context(Bed(options.directory / "sources", options.now))
        auth = await bed.serve_auth()
        stack.push_async_callback(auth.stop)
        children = {FILES: await bed.serve("http")}
        stack.push_async_callback(children[FILES].stop)
        children[SERVICE] = await bed.serve("http", auth=auth)
        stack.push_async_callback(children[SERVICE].stop)
        counts = dict.fromkeys(children, _FIRST_BURST)
        for number in range(options.rounds + 1):
            for name, child in children.items():
                job = Job(
                    url=child.url,
                    mix="same",
                    count=counts[name],
                    now_s=options.now.timestamp(),
                    body_bytes=_BODY_BYTES,
                    round_number=number,
                    watched={"server": [child.pid], "nats": bed.nats.pids, "auth": [auth.pid]},
                )
                burst = await run_job(job)
                counts[name] = count_for(burst.per_s, options.seconds)
                if number:  # the first warms up, and says how many a burst takes
                    found[name].append(burst)
                    say(f"round {number}: {name}: {burst.per_s:,.0f} webhooks/s")
                await bed.purge(_STREAM)
    return [_section(found)]


def _section(found: dict[str, list[Burst]]) -> Section:
    kept = ratios([one.per_s for one in found[SERVICE]], [one.per_s for one in found[FILES]])
    rows = tuple(
        (
            name,
            spread_text(spread([one.per_s for one in bursts])),
            spread_text(spread([one.p50_ms for one in bursts])),
            spread_text(spread([one.p99_ms for one in bursts])),
            f"{sum(one.refused + one.broken for one in bursts):,}",
            spread_text(spread([one.cores["auth"] for one in bursts])),
        )
        for name, bursts in found.items()
    )
    columns = ("", "req/s", "p50 ms", "p99 ms", "not 200", "token service, cores")
    return Section(
        name="sources",
        title="Webhooks by the token service, and by files",
        goals=(Goal("by the token service over by files, req/s", Bound.AT_LEAST, _GOAL, kept),),
        tables=(Table("64 connections, 4 KB bodies", columns, rows),),
        raw={name: [flat_of(one) for one in bursts] for name, bursts in found.items()},
    )

"""Real processes under one limit, with something amiss, judged where their calls arrive."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.bus import streams
from libs.foundation import connected
from tests.bench.limiter import Disturb, restarted_nats, run, stopped_replica
from tests.fakes.nats_server import NatsServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

RATE = 50
SECONDS = 10.0
PROCESSES = 4


@pytest.mark.parametrize(
    ("disturb", "skews"),
    [(restarted_nats, (0.0,)), (stopped_replica, (0.0,)), (None, (0.0, 2.0))],
    ids=["nats-restarted", "replica-stopped", "clocks-apart"],
)
async def test_no_second_holds_more_than_the_limit_and_afterwards_it_is_used_again(
    nats_server: NatsServer, tmp_path: Path, disturb: Disturb | None, skews: tuple[float, ...]
) -> None:
    client = await connected(nats_server.url)
    await streams.apply(client, scale_mib=16)
    await client.close()

    found = await run(nats_server, tmp_path, RATE, SECONDS, disturb, skews, processes=PROCESSES)

    # A busy machine uses less, for its slots are late; never more.
    assert (found.above, found.most <= RATE) == (0, True)
    assert found.use > 0.5
    assert found.recovery_s < 30

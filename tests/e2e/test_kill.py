"""SIGKILL and SIGSTOP in the middle of a storm: nothing is lost and nothing is sent falsely.

The judge is the simulators' ledger beside the oracle of the storm, never the suite's own word.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.e2e.rig import Rig, Sending, raised

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300),
]

STORM_SIZE = 1200
STOPPED_STORM_SIZE = 600
STOPPED_S = 6.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with raised(tmp_path_factory.mktemp("kill")) as up:
        yield up


@pytest.mark.parametrize("name", ["nats", "ingest-http", "ingest-normalizer", "events"])
async def test_a_kill_in_the_middle_of_a_storm_loses_nothing(rig: Rig, name: str) -> None:
    async def kill(sending: Sending) -> None:
        async with rig.slow_tiktok():
            await sending.reaches(0.3)
            await rig.has_work_for(name)
            await rig.stack.kill(name)
            assert not sending.over
        await rig.stack.restart(name)

    await rig.storm(STORM_SIZE, kill)

    assert await rig.failed_checks() == []


async def test_killing_everything_in_turn_loses_nothing(rig: Rig) -> None:
    async def kill_all(sending: Sending) -> None:
        # Nobody waits for anybody: the next one dies while the one before is still starting.
        victims = ["ingest-normalizer", "events", "nats", "ingest-http"]
        async with rig.slow_tiktok():
            for place, name in enumerate(victims, start=1):
                await sending.reaches(0.2 * place)
                await rig.stack.kill(name)
                assert not sending.over
                await (rig.stack.restart(name) if name == "nats" else rig.stack.start(name))
        for name in victims:
            if name != "nats":
                await rig.stack.wait_ready(name)

    await rig.storm(STORM_SIZE, kill_all)

    assert await rig.failed_checks() == []


@pytest.mark.parametrize("name", ["ingest-normalizer", "events"])
async def test_a_process_that_is_stopped_for_a_while_goes_on_where_it_was(
    rig: Rig, name: str
) -> None:
    process = rig.stack.processes[name]

    async def stop_for_a_while(sending: Sending) -> None:
        await sending.reaches(0.4)
        process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(STOPPED_S)
        finally:
            process.send_signal(signal.SIGCONT)

    await rig.storm(STOPPED_STORM_SIZE, stop_for_a_while)

    assert rig.stack.processes[name] is process
    assert process.returncode is None
    assert await rig.failed_checks() == []

"""A 200 is on the disk: seen in the server's system calls, which `kill -9` alone cannot show."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from tests.e2e.system_calls import Acknowledged, acknowledged, calls_of
from tests.fakes.nats_server import NatsServer
from tests.integration.ingest.harness import SHOP, Door, door_of, signature, suite_at

pytestmark = pytest.mark.e2e

_ATTACHED_WITHIN_S: Final = 30.0
_DELIVERIES: Final = 60
_SHIPPED: Final = Path(__file__).resolve().parents[2] / "deploy" / "nats" / "nats.conf"
_TRACED: Final = "fsync,fdatasync,write,pwrite64,writev,sendto"


@asynccontextmanager
async def traced(pid: int, trace: Path) -> AsyncIterator[None]:
    """Writes a process's system calls to `trace` for as long as it lasts."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("no strace on this machine: what reaches the disk cannot be seen")
    process = await asyncio.create_subprocess_exec(
        strace, "-f", "-tt", "-yy", "-s", "200", "-e", f"trace={_TRACED}", "-o", str(trace),
        "-p", str(pid),
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr
    said = await asyncio.wait_for(process.stderr.readline(), _ATTACHED_WITHIN_S)
    if b"attached" not in said:
        await process.wait()
        pytest.skip(f"strace may not attach here: {said.decode().strip()}")
    try:
        yield
    finally:
        process.terminate()
        await process.communicate()


async def post(door: Door, number: int) -> int:
    body = b'{"id": %d}' % number
    headers = {
        "X-Shopify-Topic": "orders/paid",
        "X-Shopify-Shop-Domain": f"{SHOP}.myshopify.com",
        "X-Shopify-Webhook-Id": f"w{number}",
        "X-Shopify-Hmac-Sha256": signature(body),
    }
    async with (
        aiohttp.ClientSession() as session,
        session.post(door.url, data=body, headers=headers) as answer,
    ):
        return answer.status


async def segments_under_trace(sync_interval: str, directory: Path) -> list[Acknowledged]:
    """The segments that came of some webhooks, as the server's system calls tell of them."""
    trace = directory / "trace.txt"
    with NatsServer(sync_interval=sync_interval, directory=directory / "nats") as server:
        async with suite_at(server, directory) as suite, door_of(suite) as door:
            async with traced(server.pid, trace):
                for start in range(0, _DELIVERIES, 6):
                    statuses = await asyncio.gather(
                        *(post(door, number) for number in range(start, start + 6))
                    )
                    assert set(statuses) == {200}
            stored = [one.sequence for one in await suite.stored("WEBHOOKS", "webhook.*")]
    found = acknowledged(calls_of(trace.read_text().splitlines()), "WEBHOOKS")
    assert [one.sequence for one in found] == stored, "the trace tells of every segment"
    return found


async def test_every_segment_is_synced_to_the_disk_before_it_is_acknowledged(
    tmp_path: Path,
) -> None:
    shipped = re.search(r"^\s*sync_interval: (\w+)", _SHIPPED.read_text(), re.MULTILINE)
    assert shipped

    segments = await segments_under_trace(shipped[1], tmp_path)

    assert len(segments) >= _DELIVERIES / 6
    assert [one.sequence for one in segments if not one.synced] == []


async def test_under_a_weaker_setting_the_same_look_finds_segments_without_a_sync(
    tmp_path: Path,
) -> None:
    """What shows that the test above can fail."""
    segments = await segments_under_trace("2m", tmp_path)

    assert len(segments) >= _DELIVERIES / 6
    assert [one.sequence for one in segments if one.synced] == []


_WRITE = r'7 01:00:00.1 pwrite64(9</s/streams/WEBHOOKS/msgs/1.blk>, "\375\7\0\0\1\0\0\0\0\0\0\0"'
_ACK = (
    "8 01:00:00.2 writev(5<TCP:[127.0.0.1:1->127.0.0.1:2]>, [{iov_base="
    r'"MSG _INBOX.x 1 2\r\n{\"stream\":\"WEBHOOKS\", \"seq\":1}", iov_len=9}], 1) = 9'
)
_SYNC = "7 01:00:00.3 fsync(9</s/streams/WEBHOOKS/msgs/1.blk>"


@pytest.mark.parametrize(
    ("lines", "synced"),
    [
        ([_WRITE + ", 12, 0) = 12", _SYNC + ") = 0", _ACK], True),
        ([_WRITE + ", 12, 0) = 12", _SYNC + " <unfinished ...>", _ACK,
          "7 01:00:00.4 <... fsync resumed>) = 0"], False),
        ([_WRITE + " <unfinished ...>", _SYNC.replace("7 ", "9 ", 1) + ") = 0",
          "7 01:00:00.4 <... pwrite64 resumed>, 12, 0) = 12", _ACK], False),
        ([_WRITE + ", 12, 0) = 12", _SYNC + ") = -1 EIO (Input/output error)", _ACK], False),
        ([_WRITE + ", 12, 0) = 12", _SYNC.replace("1.blk", "2.blk") + ") = 0", _ACK], False),
        ([_SYNC + ") = 0", _WRITE + ", 12, 0) = 12", _ACK], False),
    ],
    ids=["whole", "still running", "too early", "failed", "another file", "before the write"],
)  # fmt: skip
def test_only_a_whole_sync_between_write_and_answer_counts(lines: list[str], synced: bool) -> None:  # noqa: FBT001
    assert acknowledged(calls_of(lines), "WEBHOOKS") == [Acknowledged(1, synced)]

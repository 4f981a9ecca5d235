"""What becomes of a message that arrives just as its puller ends, on a real server."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import nats
import pytest
from nats.aio.client import Client

from libs.bus.api import js_api
from libs.bus.publisher import publish
from libs.bus.pull import ConsumerSettings, Puller, ensure_consumer
from tests.fakes.nats_server import NatsServer
from tests.fakes.until import until
from tests.faults.wire import Way, Wire

WITHIN_S: Final = 20.0
ACK_WAIT_S: Final = 3 * WITHIN_S
"""What is not given back comes too late."""

UNSUBSCRIBES: Final = b"UNSUB "


@dataclass
class Ends:
    """A puller's own connection, whose wire may stall, and that of everybody else."""

    near: Client
    far: Client
    wire: Wire
    settings: ConsumerSettings

    async def put(self, data: bytes) -> None:
        """Stores a message; returns when the puller's connection has heard of it."""
        heard = self.near.stats["in_msgs"]
        subject = f"{self.settings.stream}.a"
        await publish(self.far, subject, data, message_id=uuid.uuid4().hex)
        await until(lambda: self.near.stats["in_msgs"] > heard, within_s=WITHIN_S)

    async def asked(self) -> None:
        """Returns when a pull stands at the server."""
        name = f"CONSUMER.INFO.{self.settings.stream}.{self.settings.durable}"
        async with asyncio.timeout(WITHIN_S):
            while True:
                if (await js_api(self.far, name))["num_waiting"]:
                    return
                await asyncio.sleep(0.01)

    async def next_ones(self, count: int) -> list[bytes]:
        """What the next puller is given, which has another connection."""
        async with (
            Puller(self.far, self.settings, capacity=10) as puller,
            asyncio.timeout(WITHIN_S),
        ):
            taken = [await puller.take() for _ in range(count)]
            for message in taken:
                await message.ack()
        return [message.data for message in taken]


@pytest.fixture
async def ends(nats_server: NatsServer) -> AsyncIterator[Ends]:
    wire = Wire(lambda: int(nats_server.url.rpartition(":")[2]))
    await wire.open()
    near, far = await nats.connect(f"nats://{wire.address}"), await nats.connect(nats_server.url)
    name = f"t{uuid.uuid4().hex[:8]}"
    config: dict[str, Any] = {"name": name, "subjects": [f"{name}.>"], "storage": "file"}
    await js_api(far, f"STREAM.CREATE.{name}", config)
    settings = ConsumerSettings(stream=name, durable="worker", ack_wait_s=ACK_WAIT_S)
    await ensure_consumer(far, settings)
    yield Ends(near, far, wire, settings)
    await wire.mend()
    await js_api(far, f"STREAM.DELETE.{name}")
    await near.close()
    await far.close()
    await wire.shut()


async def test_what_comes_before_the_server_knows_that_a_puller_ends_is_given_back_at_once(
    ends: Ends,
) -> None:
    puller = Puller(ends.near, ends.settings, capacity=10)
    await puller.__aenter__()
    await ends.asked()
    await ends.put(b"1")
    knows = ends.wire.stall_at(Way.OUT, UNSUBSCRIBES)
    ending = asyncio.create_task(puller.__aexit__())
    await asyncio.wait_for(knows.wait(), WITHIN_S)
    await ends.put(b"2")
    await ends.wire.mend()
    await asyncio.wait_for(ending, WITHIN_S)

    # The server keeps no order of what is given back while the old pull is still in its list.
    assert set(await ends.next_ones(2)) == {b"1", b"2"}


async def test_what_comes_when_a_puller_has_given_up_waiting_is_given_back_too(ends: Ends) -> None:
    async with Puller(ends.near, ends.settings, capacity=10):
        await ends.asked()
        ends.wire.stall_at(Way.OUT, UNSUBSCRIBES)
    await ends.put(b"late")
    await ends.wire.mend()

    assert await ends.next_ones(1) == [b"late"]

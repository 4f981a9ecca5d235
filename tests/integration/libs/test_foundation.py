"""What a start makes of a NATS that goes away, and of one that is not fit."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client

from libs.clock import SystemClock
from libs.errors import Kind, ServiceError, permanent
from libs.foundation import _settled, connected
from tests.fakes.nats_server import NatsServer

CLOCK = SystemClock()


@pytest.fixture
async def client(nats_server: NatsServer) -> AsyncIterator[Client]:
    found = await connected(nats_server.url)
    yield found
    await found.close()


class Asked:
    """Fails at first, with `meanwhile` happening to NATS; works from then on."""

    def __init__(self, server: NatsServer | None) -> None:
        self.times = 0
        self._server = server

    async def act(self) -> str:
        self.times += 1
        if self.times > 1:
            return "fit"
        if self._server is not None:
            self._server.kill()
            self._server.start()
        raise permanent("nats_not_fit", "nobody answers")


async def test_what_fails_while_nats_goes_away_is_done_again(
    client: Client, nats_server: NatsServer
) -> None:
    asked = Asked(nats_server)

    assert await _settled(client, CLOCK, asked.act) == "fit"
    assert asked.times == 2


async def test_what_fails_while_nats_stays_is_told_at_once(client: Client) -> None:
    asked = Asked(None)

    with pytest.raises(ServiceError) as raised:
        await _settled(client, CLOCK, asked.act)

    assert (raised.value.kind, raised.value.code) == (Kind.PERMANENT, "nats_not_fit")
    assert asked.times == 1


async def test_what_a_busy_cluster_does_not_answer_in_time_is_asked_again(client: Client) -> None:
    answers = [ServiceError(Kind.RETRYABLE, "nats_unavailable")] * 2

    async def act() -> str:
        if answers:
            raise answers.pop()
        return "fit"

    assert await _settled(client, CLOCK, act) == "fit"

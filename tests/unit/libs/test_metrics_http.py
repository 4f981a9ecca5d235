from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest

from libs import metric_names
from libs.errors import ServiceError
from libs.ops_http import OpsServer, host_and_port
from libs.telemetry import Metrics

Fetch = Callable[[str], "aiohttp.client._RequestContextManager"]


class Parts:
    """A process whose parts become ready by hand."""

    def __init__(self) -> None:
        self.ready = False

    def __call__(self) -> tuple[bool, dict[str, str]]:
        return self.ready, {"nats": "connected" if self.ready else "connecting"}


@pytest.fixture
def parts() -> Parts:
    return Parts()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def get(metrics: Metrics, parts: Parts) -> AsyncIterator[Fetch]:
    server = OpsServer("127.0.0.1:0", metrics, parts)
    await server.start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
        yield session.get
    await server.stop()


async def test_a_process_is_alive_before_it_is_ready(get: Fetch) -> None:
    async with get("/livez") as alive, get("/readyz") as ready:
        assert alive.status == 200
        assert ready.status == 503
        assert await ready.json() == {"ready": False, "parts": {"nats": "connecting"}}


async def test_readiness_is_asked_anew_each_time(get: Fetch, parts: Parts) -> None:
    parts.ready = True
    async with get("/readyz") as ready:
        assert (ready.status, await ready.json()) == (
            200,
            {"ready": True, "parts": {"nats": "connected"}},
        )


async def test_metrics_are_the_exposition_of_this_moment(get: Fetch, metrics: Metrics) -> None:
    shed = metrics.counter(metric_names.INGEST_SHED, source="shopify", reason="full")
    shed.add(2)

    async with get("/metrics") as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        text = await answer.text()

    assert 'tidewire_ingest_shed_total{reason="full",source="shopify"} 2\n' in text


async def test_a_stopped_server_no_longer_listens_and_stops_twice(metrics: Metrics) -> None:
    server = OpsServer("127.0.0.1:0", metrics, Parts())
    await server.start()
    port = server.port

    await server.stop()
    await server.stop()

    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(f"http://127.0.0.1:{port}/livez")


@pytest.mark.parametrize(
    ("address", "parsed"),
    [("127.0.0.1:9101", ("127.0.0.1", 9101)), ("[::1]:80", ("::1", 80)), ("pod:0", ("pod", 0))],
)
def test_an_address_is_a_host_and_a_port(address: str, parsed: tuple[str, int]) -> None:
    assert host_and_port(address) == parsed


@pytest.mark.parametrize(
    "address", ["", "9101", ":9101", "host", "host:http", "host:99999", "[::1"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ServiceError, match="address_unreadable"):
        OpsServer(address, Metrics(), Parts())

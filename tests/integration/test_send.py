"""The sender, the blaster and `tidewire send` against real aiohttp servers on loopback."""

from __future__ import annotations

import asyncio
import io
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread

import pytest
import uvloop
from aiohttp import web
from rich.console import Console

from cli.send import delivery_of, send_command
from libs.clock import FakeClock
from sandbox.shopify.blaster import blast
from sandbox.shopify.mischief import OVERSIZED_BYTES
from sandbox.shopify.model import Delivery
from sandbox.shopify.sender import Manners, Progress, send_all
from sandbox.shopify.signing import webhook_signature
from sandbox.shopify.storm import default_shops, make_storm

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SHOP = "aurora-goods.myshopify.com"
SECRET = "a-secret"


class Receiver:
    """A receiver that records what it is sent and answers what its script says, then 200.

    The script is by webhook id; a script's None hangs until the receiver is closed.
    """

    def __init__(self, scripts: dict[str, list[int | None]] | None = None) -> None:
        self.requests: list[tuple[web.Request, bytes]] = []
        self.tries: Counter[str] = Counter()
        self.peers: set[object] = set()
        self.url = ""
        self._scripts = defaultdict(list, scripts or {})

    async def receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        webhook_id = _webhook_id(request)
        self.requests.append((request, body))
        self.tries[webhook_id] += 1
        assert request.transport
        self.peers.add(request.transport.get_extra_info("peername"))
        script = self._scripts[webhook_id]
        status = script.pop(0) if script else 200
        if status is None:
            await asyncio.Event().wait()
            raise AssertionError("unreachable")
        return web.Response(status=status)

    @asynccontextmanager
    async def serving(self, body_bytes_max: int = 2**20) -> AsyncIterator[Receiver]:
        app = web.Application(client_max_size=body_bytes_max)
        app.router.add_post("/webhooks/shopify", self.receive)
        runner = web.AppRunner(app, auto_decompress=False, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}/webhooks/shopify"
        try:
            yield self
        finally:
            await runner.cleanup()


def _webhook_id(request: web.Request) -> str:
    headers = request.headers
    return headers.get("X-Shopify-Webhook-Id") or headers.get("shopify-webhook-id") or ""


def _delivery(number: int, expected_status: int = 200) -> Delivery:
    body = json.dumps({"id": number}).encode()
    headers = (
        ("X-Shopify-Webhook-Id", f"w{number}"),
        ("X-Shopify-Hmac-Sha256", webhook_signature(SECRET, body)),
    )
    return Delivery(SHOP, "orders/paid", headers, body, "plain", expected_status)


async def test_a_503_is_retried_until_it_is_accepted() -> None:
    clock = FakeClock()
    async with Receiver({"w1": [503, 503]}).serving() as receiver:
        report = await send_all(receiver.url, [_delivery(1), _delivery(2)], clock=clock)

    assert report.final_statuses == {200: 2}
    assert receiver.tries == {"w1": 3, "w2": 1}
    assert clock.slept_s == [0.05, 0.1]


async def test_the_sender_gives_up_after_eight_retries() -> None:
    clock = FakeClock()
    async with Receiver({"w1": [503] * 20}).serving() as receiver:
        report = await send_all(receiver.url, [_delivery(1)], clock=clock)

    assert [(sent.status, sent.attempts) for sent in report.sent] == [(503, 9)]
    assert receiver.tries == {"w1": 9}
    assert clock.slept_s[-1] == 5.0


async def test_retries_repeat_the_delivery_byte_for_byte() -> None:
    async with Receiver({"w1": [500]}).serving() as receiver:
        await send_all(receiver.url, [_delivery(1)], clock=FakeClock())

    first, second = receiver.requests
    assert first[1] == second[1]
    assert list(first[0].headers.items()) == list(second[0].headers.items())


async def test_an_answer_that_does_not_come_is_a_failure_and_is_retried() -> None:
    manners = Manners(timeout_s=0.2)
    async with Receiver({"w1": [None]}).serving() as receiver:
        report = await send_all(receiver.url, [_delivery(1)], manners, FakeClock())

    assert report.final_statuses == {200: 1}
    assert report.progress.statuses == {None: 1, 200: 1}


async def test_nobody_at_home_is_a_delivery_without_an_answer() -> None:
    async with Receiver().serving() as receiver:
        url = receiver.url

    report = await send_all(url, [_delivery(1)], Manners(retries=1), FakeClock())

    assert [(sent.status, sent.attempts) for sent in report.sent] == [(None, 2)]


async def test_a_redirect_is_not_followed() -> None:
    async with Receiver({"w1": [301]}).serving() as receiver:
        report = await send_all(receiver.url, [_delivery(1)], Manners(retries=0), FakeClock())

    assert report.final_statuses == {301: 1}


async def test_an_expected_refusal_ends_the_delivery_unless_told_to_be_strict() -> None:
    forged = _delivery(1, expected_status=401)
    strict = Manners(settle_for_expected=False, retries=2)
    async with Receiver({"w1": [401] * 4}).serving() as receiver:
        settled = await send_all(receiver.url, [forged], clock=FakeClock())
        insisted = await send_all(receiver.url, [forged], strict, FakeClock())

    assert [sent.attempts for sent in settled.sent] == [1]
    assert [sent.attempts for sent in insisted.sent] == [3]


async def test_connections_are_kept_and_no_more_are_opened_than_allowed() -> None:
    async with Receiver().serving() as receiver:
        deliveries = [_delivery(number) for number in range(100)]
        await send_all(receiver.url, deliveries, Manners(connections=3))

        assert len(receiver.requests) == 100
        assert len(receiver.peers) <= 3


async def test_progress_is_told_after_every_try() -> None:
    told: list[tuple[int, int]] = []

    def note(progress: Progress) -> None:
        told.append((progress.finished, progress.attempts))

    async with Receiver({"w0": [503]}).serving() as receiver:
        deliveries = [_delivery(0), _delivery(1)]
        await send_all(receiver.url, deliveries, Manners(connections=1), FakeClock(), note)

    assert told[-1] == (2, 3)
    assert len(told) == 3


async def test_a_storm_arrives_as_it_was_made() -> None:
    storm = make_storm(2, 400, default_shops(NOW), NOW)
    async with Receiver().serving(body_bytes_max=2**24) as receiver:
        manners = Manners(settle_for_expected=False)
        report = await send_all(receiver.url, storm.deliveries, manners)

    arrived = Counter((_webhook_id(request), body) for request, body in receiver.requests)
    assert arrived == Counter((each.webhook_id, each.body) for each in storm.deliveries)
    assert report.final_statuses == {200: 400}
    chunked = [r for r, _ in receiver.requests if r.headers.get("Transfer-Encoding") == "chunked"]
    assert chunked
    assert report.latency_s(0.5) > 0


async def test_a_body_that_is_refused_for_its_size_gets_its_answer() -> None:
    large = Delivery(SHOP, "orders/paid", (), b"x" * OVERSIZED_BYTES, "oversized", 413)
    async with Receiver().serving() as receiver:
        report = await send_all(receiver.url, [large], Manners(retries=0))

    assert report.final_statuses == {413: 1}


async def test_the_blaster_sends_each_delivery_once_and_as_it_was_made() -> None:
    storm = make_storm(2, 400, default_shops(NOW), NOW)
    async with Receiver().serving(body_bytes_max=2**24) as receiver:
        report = await blast(receiver.url, storm.deliveries, connections=8)

        assert len(receiver.peers) <= 8
    arrived = Counter((_webhook_id(request), body) for request, body in receiver.requests)
    assert arrived == Counter((each.webhook_id, each.body) for each in storm.deliveries)
    assert report.statuses == {200: 400}
    assert len(report.latencies_s) == 400
    assert report.broken == 0


def test_the_blaster_runs_on_uvloop_too() -> None:
    with _ServerThread(Receiver()) as receiver:
        report = uvloop.run(blast(receiver.url, [_delivery(1), _delivery(2)], connections=1))

    assert report.statuses == {200: 2}


async def test_the_blaster_counts_a_broken_connection_and_goes_on() -> None:
    answered = 0

    async def break_every_third(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal answered
        while await reader.readuntil(b"}"):
            answered += 1
            if answered % 3 == 0:
                break
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    server = await asyncio.start_server(break_every_third, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        deliveries = [_delivery(number) for number in range(9)]
        report = await blast(f"http://127.0.0.1:{port}/", deliveries, connections=1)

    assert (report.statuses, report.broken) == ({200: 6}, 3)


class _ServerThread:
    """A receiver on a loop of its own, for commands that run theirs."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._loop = asyncio.new_event_loop()
        self._ready = asyncio.Event()
        self._done = asyncio.Event()
        self._thread = Thread(target=self._run)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        async with self._receiver.serving():
            self._ready.set()
            await self._done.wait()

    def __enter__(self) -> Receiver:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._ready.wait(), self._loop).result(5)
        return self._receiver

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join()


@pytest.fixture
def captured(tmp_path: Path) -> Path:
    (tmp_path / "orders_paid").mkdir()
    (tmp_path / "inventory_levels_update").mkdir()
    (tmp_path / "orders_paid" / "a.json").write_bytes(b'{"id": 1}\n')
    (tmp_path / "orders_paid" / "b.json").write_bytes(b'{"id": 2}')
    (tmp_path / "orders_paid" / "b.headers.json").write_text(
        '{"X-Shopify-Topic": "orders/create", "X-Shopify-API-Version": "2026-04"}'
    )
    (tmp_path / "inventory_levels_update" / "c.json").write_bytes(b'{"available": null}')
    return tmp_path


def test_send_posts_every_file_signed_under_its_own_topic(captured: Path) -> None:
    out = io.StringIO()
    with _ServerThread(Receiver()) as receiver:
        code = send_command(
            captured, SHOP, receiver.url, SECRET, console=Console(file=out, width=120)
        )

    arrived = {body: request.headers for request, body in receiver.requests}
    assert code == 0
    assert {body: headers["X-Shopify-Topic"] for body, headers in arrived.items()} == {
        b'{"id": 1}\n': "orders/paid",
        b'{"id": 2}': "orders/create",
        b'{"available": null}': "inventory_levels/update",
    }
    assert arrived[b'{"id": 2}']["X-Shopify-API-Version"] == "2026-04"
    assert all(
        headers["X-Shopify-Hmac-Sha256"] == webhook_signature(SECRET, body)
        and headers["X-Shopify-Shop-Domain"] == SHOP
        for body, headers in arrived.items()
    )
    assert out.getvalue().count("200") == 3


def test_send_exits_1_and_shows_the_answer_when_one_is_refused(captured: Path) -> None:
    refused = delivery_of(captured / "orders_paid" / "a.json", captured, SHOP, SECRET).webhook_id
    out = io.StringIO()
    with _ServerThread(Receiver({refused: [401] * 9})) as receiver:
        code = send_command(
            captured, SHOP, receiver.url, SECRET, console=Console(file=out, width=120)
        )

    assert code == 1
    assert "401" in out.getvalue()
    assert SECRET not in out.getvalue()


def test_send_without_a_secret_sends_unsigned(captured: Path) -> None:
    with _ServerThread(Receiver()) as receiver:
        send_command(captured, SHOP, receiver.url, None, console=Console(file=io.StringIO()))

    assert not any("X-Shopify-Hmac-Sha256" in request.headers for request, _ in receiver.requests)


def test_a_topic_given_by_hand_outranks_folder_and_sidecar(captured: Path) -> None:
    path = captured / "orders_paid" / "b.json"

    assert delivery_of(path, captured, SHOP, SECRET, "orders/edited").topic == "orders/edited"


def test_send_of_nothing_exits_2(tmp_path: Path) -> None:
    quiet = Console(file=io.StringIO())

    assert send_command(tmp_path, SHOP, "http://127.0.0.1:1", SECRET, console=quiet) == 2
    assert send_command(tmp_path / "no", SHOP, "http://127.0.0.1:1", SECRET, console=quiet) == 2

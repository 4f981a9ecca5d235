"""The sandbox on a real loopback socket, fault by fault, as a client sees it."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
import uvloop

from libs.clock import FakeClock
from sandbox.tiktok.app import Grant, SandboxConfig, TikTokSandbox
from tests.unit.sandbox.samples import (
    NOW_S,
    PIXEL,
    TOKEN,
    event,
    pixel_batch_body,
    pixel_body,
    pixel_event,
    spoiled,
    track_body,
)

PATH = "/open_api/v1.3/event/track/"
PATIENCE_S = 0.15
CONFIG = SandboxConfig(tokens={TOKEN: Grant(frozenset({PIXEL}))})


@dataclass
class Client:
    """A caller that reports what it saw, also when that is no answer."""

    session: aiohttp.ClientSession
    url: str

    async def send(self, body: object, path: str = PATH, **options: Any) -> tuple[int, Any]:
        """The status and the parsed body, or the text where it is no JSON."""
        headers = {"Access-Token": TOKEN} | options.pop("headers", {})
        sent = {"json": body} if not isinstance(body, bytes) else {"data": io.BytesIO(body)}
        url = f"{self.url}{path}"
        async with self.session.post(url, headers=headers, **sent, **options) as answer:
            text = await answer.text()
            try:
                return answer.status, json.loads(text)
            except ValueError:
                return answer.status, text

    async def code(self, body: object, path: str = PATH, **options: Any) -> Any:
        _, answer = await self.send(body, path, **options)
        return answer["code"]

    async def fault(self, **fault: Any) -> None:
        async with self.session.post(f"{self.url}/_sandbox/faults", json=[fault]) as answer:
            assert answer.status == 200, await answer.text()

    async def ledger(self, *, full: bool = False) -> dict[str, Any]:
        url = f"{self.url}/_sandbox/ledger{'?full=1' if full else ''}"
        async with self.session.get(url) as answer:
            found: dict[str, Any] = await answer.json()
            return found


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW_S)


@pytest.fixture
async def connect(clock: FakeClock) -> AsyncIterator[Callable[[SandboxConfig], Any]]:
    stack: list[Any] = []

    async def start(config: SandboxConfig) -> Client:
        sandbox = TikTokSandbox(config, clock)
        url = await sandbox.start()
        session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5))
        stack.extend([session.close, sandbox.stop])
        return Client(session, url)

    yield start
    for close in stack:
        await close()


@pytest.fixture
async def client(connect: Callable[[SandboxConfig], Any]) -> Client:
    found: Client = await connect(CONFIG)
    return found


async def test_a_good_batch_is_accepted_and_stands_in_the_ledger(client: Client) -> None:
    status, answer = await client.send(track_body(event("1"), event("2")))

    assert status == 200
    assert answer == {"code": 0, "message": "OK", "request_id": answer["request_id"], "data": {}}
    ledger = await client.ledger(full=True)
    assert [line["key"] for line in ledger["events"]] == [
        [PIXEL, "Purchase", "1"],
        [PIXEL, "Purchase", "2"],
    ]


async def test_request_ids_look_like_tiktoks_and_differ(client: Client) -> None:
    answers = [(await client.send(track_body()))[1]["request_id"] for _ in range(2)]

    assert answers[0] != answers[1]
    assert all(len(found) == 34 and found.startswith("20260921") for found in answers)


async def test_a_bad_event_sinks_its_batch_and_nothing_is_recorded(client: Client) -> None:
    body = spoiled(track_body(event("1"), event("2")), "data.1.user.email", "a@example.com")

    status, answer = await client.send(body)

    assert (status, answer["code"]) == (200, 40062)
    assert "data.1.user.email" in answer["message"]
    ledger = await client.ledger(full=True)
    assert (ledger["events_received"], ledger["events_accepted"]) == (2, 0)
    assert ledger["refused"] == {"40062": 1}
    assert ledger["refusals"][0]["field"] == "data.1.user.email"


async def test_all_three_endpoints_share_one_ledger(client: Client) -> None:
    await client.send(track_body())
    await client.send(pixel_body(), "/open_api/v1.3/pixel/track/")
    batch = pixel_batch_body(pixel_event("1"), pixel_event("2"))
    await client.send(batch, "/open_api/v1.3/pixel/batch/")

    assert (await client.ledger())["by_event"] == {"Purchase": 1, "CompletePayment": 3}


async def test_another_version_is_40051_and_a_missing_slash_is_not_found(client: Client) -> None:
    assert await client.code(track_body(), "/open_api/v1.2/event/track/") == 40051
    assert await client.send(track_body(), "/open_api/v1.3/event/track") == (
        404,
        "404 page not found",
    )


async def test_a_missing_token_is_an_empty_token(client: Client) -> None:
    assert await client.code(track_body(), headers={"Access-Token": ""}) == 40104


async def test_only_post_is_served(client: Client) -> None:
    async with client.session.get(f"{client.url}{PATH}") as answer:
        assert answer.status == 405


async def test_a_gzip_body_is_read_and_a_broken_one_refused(client: Client) -> None:
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    body = gzip.compress(json.dumps(track_body()).encode())

    assert await client.code(body, headers=headers) == 0
    assert await client.code(b"not gzip at all", headers=headers) == 40002


@pytest.mark.parametrize("squeeze", [False, True])
async def test_a_body_above_8_mib_is_413_compressed_or_not(
    client: Client, *, squeeze: bool
) -> None:
    body = b" " * (8 * 1024 * 1024 + 1)
    headers = {"Content-Type": "application/json"}
    if squeeze:
        body, headers = gzip.compress(body), headers | {"Content-Encoding": "gzip"}

    status, _ = await client.send(body, headers=headers)

    assert status == 413


async def test_a_token_above_its_requests_a_second_is_throttled_and_recovers(
    connect: Callable[[SandboxConfig], Any], clock: FakeClock
) -> None:
    config = SandboxConfig(tokens=CONFIG.tokens, limit_requests_per_s=2)
    client = await connect(config)

    codes = [await client.code(track_body(event(str(index)))) for index in range(4)]
    clock.advance(1.0)
    codes.append(await client.code(track_body(event("5"))))

    assert codes == [0, 0, 40100, 40100, 0]


async def test_latency_is_waited_by_the_clock_and_added_to_the_base(
    connect: Callable[[SandboxConfig], Any], clock: FakeClock
) -> None:
    client = await connect(SandboxConfig(tokens=CONFIG.tokens, base_latency_ms=20))
    await client.fault(latency_ms=30, effect={"kind": "code", "code": 50000}, times=1)

    codes = [await client.code(track_body()) for _ in range(2)]

    assert codes == [50000, 0]
    assert clock.slept_s == [pytest.approx(0.05), pytest.approx(0.02)]


@pytest.mark.parametrize(("kind", "accepted"), [("hang", 0), ("accept_then_timeout", 1)])
async def test_a_silent_service_has_or_has_not_done_its_work(
    client: Client, kind: str, accepted: int
) -> None:
    await client.fault(effect={"kind": kind}, times=1)

    with pytest.raises(TimeoutError):
        await client.send(track_body(), timeout=aiohttp.ClientTimeout(total=PATIENCE_S))

    ledger = await client.ledger()
    assert ledger["events_unique"] == accepted
    assert ledger["events_dropped"] == 1 - accepted
    assert await client.code(track_body()) == 0
    assert (await client.ledger())["events_duplicate"] == accepted


@pytest.mark.parametrize(("kind", "accepted"), [("reset", 0), ("accept_then_reset", 1)])
async def test_a_torn_connection_has_or_has_not_done_its_work(
    client: Client, kind: str, accepted: int
) -> None:
    await client.fault(effect={"kind": kind}, times=1)

    with pytest.raises(aiohttp.ClientConnectionError):
        await client.send(track_body())

    assert (await client.ledger())["events_unique"] == accepted


async def test_a_truncated_answer_is_short_of_its_length_though_the_work_is_done(
    client: Client,
) -> None:
    await client.fault(effect={"kind": "truncate"}, times=1)

    with pytest.raises(aiohttp.ClientPayloadError):
        await client.send(track_body())

    assert (await client.ledger())["events_unique"] == 1


async def test_429_carries_retry_after(client: Client) -> None:
    await client.fault(effect={"kind": "http_status", "status": 429, "retry_after_s": 3})
    headers = {"Access-Token": TOKEN}

    async with client.session.post(
        f"{client.url}{PATH}", json=track_body(), headers=headers
    ) as seen:
        assert (seen.status, seen.headers["Retry-After"]) == (429, "3")

    assert (await client.ledger())["answers"] == {"http_429": 1}


@pytest.mark.parametrize(
    ("effect", "status", "body"),
    [
        ({"status": 502}, 502, "<html><body><h1>502</h1></body></html>"),
        ({"status": 503, "body": ""}, 503, ""),
        ({"status": 400, "body": "not json", "content_type": "text/plain"}, 400, "not json"),
    ],
)
async def test_a_proxys_error_has_no_envelope(
    client: Client, effect: dict[str, Any], status: int, body: str
) -> None:
    await client.fault(effect={"kind": "http_status"} | effect)

    assert await client.send(track_body()) == (status, body)
    assert (await client.ledger())["events_dropped"] == 1


@pytest.mark.parametrize("code", [40000, 40016, 40050, 40133, 40700, 50002, 51010, 60001, 61000])
async def test_any_failing_code_comes_under_http_200(client: Client, code: int) -> None:
    await client.fault(effect={"kind": "code", "code": code})

    status, answer = await client.send(track_body())

    assert (status, answer["code"]) == (200, code)
    assert (await client.ledger())["events_accepted"] == 0


async def test_a_failing_code_may_come_after_the_work_was_done(client: Client) -> None:
    effect = {"kind": "code", "code": 50000, "message": "late", "accepted": True}
    await client.fault(effect=effect)

    _, answer = await client.send(track_body())

    assert (answer["code"], answer["message"]) == (50000, "late")
    assert (await client.ledger())["events_unique"] == 1


async def test_a_repetition_may_be_refused_and_what_is_new_is_taken(client: Client) -> None:
    await client.send(track_body(event("1"), event("2")))
    await client.fault(effect={"kind": "refuse_repeats"})

    codes = [
        await client.code(track_body(event("2"))),
        await client.code(track_body(event("2"), event("3"))),
        await client.code(track_body(event("3"), event("1"))),
    ]

    assert codes == [40050, 0, 40050]
    assert (await client.ledger())["events_unique"] == 3


async def test_accepted_events_can_be_followed_as_they_come(client: Client) -> None:
    await client.send(track_body(event("1"), event("2")))
    await client.send(track_body(event("3")))

    async with client.session.get(f"{client.url}/_sandbox/events?start=1") as answer:
        followed = [line["key"][2] for line in await answer.json()]
    async with client.session.get(f"{client.url}/_sandbox/events?start=-1") as answer:
        refused = answer.status

    assert followed == ["2", "3"]
    assert refused == 400


async def test_an_expired_token_is_40102(client: Client) -> None:
    await client.fault(match={"token": TOKEN}, effect={"kind": "expired_token"})

    assert await client.code(track_body()) == 40102


@pytest.mark.parametrize(
    ("form", "body"),
    [
        ("not_json", '{"code": 0, "message": "OK"'),
        ("array", [{"code": 0}]),
        ("code_as_string", {"code": "0", "message": "OK", "data": {}}),
        ("null", None),
        ("html", "<html><body>OK</body></html>"),
    ],
)
async def test_a_malformed_answer_is_200_and_no_success(
    client: Client, form: str, body: object
) -> None:
    await client.fault(effect={"kind": "malformed", "form": form})

    assert await client.send(track_body()) == (200, body)
    assert (await client.ledger())["events_accepted"] == 0


async def test_an_answer_may_lack_its_code(client: Client) -> None:
    await client.fault(effect={"kind": "malformed", "form": "no_code", "accepted": True})

    _, answer = await client.send(track_body())

    assert "code" not in answer
    assert (await client.ledger())["events_accepted"] == 1


async def test_an_empty_body_is_200_and_nothing(client: Client) -> None:
    await client.fault(effect={"kind": "empty_body"})

    assert await client.send(track_body()) == (200, "")


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (True, "Invalid value for data.1.event_id: not a valid string."),
        (False, "Invalid parameter"),
    ],
)
async def test_a_poisoned_event_sinks_every_batch_that_holds_it(
    client: Client, message: str, *, named: bool
) -> None:
    effect = {"kind": "refuse_event", "named": named}
    await client.fault(match={"event_id": "bad.*"}, effect=effect)

    _, poisoned = await client.send(track_body(event("1"), event("bad.1"), event("bad.2")))
    healthy = await client.code(track_body(event("1")))

    assert (poisoned["code"], poisoned["message"]) == (40002, message)
    assert healthy == 0
    assert (await client.ledger())["events_unique"] == 1


@pytest.mark.parametrize("listed", [True, False])
async def test_a_partial_success_keeps_the_rest_of_the_batch(
    client: Client, *, listed: bool
) -> None:
    await client.fault(match={"event_id": "bad.*"}, effect={"kind": "partial", "listed": listed})

    _, answer = await client.send(track_body(event("1"), event("bad.1")))

    assert answer["code"] == 20001
    failed = [(one["index"], one["event_id"]) for one in answer["data"].get("failed_events", [])]
    assert failed == ([(1, "bad.1")] if listed else [])
    ledger = await client.ledger()
    assert (ledger["events_accepted"], ledger["events_refused"]) == (1, 1)


async def test_faults_are_listed_and_ended_over_http(client: Client) -> None:
    url = f"{client.url}/_sandbox/faults"
    await client.fault(effect={"kind": "empty_body"}, times=2)

    async with client.session.get(url) as answer:
        listed = await answer.json()
    async with client.session.delete(url) as answer:
        assert answer.status == 200

    expected = {"effect": {"kind": "empty_body"}, "times": 2}
    assert listed == [{"fault": expected, "hits": 0, "spent": False}]
    assert await client.code(track_body()) == 0


async def test_a_script_that_cannot_be_read_says_where(client: Client) -> None:
    script = [{"effect": {"kind": "http_status", "status": "many"}}]

    async with client.session.post(f"{client.url}/_sandbox/faults", json=script) as answer:
        assert answer.status == 400
        assert "$[0].effect.status" in (await answer.json())["error"]


async def test_delete_empties_the_ledger(client: Client) -> None:
    await client.send(track_body())

    async with client.session.delete(f"{client.url}/_sandbox/ledger") as answer:
        assert (await answer.json())["requests"] == 0

    assert (await client.ledger())["events_received"] == 0


async def test_stopping_lets_hanging_requests_go_and_frees_the_port(clock: FakeClock) -> None:
    sandbox = TikTokSandbox(CONFIG, clock)
    url = await sandbox.start()
    port = int(url.rpartition(":")[2])
    async with aiohttp.ClientSession() as session:
        client = Client(session, url)
        await client.fault(effect={"kind": "hang"})
        hanging = asyncio.create_task(client.send(track_body()))
        while not sandbox.ledger.summary()["requests"]:  # noqa: ASYNC110 - it has no event to wait on
            await asyncio.sleep(0.005)

        await asyncio.wait_for(sandbox.stop(), 3)

        with pytest.raises(aiohttp.ClientConnectionError):
            await hanging
        with pytest.raises(ConnectionRefusedError):
            await asyncio.get_running_loop().run_in_executor(
                None, socket.create_connection, ("127.0.0.1", port)
            )
        assert await sandbox.start(port=port) == url
        with pytest.raises(TimeoutError):
            await client.send(track_body(), timeout=aiohttp.ClientTimeout(total=PATIENCE_S))
        await sandbox.stop()


def test_a_reset_is_a_reset_on_uvloop_too() -> None:
    async def run() -> None:
        sandbox = TikTokSandbox(CONFIG, FakeClock(NOW_S))
        url = await sandbox.start()
        async with aiohttp.ClientSession() as session:
            client = Client(session, url)
            await client.fault(effect={"kind": "accept_then_reset"}, times=1)
            with pytest.raises(aiohttp.ClientConnectionError):
                await client.send(track_body())
            assert await client.code(track_body()) == 0
            assert (await client.ledger())["events_duplicate"] == 1
        await sandbox.stop()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())

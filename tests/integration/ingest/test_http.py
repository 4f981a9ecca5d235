"""The webhook endpoint on a real nats-server: every bad input with its exact answer."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import pytest

from libs.connections import FileConnections, WebhookSecret
from libs.errors import Kind, ServiceError
from libs.keys import MemoryKeySource
from libs.sealing import DataKey
from services.ingest.domain.verification import fitting_secret
from tests.fakes.nats_server import NatsServer
from tests.integration.ingest.harness import (
    BODY_BYTES_MAX,
    SECRETS,
    SHOP,
    Door,
    Suite,
    door_of,
    eventually,
    signature,
)
from tidewire.ingest.v1 import delivery_pb2

Headers = list[tuple[str, str]]

ANSWER_WITHIN_S = 2.5
BODY = b'{"id": 1}'


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    seconds: float


def headers_of(
    body: bytes = BODY,
    *,
    shop: str = f"{SHOP}.myshopify.com",
    webhook_id: str | None = "w1",
    secret: str = SECRETS[SHOP][0],
    prefix: str = "X-Shopify-",
) -> Headers:
    """The headers of a signed delivery, under either family of names."""
    named = {
        "Topic": "orders/paid",
        "Hmac-Sha256": signature(body, secret),
        "Shop-Domain": shop,
        "API-Version": "2026-10",
        "Triggered-At": "2026-11-22T22:00:01.123456789Z",
        "Event-Id": "e1",
    }
    if webhook_id is not None:
        named["Webhook-Id"] = webhook_id
    return [(prefix + name, value) for name, value in named.items()]


def without(headers: Headers, name: str) -> Headers:
    return [pair for pair in headers if pair[0].lower() != name.lower()]


async def send(
    door: Door,
    body: bytes | AsyncIterator[bytes] = BODY,
    headers: Headers | None = None,
    method: str = "POST",
) -> Answer:
    data = io.BytesIO(body) if isinstance(body, bytes) else body
    began_s = time.monotonic()
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.request(
            method, door.url, data=data, headers=headers_of() if headers is None else headers
        ) as answer,
    ):
        await answer.read()
        return Answer(answer.status, dict(answer.headers), time.monotonic() - began_s)


async def opened(suite: Suite, delivery: delivery_pb2.Delivery) -> bytes:
    owner = "_unknown" if delivery.shop_unknown else delivery.shop
    return await suite.vault.open_bytes(delivery.body, owner)


# -- what is taken -------------------------------------------------------------------------------


async def test_a_signed_delivery_is_stored_before_it_is_answered(suite: Suite, door: Door) -> None:
    answer = await send(door)

    (stored,) = await suite.received()
    assert answer.status == 200
    assert await opened(suite, stored) == BODY
    assert (stored.shop, stored.topic, stored.delivery_id) == (SHOP, "orders/paid", "w1")
    assert (stored.api_version, stored.event_id) == ("2026-10", "e1")
    assert stored.triggered_at.nanos == 123_456_789
    assert not stored.shop_unknown


async def test_the_newer_header_names_are_as_good(suite: Suite, door: Door) -> None:
    answer = await send(door, headers=headers_of(prefix="shopify-"))

    (stored,) = await suite.received()
    assert answer.status == 200
    assert (stored.shop, stored.topic, stored.delivery_id) == (SHOP, "orders/paid", "w1")


async def test_both_secrets_are_good_during_a_rotation(suite: Suite, door: Door) -> None:
    answers = [
        await send(door, headers=headers_of(secret=secret, webhook_id=secret))
        for secret in SECRETS[SHOP]
    ]

    assert [answer.status for answer in answers] == [200, 200]
    assert [one.secret_id for one in await suite.received()] == [f"{SHOP}.0", f"{SHOP}.1"]


async def test_a_body_of_exactly_the_limit_is_stored_whole(suite: Suite, door: Door) -> None:
    body = b"x" * BODY_BYTES_MAX

    answer = await send(door, body, headers_of(body))

    (stored,) = await suite.received()
    assert answer.status == 200
    assert await opened(suite, stored) == body


async def test_a_chunked_body_is_put_together(suite: Suite, door: Door) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for byte in BODY:
            yield bytes([byte])

    answer = await send(door, chunks())

    (stored,) = await suite.received()
    assert answer.status == 200
    assert await opened(suite, stored) == BODY


async def test_a_compressed_body_is_verified_and_stored_as_it_came(
    suite: Suite, door: Door
) -> None:
    body = gzip.compress(BODY * 100)
    packed = [*headers_of(body, webhook_id="packed"), ("Content-Encoding", "gzip")]
    unpacked = [*headers_of(BODY * 100, webhook_id="other"), ("Content-Encoding", "gzip")]

    answers = [await send(door, body, packed), await send(door, body, unpacked)]

    (stored,) = await suite.received()
    assert [answer.status for answer in answers] == [200, 401]
    assert stored.content_encoding == "gzip"
    assert await opened(suite, stored) == body


async def test_a_shop_that_nobody_knows_is_stored_and_marked(suite: Suite, door: Door) -> None:
    answer = await send(door, headers=headers_of(shop="stranger.myshopify.com"))

    (stored,) = await suite.received()
    assert answer.status == 200
    assert (stored.shop, stored.shop_unknown) == ("stranger", True)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"\xff\xfe", b"[" * 100_000, b"null", b'{"id": 9007199254740993}'],
    ids=["empty", "html", "not utf-8", "nested", "null", "beyond 2^53"],
)
async def test_what_is_signed_is_stored_whatever_it_is(
    suite: Suite, door: Door, body: bytes
) -> None:
    answer = await send(door, body, headers_of(body))

    (stored,) = await suite.received()
    assert answer.status == 200
    assert await opened(suite, stored) == body


async def test_a_delivery_without_an_id_is_stored_under_one_that_is_made_for_it(
    suite: Suite, door: Door
) -> None:
    answers = [await send(door, headers=headers_of(webhook_id=None)) for _ in range(2)]

    ids = {one.delivery_id for one in await suite.received()}
    assert [answer.status for answer in answers] == [200, 200]
    assert len(ids) == 2
    assert all(one.startswith("none-") for one in ids)


async def test_two_huge_ids_that_begin_alike_stay_two_deliveries(suite: Suite, door: Door) -> None:
    huge = ["x" * 299 + last for last in "ab"]

    answers = [await send(door, headers=headers_of(webhook_id=one)) for one in huge]

    ids = {one.delivery_id for one in await suite.received()}
    assert [answer.status for answer in answers] == [200, 200]
    assert len(ids) == 2
    assert all(len(one) < 200 for one in ids)


async def test_a_header_that_says_the_same_twice_counts_once(suite: Suite, door: Door) -> None:
    answer = await send(door, headers=[*headers_of(), ("X-Shopify-Webhook-Id", "w1")])

    assert answer.status == 200
    assert [one.delivery_id for one in await suite.received()] == ["w1"]


@pytest.mark.parametrize(
    "name", ["X-Shopify-Topic", "X-Shopify-Webhook-Id", "X-Shopify-Shop-Domain", "Content-Encoding"]
)
async def test_bytes_that_are_no_text_in_a_header_cost_no_delivery(
    suite: Suite, door: Door, name: str
) -> None:
    line = f"{name}: a\xffb".encode("latin-1")

    status = await _raw_post(door, without(headers_of(), name), line)

    assert status == 200
    assert len(await suite.received()) == 1


async def _raw_post(door: Door, headers: Headers, line: bytes) -> int:
    """The status of a POST with one more header line, which no client library would send."""
    host, port = door.url.split("/")[2].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [f"{name}: {value}".encode() for name, value in headers]
    length = f"Content-Length: {len(BODY)}".encode()
    head = [b"POST /webhooks/shopify HTTP/1.1", b"Host: here", length, *lines, line, b"", b""]
    writer.write(b"\r\n".join(head) + BODY)
    status = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return int(status.split()[1])


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "not base64 at all",
        signature(BODY, "somebody-else"),
        signature(BODY, SECRETS["other"][0]),
        signature(BODY + b" "),
        base64.b64decode(signature(BODY)).hex(),
        signature(BODY)[:-5],
    ],
    ids=[
        "missing",
        "blank",
        "nonsense",
        "unknown secret",
        "other shop's",
        "other body",
        "hex",
        "cut",
    ],
)
async def test_a_delivery_without_its_own_signature_is_401_and_not_stored(
    suite: Suite, door: Door, given: str | None
) -> None:
    headers = without(headers_of(), "X-Shopify-Hmac-Sha256")
    if given is not None:
        headers.append(("X-Shopify-Hmac-Sha256", given))

    answer = await send(door, headers=headers)

    assert answer.status == 401
    assert await suite.received() == []


@pytest.mark.parametrize("name", ["Hmac-Sha256", "Webhook-Id", "Shop-Domain", "Topic"])
async def test_a_header_that_comes_twice_and_differs_is_401(
    suite: Suite, door: Door, name: str
) -> None:
    answer = await send(door, headers=[*headers_of(), (f"X-Shopify-{name}", "something-else")])

    assert answer.status == 401
    assert await suite.received() == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_other_verbs_are_405_and_told_which_is_right(
    suite: Suite, door: Door, method: str
) -> None:
    answer = await send(door, method=method)

    assert (answer.status, answer.headers["Allow"]) == (405, "POST")
    assert await suite.received() == []


async def _in_pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 2**16):
        yield body[start : start + 2**16]


@pytest.mark.parametrize("chunked", [False, True])
async def test_one_byte_too_many_is_413_and_not_stored(
    suite: Suite, door: Door, *, chunked: bool
) -> None:
    body = b"x" * (BODY_BYTES_MAX + 1)

    answer = await send(door, _in_pieces(body) if chunked else body, headers_of(body))

    assert answer.status == 413
    assert await suite.received() == []


# -- group commit --------------------------------------------------------------------------------


async def test_requests_that_come_together_share_segments(suite: Suite, door: Door) -> None:
    answers = await asyncio.gather(
        *(send(door, headers=headers_of(webhook_id=f"w{n}")) for n in range(60))
    )

    segments = await suite.segments()
    assert {answer.status for answer in answers} == {200}
    assert sorted(d.delivery_id for s in segments for d in s.deliveries) == sorted(
        f"w{n}" for n in range(60)
    )
    assert len(segments) < 40


# -- NATS is away --------------------------------------------------------------------------------


async def _refused_in_time(door: Door, count: int) -> Sequence[Answer]:
    """The answers to `count` requests at once; asked again while only this machine was slow."""
    answers: Sequence[Answer] = ()
    for _ in range(4):
        answers = await asyncio.gather(
            *(send(door, headers=headers_of(webhook_id=f"w{n}")) for n in range(count))
        )
        if max(answer.seconds for answer in answers) < ANSWER_WITHIN_S:
            return answers
    raise AssertionError(f"answered after {max(a.seconds for a in answers):.2f} s")


async def _stores_again(door: Door) -> None:
    async def stored() -> bool:
        return (await send(door, headers=headers_of(webhook_id="after"))).status == 200

    await eventually(stored, "the door stores again without a restart")


async def test_without_nats_every_answer_is_an_early_503_until_it_is_back(
    suite: Suite, door: Door, nats_server: NatsServer
) -> None:
    await send(door)
    nats_server.kill()
    try:
        answers = await _refused_in_time(door, 20)
    finally:
        nats_server.start()

    assert {(one.status, one.headers["Retry-After"]) for one in answers} == {(503, "1")}
    await _stores_again(door)
    assert "after" in {one.delivery_id for one in await suite.received()}


class Untold(FileConnections):
    """Nobody has said yet by which secrets webhooks are verified."""

    def webhook_secrets(self, handle: str | None) -> Sequence[WebhookSecret]:
        raise ServiceError(Kind.RETRYABLE, "secrets_awaited")


async def test_before_the_secrets_are_known_an_honest_delivery_is_503_and_not_401(
    suite: Suite,
) -> None:
    untold = replace(suite, connections=Untold(suite.connections_file))
    async with door_of(untold) as door:
        answer = await send(door)

    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert await suite.received() == []


async def test_while_nats_hangs_everybody_who_waits_gets_503_in_time(
    suite: Suite, door: Door, nats_server: NatsServer
) -> None:
    await send(door)
    nats_server.pause()
    try:
        first = asyncio.create_task(_refused_in_time(door, 10))
        # These arrive while the write of the first ones hangs, so they wait for the next.
        await asyncio.wait({first}, timeout=0.5)
        later = await _refused_in_time(door, 10)
        answers = [*await first, *later]
    finally:
        nats_server.resume()

    assert {(one.status, one.headers["Retry-After"]) for one in answers} == {(503, "1")}
    await _stores_again(door)
    assert "after" in {one.delivery_id for one in await suite.received()}


class SlowKeys(MemoryKeySource):
    """Keys that take as long to come as a hard-pressed store does."""

    def __init__(self, delay_s: float) -> None:
        super().__init__()
        self.delay_s = delay_s

    async def current(self, scope: str, *, fresh: bool = False) -> DataKey:
        await asyncio.sleep(self.delay_s)
        return await super().current(scope, fresh=fresh)

    def cached(self, scope: str) -> DataKey | None:
        return None


async def test_a_slow_key_store_and_a_hanging_nats_together_stay_within_the_time(
    suite: Suite, nats_server: NatsServer
) -> None:
    suite.keys = SlowKeys(1.5)
    async with door_of(suite) as door:
        nats_server.pause()
        try:
            answers = await _refused_in_time(door, 2)
        finally:
            nats_server.resume()

    assert {one.status for one in answers} == {503}


async def test_at_the_bound_load_is_shed_at_once_and_nobody_else_pays(
    suite: Suite, nats_server: NatsServer
) -> None:
    async with door_of(suite, pending_bytes_max=1) as door:
        nats_server.pause()
        try:
            waiting = asyncio.create_task(send(door))
            await eventually(lambda: _is_full(door), "the bound is reached")
            shed = await send(door, headers=headers_of(webhook_id="shed"))
            early = not waiting.done()
        finally:
            nats_server.resume()

        assert (shed.status, shed.headers["Retry-After"]) == (503, "1")
        assert early
        assert (await waiting).status == 200
        await _stores_again(door)
    assert "shed" not in {one.delivery_id for one in await suite.received()}


async def _is_full(door: Door) -> bool:
    return door.committer.full


# -- published signatures ------------------------------------------------------------------------


def test_every_published_signature_fits_its_secret_and_no_other(corpus_dir: Path) -> None:
    path = corpus_dir / "contracts" / "shopify-hmac-vectors.json"
    if not path.exists():
        pytest.skip(f"no {path}")
    vectors = json.loads(path.read_text(encoding="utf-8"))["webhook"]
    assert vectors

    for vector in vectors:
        body = base64.b64decode(vector["body_base64"])
        right = WebhookSecret("right", vector["secret"].encode())
        wrong = WebhookSecret("wrong", vector["secret"].encode() + b"x")
        given = vector["hmac_header"]

        assert fitting_secret([wrong, right], given, body) is right
        assert fitting_secret([wrong], given, body) is None

"""The outbound client against real sockets on loopback."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

import aiohttp
import pytest

from libs.clock import Clock, FakeClock, SystemClock
from libs.errors import Kind, ServiceError, permanent
from libs.http.classify import may_have_arrived
from libs.http.client import Answer, Observation, Request, Upstream, http_session
from libs.retry import RetryPolicy

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

ONCE = RetryPolicy(attempts_max=1)
THRICE = RetryPolicy(attempts_max=3, base_s=1.0)


def answer(body: bytes = b"{}", status: int = 200, extra: str = "", length: int = -1) -> bytes:
    length = len(body) if length < 0 else length
    return f"HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n{extra}\r\n".encode() + body


class Peer:
    """Answers each request with the next of its scripted bytes, and keeps what it was sent.

    None means: close the connection without an answer. An empty script means: never answer.
    """

    def __init__(self, *script: bytes | None) -> None:
        self._script = list(script)
        self.heads: list[str] = []
        self._writers: list[asyncio.StreamWriter] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        while head := await self._head(reader):
            self.heads.append(head)
            if not self._script:
                continue
            scripted = self._script.pop(0)
            writer.write(scripted or b"")
            if scripted is None or b"X-Then: close" in scripted:
                break
        writer.close()

    async def _head(self, reader: asyncio.StreamReader) -> str:
        try:
            return (await reader.readuntil(b"\r\n\r\n")).decode()
        except (asyncio.IncompleteReadError, ConnectionError):
            return ""

    def header(self, name: str) -> list[str]:
        """What each request carried as `name`."""
        lines = [line.split(": ", 1) for head in self.heads for line in head.split("\r\n")[1:-2]]
        return [value for key, value in lines if key.lower() == name.lower()]

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self, "127.0.0.1", 0)
        try:
            port = server.sockets[0].getsockname()[1]
            yield f"http://127.0.0.1:{port}/orders?page=1"
        finally:
            server.close()
            for writer in self._writers:
                writer.close()
            await server.wait_closed()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with http_session() as opened:
        yield opened


def upstream(
    session: aiohttp.ClientSession, clock: Clock | None = None, policy: RetryPolicy = ONCE
) -> Upstream:
    return Upstream(
        name="shop", session=session, policy=policy, clock=clock or FakeClock(), random=lambda: 1.0
    )


async def failure(shop: Upstream, request: Request, budget_s: float | None = None) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        await shop.call(request, budget_s=budget_s)
    return caught.value


def get(url: str) -> Request:
    return Request(method="GET", url=url)


async def test_an_answer_comes_back_whole(session: aiohttp.ClientSession) -> None:
    peer = Peer(answer(b'{"id":1}', 201, "X-Shop: a\r\n"))

    async with peer.listening() as url:
        found = await upstream(session).call(get(url))

    assert (found.status, found.body, found.headers["x-shop"]) == (201, b'{"id":1}', "a")
    assert peer.heads[0].startswith("GET /orders?page=1 HTTP/1.1")


async def test_a_url_is_sent_as_it_was_signed(session: aiohttp.ClientSession) -> None:
    peer = Peer(answer())

    async with peer.listening() as url:
        await upstream(session).call(get(url + "&q=a%2Fb%20c%3A"))

    assert peer.heads[0].startswith("GET /orders?page=1&q=a%2Fb%20c%3A HTTP")


async def test_a_429_is_waited_out_and_then_succeeds(session: aiohttp.ClientSession) -> None:
    peer, clock = Peer(answer(status=429, extra="Retry-After: 3\r\n"), answer()), FakeClock()

    async with peer.listening() as url:
        found = await upstream(session, clock, THRICE).call(get(url))

    assert found.status == 200
    assert clock.slept_s == [3]


async def test_a_refused_connection_is_unreachable_and_certainly_not_arrived(
    session: aiohttp.ClientSession,
) -> None:
    async with Peer().listening() as url:
        pass

    error = await failure(upstream(session), get(url))

    assert (error.kind, error.code) == (Kind.RETRYABLE, "upstream_unreachable")
    assert not may_have_arrived(error)


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ([], "upstream_timeout"),
        ([answer(b"12345", length=9)], "upstream_timeout"),
        ([None], "upstream_reset"),
        ([answer(b"12345", extra="X-Then: close\r\n", length=9)], "upstream_truncated"),
        ([b"SSH-2.0-x\r\n\r\n"], "upstream_unreadable"),
    ],
)
async def test_a_request_that_may_have_arrived_says_so(
    session: aiohttp.ClientSession, script: list[bytes | None], code: str
) -> None:
    async with Peer(*script).listening() as url:
        error = await failure(upstream(session), replace(get(url), timeout_s=0.2))

    assert (error.kind, error.code) == (Kind.RETRYABLE, code)
    assert may_have_arrived(error)


async def test_a_try_ends_with_the_callers_budget(session: aiohttp.ClientSession) -> None:
    clock = SystemClock()
    started_s = clock.monotonic_s()

    async with Peer().listening() as url:
        error = await failure(upstream(session, clock), get(url), budget_s=0.2)

    assert error.code == "upstream_timeout"
    assert clock.monotonic_s() - started_s < 2


async def test_a_turn_that_used_up_the_budget_sends_nothing(session: aiohttp.ClientSession) -> None:
    clock, peer = FakeClock(), Peer(answer())

    class Slow:
        async def turn(self, weight: int = 1) -> None:
            clock.advance(30)

    async with peer.listening() as url:
        error = await failure(replace(upstream(session, clock), limit=Slow()), get(url))

    assert error.code == "upstream_budget_spent"
    assert not may_have_arrived(error)
    assert peer.heads == []


@pytest.mark.parametrize("script", [[None], [answer(status=503)]])
async def test_a_write_that_cannot_be_repeated_is_sent_once_if_it_may_have_arrived(
    session: aiohttp.ClientSession, script: list[bytes | None]
) -> None:
    peer = Peer(*script, answer())

    async with peer.listening() as url:
        request = Request(method="POST", url=url, body=b"x", repeatable=False)
        await failure(upstream(session, policy=THRICE), request)

    assert len(peer.heads) == 1


async def test_a_write_that_was_throttled_is_sent_again(session: aiohttp.ClientSession) -> None:
    peer = Peer(answer(status=429), answer())

    async with peer.listening() as url:
        request = Request(method="POST", url=url, repeatable=False)
        found = await upstream(session, policy=THRICE).call(request)

    assert found.status == 200


async def test_a_dead_kept_connection_causes_no_send_that_nobody_counted(
    session: aiohttp.ClientSession,
) -> None:
    peer = Peer(answer(), None, answer())

    async with peer.listening() as url:
        shop = upstream(session)
        await shop.call(get(url))
        error = await failure(shop, get(url))

    assert error.code == "upstream_reset"
    assert len(peer.heads) == 2


async def test_an_answer_too_large_is_cut_off_also_when_it_is_compressed(
    session: aiohttp.ClientSession,
) -> None:
    packed = gzip.compress(b"a" * 1_000_000)
    peer = Peer(answer(packed, extra="Content-Encoding: gzip\r\n"))

    async with peer.listening() as url:
        request = replace(get(url), answer_bytes_max=100_000)
        error = await failure(upstream(session), request)

    assert (error.kind, error.code) == (Kind.PERMANENT, "upstream_answer_too_large")


async def test_a_redirect_is_not_followed(session: aiohttp.ClientSession) -> None:
    peer = Peer(answer(status=302, extra="Location: /elsewhere\r\n"), answer())

    async with peer.listening() as url:
        error = await failure(upstream(session), get(url))

    assert error.code == "upstream_status_302"
    assert len(peer.heads) == 1


async def test_a_url_that_cannot_be_called_is_permanent(session: aiohttp.ClientSession) -> None:
    codes = [
        (await failure(upstream(session), get(url))).code
        for url in ("not a url", "ftp://h/x", "http://")
    ]

    assert codes == ["upstream_url_unusable"] * 3


class Tokens:
    """Hands out its tokens in order, the next one each time the last was refused."""

    def __init__(self, *tokens: str) -> None:
        self._tokens = list(tokens)

    async def __call__(self, request: Request, refused: ServiceError | None) -> Request | None:
        if refused:
            self._tokens.pop(0)
        if not self._tokens:
            return None
        return replace(request, headers={**request.headers, "Access-Token": self._tokens[0]})


class Turns:
    """A limit that counts."""

    def __init__(self) -> None:
        self.weights: list[int] = []

    async def turn(self, weight: int = 1) -> None:
        self.weights.append(weight)


async def test_refused_credentials_are_refreshed_once_and_take_another_turn(
    session: aiohttp.ClientSession,
) -> None:
    peer, turns = Peer(answer(status=401), answer()), Turns()

    async with peer.listening() as url:
        shop = replace(upstream(session), authorise=Tokens("old", "new"), limit=turns)
        await shop.call(replace(get(url), weight=7))

    assert peer.header("Access-Token") == ["old", "new"]
    assert turns.weights == [7, 7]


async def test_credentials_refused_twice_are_the_owners_matter(
    session: aiohttp.ClientSession,
) -> None:
    peer = Peer(answer(status=401), answer(status=401), answer())

    async with peer.listening() as url:
        shop = replace(upstream(session, policy=THRICE), authorise=Tokens("a", "b", "c"))
        error = await failure(shop, get(url))

    assert (error.kind, error.code) == (Kind.AUTH, "upstream_status_401")
    assert peer.header("Access-Token") == ["a", "b"]


async def test_credentials_are_refreshed_once_in_a_call_and_not_once_in_each_try(
    session: aiohttp.ClientSession,
) -> None:
    peer = Peer(answer(status=401), answer(status=503), answer(status=401), answer())

    async with peer.listening() as url:
        shop = replace(upstream(session, policy=THRICE), authorise=Tokens("a", "b", "c"))
        error = await failure(shop, get(url))

    assert error.kind is Kind.AUTH
    assert peer.header("Access-Token") == ["a", "b", "b"]


async def test_without_other_credentials_the_refusal_stands(
    session: aiohttp.ClientSession,
) -> None:
    peer = Peer(answer(status=401), answer())

    async with peer.listening() as url:
        error = await failure(replace(upstream(session), authorise=Tokens("only")), get(url))

    assert error.code == "upstream_status_401"
    assert len(peer.heads) == 1


async def test_a_failing_code_under_http_200_is_a_failure_and_may_be_retried(
    session: aiohttp.ClientSession,
) -> None:
    def by_code(found: Answer) -> ServiceError | None:
        if b"40100" in found.body:
            return ServiceError(Kind.THROTTLED, "too_frequent", retry_after_s=2)
        return None

    peer, clock = Peer(answer(b'{"code":40100}'), answer(b'{"code":0}')), FakeClock()

    async with peer.listening() as url:
        found = await replace(upstream(session, clock, THRICE), check=by_code).call(get(url))

    assert found.body == b'{"code":0}'
    assert clock.slept_s == [2]


async def test_the_body_may_say_more_than_the_status(session: aiohttp.ClientSession) -> None:
    async with Peer(answer(status=503)).listening() as url:
        shop = replace(upstream(session), check=lambda _: permanent("shop_closed"))
        error = await failure(shop, get(url))

    assert error.code == "shop_closed"


class Watch:
    """An observation that keeps what it is told."""

    headers: Mapping[str, str] = {"traceparent": "00-1-2-01"}

    def __init__(self) -> None:
        self.journal: list[str] = []

    @contextmanager
    def __call__(self, upstream: str, request: Request) -> Iterator[Observation]:
        self.journal.append(f"{upstream} {request.method}")
        yield self
        self.journal.append("ended")

    def tried(self, attempt: int, answer: Answer | None, error: ServiceError | None) -> None:
        status = answer.status if answer else None
        self.journal.append(f"{attempt}: {status} {error.code if error else 'ok'}")


async def test_one_observation_spans_all_tries_and_its_headers_travel(
    session: aiohttp.ClientSession,
) -> None:
    peer, watch = Peer(None, answer(status=500), answer()), Watch()

    async with peer.listening() as url:
        await replace(upstream(session, policy=THRICE), observe=watch).call(get(url))

    assert peer.header("traceparent") == ["00-1-2-01"] * 3
    assert watch.journal == [
        "shop GET",
        "1: None upstream_reset",
        "2: 500 upstream_status_500",
        "3: 200 ok",
        "ended",
    ]


async def test_nothing_printed_holds_credentials_or_bodies(session: aiohttp.ClientSession) -> None:
    secret = {"Access-Token": "hunter2"}

    async with Peer(answer(b"hunter2", 400)).listening() as url:
        request = replace(get(url + "&sign=hunter2"), headers=secret, body=b"hunter2")
        error = await failure(upstream(session), request)

    assert "hunter2" not in f"{error} {error!r} {request!r} {error.message}"
    assert repr(request).endswith("/orders, 7 bytes)")


async def test_a_session_refuses_old_tls_and_keeps_no_cookies(
    session: aiohttp.ClientSession,
) -> None:
    assert isinstance(session.connector, aiohttp.TCPConnector)
    assert isinstance(session.connector._ssl, ssl.SSLContext)
    assert session.connector._ssl.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert isinstance(session.cookie_jar, aiohttp.DummyCookieJar)

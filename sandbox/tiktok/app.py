"""The TikTok Business sandbox over HTTP. Bind it to loopback: it has no guard of its own.

POST   /open_api/v1.3/event/track/ | pixel/track/ | pixel/batch/
GET    /_sandbox/ledger            counts (`?full=1`: every accepted event too); DELETE resets
GET    /_sandbox/events?start=N    accepted events from the Nth on, so that one can follow them
POST   /_sandbox/faults            a script (faults.py); GET lists, DELETE ends them

OAuth is served beside: oauth.py and account_oauth.py; what it counted is in the ledger's `oauth`.
So are catalogs: catalog/service.py, with a judge of their own under /_sandbox/catalogs.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from libs.clock import Clock
from sandbox.oauth.desk import Desk
from sandbox.tiktok.access import Access, digest_of
from sandbox.tiktok.account_oauth import AccountOAuth
from sandbox.tiktok.answers import JSON_TYPE, Reply, RequestIds, Sending
from sandbox.tiktok.catalog.service import CatalogService
from sandbox.tiktok.config import GUIDE_RULES, Grant, Rules, SandboxConfig
from sandbox.tiktok.effects import RefuseRepeats, reply_under
from sandbox.tiktok.faults import FaultBook, Sighting
from sandbox.tiktok.judge import Call, judge
from sandbox.tiktok.ledger import Arrival, Ledger
from sandbox.tiktok.oauth import BusinessOAuth
from sandbox.tiktok.verdict import Judgement
from sandbox.tiktok.windows import SlidingWindow

__all__ = ["GUIDE_RULES", "Grant", "Rules", "SandboxConfig", "TikTokSandbox"]

CLIENT_GONE_POLL_S = 0.02
REQUEST_LINE_MAX_BYTES = 256 * 1024
"""A catalog's products are asked for by up to 1,000 SKUs in the query."""

STOP_GRACE_S = 5.0
_LINGER_OFF = struct.pack("ii", 1, 0)


class TikTokSandbox:
    """One TikTok: its tokens, faults and ledger, served by `app()` or by `start()`."""

    def __init__(self, config: SandboxConfig, clock: Clock, desk: Desk | None = None) -> None:
        self.desk = desk or Desk(clock)
        self.ledger = Ledger(config.events_listed_max)
        self.faults = FaultBook(config.seed)
        self._config = config
        self._clock = clock
        self._access = Access(
            config.tokens,
            allow_any_pixel=config.allow_any_pixel,
            allow_any_catalog=config.allow_any_catalog,
            desk=self.desk,
        )
        self._request_ids = RequestIds()
        self._used: dict[bytes, SlidingWindow] = {}
        self._stopping = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self.catalogs = CatalogService(
            config, clock, self._access, self.faults, self._is_throttled, self._send
        )

    def app(self) -> web.Application:
        """The routes, for whoever runs the server."""
        app = web.Application(client_max_size=self._config.body_max_bytes)
        BusinessOAuth(self.desk, self._access.is_told).add_routes(app)
        AccountOAuth(self.desk).add_routes(app)
        self.desk.add_routes(app)
        self.catalogs.add_routes(app)
        app.router.add_post("/open_api/{rest:.*}", self._serve)
        app.router.add_get("/_sandbox/ledger", self._show_ledger)
        app.router.add_delete("/_sandbox/ledger", self._reset_ledger)
        app.router.add_get("/_sandbox/events", self._show_events)
        app.router.add_get("/_sandbox/faults", self._show_faults)
        app.router.add_post("/_sandbox/faults", self._post_faults)
        app.router.add_delete("/_sandbox/faults", self._end_faults)
        return app

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Serves, and gives the base url; port 0 takes a free one.

        Stop it and start it again on the same port to play an outage with refused connections.
        """
        self._stopping.clear()
        self.desk.resume()
        self._runner = web.AppRunner(
            self.app(),
            access_log=None,
            shutdown_timeout=STOP_GRACE_S,
            max_line_size=REQUEST_LINE_MAX_BYTES,
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, reuse_address=True)
        await site.start()
        port = self._runner.addresses[0][1]
        return f"http://{host}:{port}"

    async def stop(self) -> None:
        """Stops serving; requests that hang are let go first. The ledger stays."""
        self._stopping.set()
        self.desk.let_go()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await _body_of(request)
        now_s = self._clock.now_ns() / 1e9
        arrival = Arrival(request.path, now_s, self._clock.monotonic_s())
        call = self._call(request, body, arrival.monotonic_s)
        judgement = judge(call, self._config, self._access, now_s)
        latency_ms, reply = self._reply(call, judgement, arrival)
        self.ledger.record(arrival, judgement, reply)
        if latency_ms > 0:
            await self._clock.sleep(latency_ms / 1000)
        return await self._send(request, reply)

    def _call(self, request: web.Request, body: bytes | None, monotonic_s: float) -> Call:
        token = request.headers.get("Access-Token", "")
        throttled = self._is_throttled(token, monotonic_s)
        return Call(request.path, token, request.content_type, body, throttled)

    def _is_throttled(self, token: str, monotonic_s: float) -> bool:
        """Whether `token` has had its requests of this second; those refused cost nothing."""
        limit = self._config.limit_requests_per_s
        if limit is None or not self._access.knows(token):
            return False
        window = self._used.setdefault(digest_of(token), SlidingWindow())
        if window.count(monotonic_s) >= limit:
            return True
        window.add(monotonic_s, 1)
        return False

    def _reply(self, call: Call, judgement: Judgement, arrival: Arrival) -> tuple[float, Reply]:
        sighting = Sighting(call.path, judgement.source_id, call.token, judgement.event_ids)
        plan = self.faults.plan(sighting, arrival.monotonic_s)
        request_id = self._request_ids.next(arrival.received_at_s)
        repeated = isinstance(plan.effect, RefuseRepeats) and self._is_repeated(judgement, arrival)
        reply = reply_under(plan.effect, plan.struck, judgement, request_id, is_repeated=repeated)
        return self._config.base_latency_ms + plan.latency_ms, reply

    def _is_repeated(self, judgement: Judgement, arrival: Arrival) -> bool:
        """Whether every event of a valid request was accepted before."""
        claim = judgement.claim
        return claim is not None and all(
            self.ledger.has(claim.source_id, event, arrival.received_at_s) for event in claim.events
        )

    async def _send(self, request: web.Request, reply: Reply) -> web.StreamResponse:
        match reply.sending:
            case Sending.WHOLE:
                return _response(reply)
            case Sending.CUT:
                return await _send_part(request, reply)
            case Sending.SILENT:
                await self._wait_until_gone(request)
                return _dropped(request)
            case Sending.RESET:
                return _dropped(request)

    async def _wait_until_gone(self, request: web.Request) -> None:
        """Waits in real time, whatever the clock: it is the client's patience that ends it."""
        while _is_connected(request) and not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), CLIENT_GONE_POLL_S)

    async def _show_ledger(self, request: web.Request) -> web.Response:
        is_full = request.query.get("full") in {"1", "true"}
        found = self.ledger.full() if is_full else self.ledger.summary()
        return _json(found | {"oauth": self.desk.ledger.summary()})

    async def _show_events(self, request: web.Request) -> web.Response:
        start = request.query.get("start", "0")
        if not (start.isascii() and start.isdigit()):
            return _json({"error": "start is not a whole number"}, status=400)
        return _json(self.ledger.events(int(start)))

    async def _reset_ledger(self, _request: web.Request) -> web.Response:
        self.ledger.reset()
        self.desk.ledger.reset()
        return _json(self.ledger.summary() | {"oauth": self.desk.ledger.summary()})

    async def _show_faults(self, _request: web.Request) -> web.Response:
        return _json(self.faults.listing(self._clock.monotonic_s()))

    async def _post_faults(self, request: web.Request) -> web.Response:
        try:
            posted = self.faults.post(await request.read(), self._clock.monotonic_s())
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return _json({"error": str(error)}, status=400)
        return _json({"posted": posted})

    async def _end_faults(self, _request: web.Request) -> web.Response:
        self.faults.clear()
        return _json([])


async def _body_of(request: web.Request) -> bytes | None:
    """The body, decompressed; None where its compression is broken."""
    try:
        return await request.read()
    except (HttpProcessingError, web.RequestPayloadError):
        return None


def _json(found: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(found), status=status, content_type=JSON_TYPE)


def _headers(reply: Reply) -> dict[str, str]:
    headers = {"Content-Type": reply.content_type}
    if reply.retry_after_s is not None:
        headers["Retry-After"] = str(reply.retry_after_s)
    return headers


def _response(reply: Reply) -> web.Response:
    return web.Response(status=reply.status, body=reply.body, headers=_headers(reply))


async def _send_part(request: web.Request, reply: Reply) -> web.StreamResponse:
    response = web.StreamResponse(status=reply.status, headers=_headers(reply))
    response.content_length = len(reply.body)
    await response.prepare(request)
    await response.write(reply.body[: int(len(reply.body) * reply.keep)])
    if request.transport is not None:
        request.transport.close()
    return response


def _is_connected(request: web.Request) -> bool:
    return request.transport is not None and not request.transport.is_closing()


def _dropped(request: web.Request) -> web.Response:
    """Tears the connection down so that the peer sees a reset, not an end of file."""
    transport = request.transport
    if transport is not None:
        peer = transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)
        transport.abort()
    return web.Response()

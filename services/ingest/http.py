"""`POST /webhooks/shopify`: verified, stored, then answered. Nothing of the body is parsed here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler
from google.protobuf.timestamp_pb2 import Timestamp

from libs import metric_names
from libs.clock import Clock
from libs.connections import Connections, Credentials, shop_handle
from libs.errors import Kind, ServiceError
from libs.ids import Ids
from libs.keys import KeySource
from libs.sealing import seal
from libs.settings import Address
from libs.telemetry import Metrics, Tracer
from services.ingest.committer import ANSWER_WITHIN_S, GroupCommitter
from services.ingest.domain.verification import (
    AmbiguousHeaderError,
    claim,
    fingerprint,
    fitting_secret,
    safe_delivery_id,
    storable,
    whole_claim,
)
from services.ingest.normalize.instants import instant
from tidewire.ingest.v1 import delivery_pb2

UNKNOWN_SHOP: Final = "_unknown"
"""Whose data key seals bodies of shops that nobody has connected. No handle can be this."""

WEBHOOKS_PATH: Final = "/webhooks/shopify"

_SECRETS_TRIED_MAX: Final = 32
"""A request that names an unknown shop is tried against everybody's secrets, those that apps share
first. Without a bound each forged request could cost ten thousand shops' worth of HMACs."""

_BODY_WITHIN_S: Final = 2.0
_RECEIVING_BYTES_MAX: Final = 256 * 1024 * 1024
"""Bytes of bodies that may be on their way in at once. Apart from what waits to be stored: anybody
can begin an upload, and must not be able to have signed deliveries refused by it."""
_CHUNKED_BYTES: Final = 64 * 1024
"""What a body is taken to be that does not say its length."""

_RETRY_AFTER: Final = {"Retry-After": "1"}


class Webhooks:
    """Takes Shopify's webhooks.

    The answers: 200 once stored, 401 for a missing or wrong signature, 405 for other verbs, 413
    for a body beyond the bound, 503 with `Retry-After` where it cannot be stored within 2.5 s.
    """

    def __init__(
        self,
        *,
        connections: Connections,
        credentials: Credentials,
        keys: KeySource,
        committer: GroupCommitter,
        tracer: Tracer,
        metrics: Metrics,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._connections = connections
        self._credentials = credentials
        self._keys = keys
        self._committer = committer
        self._tracer = tracer
        self._clock = clock
        self._ids = ids
        self._answered = {
            outcome: metrics.counter(
                metric_names.INGEST_DELIVERIES, source="shopify", outcome=outcome
            )
            for outcome in ("stored", "unsigned", "bad_signature", "too_large", "not_stored")
        }
        self._receiving_bytes = 0
        self._receiving_shed = metrics.counter(
            metric_names.INGEST_SHED, source="shopify", reason="receiving_bytes"
        )
        self._shed = metrics.counter(
            metric_names.INGEST_SHED, source="shopify", reason="pending_bytes"
        )

    async def receive(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to one request."""
        if request.method != "POST":
            return web.Response(status=405, headers={"Allow": "POST"})
        if self._committer.full:
            self._shed.value += 1
            return web.Response(status=503, headers=_RETRY_AFTER)
        started_ns = self._clock.now_ns()
        try:
            body = await self._body(request)
            return await self._verified(request, body, started_ns)
        except web.HTTPRequestEntityTooLarge:
            return self._answer("too_large", 413, "the body is larger than this endpoint takes")
        except TimeoutError:
            self._answered["not_stored"].value += 1
            return web.Response(status=503, headers=_RETRY_AFTER, text="the body came too slowly")
        except AmbiguousHeaderError as error:
            return self._answer("bad_signature", 401, f"the header {error} came twice, differing")

    async def _body(self, request: web.BaseRequest) -> bytes:
        """The body, in bounded time and counted while it comes.

        Raises:
            TimeoutError: it was not there whole within what every answer may take.
        """
        if request.content.is_eof():
            return await request.read()
        size = min(request.content_length or _CHUNKED_BYTES, _RECEIVING_BYTES_MAX)
        if self._receiving_bytes + size > _RECEIVING_BYTES_MAX:
            self._receiving_shed.value += 1
            raise TimeoutError
        self._receiving_bytes += size
        try:
            async with asyncio.timeout(_BODY_WITHIN_S):
                return await request.read()
        finally:
            self._receiving_bytes -= size

    async def _verified(
        self, request: web.BaseRequest, body: bytes, started_ns: int
    ) -> web.StreamResponse:
        getall = request.headers.getall
        signature = claim(getall, "Hmac-Sha256")
        if not signature:
            return self._answer("unsigned", 401, "X-Shopify-Hmac-Sha256 is missing")
        claimed_shop = claim(getall, "Shop-Domain")
        handle = shop_handle(claimed_shop)
        known = handle is not None and self._connections.shop(handle) is not None
        try:
            secrets = self._credentials.webhook_secrets(handle if known else None)
        except ServiceError as error:
            return self._not_stored(error)
        secret = fitting_secret(secrets[:_SECRETS_TRIED_MAX], signature, body)
        if secret is None:
            return self._answer("bad_signature", 401, "the signature does not fit the body")
        delivery = delivery_pb2.Delivery(
            delivery_id=safe_delivery_id(whole_claim(getall, "Webhook-Id"), self._ids.new),
            source=delivery_pb2.SOURCE_SHOPIFY,
            shop=handle or claimed_shop,
            topic=claim(getall, "Topic"),
            api_version=claim(getall, "API-Version"),
            event_id=claim(getall, "Event-Id"),
            secret_id=secret.secret_id if known else fingerprint(secret.key),
            traceparent=self._tracer.start_trace().traceparent(),
            content_encoding=storable(request.headers.get("Content-Encoding", ""))[:32],
            body_size_bytes=len(body),
            shop_unknown=not known,
            test=claim(getall, "Test") == "true",
            subscription_name=claim(getall, "Name"),
            request_started_ns=started_ns,
        )
        _set_triggered_at(delivery, claim(getall, "Triggered-At"))
        return await self._store(delivery, body)

    async def _store(self, delivery: delivery_pb2.Delivery, body: bytes) -> web.StreamResponse:
        try:
            await store_delivery(delivery, body, self._keys, self._committer, self._clock)
        except ServiceError as error:
            return self._not_stored(error)
        self._answered["stored"].value += 1
        return web.Response()

    def _not_stored(self, error: ServiceError) -> web.Response:
        self._answered["not_stored"].value += 1
        return web.Response(status=503, headers=_RETRY_AFTER, text=error.code)

    def _answer(self, outcome: str, status: int, text: str) -> web.Response:
        self._answered[outcome].value += 1
        return web.Response(status=status, text=text)


async def store_delivery(
    delivery: delivery_pb2.Delivery,
    body: bytes,
    keys: KeySource,
    committer: GroupCommitter,
    clock: Clock,
) -> None:
    """Seals `body` into `delivery` and returns when it is on disk.

    Raises:
        ServiceError: RETRYABLE, where it cannot be stored in time.
    """
    owner = UNKNOWN_SHOP if delivery.shop_unknown else delivery.shop
    key = keys.cached(owner)
    try:
        # Whoever has to wait for its key has less time left for being written.
        async with asyncio.timeout(None if key else ANSWER_WITHIN_S):
            key = key or await keys.current(owner)
            delivery.body.CopyFrom(seal(body, key, associated=owner.encode()))
            delivery.received_at.FromNanoseconds(clock.now_ns())
            await committer.store(delivery)
    except TimeoutError as error:
        message = "key and write took too long together"
        raise ServiceError(Kind.RETRYABLE, "not_stored", message, retry_after_s=1.0) from error


def _set_triggered_at(delivery: delivery_pb2.Delivery, text: str) -> None:
    """Fills `triggered_at` if `text` is a time. A bad one is no reason to refuse a delivery."""
    if not text:
        return
    try:
        fields, _ = instant(text)
    except ValueError:
        return
    delivery.triggered_at.CopyFrom(Timestamp(**fields))


class HttpServer:
    """The webhook endpoint as a part of the process.

    `held` is entered while requests may be under way: what they need must not end before them.
    """

    def __init__(
        self,
        address: Address,
        receive: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        *,
        body_bytes_max: int,
        reuse_port: bool,
        held: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._held = held
        self._address = address
        self._receive = receive
        self._body_bytes_max = body_bytes_max
        self._reuse_port = reuse_port
        self._stopping = asyncio.Event()

    async def run(self, ready: Callable[[], None]) -> None:
        """Serves until `stop`; requests under way are answered."""
        # One path needs no router. The signature covers the wire bytes, so the body must not be
        # decompressed on the way in.
        server = web.Server(
            self._routed,
            request_factory=self._request,
            auto_decompress=False,
            access_log=None,
        )
        runner = web.ServerRunner(server, shutdown_timeout=5.0)
        await runner.setup()
        site = web.TCPSite(
            runner,
            self._address.host,
            self._address.port,
            reuse_port=self._reuse_port or None,
            backlog=1024,
        )
        await site.start()
        ready()
        with self._held():
            try:
                await self._stopping.wait()
            finally:
                await runner.cleanup()

    async def _routed(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path != WEBHOOKS_PATH:
            return web.Response(status=404, text=f"webhooks are taken at {WEBHOOKS_PATH}")
        return await self._receive(request)

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        return web.BaseRequest(
            message,
            payload,
            protocol,
            writer,
            task,
            asyncio.get_running_loop(),
            client_max_size=self._body_bytes_max,
        )

    def stop(self) -> None:
        """Takes no new connections."""
        self._stopping.set()

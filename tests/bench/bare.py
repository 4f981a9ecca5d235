"""What ours is compared with, as a process: the least that can be called a webhook handler.

`null` answers without looking (the load generator's own ceiling); `hmac` verifies the signature and
forgets the delivery; `publish` verifies it and awaits one `js.publish` for each request, as one
would write it first.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hmac
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final, cast

import nats
import uvloop
from aiohttp import web
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import StorageType, StreamConfig

from sandbox.shopify.storm import default_shops

STREAM: Final = "BENCH"
_SUBJECT: Final = "bench.webhook"
_SECRETS: Final = tuple(secret.encode() for secret in default_shops(datetime.now(UTC))[0].secrets)
_OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def is_signed(body: bytes, signature: str) -> bool:
    """Whether `signature` is the body's under one of the shop's secrets."""
    return any(
        hmac.compare_digest(
            base64.b64encode(hmac.digest(secret, body, "sha256")), signature.encode()
        )
        for secret in _SECRETS
    )


async def verify_only(request: web.Request) -> web.StreamResponse:
    """200 for a signed body."""
    body = await request.read()
    signed = is_signed(body, request.headers.get("X-Shopify-Hmac-Sha256", ""))
    return web.Response(status=200 if signed else 401)


def publishing(js: JetStreamContext) -> Handler:
    """200 for a signed body that JetStream has acknowledged."""

    async def verify_and_publish(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if not is_signed(body, request.headers.get("X-Shopify-Hmac-Sha256", "")):
            return web.Response(status=401)
        try:
            await js.publish(_SUBJECT, body)
        except NatsError:
            return web.Response(status=503)
        return web.Response()

    return verify_and_publish


class _Null(asyncio.Protocol):
    """Answers each request once all of it is there; reads nothing of it but its length."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._missing: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._buffer += data
        if self._missing is None:
            head_end = self._buffer.find(b"\r\n\r\n")
            if head_end < 0:
                return
            self._missing = head_end + 4 + _length(bytes(self._buffer[:head_end]))
        if len(self._buffer) >= self._missing:
            self._buffer.clear()
            self._missing = None
            self._transport.write(_OK)


def _length(head: bytes) -> int:
    _, _, behind = head.lower().partition(b"content-length:")
    return int(behind.split(b"\r\n", 1)[0]) if behind else 0


async def _serve(arguments: argparse.Namespace) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    if arguments.mode == "null":
        async with await loop.create_server(_Null, "127.0.0.1", arguments.port, backlog=1024):
            await stopping.wait()
        return
    client = await nats.connect(arguments.nats.split(",")) if arguments.nats else None
    handler = verify_only if client is None else publishing(await _stream(client, arguments))
    runner = await _listening(handler, arguments.port)
    await stopping.wait()
    await runner.cleanup()
    if client is not None:
        await client.close()


async def _stream(client: Client, arguments: argparse.Namespace) -> JetStreamContext:
    js = client.jetstream()
    await js.add_stream(
        StreamConfig(
            name=STREAM,
            subjects=[_SUBJECT],
            storage=StorageType.FILE,
            num_replicas=arguments.replicas,
        )
    )
    return js


async def _listening(handler: Handler, port: int) -> web.AppRunner:
    app = web.Application()
    app.router.add_post("/webhooks/shopify", handler)
    app.router.add_get("/readyz", _ready)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    return runner


async def _ready(_request: web.Request) -> web.Response:
    return web.Response()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bare", description=__doc__)
    parser.add_argument("mode", choices=("null", "hmac", "publish"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--nats", default="", help="for publish")
    parser.add_argument("--replicas", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    uvloop.run(_serve(_arguments()))

"""What an operator asks a process over HTTP: is it alive, is it ready, and its numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from libs.errors import permanent
from libs.telemetry.metrics import Metrics, render_prometheus

Readiness = Callable[[], tuple[bool, dict[str, str]]]
"""Whether to send work here, and the state of each part in words. Called for each question."""

_EXPOSITION: Final = "text/plain; version=0.0.4; charset=utf-8"


class OpsServer:
    """`/livez`, `/readyz` and `/metrics` on `address` (`host:port`; port 0 takes a free one).

    `/livez` answers as long as the event loop turns; `/readyz` is 503 until `ready` says so, with
    the state of each part. Neither needs a credential, so bind to loopback or a pod's own network.

    Raises:
        ServiceError: PERMANENT, `address_unreadable`.
    """

    def __init__(self, address: str, metrics: Metrics, ready: Readiness) -> None:
        self._host, self._port = host_and_port(address)
        self._metrics = metrics
        self._ready = ready
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listens. Raises OSError where the port is taken."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/livez", self._livez),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._exposition),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()

    async def stop(self) -> None:
        """Closes the socket and what is open on it; nothing when it was not started."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def port(self) -> int:
        """The port listened on; before `start`, the one asked for."""
        addresses = self._runner.addresses if self._runner else []
        return int(addresses[0][1]) if addresses else self._port

    async def _livez(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        ready, parts = self._ready()
        return web.json_response({"ready": ready, "parts": parts}, status=200 if ready else 503)

    async def _exposition(self, _request: web.Request) -> web.Response:
        body = render_prometheus(self._metrics).encode()
        return web.Response(body=body, headers={"Content-Type": _EXPOSITION})


def host_and_port(address: str) -> tuple[str, int]:
    """The two halves of `host:port`, an IPv6 host between brackets.

    Raises:
        ServiceError: PERMANENT, `address_unreadable`.
    """
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or port is None:
        raise permanent("address_unreadable", f"{address!r} is not host:port")
    return host, port

"""The HTTP server of the auth service: pages for merchants and for the operator."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import traceback
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import structlog
from aiohttp import web

from libs.errors import permanent
from libs.settings import Address
from services.auth.pages import Pages

_log = structlog.stdlib.get_logger()

QUERY_BYTES_MAX: Final = 8 * 1024
_LINE_BYTES_MAX: Final = 64 * 1024
"""Above our own bound: what goes beyond is answered by the library, in its words."""
_BODY_BYTES_MAX: Final = 4 * 1024

_TITLES: Final = {
    403: "Not allowed",
    404: "There is nothing here",
    405: "Not done this way",
    408: "Too slow",
    413: "Too large",
    414: "This address is too long",
    415: "Not a form",
}

_ORIGIN: Final = re.compile(
    r"(?P<origin>(?P<scheme>https?)://(?P<host>[a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?)/?"
)

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def checked_public_url(text: str) -> str:
    """Where browsers reach this service, as an origin without a slash at its end.

    Raises:
        ServiceError: PERMANENT, `public_url_unfit`: it is no origin, or neither https nor this
            machine, so that cookies and codes would travel in clear.
    """
    found = _ORIGIN.fullmatch(text)
    if found is None:
        raise permanent("public_url_unfit", "the public URL is no origin like https://host[:port]")
    if found["scheme"] == "http" and not _is_loopback(found["host"].strip("[]")):
        raise permanent("public_url_unfit", "the public URL must be https beyond this machine")
    return found["origin"]


def is_https(public_url: str) -> bool:
    """Whether cookies are for https alone."""
    return public_url.startswith("https:")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class _ServerLog:
    """In place of the library's logger: its words repeat a request's beginning, with its code."""

    def debug(self, *_args: object, **_fields: object) -> None:
        """Says nothing."""

    def exception(self, _text: str, *_args: object, exc_info: BaseException | None = None) -> None:
        """Says what kind of error it was."""
        _log.warning("http_connection_failed", error=type(exc_info).__name__)


class HttpServer:
    """Serves `routes` as a part of the process; every answer has the headers of `pages`."""

    def __init__(self, address: Address, routes: Iterable[web.RouteDef], pages: Pages) -> None:
        self._address = address
        self._routes = tuple(routes)
        self._pages = pages
        self._stopping = asyncio.Event()
        self.port = address.port
        """The port listened on; before it is ready, the one asked for."""

    async def run(self, ready: Callable[[], None]) -> None:
        """Serves until `stop`; requests under way are answered."""
        app = web.Application(middlewares=[self._bounded], client_max_size=_BODY_BYTES_MAX)
        app.add_routes(self._routes)
        app.on_response_prepare.append(self._add_headers)
        runner = web.AppRunner(
            app,
            access_log=None,
            logger=_ServerLog(),
            shutdown_timeout=5.0,
            max_line_size=_LINE_BYTES_MAX,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, self._address.host, self._address.port).start()
            self.port = int(runner.addresses[0][1])
            ready()
            await self._stopping.wait()
        finally:
            await runner.cleanup()

    def stop(self) -> None:
        """Takes no new connections."""
        self._stopping.set()

    @web.middleware
    async def _bounded(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        _, _, query = request.raw_path.partition("?")
        if len(query) > QUERY_BYTES_MAX:
            return self._page(414)
        try:
            return await handler(request)
        except web.HTTPException as error:
            response = self._page(error.status)
            if "Allow" in error.headers:
                response.headers["Allow"] = error.headers["Allow"]
            return response
        except Exception as error:  # noqa: BLE001  # told here: its own text may hold a secret
            _log.error(
                "request_failed",
                error=type(error).__name__,
                stack="".join(traceback.format_tb(error.__traceback__)),
            )
            return self._page(500)

    def _page(self, status: int) -> web.Response:
        title = _TITLES.get(status, "Something went wrong")
        then = "Begin again; if it fails again, tell whoever runs this service."
        text = "This request was not answered."
        return self._pages.message(title, text, status=status, then=then)

    async def _add_headers(self, _request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(self._pages.headers)

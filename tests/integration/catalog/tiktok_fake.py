"""A TikTok that answers what it is told to and keeps what it was sent; the adapter before it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from libs.clock import SystemClock
from libs.errors import ServiceError
from libs.http.session import http_session
from libs.limits import BucketSeen, Priority
from libs.settings import Secret
from libs.telemetry import Metrics
from services.catalog.adapters.tiktok import TikTokCatalogApi
from services.catalog.domain.dialect import HttpRequest
from services.catalog.domain.settings import CatalogSettings

TOKEN = "token-of-a-test-0123456789"
CATALOG = CatalogSettings(
    connection_id="example.catalog.7001",
    shop="example",
    catalog_id="7001",
    business_center_id="6001",
    country="DE",
    currency="EUR",
)
UPLOAD = "/open_api/v1.3/catalog/product/upload/"
UPLOAD_LIMITS = ("tiktok.catalog.app", "tiktok.catalog.upload", "tiktok.catalog.upload.7001")


def upload(body: bytes = b"{}", path: str = UPLOAD) -> HttpRequest:
    """A submit as a dialect builds it."""
    return HttpRequest("POST", path, body, UPLOAD_LIMITS)


def ok(**data: Any) -> bytes:
    """TikTok's yes."""
    said = {"code": 0, "message": "OK", "request_id": "r-1", "data": data}
    return msgspec.json.encode(said)


def no(code: int, message: str = "no") -> bytes:
    """TikTok's no."""
    return msgspec.json.encode({"code": code, "message": message, "request_id": "r-2", "data": {}})


@dataclass
class Answer:
    """What the fake answers with."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Asked:
    """What the fake was sent."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    url_bytes: int


class OneToken:
    """Credentials of one connection."""

    def __init__(self) -> None:
        self.reported: list[str] = []
        self.trouble: ServiceError | None = None

    async def refused(self, connection_id: str, token: Secret) -> None:
        self.reported.append(f"{connection_id} {token.reveal()}")

    async def access_token(self, connection_id: str) -> Secret:
        if self.trouble is not None:
            raise self.trouble
        return Secret(TOKEN)

    def webhook_secrets(self, handle: str | None) -> tuple[()]:
        return ()


@dataclass
class ListingLimiter:
    """A limiter that gives turns at once and keeps who asked."""

    turns: list[tuple[tuple[str, ...], Priority, str]] = field(default_factory=list)
    reports: list[tuple[tuple[str, ...], float | None]] = field(default_factory=list)

    async def turn(
        self,
        limits: Sequence[str],
        *,
        weight: int = 1,
        priority: Priority = Priority.LIVE,
        shop: str = "",
        max_wait_s: float = 1.0,
    ) -> None:
        self.turns.append((tuple(limits), priority, shop))

    async def report(
        self, limits: Sequence[str], *, retry_after_s: float | None, code: str
    ) -> None:
        self.reports.append((tuple(limits), retry_after_s))

    async def observe(self, limit: str, seen: BucketSeen) -> None: ...


class Fake:
    """A TikTok of scripted answers; the last one of a path is given for ever."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[Asked] = []
        self._scripts: dict[str, list[Answer]] = {}

    def script(self, path: str, *answers: bytes | Answer) -> None:
        """What requests to paths that end in `path` are answered, in turn."""
        self._scripts[path] = [one if isinstance(one, Answer) else Answer(one) for one in answers]

    def paths(self) -> list[str]:
        return [one.path for one in self.asked]

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(
            Asked(
                request.method,
                request.path,
                dict(request.query),
                dict(request.headers),
                await request.read(),
                len(request.raw_path),
            )
        )
        for path, answers in self._scripts.items():
            if request.path.endswith(path):
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                return web.Response(body=answer.body, status=answer.status, headers=answer.headers)
        return web.Response(status=404, text="404 page not found")


@dataclass
class Bench:
    """The adapter and all that is around it."""

    api: TikTokCatalogApi
    tiktok: Fake
    token: OneToken
    limiter: ListingLimiter
    metrics: Metrics


@asynccontextmanager
async def bench_of() -> AsyncIterator[Bench]:
    tiktok = Fake()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", tiktok.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    tiktok.url = f"http://{host}:{port}"
    try:
        async with http_session() as session:
            token, limiter, metrics = OneToken(), ListingLimiter(), Metrics()
            api = TikTokCatalogApi(
                tiktok.url,
                session,
                token,
                limiter,
                SystemClock(),
                metrics,
                timeout_s=2.0,
                submit_timeout_s=2.0,
            )
            yield Bench(api, tiktok, token, limiter, metrics)
    finally:
        await runner.cleanup()

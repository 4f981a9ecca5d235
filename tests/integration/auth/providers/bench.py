"""A provider's endpoints as a test scripts them, on loopback, with all that they were asked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import aiohttp
from aiohttp import web

from libs.clock import FakeClock
from libs.errors import ServiceError
from libs.http.session import http_session
from libs.settings import Secret
from services.auth.adapters.providers import Endpoints, providers
from services.auth.domain.grants import App, Consent, Family, Grant
from services.auth.ports import Provider

SHOP = "some-shop.myshopify.com"
SECRET = "app-secret-" + "0123456789" * 6
APP = App("7123456789012345678", Secret(SECRET), service_id="7000000000000000001")
CODE = "code-0123456789"
CONSENT = Consent(
    shop=SHOP,
    state="signed.state",
    redirect_uri="https://tidewire.example/oauth/callback",
    scopes=("read_products", "read_orders"),
)
SECRETS = (SECRET, CODE, "old-access", "old-refresh", "new-access", "new-refresh", "the-cipher")
"""What must not show in any error."""


@dataclass
class Asked:
    """A request as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Reply:
    """An answer to be given; `hang_up` gives none."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hang_up: bool = False


@dataclass
class Bench:
    """One provider, and the endpoints it talks to: replies are given in turn, the last for good."""

    url: str
    clock: FakeClock
    table: dict[Family, Provider]
    asked: list[Asked] = field(default_factory=list)
    replies: dict[str, list[Reply]] = field(default_factory=dict)

    def reply(self, path: str, *replies: Reply) -> None:
        """What is answered at a path, in this order."""
        self.replies[path] = list(replies)

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock.now_s).astimezone()

    def old_grant(self, **changes: Any) -> Grant:
        """A grant that has an hour to go and can be refreshed."""
        fields: dict[str, Any] = {
            "access_token": Secret("old-access"),
            "expires_at": self.now + timedelta(hours=1),
            "refresh_token": Secret("old-refresh"),
            "refresh_expires_at": self.now + timedelta(days=90),
            "scopes": ("read_orders",),
            "accounts": ("a-1",),
        }
        return Grant(**{**fields, **changes})

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(
            Asked(
                request.method,
                request.path,
                dict(request.query),
                dict(request.headers),
                await request.read(),
            )
        )
        known = self.replies.get(request.path)
        if known is None:
            return web.Response(status=404, text="no such page")
        reply = known.pop(0) if len(known) > 1 else known[0]
        if reply.hang_up:
            assert request.transport is not None
            request.transport.close()
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        return web.Response(status=reply.status, body=body, headers=reply.headers)


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    """All five providers against one scripted server."""
    async with http_session() as session:
        made = Bench("", FakeClock(), {})
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", made._answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            made.url = "http://{}:{}".format(*runner.addresses[0][:2])
            made.table = dict(providers(endpoints(made.url), session, made.clock, timeout_s=2.0))
            yield made
        finally:
            await runner.cleanup()


def endpoints(url: str) -> Endpoints:
    return Endpoints(
        shopify_url=f"{url}/shopify/{{shop}}",
        tiktok_api_url=f"{url}/tiktok",
        tiktok_consent_url=f"{url}/portal/auth",
        tiktok_account_consent_url=f"{url}/v2/auth/authorize/",
        tiktok_shop_auth_url=f"{url}/shop-auth",
        tiktok_shop_api_url=f"{url}/shop-api",
        tiktok_shop_consent_url=f"{url}/open/authorize",
    )


def unreachable(session: aiohttp.ClientSession) -> dict[Family, Provider]:
    """The providers where nobody listens."""
    return dict(providers(endpoints("http://127.0.0.1:1"), session, FakeClock(), timeout_s=2.0))


def shown(error: BaseException) -> str:
    """All that a log could say of an error: texts, causes and contexts."""
    texts = []
    at: BaseException | None = error
    while at is not None:
        message = at.message if isinstance(at, ServiceError) else ""
        texts += [str(at), repr(at), message, repr(at.args)]
        at = at.__cause__ or at.__context__
    return "\n".join(texts)

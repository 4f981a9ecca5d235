"""A provider that is played: a real consent page on loopback, and grants as told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from libs.errors import permanent
from libs.settings import Secret
from services.auth.domain.grants import Answer, App, Consent, Family, Grant
from services.auth.ports import CODE_REFUSED, CONSENT_REFUSED

CODE: Final = "code-that-nobody-prints"
TOKEN: Final = "token-that-nobody-prints"
APP_SECRET: Final = "app-secret-that-nobody-prints"


@dataclass
class PlayedProvider:
    """`Provider`. A code works once; what goes wrong is scripted in `failure`."""

    base_url: str = "http://127.0.0.1:1"
    grant: Grant = field(default_factory=lambda: Grant(access_token=Secret(TOKEN)))
    answers: dict[str, str] = field(default_factory=lambda: {"code": CODE})
    """What its consent page sends the browser back with, besides `state`."""
    failure: Exception | None = None
    """Raised at the exchange."""
    gate: asyncio.Event | None = None
    """Waited for at the exchange."""
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once an exchange was asked for."""
    consents: list[Consent] = field(default_factory=list)
    exchanges: list[tuple[App, Consent, str]] = field(default_factory=list)

    def consent_url(self, app: App, consent: Consent) -> str:
        self.consents.append(consent)
        query = {
            "client_id": app.client_id,
            "state": consent.state,
            "redirect_uri": consent.redirect_uri,
            "scope": ",".join(consent.scopes),
        }
        return f"{self.base_url}/consent?{urlencode(query)}"

    def code(self, app: App, consent: Consent, answer: Answer) -> str:
        if answer.one("error"):
            raise permanent(CONSENT_REFUSED, answer.one("error_description") or "they said no")
        return answer.one("code")

    async def exchange(self, app: App, consent: Consent, code: str) -> Grant:
        self.exchanges.append((app, consent, code))
        self.reached.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        if code != CODE or len(self.exchanges) > 1:
            raise permanent(CODE_REFUSED, "the code was used")
        return self.grant

    async def refresh(self, app: App, shop: str, grant: Grant) -> Grant:
        return grant

    async def revoke(self, app: App, shop: str, grant: Grant) -> None:
        """Knows of nothing to revoke."""

    async def _consent_page(self, request: web.Request) -> web.Response:
        query = urlencode({**self.answers, "state": request.query["state"]})
        location = f"{request.query['redirect_uri']}?{query}"
        return web.Response(status=302, headers={"Location": location})

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Its consent page, which agrees at once, is there."""
        app = web.Application()
        app.router.add_get("/consent", self._consent_page)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield
        finally:
            await runner.cleanup()


class PlayedProviders:
    """`Providers`: one that is played for all families, and an app at each that is named."""

    def __init__(self, provider: PlayedProvider, families: tuple[Family, ...] = ()) -> None:
        self._provider = provider
        self._families = families or tuple(Family)
        self.alive: set[str] = set()
        """Access tokens that are taken, for who asks."""

    def of(self, family: Family) -> PlayedProvider:
        return self._provider

    async def is_alive(self, family: Family, shop: str, grant: Grant) -> bool:
        return grant.access_token.reveal() in self.alive

    def app(self, family: Family) -> App | None:
        known = family in self._families
        return App(f"app-at-{family}", Secret(APP_SECRET), "service-1") if known else None

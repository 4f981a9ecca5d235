"""Somebody in TikTok's place who answers with bytes, before the adapter that reads them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from libs.clock import SystemClock
from libs.errors import ServiceError
from libs.http.session import http_session
from libs.settings import Secret
from libs.telemetry import Metrics
from services.events.adapters.tiktok import TikTokEvents
from services.events.domain.answers import Answered
from services.events.domain.dialects import dialect_of
from services.events.domain.model import Page
from services.events.domain.settings import DialectName
from tests.unit.events_service.answer_shapes import Shape, Verdict, verdict_on
from tests.unit.events_service.fakes import conversion, pixel

TOKEN: Final = "token"  # of nobody


class OneToken:
    """Credentials of one connection."""

    def __init__(self) -> None:
        self.reported: list[str] = []
        self.trouble: ServiceError | None = None

    async def refused(self, connection_id: str, token: Secret) -> None:
        self.reported.append(token.reveal())

    async def access_token(self, connection_id: str) -> Secret:
        if self.trouble is not None:
            raise self.trouble
        return Secret(TOKEN)

    def webhook_secrets(self, handle: str | None) -> tuple[()]:
        return ()


@asynccontextmanager
async def answering(sent: bytes) -> AsyncIterator[TikTokEvents]:
    """The adapter before somebody who answers any request with these bytes and hangs up."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        [length] = [line for line in head.lower().split(b"\r\n") if b"content-length" in line]
        await reader.readexactly(int(length.partition(b":")[2]))
        writer.write(sent)
        # Whoever has read enough of an endless page is gone before its end.
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, http_session() as session:
        yield TikTokEvents(url, session, OneToken(), SystemClock(), Metrics(), timeout_s=5.0)


async def off_a_socket(shape: Shape) -> Verdict:
    """What the adapter makes of an answer that comes over the wire."""
    page = Page("https://shop.example/")
    [request] = dialect_of(DialectName.EVENT_TRACK).encode(
        [conversion("e1", page=page)], pixel().settings
    )
    found: Answered | ServiceError
    async with answering(shape.sent) as api:
        try:
            found = await api.send(request, "one", {})
        except ServiceError as error:
            found = error
    return verdict_on(found)

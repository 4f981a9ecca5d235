"""Shopify as the catalog service meets it: scripted answers, and a storage host with moods."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

Json = dict[str, Any]
Resolver = Callable[[Mapping[str, Any]], Json]
"""Data, or a whole body with `errors`, for the variables of an operation."""


@dataclass
class Told:
    """One request as it came."""

    operation: str
    variables: Json
    query: str
    version: str


@dataclass
class Storage:
    """A file of a bulk operation, and how it is handed out."""

    content: bytes = b""
    breaks: list[int] = field(default_factory=list)
    """After how many bytes each of the next answers breaks off."""
    statuses: list[int] = field(default_factory=list)
    """What the next answers are instead."""
    ranges: bool = True
    etag: str = '"one"'
    headers: list[Mapping[str, str]] = field(default_factory=list)
    """Of each request."""
    received: int = 0
    """How far the reader says it is."""
    stalled: asyncio.Event | None = None
    """Set once an answer has sent half of the file, and waits for ever."""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.headers.append(dict(request.headers))
        if self.statuses:
            return web.Response(status=self.statuses.pop(0), text="ExpiredToken")
        begin = self._begin(request)
        if begin and begin >= len(self.content):
            told = {"Content-Range": f"bytes */{len(self.content)}"}
            return web.Response(status=416, headers=told)
        rest = self.content[begin:]
        response = web.StreamResponse(status=206 if begin else 200)
        response.headers["ETag"] = self.etag
        response.content_length = len(rest)
        if begin:
            end, length = len(self.content) - 1, len(self.content)
            response.headers["Content-Range"] = f"bytes {begin}-{end}/{length}"
        await response.prepare(request)
        cut = self.breaks.pop(0) if self.breaks else len(rest)
        if self.stalled:
            await response.write(rest[: len(rest) // 2])
            self.stalled.set()
            await asyncio.Event().wait()
        await response.write(rest[:cut])
        if cut < len(rest) and request.transport:
            # One that loses its connection before it looks loses what it was sent, too.
            while cut and self.received < begin + cut:  # noqa: ASYNC110  # they share a loop
                await asyncio.sleep(0)
            request.transport.close()
        return response

    def _begin(self, request: web.Request) -> int:
        asked = request.headers.get("Range", "")
        same = request.headers.get("If-Range", self.etag) == self.etag
        if not (self.ranges and asked and same):
            return 0
        return int(asked.removeprefix("bytes=").removesuffix("-"))


@dataclass
class FakeShopify:
    """Answers operations by their names as scripted."""

    answers: dict[str, Resolver] = field(default_factory=dict)
    told: list[Told] = field(default_factory=list)
    storage: Storage = field(default_factory=Storage)
    url: str = ""

    def on(self, operation: str, *answers: Json | Resolver) -> None:
        """Answers in turn; the last one stays."""
        left = list(answers)

        def resolve(variables: Mapping[str, Any]) -> Json:
            answer = left.pop(0) if len(left) > 1 else left[0]
            return answer(variables) if callable(answer) else answer

        self.answers[operation] = resolve

    def asked(self, operation: str) -> list[Json]:
        """The variables of each call of an operation."""
        return [one.variables for one in self.told if one.operation == operation]

    @property
    def template(self) -> str:
        return f"{self.url}/shopify/{{shop}}"

    @property
    def result_url(self) -> str:
        return f"{self.url}/storage/result.jsonl?signature=secret-of-the-address"

    async def answer(self, request: web.Request) -> web.Response:
        body = msgspec.json.decode(await request.read())
        operation = body["query"].split("(")[0].split("{")[0].split()[1]
        told = Told(operation, body["variables"], body["query"], request.match_info["version"])
        self.told.append(told)
        answer = self.answers[operation](body["variables"])
        if "errors" not in answer:
            answer = {"data": answer}
        return web.json_response(answer, headers={"X-Shopify-API-Version": told.version})


def refused(code: str, message: str = "", data: Json | None = None, path: Any = ()) -> Json:
    """An answer with an error."""
    error = {"message": message or code, "path": list(path), "extensions": {"code": code}}
    return {"data": data, "errors": [error]}


@asynccontextmanager
async def fake_shopify() -> AsyncIterator[FakeShopify]:
    fake = FakeShopify()
    app = web.Application()
    app.router.add_post("/shopify/{shop}/admin/api/{version}/graphql.json", fake.answer)
    app.router.add_get("/storage/result.jsonl", fake.storage.serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield fake
    finally:
        await runner.cleanup()

"""Shopify's Admin API over HTTP. Bind it to loopback: it has no guard of its own.

POST   /shopify/<domain>/admin/api/<version>/graphql.json
POST   /_sandbox/shopify/orders    {"shop": domain, "orders": […], "products": […]} as webhooks
GET    /_sandbox/shopify/ledger    counts of calls; DELETE resets
POST   /_sandbox/shopify/faults    a script (faults.py); GET lists, DELETE ends them
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import web

from libs.clock import Clock
from sandbox.shopify_admin.cost import Bucket
from sandbox.shopify_admin.engine import Answered, answer, operation_of
from sandbox.shopify_admin.faults import (
    Effect,
    ExpiredToken,
    FaultBook,
    Hang,
    HttpStatus,
    Throttled,
)
from sandbox.shopify_admin.ledger import Call, Ledger
from sandbox.shopify_admin.schema import schema_of, served_version
from sandbox.shopify_admin.store import Store

_GONE_POLL_S: Final = 0.02
_BAD_TOKEN: Final = "[API] Invalid API key or access token (unrecognized login or wrong password)"  # noqa: S105


@dataclass(frozen=True, slots=True)
class AdminConfig:
    """What the simulator is told at its start."""

    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The access token of each shop, by domain; a shop without one cannot be called."""

    schema_folder: Path | None = None
    """Where Shopify's own schemas are, if anywhere."""

    capacity: float = 2000.0
    """Points of a shop's bucket; a Standard plan's."""

    restore_per_s: float = 100.0


class Loading(msgspec.Struct, forbid_unknown_fields=True):
    """What a shop is to have, as webhooks tell of it."""

    shop: str
    orders: list[dict[str, Any]] = []
    products: list[dict[str, Any]] = []


class ShopifyAdminSandbox:
    """The Admin API of every shop that it knows."""

    def __init__(self, config: AdminConfig, clock: Clock) -> None:
        self.ledger = Ledger()
        self.faults = FaultBook()
        self._config = config
        self._clock = clock
        self._stores: dict[str, Store] = {}
        self._buckets: dict[str, Bucket] = {}
        self._stopping = asyncio.Event()

    def store(self, domain: str) -> Store:
        """What a shop has."""
        return self._stores.setdefault(domain, Store(domain))

    def bucket(self, domain: str) -> Bucket:
        """A shop's points."""
        fresh = Bucket(self._config.capacity, self._config.restore_per_s)
        return self._buckets.setdefault(domain, fresh)

    def add_routes(self, app: web.Application) -> None:
        """Serves beside other simulators."""
        path = "/shopify/{shop}/admin/api/{version}/graphql.json"
        app.router.add_post(path, self._serve)
        app.router.add_post("/_sandbox/shopify/orders", self._load)
        app.router.add_get("/_sandbox/shopify/ledger", self._show_ledger)
        app.router.add_delete("/_sandbox/shopify/ledger", self._reset_ledger)
        app.router.add_get("/_sandbox/shopify/faults", self._show_faults)
        app.router.add_post("/_sandbox/shopify/faults", self._post_faults)
        app.router.add_delete("/_sandbox/shopify/faults", self._end_faults)

    def let_go(self) -> None:
        """Ends the requests that hang."""
        self._stopping.set()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        domain, asked = request.match_info["shop"], request.match_info["version"]
        data = await request.read()
        operation = operation_of(data)
        now_s = self._clock.monotonic_s()
        plan = self.faults.plan(domain, operation, now_s)
        if plan.latency_ms > 0:
            await self._clock.sleep(plan.latency_ms / 1000)
        version = served_version(asked)
        refused = self._refusal(request, domain, version, plan.effect)
        if refused is not None or version is None:
            outcome, response = refused or ("unknown_version", web.Response(status=404))
            self.ledger.record(Call(domain, operation, asked, outcome, 0, 0, now_s))
            if outcome == "hang":
                await self._wait_until_gone(request)
            return response
        answered = self._answered(data, domain, version, plan.effect)
        self.ledger.record(
            Call(
                domain,
                operation,
                version,
                answered.outcome,
                answered.requested,
                answered.actual,
                now_s,
            )
        )
        return _json(answered.body, headers={"X-Shopify-API-Version": version})

    def _answered(self, data: bytes, domain: str, version: str, effect: Effect | None) -> Answered:
        return answer(
            data,
            schema=schema_of(version, self._config.schema_folder),
            store=self.store(domain),
            bucket=self.bucket(domain),
            now_s=self._clock.monotonic_s(),
            effect=effect,
        )

    def _refusal(
        self, request: web.Request, domain: str, version: str | None, effect: Effect | None
    ) -> tuple[str, web.Response] | None:
        """What is answered before GraphQL is looked at, with its name; None where nothing is."""
        known = self._config.tokens.get(domain)
        token = request.headers.get("X-Shopify-Access-Token", "")
        match effect:
            case Hang():
                return "hang", web.Response()
            case HttpStatus(status=status, retry_after_s=wait_s):
                headers = {} if wait_s is None else {"Retry-After": str(wait_s)}
                return f"http_{status}", web.Response(status=status, headers=headers)
            case Throttled(as_429=True):
                return "http_429", web.Response(status=429, headers={"Retry-After": "2.0"})
            case _:
                pass
        fits = known is not None and hmac.compare_digest(token.encode(), known.encode())
        if isinstance(effect, ExpiredToken) or not fits:
            return "unauthorised", _json({"errors": _BAD_TOKEN}, status=401)
        if version is None:
            return "unknown_version", _json({"errors": "Not Found"}, status=404)
        return None

    async def _wait_until_gone(self, request: web.Request) -> None:
        transport = request.transport
        while transport is not None and not transport.is_closing() and not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _GONE_POLL_S)

    async def _load(self, request: web.Request) -> web.Response:
        try:
            loading = msgspec.json.decode(await request.read(), type=Loading)
            store = self.store(loading.shop)
            taken = store.put("Order", loading.orders) + store.put("Product", loading.products)
        except (msgspec.DecodeError, ValueError) as error:
            return _json({"error": str(error)}, status=400)
        return _json({"taken": taken, **store.counts()})

    async def _show_ledger(self, _request: web.Request) -> web.Response:
        return _json(self.ledger.summary())

    async def _reset_ledger(self, _request: web.Request) -> web.Response:
        self.ledger.reset()
        return _json(self.ledger.summary())

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


def _json(
    found: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(found),
        status=status,
        content_type="application/json",
        headers=headers,
    )

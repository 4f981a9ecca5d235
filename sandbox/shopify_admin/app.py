"""Shopify's Admin API over HTTP. Bind it to loopback: it has no guard of its own.

POST   /shopify/<domain>/admin/api/<version>/graphql.json
       /shopify/<domain>/admin/oauth/…     consent and tokens (oauth.py)
GET    /shopify/<domain>/admin/oauth/access_scopes.json
DELETE /shopify/<domain>/admin/api_permissions/current.json     uninstalls the calling app
POST   /_sandbox/shopify/orders    {"shop": domain, "orders": […], "products": […]} as webhooks
GET    /_sandbox/shopify/ledger    counts of calls; DELETE resets
POST   /_sandbox/shopify/faults    a script (faults.py); GET lists, DELETE ends them
       /_sandbox/shopify/…         what happens behind the app's back (operator.py), bulk
       operations (bulk_desk.py), the catalog (catalog_desk.py)
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import web
from graphql import GraphQLSchema

from libs.clock import Clock
from sandbox.oauth.desk import Answer, Desk, json_response
from sandbox.oauth.faults import Sighting
from sandbox.oauth.vault import Connection
from sandbox.shopify_admin.access import BAD_TOKEN, Caller, Doorkeeper, Refusal
from sandbox.shopify_admin.bulk import Bulk
from sandbox.shopify_admin.bulk_desk import BulkDesk
from sandbox.shopify_admin.catalog_desk import CatalogDesk
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
from sandbox.shopify_admin.oauth import ShopifyOAuth
from sandbox.shopify_admin.operator import Operator
from sandbox.shopify_admin.premises import STATIC, Town
from sandbox.shopify_admin.schema import schema_of, served_version
from sandbox.shopify_admin.store import Store

_GONE_POLL_S: Final = 0.02


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
    loopback_webhooks: bool = False
    """Webhook addresses on loopback are taken from callers with a token of `tokens`, http too."""


class Loading(msgspec.Struct, forbid_unknown_fields=True):
    """What a shop is to have, as webhooks tell of it."""

    shop: str
    orders: list[dict[str, Any]] = []
    products: list[dict[str, Any]] = []


class ShopifyAdminSandbox:
    """The Admin API of every shop that it knows."""

    def __init__(self, config: AdminConfig, clock: Clock, desk: Desk | None = None) -> None:
        self.desk = desk or Desk(clock)
        self.town = Town(self.desk, loopback_webhooks=config.loopback_webhooks)
        self._doorkeeper = Doorkeeper(config.tokens, self.desk)
        self.bulk = Bulk(clock, self.town, self.store)
        self.catalog = CatalogDesk(clock, self.town, self.store)
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
        admin = "/shopify/{shop}/admin"
        app.router.add_get(f"{admin}/oauth/access_scopes.json", self._show_scopes)
        app.router.add_delete(f"{admin}/api_permissions/current.json", self._uninstall)
        ShopifyOAuth(self.desk).add_routes(app)
        Operator(self.desk, self.town).add_routes(app)
        BulkDesk(self.bulk).add_routes(app)
        self.catalog.add_routes(app)
        self.desk.add_routes(app)
        app.router.add_post("/_sandbox/shopify/orders", self._load)
        app.router.add_get("/_sandbox/shopify/ledger", self._show_ledger)
        app.router.add_delete("/_sandbox/shopify/ledger", self._reset_ledger)
        app.router.add_get("/_sandbox/shopify/faults", self._show_faults)
        app.router.add_post("/_sandbox/shopify/faults", self._post_faults)
        app.router.add_delete("/_sandbox/shopify/faults", self._end_faults)

    def let_go(self) -> None:
        """Ends the requests that hang."""
        self._stopping.set()
        self.bulk.let_go()
        self.catalog.let_go()
        self.desk.let_go()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        domain, asked = request.match_info["shop"], request.match_info["version"]
        data = await request.read()
        operation = operation_of(data)
        now_s = self._clock.monotonic_s()
        plan = self.faults.plan(domain, operation, now_s)
        if plan.latency_ms > 0:
            await self._clock.sleep(plan.latency_ms / 1000)
        version = served_version(asked)
        struck = self._struck(plan.effect)
        caller = struck or self._caller(request, domain, version)
        if isinstance(caller, Refusal) or version is None:
            refusal = caller if isinstance(caller, Refusal) else _NO_VERSION
            self.ledger.record(Call(domain, operation, asked, refusal.outcome, 0, 0, now_s))
            if refusal.outcome == "hang":
                await self._wait_until_gone(request)
            return _refused(refusal, plan.effect)
        shop = self.town.shop(domain)
        version = shop.serves or version
        schema = schema_of(version, self._config.schema_folder)
        caller = self.town.equipped(domain, caller, version)
        caller = self.bulk.equipped(domain, caller, version, schema, str(request.url.origin()))
        answered = self._answered(data, domain, schema, plan.effect, caller)
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
        headers = {"X-Shopify-API-Version": version}
        if shop.deprecated:
            headers["X-Shopify-API-Deprecated-Reason"] = shop.deprecated
        return _json(answered.body, headers=headers)

    def _struck(self, effect: Effect | None) -> Refusal | None:
        """What a fault answers before anybody looks at the call."""
        match effect:
            case Hang():
                return Refusal(200, "", "hang")
            case HttpStatus(status=status):
                return Refusal(status, "", f"http_{status}")
            case Throttled(as_429=True):
                return Refusal(429, "", "http_429")
            case ExpiredToken():
                return Refusal(401, BAD_TOKEN, "unauthorised")
            case _:
                return None

    def _caller(self, request: web.Request, domain: str, version: str | None) -> Caller | Refusal:
        found = self._doorkeeper.caller(domain, request.headers.get("X-Shopify-Access-Token", ""))
        return _NO_VERSION if version is None and isinstance(found, Caller) else found

    def _answered(
        self, data: bytes, domain: str, schema: GraphQLSchema, effect: Effect | None, caller: Caller
    ) -> Answered:
        return answer(
            data,
            schema=schema,
            store=self.store(domain),
            bucket=self.bucket(domain),
            now_s=self._clock.monotonic_s(),
            effect=effect,
            caller=caller,
        )

    async def _show_scopes(self, request: web.Request) -> web.StreamResponse:
        found = self._caller(request, request.match_info["shop"], "")
        if isinstance(found, Refusal):
            return _refused(found, None)
        handles = [{"handle": one} for one in sorted(found.shown_scopes())]
        return json_response({"access_scopes": handles})

    async def _uninstall(self, request: web.Request) -> web.StreamResponse:
        """Ends the calling app at the shop, as its own wish."""
        domain = request.match_info["shop"]
        found = self._caller(request, domain, "")
        if isinstance(found, Refusal):
            return _refused(found, None)
        if found.app_id == STATIC:
            return json_response({"errors": "this token ends with the sandbox"}, 403)

        ended = 0

        def act() -> Answer:
            nonlocal ended
            ended = self.desk.end_grants(Connection("shopify", found.app_id, domain))
            return Answer(200, b"{}", account=domain)

        answered = await self.desk.serve(
            request, Sighting("shopify", "revoke", found.app_id, domain), act
        )
        if ended:
            await self.town.uninstall(domain, found.app_id)
        return answered

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


_NO_VERSION: Final = Refusal(404, "Not Found", "unknown_version")


def _refused(refusal: Refusal, effect: Effect | None) -> web.Response:
    """What a call that is not let in is answered; bare where a fault speaks for a proxy."""
    headers: dict[str, str] = {}
    match effect:
        case HttpStatus(retry_after_s=wait_s) if wait_s is not None:
            headers = {"Retry-After": str(wait_s)}
        case Throttled(as_429=True):
            headers = {"Retry-After": "2.0"}
        case _:
            pass
    if not refusal.errors:
        return web.Response(status=refusal.status, headers=headers)
    return _json({"errors": refusal.errors}, status=refusal.status)


def _json(
    found: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(found),
        status=status,
        content_type="application/json",
        headers=headers,
    )

"""The part of Shopify's Admin API that keeps a store connected, on loopback."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

import aiohttp
import msgspec
from aiohttp import web

from libs.clock import SystemClock
from libs.connections import ShopView, WebhookSecret
from libs.limits import BucketSeen, Priority
from libs.settings import Secret
from libs.shopify.admin import ShopifyAdmin
from libs.telemetry import Metrics
from tidewire.connections.v1.connection_pb2 import Connection, ConnectionKind

TOKEN: Final = "shpat_example"
_NAME: Final = re.compile(r"\s*(?:query|mutation)\s+(\w+)")


@dataclass
class FakeStore:
    """One store: what it has, what it was asked, and how it is to answer."""

    scopes: list[str] = field(default_factory=list)
    subscriptions: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    served: str = "2026-10"
    webhook_version: str = "2026-10"
    deprecation: str = ""
    token: str = TOKEN
    denied: bool = False
    """The store's address may not be seen."""
    down: set[str] = field(default_factory=set)
    """Operations that are answered 503."""
    refused: set[str] = field(default_factory=set)
    """Topics that cannot be subscribed to."""
    page: int = 100
    numbers: count[int] = field(default_factory=lambda: count(1))

    def put(self, topic: str, uri: str, **more: Any) -> str:
        id_ = f"gid://shopify/WebhookSubscription/{next(self.numbers)}"
        self.subscriptions[id_] = {
            "id": id_,
            "topic": topic,
            "uri": uri,
            "filter": None,
            "includeFields": [],
            "format": "JSON",
            **more,
        }
        return id_

    def drop(self, topic: str) -> None:
        """Ends a subscription behind everybody's back."""
        for id_ in [one["id"] for one in self.subscriptions.values() if one["topic"] == topic]:
            del self.subscriptions[id_]

    def topics(self, uri: str) -> list[str]:
        return sorted(one["topic"] for one in self.subscriptions.values() if one["uri"] == uri)

    def writes(self) -> list[str]:
        return [name for name in self.asked if not name.startswith("Store")]

    def answer(self, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        match name:
            case "StoreInstallation":
                return self._scopes() | self._listed(variables)
            case "StoreSubscriptions":
                return self._listed(variables)
            case "StoreScopes":
                return self._scopes()
            case "StorePlace":
                address = {"countryCodeV2": "GB"}
                return {"shop": {"currencyCode": "GBP", "billingAddress": address}}
            case "SubscribeStore":
                return {"webhookSubscriptionCreate": self._create(**variables)}
            case "CorrectSubscription":
                return {"webhookSubscriptionUpdate": self._update(**variables)}
            case "UnsubscribeStore":
                gone = self.subscriptions.pop(variables["id"], None)
                errors = [] if gone else [{"field": ["id"], "message": "It does not exist"}]
                return {"webhookSubscriptionDelete": {"userErrors": errors}}
        raise AssertionError(name)

    def _scopes(self) -> dict[str, Any]:
        return {"currentAppInstallation": {"accessScopes": [{"handle": s} for s in self.scopes]}}

    def _listed(self, variables: dict[str, Any]) -> dict[str, Any]:
        found = [
            {**one, "apiVersion": {"handle": self.webhook_version}}
            for one in self.subscriptions.values()
        ]
        start = int(variables["after"] or 0)
        end = start + self.page
        info = {"hasNextPage": end < len(found), "endCursor": str(end)}
        return {"webhookSubscriptions": {"nodes": found[start:end], "pageInfo": info}}

    def _create(self, topic: str, input: dict[str, Any]) -> dict[str, Any]:  # noqa: A002
        taken = any(
            (one["topic"], one["uri"]) == (topic, input["uri"])
            for one in self.subscriptions.values()
        )
        if taken or topic in self.refused:
            text = "Address for this topic has already been taken" if taken else "Not this topic"
            return {"userErrors": [{"field": ["x"], "message": text}]}
        self.put(topic, **{**input, "filter": input["filter"] or None})
        return {"userErrors": []}

    def _update(self, id: str, input: dict[str, Any]) -> dict[str, Any]:  # noqa: A002
        if id not in self.subscriptions:
            return {"userErrors": [{"field": ["id"], "message": "It does not exist"}]}
        self.subscriptions[id] |= {**input, "filter": input["filter"] or None}
        return {"userErrors": []}


@asynccontextmanager
async def serving(stores: dict[str, FakeStore]) -> AsyncIterator[str]:
    """The stores by handle; the template of their address."""

    async def serve(request: web.Request) -> web.Response:
        store = stores[request.match_info["shop"].partition(".")[0]]
        body = msgspec.json.decode(await request.read())
        found = _NAME.match(body["query"])
        assert found is not None
        store.asked.append(found[1])
        if request.headers["X-Shopify-Access-Token"] != store.token:
            return web.Response(status=401, body=b'{"errors": "Invalid API key"}')
        if found[1] in store.down:
            return web.Response(status=503)
        headers = {"X-Shopify-API-Version": store.served}
        if store.deprecation:
            headers["X-Shopify-API-Deprecated-Reason"] = store.deprecation
        answer: dict[str, Any] = {"data": store.answer(found[1], body["variables"])}
        if store.denied:
            code = {"code": "ACCESS_DENIED", "requiredAccess": "`read_x`"}
            path = ["shop", "billingAddress"]
            answer["errors"] = [{"message": "no", "path": path, "extensions": code}]
        return web.Response(body=msgspec.json.encode(answer), headers=headers)

    app = web.Application()
    app.router.add_post("/{shop}/admin/api/{version}/graphql.json", serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/{{shop}}"
    finally:
        await runner.cleanup()


class OneToken:
    """`Connections` and `Credentials` of stores that all have the same token."""

    def __init__(self) -> None:
        self.reported: list[tuple[str, Secret]] = []

    def shop(self, handle: str) -> ShopView | None:
        return None

    def shops(self) -> Iterator[ShopView]:
        return iter(())

    def connections(self, handle: str, kind: ConnectionKind.ValueType) -> Sequence[Connection]:
        return ()

    async def told(self) -> None:
        """Returns at once."""

    def sinks(self, handle: str) -> Sequence[str]:
        return ()

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

    def webhook_secrets(self, handle: str | None) -> Sequence[WebhookSecret]:
        return ()

    async def access_token(self, connection_id: str) -> Secret:
        return Secret(TOKEN)

    async def refused(self, connection_id: str, token: Secret) -> None:
        self.reported.append((connection_id, token))


class Unlimited:
    """A limiter that lets everything pass."""

    async def turn(
        self,
        limits: Sequence[str],
        *,
        weight: int = 1,
        priority: Priority = Priority.LIVE,
        shop: str = "",
        max_wait_s: float = 1.0,
    ) -> None:
        return

    async def report(
        self, limits: Sequence[str], *, retry_after_s: float | None, code: str
    ) -> None:
        return

    async def observe(self, limit: str, seen: BucketSeen) -> None:
        return


def admin_of(
    template: str,
    session: aiohttp.ClientSession,
    metrics: Metrics,
    tokens: OneToken,
    *,
    api_version: str = "2026-10",
) -> ShopifyAdmin:
    return ShopifyAdmin(
        base_url=template,
        api_version=api_version,
        session=session,
        connections=tokens,
        credentials=tokens,
        limiter=Unlimited(),
        clock=SystemClock(),
        metrics=metrics,
        timeout_s=5.0,
    )

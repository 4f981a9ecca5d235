"""A catalog over HTTP: made, changed while it is sold from, and shown whole to a judge.

POST   /_sandbox/shopify/catalog   a plan (sandbox/shopify/catalog_plan.py): the shop is made
POST   /_sandbox/shopify/catalog/export?shop=…[&limit=…]    Shopify's CSV of products: put on the
                                   shelf of a shop that is made, at most `limit` variants
GET    /_sandbox/shopify/catalog?shop=…[&after=…][&limit=…]    its products as plain JSON
POST   /_sandbox/shopify/mutate    changes, and the webhooks of them (`Mutation`)
GET    /_sandbox/shopify/mutate    how far the sending is that nobody waits for
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Any, Final, Literal, TypeVar

import msgspec
from aiohttp import web

from libs.clock import Clock
from sandbox.oauth.apps import is_loopback
from sandbox.oauth.desk import json_response
from sandbox.shopify.catalog_changes import Changes, Kind
from sandbox.shopify.catalog_export import ExportError, add_export
from sandbox.shopify.catalog_model import CatalogShop, truths
from sandbox.shopify.catalog_plan import CatalogPlan
from sandbox.shopify.catalog_shop import make_catalog
from sandbox.shopify.model import Delivery, Shop
from sandbox.shopify.sender import Manners, send_all
from sandbox.shopify.wire import Dispatcher, Told
from sandbox.shopify_admin.operator import DEFAULT_APP
from sandbox.shopify_admin.premises import Town
from sandbox.shopify_admin.shelf import Shelf
from sandbox.shopify_admin.store import Store

Json = dict[str, Any]
_Wish = TypeVar("_Wish", bound=msgspec.Struct)

PAGE_MAX: Final = 1000
EXPORT_VARIANTS_MAX: Final = 100_000
_PATH: Final = "/_sandbox/shopify/catalog"
_MUTATE: Final = "/_sandbox/shopify/mutate"
_TICK_S: Final = 0.1
_LONG_AGO: Final = datetime(2010, 1, 1, tzinfo=UTC)


class Sending(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Where the webhooks of changes go."""

    url: str = ""
    """On this machine; without one to the subscriptions or the address of `app`."""

    secret: str = ""
    app: str = DEFAULT_APP
    per_s: float | None = None
    """Changes in a second; without it all at once."""

    wait: bool = True
    """The answer waits for the last delivery."""


class Mutation(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Changes that are wanted."""

    shop: str
    kind: Kind | Literal["mix"] = "mix"
    count: int = 1
    seed: int = 1
    secret: str = ""
    """Signs deliveries that are only shown."""

    send: Sending | None = None
    """Without it the deliveries are shown, and nothing is sent."""


class Progress(msgspec.Struct):
    """How far a sending is; statuses are those that deliveries ended with, 0 for no answer."""

    wanted: int
    changed: int = 0
    delivered: int = 0
    statuses: dict[str, int] = msgspec.field(default_factory=dict)
    done: bool = False


class CatalogDesk:
    """The operator's paths of a catalog."""

    def __init__(self, clock: Clock, town: Town, store: Callable[[str], Store]) -> None:
        self._clock = clock
        self._town = town
        self._store = store
        self._sendings: list[Progress] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def add_routes(self, app: web.Application) -> None:
        app.router.add_post(_PATH, self._make)
        app.router.add_get(_PATH, self._show)
        app.router.add_post(f"{_PATH}/export", self._add)
        app.router.add_post(_MUTATE, self._mutate)
        app.router.add_get(_MUTATE, self._show_sendings)

    def let_go(self) -> None:
        """Ends what is being sent."""
        for task in self._tasks:
            task.cancel()

    def put(self, shop: CatalogShop) -> None:
        """Gives a shop its catalog, and the facts that go with it."""
        self._store(shop.domain).shelf = Shelf(shop)
        premises = self._town.shop(shop.domain)
        premises.facts = msgspec.structs.replace(
            premises.facts,
            currency=shop.currency,
            country=shop.country,
            primary_domain=shop.primary_domain,
        )

    async def _make(self, request: web.Request) -> web.Response:
        plan = await _read(request, CatalogPlan)
        # A hundred thousand variants take seconds, in which others are to be answered.
        shop = await asyncio.to_thread(make_catalog, plan, self._now_s())
        self.put(shop)
        return json_response(_summary(shop))

    async def _add(self, request: web.Request) -> web.Response:
        shop = self._catalog(request.query.get("shop", ""))
        limit = int(request.query.get("limit") or EXPORT_VARIANTS_MAX)
        try:
            text = (await request.read()).decode("utf-8-sig")
            added = add_export(shop, text, self._now_s(), limit)
        except (ExportError, UnicodeDecodeError) as error:
            return json_response({"error": str(error)}, 400)
        return json_response({**_summary(shop), "added": added})

    async def _show(self, request: web.Request) -> web.Response:
        shop = self._catalog(request.query.get("shop", ""))
        after = int(request.query.get("after") or 0)
        limit = min(PAGE_MAX, int(request.query.get("limit") or 100))
        products = list(truths(shop, after, limit))
        last = products[-1]["id"] if len(products) == limit else None
        return json_response({**_summary(shop), "items": products, "next": last})

    async def _mutate(self, request: web.Request) -> web.Response:
        wish = await _read(request, Mutation)
        changes = Changes(self._catalog(wish.shop), Random(wish.seed))
        rng = Random(wish.seed)
        if wish.send is None:
            told, changed = self._made(changes, wish, wish.count)
            shown = [_shown(one) for one in self._deliveries(wish, wish.secret, told, rng)]
            return json_response({"changed": changed, "deliveries": shown})
        if wish.send.url and not is_loopback(wish.send.url):
            return json_response({"error": "this sandbox sends to this machine alone"}, 400)
        progress = Progress(wish.count)
        self._sendings.append(progress)
        sending = self._send(changes, wish, wish.send, rng, progress)
        if wish.send.wait:
            await sending
        else:
            task = asyncio.get_running_loop().create_task(sending)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return json_response(progress)

    async def _show_sendings(self, _request: web.Request) -> web.Response:
        return json_response(self._sendings)

    def _made(self, changes: Changes, wish: Mutation, count: int) -> tuple[list[Told], int]:
        """So many changes, as far as the shop has what could change; what is told of them."""
        told: list[Told] = []
        changed = 0
        for _ in range(count):
            kind = changes.mixed() if wish.kind == "mix" else wish.kind
            with contextlib.suppress(LookupError):
                told += changes.one(kind, self._now_s())
                changed += 1
        return told, changed

    async def _send(
        self, changes: Changes, wish: Mutation, send: Sending, rng: Random, progress: Progress
    ) -> None:
        """Changes and tells, tick by tick where there is a pace."""
        began_s = self._clock.monotonic_s()
        asked = 0
        while asked < wish.count:
            due = wish.count
            if send.per_s is not None:
                spent_s = self._clock.monotonic_s() - began_s
                due = min(wish.count, int(spent_s * send.per_s) + 1)
            told, changed = self._made(changes, wish, due - asked)
            asked = due
            progress.changed += changed
            tell = self._post if send.url else self._tell
            statuses = Counter(progress.statuses)
            statuses += await tell(wish, send, told, rng)
            progress.statuses = dict(statuses)
            progress.delivered += len(told)
            if asked < wish.count:
                await self._clock.sleep(_TICK_S)
        progress.done = True

    async def _post(
        self, wish: Mutation, send: Sending, told: list[Told], rng: Random
    ) -> Counter[str]:
        deliveries = self._deliveries(wish, send.secret, told, rng)
        report = await send_all(send.url, deliveries, Manners(connections=8))
        return Counter(str(one.status or 0) for one in report.sent)

    async def _tell(
        self, wish: Mutation, send: Sending, told: list[Told], _rng: Random
    ) -> Counter[str]:
        statuses: Counter[str] = Counter()
        for one in told:
            sent = await self._town.send(wish.shop, send.app, one.topic, one.body, send.secret)
            statuses.update(str(each["status"]) for each in sent)
        return statuses

    def _deliveries(
        self, wish: Mutation, secret: str, told: list[Told], rng: Random
    ) -> list[Delivery]:
        catalog = self._catalog(wish.shop)
        shop = Shop(wish.shop, (secret,), catalog.country, catalog.currency, _LONG_AGO)
        return list(map(partial(Dispatcher(rng).deliver, shop), told))

    def _catalog(self, domain: str) -> CatalogShop:
        shelf = self._store(domain).shelf
        if shelf is None:
            raise _refusal(web.HTTPNotFound, f"{domain!r} has no catalog")
        return shelf.shop

    def _now_s(self) -> int:
        return self._clock.now_ns() // 1_000_000_000


def _summary(shop: CatalogShop) -> Json:
    return {
        "shop": shop.domain,
        "currency": shop.currency,
        "country": shop.country,
        "primary_domain": shop.primary_domain,
        "products": len(shop.products),
        "variants": len(shop.variants),
        "locations": [
            {
                "id": one.number,
                "name": one.name,
                "fulfills_online_orders": one.fulfills_online_orders,
            }
            for one in shop.locations
        ],
        "locales": [one.code for one in shop.locales],
    }


def _shown(delivery: Delivery) -> Json:
    return {
        "topic": delivery.topic,
        "kind": delivery.kind,
        "headers": [list(pair) for pair in delivery.headers],
        "body": delivery.body.decode(),
    }


async def _read(request: web.Request, kind: type[_Wish]) -> _Wish:
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _refusal(web.HTTPBadRequest, str(error)) from error


def _refusal(kind: type[web.HTTPError], text: str) -> web.HTTPError:
    body = msgspec.json.encode({"error": text}).decode()
    return kind(text=body, content_type="application/json")
